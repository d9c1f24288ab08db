"""Pickles that hold arrays are read, whoever wrote them; any other does nothing and is named."""

from __future__ import annotations

import builtins
import os
import pickle
import pickletools
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeplesion.datasets.lesion_record import DataError
from deeplesion.evaluation.restricted_pickle import load_restricted

CONTENT = {
    "test": {"000001_01_01_103-115": np.arange(12.0).reshape(2, 6), "b": np.zeros((0, 6))},
    "plain": [1, 2.5, None, True, b"bytes", b"", ("a", (1, 2)), {}, 10**30],
    7: np.float32(0.5),
}


def write(folder: Path, data: bytes) -> Path:
    """A file of these bytes."""
    path = folder / "file.pkl"
    path.write_bytes(data)
    return path


def assert_same(got: Any, expected: Any) -> None:
    """Equal in values and types, arrays in dtype too."""
    assert type(got) is type(expected)
    if isinstance(expected, dict):
        assert list(got) == list(expected)
        for key in expected:
            assert_same(got[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, np.ndarray | np.generic):
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)
    else:
        assert got == expected


@pytest.mark.parametrize("protocol", range(6))
def test_what_was_written_is_read(protocol: int, tmp_path: Path) -> None:
    path = write(tmp_path, pickle.dumps(CONTENT, protocol))
    assert_same(load_restricted(path), CONTENT)


