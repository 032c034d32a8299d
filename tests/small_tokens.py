"""The tokens of a short clip."""

from __future__ import annotations

from typing import Any

import torch

from q2d2.tokens import CodecIdentity, Source, Tokens

CODEC = CodecIdentity("a", "ab" * 32, {"name": "q2d2", "tiling": "rhombic", "levels": [7, 7, 5, 5]})
SOURCE = Source("höhe.flac", 44100, 4410, "cd" * 32)


def tokens_of(frames: int = 10, **changes: Any) -> Tokens:
    sizes = (85, 41)
    generator = torch.Generator().manual_seed(frames)
    codes = torch.stack([torch.randint(size, (frames,), generator=generator) for size in sizes])
    given_: dict[str, Any] = {
        "codes": codes, "length": frames * 12 - 5, "sample_rate": 8000, "hop_length": 12, "codebook_sizes": sizes,
        "codec": CODEC, "source": SOURCE,
    }  # fmt: skip
    return Tokens(**(given_ | changes))
