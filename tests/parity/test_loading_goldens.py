"""LoadCTSlices against arrays and reads measured on the published loaders."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("mmdet")

from deeplesion.datasets import ct
from deeplesion.datasets.ct import HU_OFFSET, interpolation_weights, resample_positions
from deeplesion.transforms.intensity import WindowCT
from deeplesion.transforms.loading import LoadCTSlices

TARGET_MM = 2.0
CROP = slice(32, 96)
HU_PER_UNIT = (2050 + 1024) / 255  # of the windowed values that the goldens hold
WANTED_HU = 0.5
# What is left is rounding: 16-bit values in float32 have steps of 1/256.
REACHED_HU = 0.01
UNITS = REACHED_HU / HU_PER_UNIT
CASES_OF_GOLDENS = 156

Plane = NDArray[np.float64]


class Case(NamedTuple):
    """One stack of the goldens."""

    name: str
    num_slices: int
    interval: float
    series: str
    key_slice: int
    mode: Any

    @property
    def defective(self) -> bool:
        """Whether the published loader was wrong about it."""
        if not self.interval > 0:
            return True
        around = resample_positions(self.num_slices, self.interval, TARGET_MM, self.mode)
        right, wrong = (interpolation_weights(around, legacy)[1] for legacy in (False, True))
        return not np.allclose(right, wrong, atol=1e-9)


@pytest.fixture(scope="module")
def folder(goldens: Path) -> Path:
    """The data set and what the published loaders made of it."""
    return goldens / "loading"


@pytest.fixture(scope="module")
def published(folder: Path) -> dict[str, NDArray[np.float32]]:
    """Windowed stacks ``(64, 64, D)`` by name."""
    with np.load(folder / "volumes.npz") as stored:
        return {name: stored[name] for name in stored}


@pytest.fixture(scope="module")
def reads(folder: Path) -> dict[str, list[str]]:
    """Files that were read, by the name of the case."""
    return json.loads((folder / "files_read.json").read_text())


@pytest.fixture(scope="module")
def cases(reads: dict[str, list[str]]) -> list[Case]:
    """All cases."""
    pattern = re.compile(r"ns(\d+)_intv(nan|[-\d.]+)_(\w+)-(\d+)/(align|always)")
    found = []
    for name in reads:
        match = pattern.fullmatch(name)
        assert match is not None, name
        mode = "thin" if match[5] == "align" else "always"
        found.append(Case(name, int(match[1]), float(match[2]), match[3], int(match[4]), mode))
    assert len(found) >= CASES_OF_GOLDENS
    return found


def load(folder: Path, case: Case, legacy: bool) -> dict[str, Any]:
    """What LoadCTSlices gives for a case."""
    transform = LoadCTSlices(case.num_slices, TARGET_MM, case.mode, legacy=legacy)
    sample = {"image_root": folder / "Images_png", "series": case.series}
    sample |= {"key_slice": case.key_slice, "slice_interval": case.interval}
    return transform.transform(sample)


def windowed(hu: NDArray[Any]) -> NDArray[np.float64]:
    """The window of the goldens, and their crop."""
    share = (hu[CROP, CROP].astype(np.float64) + 1024) / 3074
    return np.clip(share, 0, 1) * 255 - 50


def expected(case: Case, published: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """The golden of a case; ``align`` is stored only where it differs from ``always``."""
    aligned = case.name in published
    return published[case.name if aligned else case.name.replace("/align", "/always")]


def test_legacy_gives_every_array(
    folder: Path, cases: list[Case], published: dict[str, NDArray[np.float32]]
) -> None:
    assert REACHED_HU < WANTED_HU
    for case in cases:
        results = load(folder, case, legacy=True)
        golden = expected(case, published)
        np.testing.assert_allclose(windowed(results["img"]), golden, atol=UNITS, err_msg=case.name)
        network_sees = WindowCT()(results)["img"][CROP, CROP]
        np.testing.assert_allclose(network_sees, golden, rtol=0, atol=UNITS, err_msg=case.name)


def test_legacy_tells_the_interval_as_stored(folder: Path, cases: list[Case]) -> None:
    for case in cases:
        thickness = load(folder, case, legacy=True)["thickness"]
        assert thickness == pytest.approx(case.interval, abs=0, nan_ok=True), case.name


def files_read(
    folder: Path, case: Case, legacy: bool, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Files that are decoded for a case, in order."""
    seen: list[str] = []

    def spy(path: Path, size: Any = None) -> Any:
        seen.append(f"{path.parent.name}/{path.name}")
        return original(path, size)

    original = ct.read_hu
    with monkeypatch.context() as patch:
        patch.setattr(ct, "read_hu", spy)
        load(folder, case, legacy)
    return seen


