"""Lesions and tubes differ in depth, and in nothing that the key slice shows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from deeplesion.datasets.synthetic import scene as scene_module
from deeplesion.datasets.synthetic.scene import (
    Anatomy,
    Ellipse,
    Lesion,
    Scene,
    Section,
    Tube,
    draw_anatomy,
    draw_scene,
)


@pytest.fixture(scope="module")
def scenes() -> list[tuple[Anatomy, Scene]]:
    """Two hundred key slices of as many patients."""
    drawn = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        anatomy = draw_anatomy(rng)
        drawn.append((anatomy, draw_scene(rng, anatomy, z=100.0)))
    return drawn


def lesion_keys(scenes: list[tuple[Anatomy, Scene]]) -> list[Section]:
    return [lesion.key for _, scene in scenes for lesion in scene.lesions]


def tube_keys(scenes: list[tuple[Anatomy, Scene]]) -> list[Section]:
    return [tube.key for _, scene in scenes for tube in scene.tubes]


def test_ellipse_radius_is_one_on_its_outline() -> None:
    ellipse = Ellipse(3.0, -2.0, 5.0, 2.0, math.radians(90))
    on_long, on_short = ellipse.radius(np.array([3.0, 5.0]), np.array([3.0, -2.0]))
    assert on_long == pytest.approx(1.0)
    assert on_short == pytest.approx(1.0)


def test_ellipse_clearance_is_signed_and_never_too_large() -> None:
    circle = Ellipse(0.0, 0.0, 4.0, 4.0)
    assert circle.clearance(7.0, 0.0) == pytest.approx(3.0)
    assert circle.clearance(1.0, 0.0) == pytest.approx(-3.0)
    assert 0 < Ellipse(0.0, 0.0, 8.0, 2.0).clearance(10.0, 0.0) <= 2.0


def test_lesion_section_follows_the_ellipsoid_and_stays_put() -> None:
    key = Section(Ellipse(10.0, 20.0, 4.0, 3.0, 0.3), 180.0, 1.5)
    lesion = Lesion(key, z=50.0, center_z=50.0, radius_z=5.0)
    assert lesion.section(50.0) == key
    above = lesion.section(53.0)
    assert above is not None
    assert (above.outline.x, above.outline.y) == (10.0, 20.0)
    assert above.outline.a == pytest.approx(4.0 * 0.8)  # sqrt(1 - (3 / 5) ** 2)
    assert lesion.section(55.0) is None
    assert lesion.section(44.9) is None


def test_off_center_lesion_keeps_its_key_section() -> None:
    key = Section(Ellipse(0.0, 0.0, 4.0, 3.0), 180.0, 1.5)
    lesion = Lesion(key, z=0.0, center_z=1.0, radius_z=4.0)
    section = lesion.section(0.0)
    assert section is not None
    assert section.outline.a == pytest.approx(4.0)
    widest = lesion.section(1.0)
    assert widest is not None
    assert widest.outline.a > 4.0


def test_tube_goes_on_and_moves_by_its_tilt() -> None:
    key = Section(Ellipse(0.0, 0.0, 4.0, 3.0), 180.0, 1.5)
    tube = Tube(key, 0.0, (0.6, 0.8), tilt=2.0, bend=10.0, pulsation=(0.0, 30.0, 0.0))
    assert tube.section(0.0) == key
    moved = tube.section(1.0).outline
    assert math.hypot(moved.x, moved.y) == pytest.approx(2.0, rel=0.01)
    assert moved.y / moved.x == pytest.approx(0.8 / 0.6)
    assert tube.section(15.0).outline.a == pytest.approx(4.0)


def test_every_key_slice_holds_both(scenes: list[tuple[Anatomy, Scene]]) -> None:
    assert {len(scene.lesions) for _, scene in scenes} == {2, 3}
    assert {len(scene.tubes) for _, scene in scenes} == {3, 4, 5}


def test_nothing_touches_in_the_key_slice(scenes: list[tuple[Anatomy, Scene]]) -> None:
    for anatomy, scene in scenes:
        outlines = [thing.key.outline for thing in (*scene.lesions, *scene.tubes)]
        for i, one in enumerate(outlines):
            assert anatomy.may_hold(one.x, one.y, one.a)
            for other in outlines[:i]:
                gap = math.hypot(one.x - other.x, one.y - other.y) - one.a - other.a
                assert gap > scene_module.GAP_MM


def test_no_lesion_is_barely_grazed(scenes: list[tuple[Anatomy, Scene]]) -> None:
    for _, scene in scenes:
        for lesion in scene.lesions:
            assert abs(lesion.z - lesion.center_z) <= 0.3 * lesion.radius_z


@pytest.mark.parametrize(
    "feature",
    [
        lambda s: s.outline.a,
        lambda s: s.outline.b / s.outline.a,
        lambda s: s.outline.angle,
        lambda s: s.hu,
        lambda s: s.edge_mm,
        lambda s: s.outline.x,
        lambda s: s.outline.y,
    ],
    ids=["size", "aspect", "angle", "density", "edge", "x", "y"],
)
def test_key_slice_tells_lesions_and_tubes_apart_by_nothing(
    scenes: list[tuple[Anatomy, Scene]], feature: object
) -> None:
    """The area under the ROC curve of each feature is a coin's, within three standard errors."""
    assert callable(feature)
    lesions = np.array([feature(key) for key in lesion_keys(scenes)])
    tubes = np.array([feature(key) for key in tube_keys(scenes)])
    above = (lesions[:, None] > tubes[None, :]).mean()
    error = math.sqrt((len(lesions) + len(tubes) + 1) / (12 * len(lesions) * len(tubes)))
    assert above == pytest.approx(0.5, abs=3 * error)


def test_neighbors_tell_them_apart(scenes: list[tuple[Anatomy, Scene]]) -> None:
    for _, scene in scenes:
        for tube in scene.tubes:
            ends = [tube.section(scene.z + dz).outline for dz in (-2.0, 2.0)]
            moved = math.hypot(ends[1].x - ends[0].x, ends[1].y - ends[0].y)
            assert 3.9 < moved < 10.5
        for lesion in scene.lesions:
            assert lesion.section(scene.z + 20.0) is None
            assert lesion.section(scene.z - 20.0) is None


def test_thick_slices_lose_the_small_lesions(scenes: list[tuple[Anatomy, Scene]]) -> None:
    lesions = [lesion for _, scene in scenes for lesion in scene.lesions]
    seen = {
        mm: np.mean([lesion.section(lesion.z + mm) is not None for lesion in lesions])
        for mm in (1.0, 2.0, 5.0)
    }
    assert seen[1.0] == 1.0
    assert seen[2.0] > 0.95
    assert 0.3 < seen[5.0] < 0.8


def test_no_room_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene_module, "GAP_MM", 500.0)
    monkeypatch.setattr(scene_module, "_SCENE_TRIES", 2)
    rng = np.random.default_rng(0)
    with pytest.raises(RuntimeError, match=r"no room for \d lesions and \d tubes at z = 1\.0 mm"):
        draw_scene(rng, draw_anatomy(rng), z=1.0)
