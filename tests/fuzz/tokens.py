"""Token files in both layouts."""

from __future__ import annotations

import random
from pathlib import Path

import torch

from q2d2.tokens import CodecIdentity, Source, Tokens, load_tokens, save_tokens
from tests.fuzz.damage import damaged
from tests.fuzz.driver import Silent

FRAMES, HOP = 200, 320


class TokenFiles:
    """Codes of two quantizers."""

    name = "tokens"
    count = 200

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        codes = torch.randint(16, (2, FRAMES), generator=torch.Generator().manual_seed(0))
        identity = CodecIdentity("small", "0" * 64, {"name": "rvq"})
        length = FRAMES * HOP - 7
        self.tokens = Tokens(codes, length, 16_000, HOP, (16, 16), identity, Source("a.wav", 16_000, length, "1" * 64))
        self.files = {}
        for suffix in ("npz", "safetensors"):
            path = folder / f"whole.{suffix}"
            save_tokens(path, self.tokens)
            self.files[suffix] = path.read_bytes()

    def run(self, rng: random.Random, number: int) -> None:
        suffix = rng.choice(list(self.files))
        path = self.folder / f"case.{suffix}"
        path.write_bytes(damaged(rng, self.files[suffix]))
        read = load_tokens(path)
        if not torch.equal(read.codes, self.tokens.codes) or (read.length, read.sample_rate) != (
            self.tokens.length,
            self.tokens.sample_rate,
        ):
            raise Silent(f"{suffix}: other codes were read, of {read.length} samples at {read.sample_rate} Hz")
