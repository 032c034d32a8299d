"""Archives of corpora, damaged and hostile."""

from __future__ import annotations

import gzip
import io
import random
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

from evalkit.datasets.fetch import unpack
from tests.fuzz.damage import damaged
from tests.fuzz.driver import Silent

FOLDER = "Corpus/part"


def _member(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


HOSTILE: tuple[Callable[[], list[tuple[tarfile.TarInfo, bytes]]], ...] = (
    lambda: [_member("../outside.txt", b"evil")],
    lambda: [_member("/tmp/../../outside.txt", b"evil")],
    lambda: [
        _member(f"{FOLDER}/link", type=tarfile.SYMTYPE, linkname="../../.."),
        _member(f"{FOLDER}/link/outside.txt", b"x"),
    ],
    lambda: [_member(f"{FOLDER}/hard", type=tarfile.LNKTYPE, linkname="../../outside.txt")],
    lambda: [_member(f"{FOLDER}/device", type=tarfile.CHRTYPE)],
    lambda: [_member(f"{FOLDER}/pipe", type=tarfile.FIFOTYPE)],
    lambda: [_member("a" * 5000, b"x")],
    lambda: [_member(f"{FOLDER}/nul\0name", b"x")],
)


class Archives:
    """A small corpus as .tar.gz."""

    name = "archives"
    count = 100

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.good = [_member(f"{FOLDER}/{n}.txt", bytes([n]) * 999) for n in range(3)]
        self.archive = self._packed(self.good)

    def _packed(self, members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w") as tar:
            for info, data in members:
                tar.addfile(info, io.BytesIO(data))
        return gzip.compress(raw.getvalue(), mtime=0)

    def run(self, rng: random.Random, number: int) -> None:
        packed, scratch, out = (self.folder / name for name in ("case.tar.gz", "inside/scratch", "inside/out"))
        for folder in (scratch, out):
            shutil.rmtree(folder, ignore_errors=True)
        if number % 4:
            packed.write_bytes(damaged(rng, self.archive))
        else:
            packed.write_bytes(self._packed([*self.good, *rng.choice(HOSTILE)()]))
        try:
            unpack(packed, scratch, out, FOLDER)
        finally:
            strangers = {path.name for path in self.folder.iterdir()} - {"case.tar.gz", "inside"}
            if strangers:
                raise Silent(f"written outside: {strangers}")
        # A member that is missing is found by `fetch`, which counts utterances and knows the archive's checksum.
        for info, data in self.good:
            path = out / info.name
            if path.is_file() and path.read_bytes() != data:
                raise Silent(f"{info.name} was unpacked with another content")
