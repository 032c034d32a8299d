"""Token files: the codes of one recording, with what is needed to turn them back into exactly as many samples.

`.safetensors`: one tensor, `codes`, and the rest as metadata strings. `.npz`: the array `codes` and the rest as JSON in
the array `metadata`. Both hold the same entries:

    format            version of this layout, 1
    length            samples of the recording at the codec's rate
    sample_rate       the codec's, in Hz
    hop_length        samples of a frame
    codebook_sizes    one a quantizer
    codec             name of the checkpoint, for people
    codec_sha256      of its codec.safetensors
    bottleneck        its name and options
    source            name of the recording's file, its sample rate in Hz, samples and SHA-256
    sha256            of all other entries (a JSON object, keys sorted) and the codes (little-endian int64, row by row)
"""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from q2d2.checkpoints import find_checkpoint, read_description
from q2d2.codec import Codec
from q2d2.errors import UserError
from q2d2.files import whole

FORMAT = 1
SUFFIXES = (".safetensors", ".npz")

# What the readers of both layouts raise on damage.
_UNREADABLE = (
    OSError, SafetensorError, ValueError, TypeError, KeyError, EOFError, NotImplementedError, RuntimeError, zlib.error,
    zipfile.BadZipFile,
)  # fmt: skip


class TokenError(UserError, ValueError):
    """A token file that is damaged, of another layout, or of another codec; the message names it and the way out."""


@dataclass(frozen=True)
class CodecIdentity:
    """What decides the meaning of codes.

    name: of the checkpoint, for people.
    sha256: of its weights, hexadecimal.
    bottleneck: name and options, as in the checkpoint: two tilings may have equal weights.
    """

    name: str
    sha256: str
    bottleneck: dict[str, Any]

    def is_same(self, other: CodecIdentity) -> bool:
        """Whether both give codes the same meaning; the name does not matter."""
        return self.sha256 == other.sha256 and self.bottleneck == other.bottleneck

    def __str__(self) -> str:
        return f"{self.name!r} (weights {self.sha256[:12]})"


@dataclass(frozen=True)
class Source:
    """The recording as it was read: name of its file, sample rate in Hz, samples, SHA-256 of the file."""

    name: str
    sample_rate: int
    length: int
    sha256: str


@dataclass(frozen=True, eq=False)
class Tokens:
    """The codes of one recording.

    codes: (quantizers, frames) int64 on the CPU.
    length: samples at `sample_rate` (Hz), within the last frame.
    hop_length: samples of a frame.
    codebook_sizes: one a quantizer.
    codec: whose codes these are.
    source: what was encoded.

    Raises:
        ValueError: the parts do not fit together; the message says which.
    """

    codes: Tensor
    length: int
    sample_rate: int
    hop_length: int
    codebook_sizes: tuple[int, ...]
    codec: CodecIdentity
    source: Source

    def __post_init__(self) -> None:
        if self.codes.dtype != torch.int64 or self.codes.dim() != 2:
            shape = tuple(self.codes.shape)
            raise ValueError(f"codes are {self.codes.dtype} of shape {shape}: expected int64 (quantizers, frames)")
        numbers = {name: getattr(self, name) for name in ("length", "sample_rate", "hop_length")}
        numbers |= {f"source {name}": getattr(self.source, name) for name in ("sample_rate", "length")}
        for name, value in numbers.items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}: expected an integer of at least 1")
        quantizers, frames = self.codes.shape
        if quantizers != len(self.codebook_sizes) or quantizers == 0:
            raise ValueError(f"codes of {quantizers} quantizers for {len(self.codebook_sizes)} codebooks")
        if frames != math.ceil(self.length / self.hop_length):
            raise ValueError(f"{frames} frames of {self.hop_length} samples cannot hold exactly {self.length} samples")
        for quantizer, (codes, size) in enumerate(zip(self.codes, self.codebook_sizes, strict=True)):
            low, high = int(codes.min()), int(codes.max())
            if low < 0 or high >= size:
                raise ValueError(f"quantizer {quantizer} has codes from {low} to {high}, its codebook 0 to {size - 1}")

    @property
    def seconds(self) -> float:
        return self.length / self.sample_rate

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of everything, which a token file carries."""
        described = json.dumps(_describe(self), sort_keys=True).encode()
        return hashlib.sha256(described + self.codes.numpy().astype("<i8").tobytes()).hexdigest()


def identify_codec(source: str | Path) -> CodecIdentity:
    """The identity of a checkpoint given as for `load_codec`.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    folder = find_checkpoint(source)
    described = read_description(folder)
    return CodecIdentity(folder.resolve().name, described["weights_sha256"], described["bottleneck"])


