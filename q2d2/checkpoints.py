"""Codec checkpoints: a folder with codec.safetensors (weights) and codec.json (everything needed to build it)."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from q2d2.bottleneck import build_bottleneck
from q2d2.codec import Codec, CodecConfig
from q2d2.errors import UserError

FORMAT = 1
WEIGHTS, CONFIG = "codec.safetensors", "codec.json"
PRETRAINED = Path(__file__).parent / "pretrained"
BACKBONE = ("encoder", "decoder", "head")


class CheckpointError(UserError, ValueError):
    """A checkpoint that is missing, damaged or does not fit; the message names the file and the way out."""


def save_codec(
    codec: Codec, folder: Path, metadata: dict[str, Any] | None = None, dtype: torch.dtype | None = None
) -> None:
    """Write `codec` to `folder`; the JSON file comes last, so that its presence means the checkpoint is whole.

    Args:
        codec: its bottleneck must come from `build_bottleneck`, which notes how to build it again.
        folder: made if it does not exist.
        metadata: anything JSON can hold, for people and reports (training settings, data, scores).
        dtype: of the stored floating-point weights; by default as they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: tensor.detach().cpu().to(dtype if dtype and tensor.is_floating_point() else tensor.dtype).contiguous()
        for name, tensor in codec.state_dict().items()
    }
    weights = folder / (WEIGHTS + ".part")
    weights.write_bytes(save(tensors))  # safetensors' own writer hides a full disk behind an error of its own
    (folder / CONFIG).unlink(missing_ok=True)  # that of an older checkpoint
    os.replace(weights, folder / WEIGHTS)
    described = {
        "format": FORMAT,
        "backbone": codec.config.to_dict(),
        "bottleneck": codec.bottleneck.spec,
        "weights_sha256": file_sha256(folder / WEIGHTS),
        "metadata": metadata or {},
    }
    write_atomically(folder / CONFIG, json.dumps(described, indent=2) + "\n")


def load_codec(source: str | Path) -> Codec:
    """Load a codec in float32 and eval mode from a checkpoint folder or the name of one that ships with the package.

    Raises:
        CheckpointError: not found, damaged, of another format, or with weights that do not fit.
    """
    folder = find_checkpoint(source)
    described = read_description(folder)
    spec = dict(described["bottleneck"])
    config = _backbone(folder, described)
    try:
        codec = Codec(config, build_bottleneck(spec.pop("name", ""), config.dimension, **spec))
    except ValueError as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}") from error
    _load_state(codec, _read_weights(folder, described), folder)
    return codec.eval()


def load_backbone(codec: Codec, source: str | Path) -> None:
    """Warm start: copy encoder, decoder and head into `codec`, leaving its bottleneck as it is.

    Raises:
        CheckpointError: not found, damaged, or of a backbone of another shape; the message names what differs.
    """
    folder = find_checkpoint(source)
    described = read_description(folder)
    stored = _backbone(folder, described).to_dict()
    wanted = codec.config.to_dict()
    different = [f"{key} {stored[key]} (wanted {wanted[key]})" for key in wanted if stored[key] != wanted[key]]
    if different:
        raise CheckpointError(f"{folder} holds another backbone: {', '.join(different)}")
    weights = _read_weights(folder, described)
    for part in BACKBONE:
        own = {key.removeprefix(part + "."): value for key, value in weights.items() if key.startswith(part + ".")}
        _load_state(codec.get_submodule(part), own, folder)


def find_checkpoint(source: str | Path) -> Path:
    """The folder of a checkpoint given as a folder or as the name of one that ships with the package.

    Raises:
        CheckpointError: there is none.
    """
    for folder in (Path(source).expanduser(), PRETRAINED / source):
        if (folder / CONFIG).is_file():
            return folder
    shipped = ", ".join(sorted(path.parent.name for path in PRETRAINED.glob(f"*/{CONFIG}"))) or "none"
    raise CheckpointError(
        f"no checkpoint {str(source)!r}: expected a folder with {CONFIG} and {WEIGHTS}, or a shipped one: {shipped}"
    )


def read_description(folder: Path) -> dict[str, Any]:
    """The contents of a checkpoint's JSON file.

    Raises:
        CheckpointError: damaged or of another format.
    """
    try:
        described: Any = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError) as error:  # ValueError: neither JSON nor even text
        raise CheckpointError(f"{folder / CONFIG} cannot be read: {error}") from error
    found = described.get("format") if isinstance(described, dict) else None
    if found != FORMAT:
        raise CheckpointError(f"{folder / CONFIG}: format {found!r}, this version reads {FORMAT}")
    missing = [key for key in ("backbone", "bottleneck", "weights_sha256", "metadata") if key not in described]
    if missing:
        raise CheckpointError(f"{folder / CONFIG} lacks {', '.join(missing)}")
    return described


def _backbone(folder: Path, described: dict[str, Any]) -> CodecConfig:
    try:
        return CodecConfig(**described["backbone"])
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / CONFIG}: backbone: {error}") from error


def _load_state(module: torch.nn.Module, state: dict[str, torch.Tensor], folder: Path) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{folder / WEIGHTS} does not fit {folder / CONFIG}: {error}") from error


def _read_weights(folder: Path, described: dict[str, Any]) -> dict[str, torch.Tensor]:
    expected = described["weights_sha256"]
    try:
        found = file_sha256(folder / WEIGHTS)
        if found != expected:
            raise CheckpointError(f"{folder / WEIGHTS} is damaged: sha256 {found}, {CONFIG} says {expected}")
        tensors = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder / WEIGHTS} cannot be read: {error}") from error
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's contents."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a kill at any moment leaves the old or the new one, never a part."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
