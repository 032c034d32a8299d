"""The machine: versions of the code and of its libraries, for run.json, and choosing CPU or GPU."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.speed import hardware_fingerprint
from q2d2 import __version__
from q2d2.errors import UserError

if TYPE_CHECKING:
    import torch

# What numbers of any run depend on; what a metric brings besides, its class says.
PACKAGES = (
    "lightning-fabric",
    "numpy",
    "pandas",
    "scipy",
    "soundfile",
    "torch",
    "torchaudio",
    "vector-quantize-pytorch",
)


def describe_environment(packages: Iterable[str] = ()) -> dict[str, Any]:
    """Version of the code, of Python, of PACKAGES and `packages`, and the machine."""
    return {
        "version": code_version(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in sorted({*PACKAGES, *packages})},
        "hardware": hardware_fingerprint(),
    }


def _version(package: str) -> str | None:
    """Installed version; None where it is missing, which the metrics that need it say in their rows."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def code_version() -> str:
    """The package's version, with the commit where this is a checkout of its repository."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():  # installed, perhaps below somebody else's repository
        return __version__
    command = ["git", "describe", "--always", "--dirty"]
    try:
        described = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return __version__
    return f"{__version__}+g{described.stdout.strip()}"


class DeviceError(UserError, RuntimeError):
    """The device asked for is not there; the message says which are."""


def select_device(name: str) -> torch.device:
    """The device called "auto" (a GPU where there is one), "cpu" or "cuda".

    Raises:
        DeviceError: another name, or there is no GPU.
    """
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise DeviceError(f"--device {name}: expected auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError("--device cuda: no CUDA device is usable here; use --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
