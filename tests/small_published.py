"""Small published models as whole codecs: their class, and a folder that holds their .ckpt alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from baselines.codecs.published import PublishedCodec, Q2D2At3k, WavTokenizer75
from q2d2.published_config import PublishedConfig, read_published_config
from tests import golden
from tests.published_models import description, random_state, write_ckpt, write_yaml

# With fewer channels the normalization of a single frame multiplies rounding errors.
SIZES = {"dim": 256, "intermediate_dim": 8, "num_layers": 1}
HOP = 4
CONTENT = {
    "q2d2": description("q2d2", (2, 2), "rhombic", (5, 5, 7, 7), **SIZES),
    "wavtokenizer": description("wavtokenizer", (2, 2), bins=16, **SIZES),
}
CLASSES = {"q2d2": Q2D2At3k, "wavtokenizer": WavTokenizer75}


def write_models(folder: Path) -> Path:
    """Write FAMILY.yaml and FAMILY.ckpt: random, but signals keep their size, so that codes vary."""
    for family, content in CONTENT.items():
        config = write_yaml(folder / f"{family}.yaml", content)
        state = random_state(config, family)
        for name, tensor in state.items():
            if not (name.endswith(("inited", "window")) or ".encodec.decoder." in name):
                tensor.copy_(torch.from_numpy(np.asarray(golden.fill(name, tuple(tensor.shape)))))
        write_ckpt(folder / f"{family}.ckpt", state)
    return folder


class SmallPublished:
    """The model of a family that `write_models` wrote to `models`.

    Attributes:
        cls: the class of the whole codec, which promises the small configuration.
        folder: a folder of this test, with a link to the .ckpt and nothing else.
        ckpt: that link.
        yaml: the configuration, elsewhere.
    """

    def __init__(self, family: str, models: Path, tmp_path: Path) -> None:
        self.family = family
        self.source = models / f"{family}.ckpt"
        self.yaml = models / f"{family}.yaml"
        self.config: PublishedConfig = read_published_config(self.yaml, family)
        self.cls: type[PublishedCodec] = type("SmallCodec", (CLASSES[family],), {"configuration": self.config})
        self.folder = tmp_path / "own"
        self.folder.mkdir()
        self.ckpt = self.folder / "anything.ckpt"
        self.ckpt.symlink_to(self.source)
