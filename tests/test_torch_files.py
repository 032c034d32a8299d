"""Files of torch.save: what is damaged, foreign or claims too much is one line, whatever the damage."""

from __future__ import annotations

import io
import pickle
import random
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from q2d2 import torch_files
from q2d2.torch_files import ForeignObjects, TorchFileError, read_torch

CONTENT = {"state_dict": OrderedDict(a=torch.arange(6.0).reshape(2, 3)), "epoch": 3}


def saved(path: Path, content: Any = CONTENT, zipped: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def packed(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def unpacked(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def refused(path: Path, reason: str, kind: type[TorchFileError] = TorchFileError) -> None:
    with pytest.raises(kind, match=reason) as caught:
        read_torch(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_what_was_saved_comes_back(tmp_path: Path, zipped: bool) -> None:
    loaded = read_torch(saved(tmp_path / "x.pt", zipped=zipped))
    assert torch.equal(loaded["state_dict"]["a"], CONTENT["state_dict"]["a"])  # type: ignore[index]
    assert loaded["epoch"] == 3


def test_a_file_saved_without_checksums_is_taken(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        saved(tmp_path / "x.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert read_torch(tmp_path / "x.pt")["epoch"] == 3


def test_a_flipped_bit_in_the_weights_is_noticed(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", {"a": torch.full((500,), 7.0)})
    whole = bytearray(path.read_bytes())
    whole[whole.index(struct.pack("<f", 7.0) * 100) + 200] ^= 1
    path.write_bytes(whole)
    assert torch.load(path, mmap=True, weights_only=True)["a"].shape == (500,)  # torch itself says nothing
    refused(path, r"is damaged, or was not written by torch\.save: Bad CRC-32 for file 'x/data/0'")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    files = unpacked(saved(tmp_path / "x.pt"))
    bomb = packed(tmp_path / "bomb.pt", files | {"x/data/1": bytes(2**24)}, zipfile.ZIP_DEFLATED)
    refused(bomb, "is compressed, which torch.save does not do")
    lying = (tmp_path / "x.pt").read_bytes()
    place = lying.rindex(b"PK\1\2")
    lying = lying[: place + 20] + struct.pack("<II", 2**31, 2**31) + lying[place + 28 :]
    (tmp_path / "lying.pt").write_bytes(lying)
    refused(tmp_path / "lying.pt", "its entries claim 2,147,")


def test_sizes_that_lie_take_no_memory(tmp_path: Path) -> None:
    """A storage of 24 bytes that claims 4 TB, a tensor in it that does, and one that is spread over 10^12 elements."""
    files = unpacked(saved(tmp_path / "x.pt"))
    name = next(name for name in files if name.endswith("data.pkl"))
    pairs = {(6,): (2**30,), (2, 3): (2**30, 2**10)}
    for (honest, lie), fits in zip(pairs.items(), (True, False), strict=True):
        first, second = (b"".join(pickle.dumps(each, protocol=2)[2:-1] for each in sizes) for sizes in (honest, lie))
        assert first in files[name]
        path = packed(tmp_path / "lying.pt", files | {name: files[name].replace(first, second)})
        if fits:  # as much as there is of the storage, and the tensor needs no more
            assert torch.equal(read_torch(path)["state_dict"]["a"], CONTENT["state_dict"]["a"])  # type: ignore[index]
        else:
            refused(path, "is damaged, or was not written")
    spread = read_torch(saved(tmp_path / "spread.pt", {"a": torch.ones(1).expand(10**6, 10**6)}))
    assert spread["a"].shape == (10**6, 10**6)


@pytest.mark.parametrize("zipped", [True, False])
def test_memory_by_number_is_refused(tmp_path: Path, zipped: bool) -> None:
    """`bytearray(2**36)` is the one call that torch's own reader allows and that fills what it takes."""
    pickled = b"\x80\x02c__builtin__\nbytearray\n" + pickle.dumps(2**36, protocol=2)[2:-1] + b"\x85R."
    files = unpacked(saved(tmp_path / "x.pt"))
    name = next(name for name in files if name.endswith("data.pkl"))
    if zipped:
        path = packed(tmp_path / "big.pt", files | {name: pickled})
    else:
        legacy = io.BytesIO()
        torch.save({}, legacy, _use_new_zipfile_serialization=False)
        path = tmp_path / "big.pt"
        path.write_bytes(legacy.getvalue().replace(pickle.dumps({}, protocol=2), pickled))
    refused(path, r"objects beside its tensors \(bytearray\)", ForeignObjects)


def test_a_description_beyond_any_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("MAX_OPERATIONS", "MAX_PICKLE_BYTES"):
        with monkeypatch.context() as patch:
            patch.setattr(torch_files, limit, 9)
            refused(saved(tmp_path / "x.pt"), "it names more tensors than any model has")


def test_any_damage_is_one_line_or_nothing(tmp_path: Path) -> None:
    """Bytes changed, cut, doubled: an error that names the file, or the very same values."""
    rng = random.Random(0)
    for zipped in (True, False):
        whole = saved(tmp_path / "x.pt", zipped=zipped).read_bytes()
        for _ in range(60):
            data = bytearray(whole)
            place = rng.randrange(len(data))
            change = rng.choice(("flip", "cut", "double", "zero"))
            if change == "flip":
                data[place] ^= 1 << rng.randrange(8)
            elif change == "cut":
                del data[place:]
            elif change == "double":
                data[place:place] = data[place : place + 50]
            else:
                data[place : place + 8] = bytes(8)
            (tmp_path / "y.pt").write_bytes(data)
            loaded, complaint = None, str(tmp_path / "y.pt")
            try:
                loaded = read_torch(tmp_path / "y.pt")
            except TorchFileError as error:
                complaint = str(error)
            assert "\n" not in complaint
            assert str(tmp_path / "y.pt") in complaint
            if zipped and loaded is not None:  # the older format has no checksums
                assert torch.equal(loaded["state_dict"]["a"], CONTENT["state_dict"]["a"])  # type: ignore[index]


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"PK\x05\x06" + bytes(18), b"\x80\x02.", b"[" * 9999, bytes(99)]
)
def test_what_is_no_such_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    refused(tmp_path / "x.pt", r"is damaged, or was not written by torch\.save")
    refused(tmp_path / "absent.pt", "cannot be read: No such file")
    refused(tmp_path, "cannot be read: Is a directory")
