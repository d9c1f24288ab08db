"""Tests of making and verifying a packed cache."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from deeplesion.datasets import packing
from deeplesion.datasets.packed import PackedSeries, PackError, check_cache, list_packs, pack_path
from deeplesion.datasets.packing import list_slices, pack_data_root, pack_series, verify_cache
from deeplesion.datasets.slice_files import SliceError, read_hu
from tests.deeplesion.datasets.helpers import write_slice

SERIES = ("000001_01_01", "000002_01_01", "000003_01_01")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three series of CT-like noise."""
    rng = np.random.default_rng(0)
    for series in SERIES:
        for number in (7, 8, 9, 120):
            hu = rng.normal(40, 12, (96, 80)).round()
            path = tmp_path / "data" / "Images_png" / series / f"{number:03d}.png"
            write_slice(path, hu, (96, 80))
    return tmp_path / "data"


def png(root: Path, series: int, number: int) -> Path:
    return root / "Images_png" / SERIES[series] / f"{number:03d}.png"


def test_summary_and_size(root: Path, tmp_path: Path) -> None:
    summary = pack_data_root(root, tmp_path / "c")
    assert (summary.series, summary.kept, summary.slices, summary.skipped) == (3, 0, 12, ())
    files = list((root / "Images_png").rglob("*.png"))
    assert summary.png_bytes == sum(file.stat().st_size for file in files)
    packs = list((tmp_path / "c").glob("*.ctpack"))
    assert summary.packed_bytes == sum(file.stat().st_size for file in packs)
    assert summary.packed_bytes < 0.9 * summary.png_bytes
    assert str(summary).startswith("12 slices of 3 series in 0.1 MB, ")
    assert check_cache(tmp_path / "c", SERIES)["packed_bytes"] == summary.packed_bytes


def test_two_workers_write_the_same_bytes(root: Path, tmp_path: Path) -> None:
    for name, workers in (("a", 1), ("b", 2)):
        pack_data_root(root, tmp_path / name, workers)
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_what_is_packed_already_is_kept(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "c"
    pack_data_root(root, out)
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.ctpack")}
    pack_path(out, SERIES[0]).write_bytes(b"half")  # damaged
    write_slice(png(root, 1, 7), 3, (96, 80))  # changed
    (out / f".{SERIES[2]}.x1.ctpack").write_bytes(b"left by a kill")
    summary = pack_data_root(root, out)
    assert (summary.kept, summary.slices) == (1, 12)
    kept = pack_path(out, SERIES[2])
    assert kept.stat().st_mtime_ns == before[kept]
    assert (PackedSeries(out, SERIES[1]).read_key(7) == 3).all()
    assert sorted(path.name for path in out.iterdir()) == [
        *(f"{series}.ctpack" for series in SERIES),
        "packed.json",
    ]


def test_the_time_of_a_file_tells_that_it_changed(root: Path, tmp_path: Path) -> None:
    pack_data_root(root, tmp_path / "c")
    os.utime(png(root, 0, 7), ns=(0, 0))
    assert pack_data_root(root, tmp_path / "c").kept == 2


def test_an_interrupted_run_is_taken_up(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "c"

    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    def second(series: str, **kwargs: object) -> object:
        return (interrupt if series == SERIES[1] else pack_series)(series, **kwargs)

    monkeypatch.setattr(packing, "pack_series", second)
    with pytest.raises(KeyboardInterrupt):
        pack_data_root(root, out)
    monkeypatch.undo()
    assert list_packs(out) == [SERIES[0]]
    with pytest.raises(PackError, match="is not finished"):
        check_cache(out)
    assert pack_data_root(root, out).kept == 1


def test_a_slice_that_cannot_be_read(root: Path, tmp_path: Path) -> None:
    png(root, 1, 8).write_bytes(b"no png")
    with pytest.raises(SliceError, match=r"000002_01_01/008\.png is not a PNG"):
        pack_data_root(root, tmp_path / "c")
    summary = pack_data_root(root, tmp_path / "c", on_error="skip")
    assert summary.slices == 11
    assert len(summary.skipped) == 1
    assert PackedSeries(tmp_path / "c", SERIES[1]).numbers == [7, 9, 120]
    assert verify_cache(tmp_path / "c", root) == (11, [])


def test_the_cache_of_another_data_set_is_not_mixed_with(root: Path, tmp_path: Path) -> None:
    pack_data_root(root, tmp_path / "c")
    (root / "Images_png" / SERIES[0]).rename(root / "Images_png" / "000007_01_01")
    with pytest.raises(PackError, match=r"holds 1 series that .* has not, such as 000001_01_01"):
        pack_data_root(root, tmp_path / "c")


def test_only_slices_are_packed(root: Path) -> None:
    folder = root / "Images_png" / SERIES[0]
    for name in ("notes.txt", "7.png", "0007.png", "008.png.part", "x.png"):
        (folder / name).write_bytes(b"x")
    assert [file.number for file in list_slices(root / "Images_png", SERIES[0])] == [7, 8, 9, 120]


def test_bad_arguments(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="on_error must be raise or skip, got 'ignore'"):
        pack_data_root(root, tmp_path / "c", on_error="ignore")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="workers must be >= 1, got 0"):
        pack_data_root(root, tmp_path / "c", workers=0)
    with pytest.raises(FileNotFoundError, match="no folder of slices"):
        pack_data_root(tmp_path, tmp_path / "c")


def test_verify_finds_what_differs(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "c"
    pack_data_root(root, out)
    assert verify_cache(out) == (12, [])
    assert verify_cache(out, root) == (12, [])
    changed = read_hu(png(root, 0, 7)).astype(int)
    changed[5, 5] += 1
    write_slice(png(root, 0, 7), changed, (96, 80))
    png(root, 0, 8).unlink()
    write_slice(png(root, 0, 10), 0, (96, 80))
    write_slice(root / "Images_png" / "000004_01_01" / "001.png", 0)
    path = pack_path(out, SERIES[2])
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)
    slices, complaints = verify_cache(out, root)
    assert slices == 8
    for text in (
        "000004_01_01 is not packed",
        "000001_01_01/007.png is not what is packed",
        "000001_01_01/008.png is missing, and packed",
        "000001_01_01/010.png is not packed",
        "000003_01_01.ctpack: slice 120 is damaged",
    ):
        assert sum(text in complaint for complaint in complaints) == 1, complaints
    assert len(complaints) == 5
    assert len(verify_cache(out)[1]) == 1


def test_a_series_whose_slices_are_gone_goes(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "c"
    pack_data_root(root, out)
    for number in (7, 8, 9, 120):
        png(root, 0, number).unlink()
    assert pack_data_root(root, out).series == 2
    assert list_packs(out) == list(SERIES[1:])
    png(root, 0, 7).parent.rmdir()
    pack_data_root(root, out)
    for number in (7, 8, 9, 120):
        png(root, 1, number).unlink()
    png(root, 1, 7).parent.rmdir()
    with pytest.raises(PackError, match=r"1 series that .* or delete the packs"):
        pack_data_root(root, out)
