"""state.pt: all that a training needs to go on, and the check that it is the same training."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from q2d2.errors import UserError
from q2d2.files import whole
from q2d2.plain_values import differences
from q2d2.tensors import listed, tensor_faults, value_faults
from q2d2.torch_files import TorchFileError, read_torch

STATE = "state.pt"
# What may change between a run and its continuation, as no weight depends on it.
WITHOUT_EFFECT = {"train.checkpoint_every", "train.log_every", "train.num_workers"}


class TrainingError(UserError, RuntimeError):
    """Training cannot go on; the message says what happened, where, and what is kept."""


def save_state(folder: Path, settings: dict[str, Any], step: int, seconds: float, parts: Mapping[str, Any]) -> None:
    """Write state.pt so that a kill at any moment leaves the old or the new one.

    Args:
        folder: of the training.
        settings: what it was begun with.
        step: finished steps; `seconds` is what they took.
        parts: {name: object with state_dict()}.
    """
    state = {"settings": settings, "step": step, "seconds": seconds}
    state |= {name: part.state_dict() for name, part in parts.items()}
    contents = io.BytesIO()  # torch's own writer hides a full disk behind an error of its own
    torch.save(state, contents)
    with whole(folder / STATE) as part:
        part.write_bytes(contents.getbuffer())


def load_state(folder: Path, settings: dict[str, Any], parts: Mapping[str, Any]) -> tuple[int, float]:
    """Load state.pt, if there is one, into `parts`; returns the finished steps and the seconds they took.

    Raises:
        TrainingError: it is damaged, or of a training with other settings.
    """
    path = folder / STATE
    if not path.exists():
        return 0, 0.0
    damaged = f"{path} is damaged: it holds no training state. Delete it to train anew."
    try:
        state = read_torch(path)
    except TorchFileError as error:
        raise TrainingError(damaged) from error
    if not isinstance(state, dict) or not isinstance(state.get("settings"), dict):
        raise TrainingError(damaged)
    check_same(folder, state["settings"], settings)
    kinds: dict[str, Any] = {"step": int, "seconds": (int, float), **dict.fromkeys(parts, Mapping)}
    if any(not isinstance(state.get(key), kind) for key, kind in kinds.items()):
        raise TrainingError(damaged)
    for name, part in parts.items():
        _load_part(path, name, part, state[name])
    return state["step"], state["seconds"]


def _load_part(path: Path, name: str, part: Any, state: Mapping[str, Any]) -> None:
    """Fill a module or an optimizer, after its tensors are found to be what they have to be."""
    if isinstance(part, torch.nn.Module):
        faults = tensor_faults(state, part.state_dict())
    else:
        of_each = state.get("state", {})
        faults = value_faults({f"{number}.{key}": value for number, of in of_each.items() for key, value in of.items()})
    if faults:
        raise TrainingError(f"{path}: {name}: {listed(faults)}. Delete the file to train anew.")
    part.load_state_dict(copy.deepcopy(state))  # an optimizer takes the tensors themselves, which are mapped from disk


def check_same(folder: Path, held: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise TrainingError naming every difference between what a folder's run was made with and what is wanted now."""
    if found := differences(held, wanted, WITHOUT_EFFECT):
        raise TrainingError(
            f"{folder} holds a run with {'; '.join(found)}. Use another output folder, or delete this one to train "
            "anew."
        )