def check_codec(path: Path, tokens: Tokens, codec: Codec, identity: CodecIdentity, *, force: bool = False) -> None:
    """See that `tokens`, read from `path`, belong to a codec.

    Args:
        force: let another codec pass if it could decode them at all.

    Raises:
        TokenError: they are of another codec; the message names both.
    """
    if not force and not tokens.codec.is_same(identity):
        made, given = f"tokens of {tokens.codec}", str(identity)
        if tokens.codec.sha256 == identity.sha256:
            made, given = f"{made}, bottleneck {tokens.codec.bottleneck}", f"{given}, bottleneck {identity.bottleneck}"
        raise TokenError(f"{path}: {made}, not of {given}; give their codec, or --force")
    parts = {
        "sample rate": (tokens.sample_rate, codec.sample_rate),
        "samples of a frame": (tokens.hop_length, codec.hop_length),
        "codebook sizes": (tokens.codebook_sizes, codec.bottleneck.codebook_sizes),
    }
    for name, (found, expected) in parts.items():
        if found != expected:
            raise TokenError(
                f"{path}: {identity} cannot decode tokens of {tokens.codec}: {name} {found}, not {expected}"
            )


def save_tokens(path: Path, tokens: Tokens) -> None:
    """Write a token file, in the layout that the suffix of `path` names; whole or not at all.

    Raises:
        TokenError: the suffix is neither .safetensors nor .npz.
        OSError: it cannot be written.
    """
    _check_suffix(path)
    described = _describe(tokens) | {"sha256": tokens.sha256}
    codes = tokens.codes.contiguous()
    with whole(path) as part, part.open("wb") as file:
        if path.suffix == ".npz":
            np.savez_compressed(file, codes=codes.numpy(), metadata=np.array(json.dumps(described)))
        else:
            file.write(save({"codes": codes}, {key: _to_text(value) for key, value in described.items()}))


def load_tokens(path: Path) -> Tokens:
    """Read a token file and check that it is whole and consistent.

    Raises:
        TokenError: missing, damaged, of another layout, or codes that do not fit what it says of them.
    """
    _check_suffix(path)
    try:
        codes, described = (_read_npz if path.suffix == ".npz" else _read_safetensors)(path)
    except _UNREADABLE as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise TokenError(f"{path}: cannot be read as a token file: {reason}") from error
    if described.get("format") != FORMAT:
        raise TokenError(f"{path}: token format {described.get('format')!r}, this version reads {FORMAT}")
    try:
        tokens = Tokens(
            codes,
            described["length"],
            described["sample_rate"],
            described["hop_length"],
            tuple(described["codebook_sizes"]),
            CodecIdentity(str(described["codec"]), str(described["codec_sha256"]), dict(described["bottleneck"])),
            Source(**described["source"]),
        )
        expected = described["sha256"]
    except KeyError as error:
        raise TokenError(f"{path}: no entry {error} in its metadata") from error
    except (TypeError, ValueError) as error:
        raise TokenError(f"{path}: {error}") from error
    if tokens.sha256 != expected:
        raise TokenError(f"{path}: damaged: its contents have another checksum than when they were written")
    return tokens


def _describe(tokens: Tokens) -> dict[str, Any]:
    """All entries of a token file but the codes and the digest."""
    return {
        "format": FORMAT,
        "length": tokens.length,
        "sample_rate": tokens.sample_rate,
        "hop_length": tokens.hop_length,
        "codebook_sizes": list(tokens.codebook_sizes),
        "codec": tokens.codec.name,
        "codec_sha256": tokens.codec.sha256,
        "bottleneck": tokens.codec.bottleneck,
        "source": asdict(tokens.source),
    }


def _check_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise TokenError(f"{path}: a token file ends in {' or '.join(SUFFIXES)}")


def _to_text(value: Any) -> str:
    """Strings as they are, anything else as JSON: what safetensors' metadata can hold."""
    return value if isinstance(value, str) else json.dumps(value)


def _read_safetensors(path: Path) -> tuple[Tensor, dict[str, Any]]:
    with safe_open(path, framework="pt") as file:
        texts = file.metadata() or {}
        codes = file.get_tensor("codes")
    plain = ("codec", "codec_sha256", "sha256")
    return codes, {key: text if key in plain else json.loads(text) for key, text in texts.items()}


def _read_npz(path: Path) -> tuple[Tensor, dict[str, Any]]:
    with np.load(path, allow_pickle=False) as file:
        described = json.loads(str(file["metadata"]))
        if not isinstance(described, dict):
            raise ValueError("its metadata is no JSON object")
        return torch.from_numpy(file["codes"]), described
