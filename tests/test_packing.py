"""What is packed comes back equal to the bit, and what cannot be packed is refused."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.scoring.packing import pack, unpack

PLAIN = {"value": 0.1 + 0.2, "status": "ok", "detail": 'ü "\n\u2028', "seconds": 1e-300, "none": None, "list": [1, "a"]}
ARRAYS = [
    np.linspace(-1, 1, 7, dtype=np.float32), np.array([[np.nan, np.inf], [-0.0, 5e-324]]), np.arange(6).reshape(2, 3).T,
    np.array(3, np.int8), np.empty((0, 4), np.float64), np.array([True, False]), np.array(["a", "ü"]),
    np.array([1, 2], ">i4"), np.array([1 + 2j], np.complex64), np.arange(20, dtype=np.float16)[::3],
]  # fmt: skip


def test_plain_values_come_back_equal() -> None:
    assert unpack(pack(PLAIN)) == PLAIN
    assert unpack(pack({})) == {}


@given(st.lists(st.floats(allow_nan=False)))
def test_floats_come_back_to_the_bit(floats: list[float]) -> None:
    back = unpack(pack({"floats": floats}))["floats"]
    assert [struct.pack("d", number) for number in back] == [struct.pack("d", number) for number in floats]


def test_arrays_come_back_to_the_bit_and_writable() -> None:
    back = unpack(pack({str(number): array for number, array in enumerate(ARRAYS)} | {"value": 1.5}))
    assert back.pop("value") == 1.5
    for number, array in enumerate(ARRAYS):
        copy = back[str(number)]
        assert (copy.dtype, copy.shape, copy.tobytes()) == (array.dtype, array.shape, array.tobytes())
        assert copy.flags.writeable


@pytest.mark.parametrize(
    "value",
    [
        {"value": np.float32(1)},
        {"value": {1, 2}},
        {"value": b"raw"},
        {"value": np.array([None])},
        {"value": np.zeros(2, [("a", "f4"), ("b", "i2")])},
        {1: "value"},
    ],
)
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        pack(value)
