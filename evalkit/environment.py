"""What a run was made with: versions of the code and of its libraries, and the machine."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

from evalkit.speed import hardware_fingerprint
from q2d2 import __version__

PACKAGES = (
    "distillmos", "librosa", "lightning", "numpy", "onnxruntime", "pandas", "pesq", "pystoi", "scipy", "soundfile",
    "speechmos", "torch", "torchaudio", "torchcrepe", "utmos-pytorch", "vector-quantize-pytorch",
)  # fmt: skip


def describe_environment() -> dict[str, Any]:
    """Version of the code, of Python and of the libraries that numbers depend on, and the machine."""
    return {
        "version": code_version(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
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
