"""Reading pickles from elsewhere: nothing but arrays, numbers, text and plain containers.

A pickle is a program: the plain loader calls whatever the file names. Here the names of numpy that
arrays need lead to functions of this module, which build arrays from raw bytes after checking
shape, kind and length; every other name is refused. Pickles of Python 2 and 3 with numpy 1 and 2
are read. Lengths are checked before anything is built, so a small file cannot ask for much memory.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from deeplesion.datasets.lesion_record import DataError

#: Text of Python 2 is bytes; any byte is a character of latin1.
_ENCODING = "latin1"
#: Kinds of numbers and texts that arrays may have: bool, integers, floats, complex, bytes, str.
_DTYPE = re.compile(r"[biufcSU][1-9]\d{0,5}")
#: Tuples in a file; an array takes about four. Nested much deeper, a key would crash the hashing.
_MAX_TUPLES = 20_000
_BYTE_ORDERS = ("<", ">", "=", "|")
_REMEDY = (
    "it must hold numpy arrays of numbers, plain numbers, text and containers alone; "
    "save it so with the program that wrote it"
)


class _Refused(Exception):  # noqa: N818 - not an error of ours, but of what is read
    """Something in a pickle that is not built; the text says what."""


class _Function:
    """What a name in a pickle leads to. It can be called, and a pickle cannot change it."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function

    def __call__(self, *args: object) -> object:
        return self._function(*args)

    def __setstate__(self, state: object) -> None:
        raise _Refused("a state for a function")


class _DType:
    """Stands for a dtype while its pickle is read."""

    __slots__ = ("dtype",)

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not _DTYPE.fullmatch(code):
            raise _Refused(f"an array of dtype {code!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, order, subdtype, names, fields, *_ = state
        if order not in _BYTE_ORDERS or any(part is not None for part in (subdtype, names, fields)):
            raise _Refused("an array of a structured dtype")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """Stands for an array while its pickle is read; ``value`` is the array then."""

    __slots__ = ("value",)

    def __init__(self, value: np.ndarray | None = None) -> None:
        self.value = value

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, raw = state
        self.value = _filled(raw, dtype, shape, "F" if fortran else "C")


def load_restricted(path: str | os.PathLike[str]) -> Any:
    """Read a pickle that holds arrays, numbers, text and plain containers alone.

    Args:
        path: The file.

    Returns:
        What it holds: of dict, list, tuple, str, bytes, int, float, bool, None, numpy arrays and
        scalars of numbers or text.

    Raises:
        DataError: If the file is not a pickle, is cut short, or holds anything else; it names the
            file and what was found.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; check the path") from error
    try:
        _check_lengths(data)
        unpickler = _RestrictedUnpickler(io.BytesIO(data), encoding=_ENCODING)
        return _plain(unpickler.load(), {})
    except _Refused as error:
        raise DataError(f"{path} holds {error}, which is not read; {_REMEDY}") from error
    # What a broken pickle makes the unpickler raise is not documented, nor always alike.
    except Exception as error:
        raise DataError(
            f"{path} is not a pickle, or is cut short ({type(error).__name__}: {error}); "
            "download or copy it again"
        ) from error


class _RestrictedUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> _Function:
        function = _NAMES.get((module.replace("numpy._core", "numpy.core"), name))
        if function is None:
            raise _Refused(f"{module}.{name}")
        return _Function(function)


def _check_lengths(data: bytes) -> None:
    """Refuse a pickle that claims more bytes than it has, or numbers what it keeps absurdly.

    Both would make the unpickler ask for memory before it finds out. The pure Python parser of
    opcodes builds nothing and fails at the first length beyond the end.
    """
    tuples = 0
    for steps, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        puts = opcode.name in ("PUT", "BINPUT", "LONG_BINPUT")
        if puts and not 0 <= int(argument or 0) <= steps + 1:
            raise _Refused(f"an entry numbered {argument} after {steps} steps")
        tuples += opcode.name.startswith("TUPLE")
        if tuples > _MAX_TUPLES:
            raise _Refused(f"more than {_MAX_TUPLES} tuples")


def _new_array(subtype: object, shape: object, _: object) -> _Array:
    """In the place of ``numpy.core.multiarray._reconstruct``; the contents come as state."""
    if not isinstance(subtype, _Function) or shape != (0,):
        raise _Refused("an array that is not begun empty")
    return _Array()


def _scalar(dtype: object, raw: object = None) -> object:
    """In the place of ``numpy.core.multiarray.scalar``."""
    return _filled(raw, dtype, (), "C")[()]


def _from_buffer(raw: object, dtype: object, shape: object, order: object) -> _Array:
    """In the place of ``numpy.core.numeric._frombuffer``, of pickle protocol 5."""
    return _Array(_filled(raw, dtype, shape, order))


def _encoded(text: object, encoding: object = None) -> bytes:
    """In the place of ``_codecs.encode``, as which Python 3 writes bytes for Python 2."""
    if not isinstance(text, str) or encoding != "latin1":
        raise _Refused("a call of _codecs.encode that does not make bytes of latin1")
    return text.encode("latin1")


def _no_bytes(*args: object) -> bytes:
    """In the place of ``bytes``, as which Python 3 writes empty bytes for Python 2."""
    if args:
        raise _Refused("a call of bytes with arguments")
    return b""


def _no_call(*_: object) -> object:
    """In the place of ``numpy.ndarray``, which is an argument only."""
    raise _Refused("a call of numpy.ndarray")


_NAMES: dict[tuple[str, str], Callable[..., object]] = {
    ("numpy", "dtype"): _DType,
    ("numpy", "ndarray"): _no_call,
    ("numpy.core.multiarray", "_reconstruct"): _new_array,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _encoded,
    ("builtins", "bytes"): _no_bytes,
    ("__builtin__", "bytes"): _no_bytes,
}


def _filled(raw: object, dtype: object, shape: object, order: object) -> np.ndarray:
    """An array of its bytes, checked."""
    if isinstance(raw, str):  # bytes of Python 2
        raw = raw.encode(_ENCODING)
    if not isinstance(raw, bytes | bytearray) or not isinstance(dtype, _DType):
        raise _Refused("an array that is not made of bytes")
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise _Refused(f"an array of shape {shape!r}")
    if order not in ("C", "F") or math.prod(shape) * dtype.dtype.itemsize != len(raw):
        raise _Refused(f"an array of shape {shape}, {dtype.dtype}, in {len(raw)} bytes")
    # Of a copy, for what is made of bytes cannot be written to.
    return np.ndarray(shape, dtype.dtype, bytearray(raw), order=order)


def _plain(value: Any, done: dict[int, Any]) -> Any:
    """What stands for arrays replaced by them, in containers too; all else refused.

    ``done`` has what was made of each object, by its id, so that nothing that a file refers to many
    times is made many times.
    """
    if value is None or isinstance(value, bool | int | float | str | bytes | np.generic):
        return value
    if id(value) not in done:
        done[id(value)] = _Refused  # until it is made
        if isinstance(value, _Array) and value.value is not None:
            done[id(value)] = value.value
        elif isinstance(value, dict):
            items = value.items()
            done[id(value)] = {_plain(k, done): _plain(v, done) for k, v in items}
        elif isinstance(value, list | tuple):
            done[id(value)] = type(value)([_plain(item, done) for item in value])
        else:
            raise _Refused(f"a {type(value).__name__.strip('_').lower()}")
    if done[id(value)] is _Refused:
        raise _Refused(f"a {type(value).__name__} within itself")
    return done[id(value)]