@pytest.mark.parametrize(
    "array",
    [
        np.array([True, False]),
        np.arange(6, dtype=np.uint8).reshape(1, 2, 3),
        np.arange(6, dtype=">i4"),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array([1 + 2j], np.complex64),
        np.array(["liver", "lung"]),
        np.array([b"ab", b"c"]),
        np.array(3.5),
        np.arange(10.0)[::2],
        np.zeros((0, 6), np.float16),
    ],
    ids=lambda a: f"{a.dtype.str}{a.shape}",
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_arrays_of_every_kind(array: np.ndarray, protocol: int, tmp_path: Path) -> None:
    got = load_restricted(write(tmp_path, pickle.dumps({"a": array, "s": [array]}, protocol)))
    assert_same(got["a"], array)
    assert got["a"] is got["s"][0]
    got["a"][...] = 0  # can be written to


def of_another_version(data: bytes) -> bytes:
    """The same pickle, of protocol 2 or below, by the numpy that calls its core otherwise."""
    new, old = b"numpy._core.multiarray", b"numpy.core.multiarray"
    return data.replace(new, old) if new in data else data.replace(old, new)


def test_numpy_1_and_2_name_their_modules_otherwise(tmp_path: Path) -> None:
    data = pickle.dumps([CONTENT["test"], CONTENT[7]], 2)
    other = of_another_version(data)
    assert other != data
    for each in (data, other):
        assert_same(load_restricted(write(tmp_path, each)), [CONTENT["test"], CONTENT[7]])


# Written by hand as Python 2 writes {'a': np.array([[1.5, 2.5]])}: its strings are bytes.
PYTHON_2 = (
    b"\x80\x02}q\x01U\x01acnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00"
    b"\x85U\x01b\x87Rq\x04(K\x01K\x01K\x02\x86cnumpy\ndtype\nq\x05U\x02f8K\x00K\x01\x87Rq\x06(K\x03"
    b"U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x10"
    + struct.pack("<dd", 1.5, -2.5)
    + b"tbs."
)


def test_pickles_of_python_2(tmp_path: Path) -> None:
    got = load_restricted(write(tmp_path, PYTHON_2))
    assert_same(got, {"a": np.array([[1.5, -2.5]])})


class Calls:
    """Pickled as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def test_nothing_is_called(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    for call in (
        Calls(os.system, f"touch {trace}"),
        Calls(builtins.eval, f"open({str(trace)!r}, 'w')"),
        Calls(builtins.exec, f"open({str(trace)!r}, 'w')"),
        Calls(os.mkdir, str(trace)),
        Calls(np.save, str(trace), 0),
        Calls(np.fromfile, str(trace)),
        Calls(np.zeros, 10**12),
        Calls(getattr, 1, "real"),
        Calls(bytes, 10**12),
        Calls(bytearray, 3),
        Calls(OrderedDict),
        Calls(Path, "x"),
    ):
        for protocol in range(6):
            data = pickle.dumps([1, {"a": call}], protocol)
            name = call.call[0].__name__
            with pytest.raises(
                DataError, match=rf"file\.pkl holds .*{name}.* which is not read; it"
            ):
                load_restricted(write(tmp_path, data))
            assert not trace.exists()


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (np.array([None, 1], object), "an array of dtype 'O8'"),
        (np.zeros(1, [("a", "f8")]), "an array of dtype 'V8'"),
        (np.array(["2020-01-01"], "M8[D]"), "an array of dtype 'M8'"),
        ({1, 2}, "a set"),
        (bytearray(3), "a bytearray"),
        (np.ndarray, "a function"),
        (np.dtype("f8"), "a dtype"),
        (np.ma.masked_array([1.0]), "numpy.ma"),
        (3 + 4j, "builtins.complex"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_other_things_are_named(value: Any, found: str, tmp_path: Path) -> None:
    path = write(tmp_path, pickle.dumps({"a": value}, 5 if isinstance(value, bytearray) else 4))
    with pytest.raises(DataError, match=f"{found}.* which is not read; it must hold numpy arrays"):
        load_restricted(path)


def array_pickle(
    shape: bytes, raw: bytes, code: bytes = b"f8", start: bytes = b"K\x00\x85"
) -> bytes:
    """A pickle of an array, its parts as opcodes."""
    return (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        + start
        + b"U\x01b\x87R(K\x01"
        + shape
        + b"cnumpy\ndtype\nU"
        + bytes([len(code)])
        + code
        + b"K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + b"U"
        + bytes([len(raw)])
        + raw
        + b"tb."
    )


MANY = b"J\xff\xff\xff\x7f"  # 2^31 - 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (array_pickle(b"K\x02\x85", bytes(8)), r"an array of shape \(2,\), float64, in 8 bytes"),
        (array_pickle(MANY + b"\x85", bytes(8)), r"an array of shape \(2147483647,\), float64"),
        (array_pickle(3 * MANY + b"\x87", b""), "an array of shape"),
        (array_pickle(b"J\xff\xff\xff\xffK\x00\x86", b""), r"an array of shape \(-1, 0\)"),
        (array_pickle(b"K\x08", bytes(8)), "an array of shape 8"),
        (array_pickle(MANY + b"\x85", b"", b"S0"), "an array of dtype 'S0'"),
        (array_pickle(b"K\x01\x85", bytes(8), b"O8"), "an array of dtype 'O8'"),
        (array_pickle(b"K\x01\x85", bytes(8), b"f8,O"), "an array of dtype 'f8,O'"),
        (array_pickle(b"K\x01\x85", bytes(8), start=MANY + b"\x85"), "an array that is not begun"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"abc.", "is not a pickle, or is cut"),
        (b"\x80\x02Nr\xff\xff\xff\x7f.", "an entry numbered 2147483647 after 2 steps"),
        (b"\x80\x02]q\x00h\x00a.", "a list within itself"),
        (b"\x80\x02})" + b"\x85" * 1_000_000 + b"Ns.", "more than 20000 tuples"),
        (b"\x80\x02})" + b"\x85" * 19_000 + b"Ns.", "RecursionError"),
        (b"\x80\x02cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85R.", "a call of numpy.ndarray"),
        (b"\x80\x02cnumpy\ndtype\n}X\x01\x00\x00\x00aNsb.", "a state for a function"),
        (
            b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86R.",
            "_codecs.encode",
        ),
        (b"(S'true'\nios\nsystem\n.", "os.system"),
        (
            b"\x80\x02cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nU\x02f8\x85RU\x01a\x86R.",
            "1 byte",
        ),
    ],
)
def test_pickles_made_to_harm(data: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        load_restricted(write(tmp_path, data))


def test_the_helpers_of_these_tests_write_what_numpy_reads() -> None:
    array = pickle.loads(array_pickle(b"K\x01\x85", struct.pack("<d", 2.5)), encoding="latin1")
    np.testing.assert_array_equal(array, [2.5])
    python_2 = pickle.loads(PYTHON_2, encoding="latin1")
    np.testing.assert_array_equal(python_2["a"], [[1.5, -2.5]])


def test_references_are_not_multiplied(tmp_path: Path) -> None:
    lists: list[Any] = [1]
    for _ in range(60):  # 2^60 items, were each reference followed
        lists = [lists, lists]
    got = load_restricted(write(tmp_path, pickle.dumps(lists)))
    assert got[0] is got[1]


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_file_cut_anywhere_is_named(protocol: int, tmp_path: Path) -> None:
    data = pickle.dumps(CONTENT, protocol)
    for end in range(len(data)):
        with pytest.raises(DataError, match=r"file\.pkl is not a pickle, or is cut short"):
            load_restricted(write(tmp_path, data[:end]))


@pytest.mark.parametrize(
    "data", [b"{}", b"\x89PNG\r\n", b"\x1f\x8b\x08", b"version https://git-lfs"]
)
def test_files_that_are_no_pickle(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"file\.pkl is not a pickle, or is cut short \(.*; download"
    ):
        load_restricted(write(tmp_path, data))


def test_bytes_changed_at_random_never_do_more_than_fail(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = np.frombuffer(pickletools.optimize(pickle.dumps(CONTENT, 2)), np.uint8)
    allowed = (dict, list, tuple, str, bytes, int, float, type(None), np.ndarray, np.generic)
    for _ in range(500):
        changed = data.copy()
        changed[rng.integers(len(data), size=3)] = rng.integers(256, size=3)
        try:
            assert isinstance(load_restricted(write(tmp_path, changed.tobytes())), allowed)
        except DataError as error:
            assert "file.pkl" in str(error)  # noqa: PT017 - either way is right


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"cannot read .*none\.pkl: No such file .*; check the path"
    ):
        load_restricted(tmp_path / "none.pkl")
