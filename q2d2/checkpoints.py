"""Codec checkpoints: a folder with codec.safetensors (weights) and codec.json (everything needed to build it).

codec.json, format 1:
    format: 1.
    version: of the package that wrote it; older files lack it.
    backbone: sizes, ratios and sample_rate in Hz, as `CodecConfig` takes them.
    bottleneck: name and every option; for Q2D2 that is tiling, levels and gradient.
    weights_sha256: of codec.safetensors.
    side_files: optional, name: SHA-256 of further safetensors files in the folder that no codec needs to run.
    metadata: how it came to be. From a training: settings, files, audio_seconds, and what the caller adds (the harness:
        corpora, version with the commit, hardware). From an import: imported (see `q2d2.published_files`).
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from q2d2 import __version__
from q2d2.bottleneck import BOTTLENECKS, Bottleneck, build_bottleneck
from q2d2.codec import Codec, CodecConfig
from q2d2.errors import UserError, did_you_mean, printable, shown
from q2d2.files import file_sha256, new_folder, whole
from q2d2.plain_values import NotPlain, differences, read_json
from q2d2.tensors import UnreadableTensors, listed, read_safetensors, tensor_faults, value_faults

FORMAT = 1
WEIGHTS, CONFIG = "codec.safetensors", "codec.json"
PRETRAINED = Path(__file__).parent / "pretrained"
BACKBONE = ("encoder", "decoder", "head")
_PLAIN = (type(None), bool, int, float, str, tuple, list, dict)  # what JSON holds
_KINDS: dict[str, tuple[type, str]] = {
    "weights_sha256": (str, "a SHA-256"),
    **{key: (dict, "keys and values") for key in ("backbone", "bottleneck", "metadata", "side_files")},
}
_SIDE_FILE = re.compile(r"\w[\w.-]*\.safetensors")


class CheckpointError(UserError, ValueError):
    """A checkpoint that is missing, damaged or does not fit; the message names the file and the way out."""


def save_codec(
    codec: Codec,
    folder: Path,
    metadata: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    side_files: Mapping[str, Mapping[str, torch.Tensor]] | None = None,
    replace: bool = True,
) -> None:
    """Write `codec` to `folder`; the JSON file comes last, so that its presence means the checkpoint is whole.

    Args:
        codec: its bottleneck must come from `build_bottleneck`, which notes how to build it again.
        folder: made if it does not exist.
        metadata: anything JSON can hold, for people and reports (training settings, data, scores).
        dtype: of the stored floating-point weights; by default as they are.
        side_files: name of a safetensors file: its tensors, kept as they are beside the weights.
        replace: False refuses a folder that holds another checkpoint.

    Raises:
        CheckpointError: `replace` is False and the folder holds another checkpoint.
    """
    tensors = {
        name: tensor.detach().cpu().to(dtype if dtype and tensor.is_floating_point() else tensor.dtype).contiguous()
        for name, tensor in codec.state_dict().items()
    }
    contents = {WEIGHTS: save(tensors)}  # safetensors' own writer hides a full disk behind an error of its own
    contents |= {name: save(dict(side)) for name, side in (side_files or {}).items()}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    described = {
        "format": FORMAT,
        "version": __version__,
        "backbone": codec.config.to_dict(),
        "bottleneck": full_spec(codec.bottleneck),
        "weights_sha256": hashes.pop(WEIGHTS),
        **({"side_files": hashes} if hashes else {}),
        "metadata": metadata or {},
    }
    if not replace:
        require_same(folder, described)
    place(folder, contents | {CONFIG: (json.dumps(described, indent=2) + "\n").encode()})


def place(folder: Path, contents: Mapping[str, bytes | Path]) -> None:
    """Write the files of a checkpoint, from bytes or from other files, over those of an older one.

    All are written before the first one takes its place; the description is the last one to do so. Where that fails, or
    is interrupted, a folder that is new does not stay.
    """
    with new_folder(folder), ExitStack() as parts:
        for name in sorted(
            contents, key=lambda name: name != CONFIG
        ):  # the first to be opened is the last to be closed
            part, content = parts.enter_context(whole(folder / name)), contents[name]
            if isinstance(content, Path):
                shutil.copyfile(content, part)
            else:
                part.write_bytes(content)
        (folder / CONFIG).unlink(missing_ok=True)  # that of an older checkpoint


def full_spec(bottleneck: Bottleneck) -> dict[str, Any]:
    """`bottleneck.spec` with the options left out filled in, as JSON holds it: a later default changes nothing."""
    options = inspect.signature(BOTTLENECKS.resolve(bottleneck.spec["name"])).parameters.values()
    defaults = {option.name: option.default for option in options if isinstance(option.default, _PLAIN)}
    spec: dict[str, Any] = json.loads(json.dumps({"name": bottleneck.spec["name"], **defaults, **bottleneck.spec}))
    return spec


def require_same(folder: Path, described: Mapping[str, Any]) -> None:
    """Refuse to write the checkpoint `described` over another one.

    Raises:
        CheckpointError: `folder` holds a checkpoint with other weights, of another codec, or one that cannot be read.
    """
    if not (folder / CONFIG).exists():
        return
    try:
        held = read_description(folder)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; choose another folder, or overwrite with --force") from error
    for key in ("backbone", "bottleneck", "weights_sha256", "side_files"):
        if held.get(key) != described.get(key):
            raise CheckpointError(
                f"{folder} holds another checkpoint ({key} differs): choose another folder, or overwrite with --force"
            )


def load_codec(source: str | Path) -> Codec:
    """Load a codec in float32 and eval mode from a checkpoint folder or the name of one that ships with the package.

    Raises:
        CheckpointError: not found, damaged, of another format, or with weights that do not fit.
    """
    folder = find_checkpoint(source)
    described = read_description(folder)
    spec = dict(described["bottleneck"])
    config = _backbone(folder, described)
    _require_weights_of(config, folder)
    try:
        codec = Codec(config, build_bottleneck(spec.pop("name", ""), config.dimension, **spec))
    except ValueError as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}") from error
    _load_state(codec, _read_weights(folder, described), folder)
    return codec.eval()


def check_checkpoint(folder: Path) -> None:
    """See that a checkpoint is one that `load_codec` takes, and that its side files hold numbers.

    Raises:
        CheckpointError: damaged, of another format, or with weights that do not fit or are no numbers.
    """
    load_codec(folder)
    for name in read_description(folder).get("side_files", {}):
        tensors = read_side_file(folder, name) or {}
        whole_numbers = [key for key, each in tensors.items() if not (each.is_floating_point() or each.is_complex())]
        if faults := value_faults(tensors, whole_numbers):
            raise CheckpointError(f"{folder / name}: {listed(faults)}")


def load_backbone(codec: Codec, source: str | Path) -> None:
    """Warm start: copy encoder, decoder and head into `codec`, leaving its bottleneck as it is.

    Raises:
        CheckpointError: not found, damaged, or of a backbone of another shape; the message names what differs.
    """
    folder = find_checkpoint(source)
    described = read_description(folder)
    if found := differences(_backbone(folder, described).to_dict(), codec.config.to_dict()):
        raise CheckpointError(f"{folder} holds another backbone: {'; '.join(found)}")
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
    path = folder / CONFIG
    try:
        described: Any = read_json(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except NotPlain as error:
        raise CheckpointError(f"{path} cannot be read: it {error}") from error
    found = described.get("format") if isinstance(described, dict) else None
    if found != FORMAT or isinstance(found, bool):
        raise CheckpointError(f"{path}: format {shown(found)}, this version reads {FORMAT}")
    missing = [key for key in ("backbone", "bottleneck", "weights_sha256", "metadata") if key not in described]
    if missing:
        raise CheckpointError(f"{path} lacks {', '.join(missing)}")
    for key, (kind, expected) in _KINDS.items():
        if not isinstance(described.get(key, kind()), kind):
            raise CheckpointError(f"{path}: {key}: expected {expected}, found {shown(described[key])}")
    if not isinstance(described["bottleneck"].get("name"), str):
        raise CheckpointError(f"{path}: bottleneck: expected a name, found {shown(described['bottleneck'])}")
    for name, digest in described.get("side_files", {}).items():
        if not _SIDE_FILE.fullmatch(name):  # it may come from the network, and is joined to a path
            raise CheckpointError(f"{path}: side file {shown(name)}: expected the name of a safetensors file")
        if not isinstance(digest, str):
            raise CheckpointError(f"{path}: side file {shown(name)}: expected its SHA-256, found {shown(digest)}")
    return described


def read_side_file(folder: Path, name: str) -> dict[str, torch.Tensor] | None:
    """The tensors of a side file as they were saved; None where the checkpoint has none of this name.

    Raises:
        CheckpointError: the checkpoint's JSON file or the side file is damaged.
    """
    expected = read_description(folder).get("side_files", {}).get(name)
    return None if expected is None else _read_tensors(folder / name, expected)


def _backbone(folder: Path, described: dict[str, Any]) -> CodecConfig:
    known = {field.name for field in fields(CodecConfig)}
    if unknown := [name for name in described["backbone"] if name not in known]:
        hint = did_you_mean(unknown[0], known)
        raise CheckpointError(f"{folder / CONFIG}: backbone: {printable(unknown[0])} is not a known key.{hint}")
    try:
        return CodecConfig(**described["backbone"])
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / CONFIG}: backbone: {error}") from error


def _require_weights_of(config: CodecConfig, folder: Path) -> None:
    """Refuse a backbone that its weights cannot be of, before the memory of its parameters is taken."""
    try:
        held = (folder / WEIGHTS).stat().st_size
    except OSError:
        return  # said where it is read
    if config.num_parameters > held:  # a parameter takes one byte at least
        raise CheckpointError(
            f"{folder / WEIGHTS} does not fit {folder / CONFIG}: it has {held:,} bytes, the backbone "
            f"{config.num_parameters:,} parameters"
        )


def _load_state(module: torch.nn.Module, state: dict[str, torch.Tensor], folder: Path) -> None:
    if faults := tensor_faults(state, module.state_dict()):
        raise CheckpointError(f"{folder / WEIGHTS} does not fit {folder / CONFIG}: {listed(faults)}")
    module.load_state_dict(state)


def _read_weights(folder: Path, described: dict[str, Any]) -> dict[str, torch.Tensor]:
    return _read_tensors(folder / WEIGHTS, described["weights_sha256"])


def _read_tensors(path: Path, sha256: str) -> dict[str, torch.Tensor]:
    verify_file(path, sha256)
    try:
        return read_safetensors(path)[0]
    except UnreadableTensors as error:
        raise CheckpointError(str(error)) from error


def verify_file(path: Path, sha256: str) -> None:
    """Compare a checkpoint's file with the SHA-256 that its JSON file notes.

    Raises:
        CheckpointError: it cannot be read or is another.
    """
    try:
        found = file_sha256(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if found != sha256:
        raise CheckpointError(f"{path} is damaged: sha256 {found}, {CONFIG} says {printable(str(sha256))}")