@pytest.mark.parametrize("legacy", [True, False])
def test_the_files_that_are_read(
    folder: Path,
    cases: list[Case],
    reads: dict[str, list[str]],
    legacy: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By default, too, but where the interval is unknown: there we read the neighbors."""
    for case in cases:
        seen = files_read(folder, case, legacy, monkeypatch)
        assert len(seen) == len(set(seen)), case.name
        if legacy or case.interval > 0:
            assert sorted(seen) == sorted(reads[case.name]), case.name


def stored_slices(folder: Path, series: str) -> dict[int, Plane]:
    """All slices of a series in HU, by number."""
    files = (folder / "Images_png" / series).glob("*.png")
    read = {int(file.stem): cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in files}
    return {number: image.astype(np.float64) - HU_OFFSET for number, image in read.items()}


def right_stack(stored: dict[int, Plane], case: Case) -> NDArray[np.float64]:
    """The stack as it should be, computed without the code under test."""

    def at(number: int) -> Plane:
        return stored[min(stored, key=lambda n: (abs(n - number), abs(n - case.key_slice)))]

    resampled = case.interval > 0 and (case.mode == "always" or case.interval < TARGET_MM)
    step = TARGET_MM / case.interval if resampled else 1.0
    planes = []
    for k in range(-(case.num_slices // 2), case.num_slices // 2 + 1):
        z = case.key_slice + k * step
        low = math.floor(z)
        high = low + 1
        planes.append((high - z) * at(low) + (z - low) * at(high))
    return np.stack(planes, axis=-1)


def test_default_is_right_everywhere_and_published_where_that_is(
    folder: Path, cases: list[Case], published: dict[str, NDArray[np.float32]]
) -> None:
    series = {case.series: stored_slices(folder, case.series) for case in cases}
    defective = unlike = 0
    for case in cases:
        results = load(folder, case, legacy=False)
        right = right_stack(series[case.series], case)
        np.testing.assert_allclose(results["img"], right, atol=REACHED_HU, err_msg=case.name)
        off = np.abs(windowed(results["img"]) - expected(case, published)).max()
        if case.defective:
            defective += 1
            unlike += off > WANTED_HU / HU_PER_UNIT
        else:
            assert off < UNITS, case.name
    # All that we do otherwise matters, but where missing slices are the key slice anyway.
    assert 0.9 * defective < unlike <= defective < len(cases)


def test_default_thickness_is_that_of_the_stack(folder: Path, cases: list[Case]) -> None:
    for case in cases:
        thickness = load(folder, case, legacy=False)["thickness"]
        if not case.interval > 0:
            assert math.isnan(thickness), case.name
        elif case.mode == "always":
            assert thickness == TARGET_MM, case.name
        else:
            assert thickness == max(case.interval, TARGET_MM), case.name


def published_stack(stored: dict[int, Plane], case: Case) -> NDArray[np.float64]:
    """The published rules, written plainly: for cases beyond the goldens."""

    def at(delta: float) -> Plane:
        steps = int(delta)
        while case.key_slice + steps not in stored:
            steps -= 1 if steps > 0 else -1
        return stored[case.key_slice + steps]

    half = case.num_slices // 2
    if not case.interval >= 0:
        return np.stack([at(0)] * case.num_slices, axis=-1)
    step = TARGET_MM / case.interval
    if case.mode == "thin" and step <= 1:
        step = 1.0
    outer = step - math.floor(step)
    planes = {0: at(0)}
    for k in range(1, half + 1):
        for side in (-1, 1):
            far, near = (at(side * rounded(k * step)) for rounded in (math.ceil, math.floor))
            planes[side * k] = outer * far + (1 - outer) * near
    return np.stack([planes[k] for k in sorted(planes)], axis=-1)


def test_the_plain_rules_are_the_published_ones(
    folder: Path, cases: list[Case], published: dict[str, NDArray[np.float32]]
) -> None:
    series = {case.series: stored_slices(folder, case.series) for case in cases}
    for case in cases:
        stack = published_stack(series[case.series], case)
        np.testing.assert_allclose(
            windowed(stack), expected(case, published), atol=UNITS, err_msg=case.name
        )


@pytest.mark.parametrize("mode", ["thin", "always"])
@pytest.mark.parametrize("num_slices", [1, 5, 9])
def test_legacy_beyond_the_goldens(folder: Path, num_slices: int, mode: Any) -> None:
    """Other intervals, among them nearly whole ratios, and key slices about wide gaps."""
    for series, key_slice in (("000001_01_01", 24), ("000001_01_01", 50), ("000003_02_04", 98)):
        stored = stored_slices(folder, series)
        for interval in (0.5, 0.7, 0.99999, 1.00001, 1.6, 1.99999, 2.00001, 3.75, 7.0, 40.0):
            case = Case(f"{series} {interval}", num_slices, interval, series, key_slice, mode)
            np.testing.assert_allclose(
                load(folder, case, legacy=True)["img"],
                published_stack(stored, case),
                atol=REACHED_HU,
                err_msg=case.name,
            )
