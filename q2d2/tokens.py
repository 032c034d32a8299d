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
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from q2d2.archives import ArchiveError, read_npz, write_npz
from q2d2.checkpoints import find_checkpoint, read_description
from q2d2.codec import Codec
from q2d2.errors import UserError, printable, shown
from q2d2.files import whole
from q2d2.tensors import UnreadableTensors, read_safetensors

FORMAT = 1
SUFFIXES = (".safetensors", ".npz")

LONGEST = 2**48  # samples: more than any disk holds, and small enough for any arithmetic


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
        return f"{shown(self.name)} (weights {printable(self.sha256[:12])})"


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
            if type(value) is not int or not 1 <= value <= LONGEST:
                raise ValueError(f"{name} is {shown(value)}: expected an integer of at least 1")
        if not all(type(size) is int and 1 <= size < 2**63 for size in self.codebook_sizes):
            raise ValueError(f"codebook sizes are {shown(self.codebook_sizes)}: expected integers of at least 1")
        if not all(isinstance(text, str) for text in (self.source.name, self.source.sha256)):
            raise ValueError(f"the source is {shown(self.source)}: expected its name and SHA-256 as text")
        quantizers, frames = self.codes.shape
        if quantizers != len(self.codebook_sizes) or quantizers == 0:
            raise ValueError(f"codes of {quantizers} quantizers for {len(self.codebook_sizes)} codebooks")
        if frames != -(-self.length // self.hop_length):
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
        digest = hashlib.sha256(json.dumps(_describe(self), sort_keys=True).encode())
        digest.update(np.ascontiguousarray(self.codes.numpy(), "<i8").tobytes())
        return digest.hexdigest()


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
            made += f", bottleneck {_bounded(str(tokens.codec.bottleneck))}"
            given += f", bottleneck {identity.bottleneck}"
        raise TokenError(f"{path}: {made}, not of {given}; give their codec, or --force")
    parts = {
        "sample rate": (tokens.sample_rate, codec.sample_rate),
        "samples of a frame": (tokens.hop_length, codec.hop_length),
        "codebook sizes": (tokens.codebook_sizes, codec.bottleneck.codebook_sizes),
    }
    for name, (found, expected) in parts.items():
        if found != expected:
            raise TokenError(
                f"{path}: {identity} cannot decode tokens of {tokens.codec}: {name} {shown(found)}, not {expected}"
            )


def save_tokens(path: Path, tokens: Tokens) -> None:
    """Write a token file, in the layout that the suffix of `path` names; whole or not at all.

    The same tokens give the same bytes, whenever and wherever they are written (an .npz: with the same zlib).

    Raises:
        TokenError: the suffix is neither .safetensors nor .npz.
        OSError: it cannot be written.
    """
    _check_suffix(path)
    described = _describe(tokens) | {"sha256": tokens.sha256}
    codes = np.ascontiguousarray(tokens.codes.numpy(), "<i8")
    with whole(path) as part:
        if path.suffix == ".npz":
            write_npz(part, {"codes": codes, "metadata": np.array(json.dumps(described))})
        else:
            with part.open("wb") as file:
                file.write(_safetensors_header(codes, {key: _to_text(value) for key, value in described.items()}))
                file.write(codes.tobytes())


def load_tokens(path: Path) -> Tokens:
    """Read a token file and check that it is whole and consistent.

    Raises:
        TokenError: missing, damaged, of another layout, or codes that do not fit what it says of them.
    """
    _check_suffix(path)
    try:
        codes, described = (_read_npz if path.suffix == ".npz" else _read_safetensors)(path)
    except UnreadableTensors as error:
        raise TokenError(f"{path}: cannot be read as a token file: {str(error).removeprefix(f'{path} ')}") from error
    except (ArchiveError, ValueError, TypeError, KeyError, RecursionError) as error:
        reason = f"no entry {error}" if isinstance(error, KeyError) else _bounded(str(error))
        raise TokenError(f"{path}: cannot be read as a token file: {reason}") from error
    if described.get("format") != FORMAT:
        raise TokenError(f"{path}: token format {shown(described.get('format'))}, this version reads {FORMAT}")
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
        is_whole = tokens.sha256 == described["sha256"]
    except KeyError as error:
        raise TokenError(f"{path}: no entry {error} in its metadata") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise TokenError(f"{path}: {_bounded(str(error))}") from error
    if not is_whole:
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


def _bounded(text: str) -> str:
    """What a file says, as one line of a message."""
    return text if len(text) <= 300 and text.isprintable() else printable(text)


def _to_text(value: Any) -> str:
    """Strings as they are, anything else as JSON: what safetensors' metadata can hold."""
    return value if isinstance(value, str) else json.dumps(value)


def _safetensors_header(codes: np.ndarray[Any, Any], texts: dict[str, str]) -> bytes:
    """What comes before the codes; the library's own writer puts the texts in another order each time."""
    tensor = {"dtype": "I64", "shape": list(codes.shape), "data_offsets": [0, codes.nbytes]}
    header = json.dumps({"__metadata__": texts, "codes": tensor}, ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)  # so that the codes are aligned
    return struct.pack("<Q", len(header)) + header


def _read_safetensors(path: Path) -> tuple[Tensor, dict[str, Any]]:
    tensors, texts = read_safetensors(path)
    plain = ("codec", "codec_sha256", "sha256")
    return tensors["codes"], {key: text if key in plain else json.loads(text) for key, text in texts.items()}


def _read_npz(path: Path) -> tuple[Tensor, dict[str, Any]]:
    arrays = read_npz(path)
    metadata, codes = arrays["metadata"], arrays["codes"]
    if metadata.dtype.kind != "U" or metadata.shape:
        raise ValueError(f"its metadata is an array {shown(metadata.shape)} of {metadata.dtype}, expected a text")
    described = json.loads(str(metadata))
    if not isinstance(described, dict):
        raise ValueError("its metadata is no JSON object")
    return torch.from_numpy(codes), described
