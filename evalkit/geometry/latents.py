"""Latents as Q2D2 snaps them: recording them from a checkpoint, and reading them from a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save
from torch import Tensor

from evalkit.datasets.corpus import find_audio
from evalkit.geometry.partition import Floats
from q2d2.archives import ArchiveError, read_npz
from q2d2.audio import read_blocks, read_header
from q2d2.bottleneck import BOTTLENECKS
from q2d2.checkpoints import load_codec
from q2d2.codec import Codec
from q2d2.errors import UserError
from q2d2.files import whole
from q2d2.quantizer import Q2D2, SPAN_MARGIN
from q2d2.resampling import resample_blocks
from q2d2.tensors import UnreadableTensors, read_safetensors
from q2d2.tokens import identify_codec

KEY = "latents"
BEYOND = 0.01  # more than this outside the square is no tanh
PIECE_SECONDS = 30.0  # longer recordings are encoded in pieces of this length, so that any length fits


class LatentsError(UserError, ValueError):
    """Latents that cannot be recorded or read; the message names the file."""


def read_latents(path: Path) -> Floats:
    """The pairs (n, 2) in a .safetensors or .npz file of float latents (frames, d), all d / 2 pairs together.

    Values are after tanh, in [-1, 1]: channels (0, 1), (2, 3), ... form pairs. The file holds one array, or one of the
    name `latents`.

    Raises:
        LatentsError: there is no such file, or what it holds does not fit.
    """
    if path.suffix not in (".safetensors", ".npz"):
        raise LatentsError(f"{path}: latents are read from .safetensors or .npz")
    try:
        if path.suffix == ".npz":
            arrays = read_npz(path)
        else:
            arrays = {name: tensor.numpy() for name, tensor in read_safetensors(path)[0].items()}
    except (ArchiveError, UnreadableTensors, TypeError) as error:
        if not path.exists():
            raise LatentsError(f"{path}: there is no such file; --record CHECKPOINT makes one") from error
        raise LatentsError(f"{path} cannot be read as {path.suffix[1:]}: {error}") from error
    if KEY not in arrays and len(arrays) != 1:
        raise LatentsError(f"{path}: expected one array, or one called {KEY!r}; found {', '.join(arrays) or 'none'}")
    latents = arrays[KEY] if KEY in arrays else next(iter(arrays.values()))
    if latents.ndim != 2 or latents.shape[1] % 2 or not latents.size or latents.dtype.kind != "f":
        raise LatentsError(
            f"{path}: latents {latents.shape} of {latents.dtype}; expected floats (frames, d) with d even, not empty"
        )
    latents = latents.astype(np.float64)
    if not np.isfinite(latents).all():
        raise LatentsError(f"{path}: {np.count_nonzero(~np.isfinite(latents)):,} values are not finite")
    if (largest := np.abs(latents).max()) > 1 + BEYOND:
        raise LatentsError(f"{path}: values up to {largest:.3g}; expected [-1, 1], so apply tanh before saving")
    if (latents == latents[0]).all():
        raise LatentsError(f"{path}: all {len(latents):,} frames are equal; there is nothing to measure")
    return latents.reshape(-1, 2)


def record_latents(
    checkpoint: str | Path, sources: Sequence[Path], target: Path, progress: Callable[[int, int], None]
) -> int:
    """Write what a Q2D2 checkpoint snaps, for audio files and folders of them, to `target`; returns the frames.

    Values (frames, d) float32 are tanh of the projected latents times 1.001 (`q2d2.quantizer.SPAN_MARGIN`), so that
    their nearest points are the codes of the codec.

    Args:
        checkpoint: folder, or the name of one that ships.
        sources: audio files, or folders.
        target: a .safetensors file.
        progress: called with (files done, files in all) after each.

    Raises:
        CheckpointError: no such checkpoint.
        LatentsError: it has another bottleneck, or there is no audio.
        AudioError, RateError: an audio file cannot be read or converted.
    """
    if target.suffix != ".safetensors":
        raise LatentsError(f"{target}: latents are recorded to a .safetensors file")
    codec = load_codec(checkpoint)
    if not isinstance(codec.bottleneck, Q2D2):
        name = BOTTLENECKS.current(codec.bottleneck.spec["name"])
        raise LatentsError(f"{checkpoint}: its bottleneck is {name!r}; latents are recorded from one of the kind q2d2")
    files: list[Path] = []
    for source in sources:
        if not source.exists():
            raise LatentsError(f"{source}: there is no such file or folder of audio")
        files += find_audio(source) if source.is_dir() else [source]
    if not files:
        raise LatentsError(f"no audio in {', '.join(map(str, sources))}")
    recorded = []
    for done, path in enumerate(files, start=1):
        recorded += _latents_of(codec, codec.bottleneck, path)
        progress(done, len(files))
    latents = torch.cat(recorded).numpy()
    target.parent.mkdir(parents=True, exist_ok=True)
    spec = codec.bottleneck.spec
    made_by = {"codec": str(identify_codec(checkpoint)), "bottleneck": str(spec), "files": str(len(files))}
    with whole(target) as part:
        part.write_bytes(save({KEY: latents}, metadata=made_by))
    return len(latents)


@torch.inference_mode()
def _latents_of(codec: Codec, bottleneck: Q2D2, path: Path) -> list[Tensor]:
    """Values (frames, d) of each piece of an audio file."""
    blocks = (torch.from_numpy(block) for block in read_blocks(path))
    audio = torch.cat(list(resample_blocks(blocks, read_header(path).sample_rate, codec.sample_rate)))
    pieces = audio.split(int(PIECE_SECONDS * codec.sample_rate) // codec.hop_length * codec.hop_length)
    projected = (bottleneck.project_in(codec.latents(piece[None]).transpose(1, 2))[0] for piece in pieces)
    return [torch.tanh(values) * (1 + SPAN_MARGIN) for values in projected]
