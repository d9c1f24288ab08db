"""Tests of reading a packed cache: stacks as from files, and what may be wrong with a cache."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeplesion.datasets.ct import SliceError, load_volume, resample_positions
from deeplesion.datasets.packed import (
    DONE_FILE,
    ENTRY,
    HEADER,
    PackedSeries,
    PackError,
    check_cache,
    list_packs,
    pack_path,
)
from deeplesion.datasets.packing import pack_data_root
from tests.deeplesion.datasets.helpers import write_slice

SERIES = "000001_01_01"
KEY = 10
#: With gaps, and edges of the series that stacks reach beyond.
STORED = (3, 4, 5, 8, 9, 10, 11, 12, 13, 16, 19)


def write_noise(root: Path, numbers: tuple[int, ...] = STORED) -> Path:
    """A series of noise over all of the 16-bit range."""
    rng = np.random.default_rng(0)
    for number in numbers:
        hu = rng.integers(-32768, 32768, (64, 48))
        write_slice(root / "Images_png" / SERIES / f"{number:03d}.png", hu)
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set and, in ``packed``, its cache."""
    path = write_noise(tmp_path_factory.mktemp("packed"))
    pack_data_root(path, path / "packed")
    return path


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The same, to be spoiled."""
    write_noise(tmp_path)
    pack_data_root(tmp_path, tmp_path / "packed")
    return tmp_path


def load(root: Path, offsets: Any, key: int = KEY, packed: bool = True, **kwargs: Any) -> Any:
    folder = root / "packed" if packed else None
    return load_volume(root / "Images_png", SERIES, key, np.array(offsets), packed=folder, **kwargs)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("mode", ["thin", "always"])
@pytest.mark.parametrize("interval", [0.4, 0.8, 1.0, 1.25, 2.0, 3.3, 5.0, math.nan, -1.0])
def test_stacks_are_those_of_the_files_bit_by_bit(
    root: Path, interval: float, mode: Any, legacy: bool
) -> None:
    for num_slices in (1, 3, 7):
        offsets = resample_positions(num_slices, interval, 2.0, mode, legacy)
        for key in STORED[::3]:
            kwargs = {"key": key, "legacy": legacy, "size": (64, 48)}
            packed, files = (load(root, offsets, packed=p, **kwargs) for p in (True, False))
            assert packed.dtype == np.float32
            assert np.array_equal(packed, files)
            assert packed.strides == files.strides


def test_slices_of_other_sizes_and_bad_ones(tmp_path: Path) -> None:
    write_noise(tmp_path, (9, 10, 11, 13))
    write_slice(tmp_path / "Images_png" / SERIES / "011.png", 7, (48, 64))
    (tmp_path / "Images_png" / SERIES / "012.png").write_bytes(b"")
    pack_data_root(tmp_path, tmp_path / "packed", on_error="skip")
    with pytest.raises(SliceError, match=r"slice 11 of .*must have 64 x 48 px.*got 48 x 64"):
        load(tmp_path, [0.0, 1.0])
    offsets = [-1.5, -1, 0, 0.5, 1, 2, 3]
    packed, files = (
        load(tmp_path, offsets, packed=p, skip_bad_neighbors=True) for p in (True, False)
    )
    assert np.array_equal(packed, files)
    assert load(tmp_path, [0.0], key=11).shape == (48, 64, 1)


def test_files_need_not_be_there(own: Path) -> None:
    wanted = load(own, [-1.0, 0, 1], packed=False)
    (own / "Images_png").rename(own / "elsewhere")
    assert np.array_equal(load(own, [-1.0, 0, 1]), wanted)


def test_a_missing_key_slice(root: Path) -> None:
    with pytest.raises(SliceError, match=r"slice 7 is missing in .*000001_01_01\.ctpack.*pack\.py"):
        load(root, [0.0], key=7)


def test_a_changed_file(own: Path) -> None:
    path = own / "Images_png" / SERIES / f"{KEY:03d}.png"
    write_slice(path, 7)
    with pytest.raises(PackError, match=r"010\.png has \d+ bytes, and had \d+ when .*pack\.py"):
        load(own, [0.0])
    pack_data_root(own, own / "packed")
    assert (load(own, [0.0]) == 7).all()


def test_series_of_another_data_set(root: Path) -> None:
    with pytest.raises(PackError, match=r"has no 000009_01_01\.ctpack: it is of another data set"):
        PackedSeries(root / "packed", "000009_01_01")


def cut(content: bytes) -> bytes:
    return content[:-5]


def other_version(content: bytes) -> bytes:
    header = np.frombuffer(content, HEADER, 1).copy()
    header["version"] = 9
    return header.tobytes() + content[HEADER.itemsize :]


def flipped_bit(place: int) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        return content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cut, r"it has \d+ bytes instead of \d+"),
        (lambda content: b"", "it is not a pack, or its beginning is lost"),
        (lambda content: b"\x89PNG" + content[4:], "it is not a pack"),
        (other_version, "it is of version 9, wanted 1"),
        (flipped_bit(HEADER.itemsize + 3), "its table is damaged"),
        (flipped_bit(-2000), r"slice 19 is damaged"),
    ],
)
def test_damage_is_told_with_its_remedy(
    own: Path, change: Callable[[bytes], bytes], message: str
) -> None:
    path = pack_path(own / "packed", SERIES)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(PackError, match=rf"ctpack: {message}.*; remove it and bring it up to date"):
        load(own, [0.0], key=19)


def test_the_layout_is_as_documented(root: Path) -> None:
    path = pack_path(root / "packed", SERIES)
    content = path.read_bytes()
    header = np.frombuffer(content, HEADER, 1)[0]
    table = np.frombuffer(content, ENTRY, header["slices"], HEADER.itemsize)
    assert (header["magic"], header["version"]) == (b"CTPACK\r\n", 1)
    assert header["file_size"] == len(content)
    assert table["number"].tolist() == list(STORED) == PackedSeries(root / "packed", SERIES).numbers
    assert table["offset"][0] == HEADER.itemsize + table.nbytes
    assert (table["offset"][1:] == table["offset"][:-1] + table["length"][:-1]).all()
    assert table["offset"][-1] + table["length"][-1] == len(content)
    for entry in table:
        file = root / "Images_png" / SERIES / f"{entry['number']:03d}.png"
        status = file.stat()
        assert entry["png_size"] == status.st_size
        assert entry["png_time"] == status.st_mtime_ns


def test_a_pack_can_be_sent_to_another_process(root: Path) -> None:
    pack = PackedSeries(root / "packed", SERIES)
    pack.prefetch([3, 4])
    again = pickle.loads(pickle.dumps(pack))
    assert np.array_equal(again.read_key(4), pack.read_key(4))
    assert again.read(6) is None


def test_check_cache(own: Path) -> None:
    folder = own / "packed"
    assert check_cache(folder, [SERIES])["slices"] == len(STORED)
    with pytest.raises(PackError, match=r"lacks 2 series of the data set, such as 000002_01_01"):
        check_cache(folder, [SERIES, "000002_01_01", "000003_01_01"])
    with pytest.raises(PackError, match=r"nowhere is not there: make it by `python tools/pack\.py"):
        check_cache(own / "nowhere")
    done = folder / DONE_FILE
    done.write_text(json.dumps({"version": 2}))
    with pytest.raises(PackError, match="is of version 2, wanted is 1"):
        check_cache(folder)
    for content in ("", "[]", "{}"):
        done.write_text(content)
        with pytest.raises(PackError, match=r"packed\.json cannot be read"):
            check_cache(folder)
    done.unlink()
    with pytest.raises(PackError, match="is not finished: bring it up to date by"):
        check_cache(folder)


def test_files_that_are_being_written_are_no_packs(own: Path) -> None:
    (own / "packed" / f".{SERIES}.x1y2.ctpack").write_bytes(b"half")
    assert list_packs(own / "packed") == [SERIES]
