"""As a script: a codec made, saved, loaded and used where nothing is installed but what q2d2 needs by itself.

`python -m tests.bare_codec FOLDER`
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType

NEEDED = ("torch", "numpy", "safetensors", "soundfile")


def with_requirements(names: Sequence[str]) -> set[str]:
    """Distributions, and all that they require in turn."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        found.add(name)
        for line in importlib.metadata.requires(name) or []:
            if "extra ==" not in line:
                required = re.match(r"[\w.-]+", line)
                assert required is not None
                try:
                    importlib.metadata.distribution(required[0])
                except importlib.metadata.PackageNotFoundError:  # of another system
                    continue
                waiting.append(required[0])
    return found


class OnlyNeeded(MetaPathFinder):
    """Finds no module of any distribution but those in NEEDED and what they require."""

    def __init__(self) -> None:
        wanted = with_requirements(NEEDED)
        self.hidden = {
            module
            for module, owners in importlib.metadata.packages_distributions().items()
            if not {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners} & wanted
        } - {"q2d2", "setuptools", "_distutils_hack", "pkg_resources"}  # torch asks for setuptools

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if name.partition(".")[0] in self.hidden:
            raise ModuleNotFoundError(f"{name} is hidden: q2d2 is to work without it", name=name)


def main(folder: Path) -> None:
    import torch

    from q2d2.bottleneck import build_bottleneck
    from q2d2.checkpoints import load_codec, save_codec
    from q2d2.codec import Codec, codec_config

    config = codec_config("tiny")
    codec = Codec(config, build_bottleneck("q2d2", config.dimension, levels=[5, 5])).eval()
    save_codec(codec, folder)
    loaded = load_codec(folder)
    audio = 0.1 * torch.randn(1, 4000)
    with torch.inference_mode():
        codes = loaded.encode(audio)
        assert torch.equal(codes, codec.encode(audio))
        assert loaded.decode(codes, 4000).shape == (1, 4000)


if __name__ == "__main__":
    sys.meta_path.insert(0, OnlyNeeded())
    main(Path(sys.argv[1]))
