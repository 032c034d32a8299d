"""Choosing where networks run."""

from __future__ import annotations

import torch

from q2d2.errors import UserError


class DeviceError(UserError, RuntimeError):
    """The device asked for is not there; the message says which are."""


def select_device(name: str) -> torch.device:
    """The device called "auto" (a GPU where there is one), "cpu" or "cuda".

    Raises:
        DeviceError: another name, or there is no GPU.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise DeviceError(f"--device {name}: expected auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError("--device cuda: no CUDA device is usable here; use --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
