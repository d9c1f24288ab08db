"""Tests of the coding of slices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from deeplesion.datasets.slice_codec import CodecError, Slice, decode_slices, encode_slice

SIZE = (12, 9)
slices = arrays.arrays(np.int16, SIZE)


@settings(max_examples=60, deadline=None)
@given(st.lists(slices, max_size=5))
def test_what_is_coded_comes_back(given_slices: list[Slice]) -> None:
    rows = decode_slices([encode_slice(hu) for hu in given_slices], SIZE)
    assert rows.shape == (SIZE[0], len(given_slices), SIZE[1])
    assert rows.dtype == np.int16
    for index, hu in enumerate(given_slices):
        assert np.array_equal(rows[:, index], hu)


def test_every_16_bit_value_survives() -> None:
    hu = np.arange(-32768, 32768).astype(np.int16).reshape(256, 256)
    hu[::2] = hu[::2, ::-1]
    assert np.array_equal(decode_slices([encode_slice(hu)], (256, 256))[:, 0], hu)


def test_slices_that_are_not_contiguous() -> None:
    hu = np.random.default_rng(0).integers(-1000, 1000, (9, 12)).astype(np.int16).T
    assert np.array_equal(decode_slices([encode_slice(hu)], SIZE)[:, 0], hu)


def test_noise_takes_less_than_half() -> None:
    hu = np.random.default_rng(0).normal(40, 12, (256, 256)).round().astype(np.int16)
    entropy_bits = np.log2(12 * np.sqrt(2) * np.sqrt(2 * np.pi * np.e))  # of differences
    bits = 8 * len(encode_slice(hu)) / hu.size
    assert entropy_bits < bits < 1.1 * entropy_bits < 8


def test_damage_is_found_and_located() -> None:
    hu = np.random.default_rng(0).integers(-1000, 1000, (64, 48)).astype(np.int16)
    good = encode_slice(hu)
    for place in range(4, len(good), 97):
        bad = bytearray(good)
        bad[place] ^= 4
        with pytest.raises(CodecError) as caught:
            decode_slices([good, bytes(bad)], (64, 48))
        assert caught.value.index == 1


@pytest.mark.parametrize("left", [0, 3, 20, -1])
def test_cut_short(left: int) -> None:
    with pytest.raises(CodecError):
        decode_slices([encode_slice(np.ones(SIZE, np.int16))[:left]], SIZE)


@pytest.mark.parametrize("size", [(12, 8), (12, 10), (13, 9)])
def test_another_size(size: tuple[int, int]) -> None:
    frame = encode_slice(np.zeros(SIZE, np.int16))
    with pytest.raises(CodecError, match=rf"it does not hold {size[0]} x {size[1]} px"):
        decode_slices([frame], size)
