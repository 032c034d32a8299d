"""JSON values and numpy arrays as bytes, exact to the bit, without pickle.

Length of a JSON text in 4 bytes, little-endian; the text: [plain values by name, [name, type and shape of each array]];
the arrays one after the other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def pack(value: Mapping[str, Any]) -> bytes:
    """The bytes of a mapping from names to JSON values and arrays.

    Raises:
        TypeError: it holds something that is neither a JSON value nor an array of numbers or text.
    """
    plain: dict[str, Any] = {}
    arrays: dict[str, NDArray[Any]] = {}
    for name, item in value.items():
        if not isinstance(name, str):
            raise TypeError(f"{name!r} names a value: a string is needed")
        if not isinstance(item, np.ndarray):
            plain[name] = item
        elif item.dtype.kind in "OV":
            raise TypeError(f"{name!r}: an array of type {item.dtype} cannot be kept")
        else:
            arrays[name] = item
    header = json.dumps([plain, [(name, array.dtype.str, array.shape) for name, array in arrays.items()]]).encode()
    return b"".join((len(header).to_bytes(4, "little"), header, *(array.tobytes() for array in arrays.values())))


def unpack(packed: bytes) -> dict[str, Any]:
    """What `pack` got, equal to the bit; arrays are new ones, tuples have become lists.

    Raises:
        ValueError, TypeError: the bytes do not come from `pack`.
    """
    start = 4 + int.from_bytes(packed[:4], "little")
    value, arrays = json.loads(packed[4:start])
    for name, kind, shape in arrays:
        count = math.prod(shape)
        flat = np.frombuffer(packed, kind, count, start) if count else np.empty(0, kind)
        value[name] = flat.reshape(shape).copy()
        start += flat.nbytes
    return dict(value)
