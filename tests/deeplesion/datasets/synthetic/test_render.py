"""What the phantom looks like in Hounsfield units."""

from __future__ import annotations

import numpy as np
import pytest

from deeplesion.datasets.synthetic.render import (
    AIR_HU,
    noise,
    paint,
    pixel_grid,
    render_anatomy,
    render_slice,
    texture,
)
from deeplesion.datasets.synthetic.scene import Ellipse, Section, draw_anatomy, draw_scene

SIZE, SPACING = 96, 2.5


def test_pixel_grid_is_centered() -> None:
    x, y = pixel_grid(4, 2.0)
    assert x.tolist() == [[-3.0, -1.0, 1.0, 3.0]]
    assert y.shape == (4, 1)


def test_paint_fills_inside_and_blends_the_edge() -> None:
    image = np.zeros((41, 41))
    paint(image, pixel_grid(41, 0.5), Section(Ellipse(0.0, 0.0, 5.0, 5.0), 100.0, 1.0))
    assert image[20, 20] == 100.0
    assert image[20, 30] == pytest.approx(50.0)  # 5 mm: the outline
    assert image[20, 31] == pytest.approx(25.0)  # half way through the outer edge
    assert image[20, 32] == pytest.approx(0.0, abs=1e-9)


def test_texture_equals_the_sum_of_its_waves() -> None:
    anatomy = draw_anatomy(np.random.default_rng(0))
    x, y = pixel_grid(SIZE, SPACING)
    kx, ky, kz, phase, amplitude = anatomy.waves[:, :, None, None].swapaxes(0, 1)
    direct = (amplitude * np.cos(kx * x + ky * y + kz * 12.0 + phase)).sum(axis=0)
    np.testing.assert_allclose(texture(anatomy.waves, (x, y), 12.0), direct, atol=1e-9)


def test_noise_has_the_strength_it_is_given() -> None:
    drawn = noise(np.random.default_rng(0), 256, std=12.0)
    assert drawn.std() == pytest.approx(12.0, rel=0.02)
    assert drawn.mean() == pytest.approx(0.0, abs=0.2)


def test_torso_has_its_tissues() -> None:
    anatomy = draw_anatomy(np.random.default_rng(3))
    grid = pixel_grid(SIZE, SPACING)
    image = render_anatomy(anatomy, grid, z=0.0)
    assert (image[0] == AIR_HU).all()
    lungs = np.minimum(*(lung.radius(*grid) for lung in anatomy.lungs)) < 0.7
    assert image[lungs].mean() == pytest.approx(anatomy.hu["lung"], abs=30)
    rim = (anatomy.body.radius(*grid) < 0.98) & (anatomy.muscle.radius(*grid) > 1.02)
    assert -150 < image[rim].mean() < -50
    assert image[anatomy.spine.radius(*grid) < 0.5].mean() > 120
    name, liver, density = anatomy.organs[0]
    assert name == "liver"
    assert image[liver.radius(*grid) < 0.4].mean() == pytest.approx(density, abs=25)


def test_lesions_and_tubes_show_at_their_density() -> None:
    rng = np.random.default_rng(5)
    anatomy = draw_anatomy(rng)
    scene = draw_scene(rng, anatomy, z=40.0)
    grid = pixel_grid(256, 0.94)
    image = render_slice(rng, anatomy, scene, grid, z=40.0)
    for thing in (*scene.lesions, *scene.tubes):
        core = thing.key.outline.radius(*grid) < 0.6
        assert image[core].mean() == pytest.approx(thing.key.hu, abs=12)
    gone = render_slice(rng, anatomy, scene, grid, z=60.0)
    without = render_anatomy(anatomy, grid, z=60.0)
    lesion = scene.lesions[0].key.outline.radius(*grid) < 0.6
    tubes = [t.section(60.0).outline.radius(*grid) < 1.5 for t in scene.tubes]
    lesion &= ~np.any(tubes, axis=0)
    assert np.abs((gone - without)[lesion].mean()) < 15
