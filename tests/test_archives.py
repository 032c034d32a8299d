"""Npz files: what is claimed is compared with what is there before memory is taken; equal arrays, equal bytes."""

from __future__ import annotations

import io
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib import format as npy

from q2d2 import archives
from q2d2.archives import ArchiveError, read_npz, write_npz

ARRAYS = {"codes": np.arange(6).reshape(2, 3), "metadata": np.array('{"ü": 1}')}


def member(shape: tuple[int, ...], data: bytes, dtype: str = "<i8") -> bytes:
    stream = io.BytesIO()
    npy.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue() + data


def packed(path: Path, *members: tuple[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def refused(path: Path, reason: str) -> None:
    with pytest.raises(ArchiveError, match=reason) as caught:
        read_npz(path)
    assert "\n" not in str(caught.value)


def test_arrays_come_back_here_and_in_numpy(tmp_path: Path) -> None:
    write_npz(tmp_path / "x.npz", ARRAYS)
    np.savez_compressed(tmp_path / "numpy.npz", **ARRAYS)
    with np.load(tmp_path / "x.npz") as by_numpy:
        for name, array in ARRAYS.items():
            for read in (by_numpy[name], read_npz(tmp_path / "x.npz")[name], read_npz(tmp_path / "numpy.npz")[name]):
                assert read.dtype == array.dtype
                np.testing.assert_array_equal(read, array)


def test_bytes_do_not_depend_on_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_npz(tmp_path / "x.npz", ARRAYS)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 10**6)
    write_npz(tmp_path / "y.npz", ARRAYS)
    assert (tmp_path / "x.npz").read_bytes() == (tmp_path / "y.npz").read_bytes()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (member((10**12,), b"12345678"), r"codes\.npy claims the shape \(1000000000000,\) of int64, which its length"),
        (member((-1,), b""), "claims the shape"),
        (member((3,), bytes(25)), "claims the shape"),
        (member((10**15,), b"", "|V0"), "holds items of no bytes"),
        (member((1,), b"\x80\x02.", "|O"), "holds objects, expected numbers"),
        (b"no array", "."),
        (b"\x93NUMPY\x09\x00", "version"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{", "."),
        (b"\x93NUMPY\x01\x00\x10\x00" + b"(" * 9999, "."),
    ],
)
def test_members_that_lie_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    refused(packed(tmp_path / "x.npz", ("codes.npy", content)), reason)


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "UNPACKED_BYTES", 2**16)
    refused(
        packed(tmp_path / "x.npz", ("codes.npy", member((2**20,), bytes(2**23)))), "its entries claim 8,388,736 bytes"
    )
    monkeypatch.setattr(archives, "MAX_ENTRIES", 9)
    refused(packed(tmp_path / "x.npz", *((f"{n}.npy", member((1,), bytes(8))) for n in range(10))), "10 entries")


def test_a_small_archive_that_claims_4_gb_is_refused_at_once(tmp_path: Path) -> None:
    whole = bytearray(packed(tmp_path / "x.npz", ("codes.npy", member((1,), bytes(8)))).read_bytes())
    place = whole.rindex(b"PK\1\2") + 24
    whole[place : place + 4] = (2**32 - 2).to_bytes(4, "little")
    (tmp_path / "x.npz").write_bytes(whole)
    refused(tmp_path / "x.npz", "its entries claim 4,294,967,294 bytes in a file of")


def test_damage_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    write_npz(path, ARRAYS)
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        for data in (whole[:place], whole[:place] + bytes([whole[place] ^ 0x11]) + whole[place + 1 :]):
            path.write_bytes(data)
            read: dict[str, Any] = {}
            complaint = ""
            try:
                read = read_npz(path)
            except ArchiveError as error:
                complaint = str(error)
            assert "\n" not in complaint
            if read.keys() == ARRAYS.keys():
                np.testing.assert_array_equal(read["codes"], ARRAYS["codes"])
    with pytest.raises(ArchiveError, match="No such file"):
        read_npz(tmp_path / "absent.npz")
