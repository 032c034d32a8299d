"""The published files themselves: a .ckpt and its YAML into a checkpoint folder of ours, and back."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from q2d2.bottleneck import build_bottleneck
from q2d2.checkpoints import (
    CheckpointError,
    find_checkpoint,
    load_codec,
    read_description,
    read_side_file,
    save_codec,
)
from q2d2.codec import Codec
from q2d2.files import file_sha256, whole, write_atomically
from q2d2.published import CheckpointMismatch, export_state, is_of_training, load_published, published_shapes
from q2d2.published_config import PublishedConfig, PublishedConfigError, published_config, read_published_config
from q2d2.published_layouts import FoundState, LayoutError, as_float32, find_state
from q2d2.torch_files import ForeignObjects, TorchFileError, read_torch

UNUSED = "published_unused.safetensors"


@dataclass(frozen=True)
class Imported:
    """What an import made.

    Attributes:
        codec: as loaded, on the CPU, in eval mode.
        folder: the checkpoint.
        file_sha256: of the published file.
        weights_sha256: of the checkpoint's weights.
        num_read: entries of the codec that were read.
        num_unused: of these, the ones that no forward pass uses; kept beside the weights for export.
        num_training: entries of the training that were left out.
        place: what the weights lay under in the file.
        converted: entries that were converted to float32, by the name of their type.
    """

    codec: Codec
    folder: Path
    file_sha256: str
    weights_sha256: str
    num_read: int
    num_unused: int
    num_training: int
    place: str
    converted: Mapping[str, int]


@dataclass(frozen=True)
class Exported:
    """What an export wrote: `file`, whose SHA-256 and number of entries are given, and its YAML `config`."""

    file: Path
    config: Path
    sha256: str
    num_entries: int
    kept_unused: bool  # whether the unused entries are those of an import, not fillers


def import_checkpoint(family: str, file: Path, config: Path, folder: Path, replace: bool = False) -> Imported:
    """Read a published .ckpt and its YAML, and write a checkpoint folder that `load_codec` takes.

    Args:
        family: "wavtokenizer" or "q2d2".
        file: what the published training saved.
        config: its YAML, which alone says the tiling and levels of Q2D2.
        folder: of the checkpoint; made if it does not exist.
        replace: whether another checkpoint in `folder` may be overwritten.

    Raises:
        PublishedConfigError: the YAML is wrong, see `read_published_config`.
        CheckpointError: `file` cannot be read, holds more than tensors, or `folder` holds another checkpoint.
        CheckpointMismatch: `file` does not hold what the YAML says; the message names the entries.
    """
    described = read_published_config(config, family)
    codec = build_published(described)
    found = find_published(file)
    state, converted = as_float32(found.tensors, published_shapes(codec))
    try:
        unused = load_published(codec, state)
    except CheckpointMismatch as error:
        raise CheckpointMismatch(f"{file} with {config}: {error}") from error
    sha256 = file_sha256(file)
    # Names alone: where the files lay is nobody's business once the checkpoint is shared.
    imported = {"family": family, "file": file.name, "sha256": sha256, "config": config.name}
    save_codec(codec, folder, {"imported": imported}, side_files={UNUSED: unused}, replace=replace)
    return Imported(
        codec=codec.eval(),
        folder=folder,
        file_sha256=sha256,
        weights_sha256=read_description(folder)["weights_sha256"],
        num_read=len(published_shapes(codec)),
        num_unused=len(unused),
        num_training=sum(map(is_of_training, state)),
        place=found.place,
        converted=converted,
    )


def export_checkpoint(source: str | Path, file: Path, config: Path | None = None, replace: bool = False) -> Exported:
    """Write a checkpoint as the .ckpt and YAML that the published code loads.

    The file holds all entries of the published model, equal to the bit to what was imported, but nothing else: no
    discriminators, optimizers or callbacks, so the published training cannot resume from it.

    Args:
        source: a checkpoint folder or the name of one that ships.
        file: the .ckpt.
        config: the YAML; None: `file` with the suffix .yaml.
        replace: whether existing files may be overwritten.

    Raises:
        CheckpointError: there is no such checkpoint, it is damaged, or a file exists.
        PublishedConfigError: no published model is like this codec; the message says in what.
    """
    config = config or file.with_suffix(".yaml")
    if config == file:
        raise CheckpointError(f"{file} would be both weights and YAML: give the weights another suffix, such as .ckpt")
    for path in (file, config):
        if path.exists() and not replace:
            raise CheckpointError(f"{path} exists: choose another name, or overwrite it with --force")
    folder = find_checkpoint(source)
    codec = load_codec(folder)
    try:
        described = published_config(codec)
    except PublishedConfigError as error:
        raise PublishedConfigError(f"{folder}: {error}") from error
    unused = read_side_file(folder, UNUSED)
    state = export_state(codec, unused)
    for path in (file, config):
        path.parent.mkdir(parents=True, exist_ok=True)
    contents = io.BytesIO()  # torch's own writer hides a full disk behind an error of its own
    torch.save({"state_dict": state}, contents)
    with whole(file) as part:
        part.write_bytes(contents.getbuffer())
    write_atomically(config, described.to_yaml())
    return Exported(file, config, file_sha256(file), len(state), unused is not None)


def build_published(config: PublishedConfig) -> Codec:
    """A codec with the sizes and bottleneck of `config`, its weights unset, on the CPU.

    Raises:
        PublishedConfigError: a size or option is out of range.
    """
    options = dict(config.bottleneck)
    try:
        with torch.device("meta"):  # nothing to initialize: every weight comes from a file
            bottleneck = build_bottleneck(options.pop("name"), config.backbone.dimension, **options)
            codec = Codec(config.backbone, bottleneck)
    except ValueError as error:
        raise PublishedConfigError(f"{config.family} configuration: {error}") from error
    return codec.to_empty(device="cpu")


def read_state(file: Path) -> dict[str, Tensor]:
    """The tensors of `find_published`."""
    return find_published(file).tensors


def find_published(file: Path) -> FoundState:
    """The published weights of a .ckpt, on the CPU, the file mapped into memory where its format allows.

    They may lie at the top or under `state_dict`, `model` or `generator`, and have the names of a wrapped model; see
    `q2d2.published_layouts`. Nothing but tensors and plain values is ever loaded: the general format runs code.

    Raises:
        CheckpointError: no such file, damaged, no weights in it, or objects beside the tensors.
    """
    try:
        return find_state(read_torch(file))
    except ForeignObjects as error:
        raise CheckpointError(_REFUSED.format(file=file, classes=", ".join(error.classes))) from error
    except TorchFileError as error:
        raise CheckpointError(str(error)) from error
    except LayoutError as error:
        raise CheckpointError(f"{file} holds {error}") from error


_REFUSED = (
    "{file} holds objects beside its tensors ({classes}); loading these could run code, so it is refused. If you trust "
    "the file, keep its tensors alone, with what it needs installed: "
    "python -c \"import sys, torch; state = torch.load(sys.argv[1], map_location='cpu', weights_only=False); "
    "torch.save({{'state_dict': state['state_dict']}}, sys.argv[2])\" {file} tensors.ckpt"
)
