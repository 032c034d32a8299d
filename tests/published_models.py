"""Files as the published code writes them: the YAML of each configuration, and a .ckpt small enough for a test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from torch import Tensor

from q2d2.published import published_shapes
from q2d2.published_config import read_published_config
from q2d2.published_files import build_published


class Configuration(NamedTuple):
    """One of the published models; bits per frame and kbit/s as the papers' tables give them."""

    family: str
    ratios: tuple[int, ...]
    tiling: str | None
    levels: tuple[int, ...]
    bits: float
    kbps: float


SEVEN = {
    "wavtokenizer-75": Configuration("wavtokenizer", (8, 5, 4, 2), None, (), 12, 0.9),
    "wavtokenizer-40": Configuration("wavtokenizer", (6, 5, 5, 4), None, (), 12, 0.48),
    "q2d2-1k-hexagon": Configuration("q2d2", (6, 5, 5, 3), "hexagon", (9, 9, 7, 7, 7, 7), 17.57, 0.937),
    "q2d2-1k-rectangle": Configuration("q2d2", (6, 5, 5, 3), "rectangle", (9, 9, 7, 7, 7, 7), 17.57, 0.937),
    "q2d2-1k-rhombic": Configuration("q2d2", (6, 5, 5, 3), "rhombic", (9, 9, 7, 7, 7, 7), 20.0, 1.067),
    "q2d2-3k-rhombic": Configuration("q2d2", (6, 4, 3, 2), "rhombic", (9, 9, 7, 7, 7, 7), 20.0, 3.333),
    "q2d2-6k-rhombic": Configuration("q2d2", (6, 4, 3, 1), "rhombic", (9, 9, 9, 9, 7, 7), 20.77, 6.923),
}
# The published code fixes 32 filters and 512 latents; with one ratio and a narrow decoder the rest is small.
SMALL_DECODER = {"dim": 32, "intermediate_dim": 8, "num_layers": 1}


def description(
    family: str,
    ratios: Sequence[int],
    tiling: str | None = None,
    levels: Sequence[int] = (),
    bins: int = 4096,
    **decoder: int,
) -> dict[str, Any]:
    """The contents of a published YAML file, with the sections of the training that an import passes over."""
    hop = 1
    for ratio in ratios:
        hop *= ratio
    features: dict[str, Any] = {
        "encodec_model": "encodec_24khz", "bandwidths": [6.6, 6.6, 6.6, 6.6], "train_codebooks": True,
        "num_quantizers": 1, "dowmsamples": list(ratios), "vq_kmeans": 200,
    }  # fmt: skip
    features |= {"vq_bins": bins} if tiling is None else {"vq_type": tiling, "codebook_dim": list(levels)}
    backbone = {"input_channels": 512, "dim": 768, "intermediate_dim": 2304, "num_layers": 12} | decoder
    model = {
        "sample_rate": 24000, "initial_learning_rate": "2e-4", "mel_loss_coeff": 45, "resume": False,
        "feature_extractor": {"class_path": "decoder.feature_extractors.EncodecFeatures", "init_args": features},
        "backbone": {
            "class_path": "decoder.models.VocosBackbone", "init_args": backbone | {"adanorm_num_embeddings": 4},
        },
        "head": {
            "class_path": "decoder.heads.ISTFTHead",
            "init_args": {"dim": backbone["dim"], "n_fft": 4 * hop, "hop_length": hop, "padding": "same"},
        },
    }  # fmt: skip
    return {
        "seed_everything": 3407,
        "data": {"class_path": "decoder.dataset.VocosDataModule", "init_args": {"train_params": {"batch_size": 40}}},
        "model": {"class_path": "decoder.experiment.WavTokenizer", "init_args": model},
        "trainer": {"max_steps": 20000000, "devices": [0, 1]},
    }


def small_description(family: str) -> dict[str, Any]:
    """A configuration of the family that is as small as the published code allows."""
    tiling, levels = (None, ()) if family == "wavtokenizer" else ("hexagon", (5, 5, 7, 7))
    return description(family, (2,), tiling, levels, bins=16, **SMALL_DECODER)


def write_yaml(path: Path, content: object) -> Path:
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def random_state(config: Path, family: str) -> dict[str, Tensor]:
    """A state that the published model of this configuration may have: random, the codebook trained."""
    shapes = published_shapes(build_published(read_published_config(config, family)))
    generator = torch.Generator().manual_seed(0)
    state = {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    state["head.istft.window"] = torch.hann_window(shapes["head.istft.window"][0])
    inited = "feature_extractor.encodec.quantizer.vq.layers.0._codebook.inited"
    return state | ({inited: torch.ones(1)} if inited in state else {})


def write_ckpt(path: Path, state: dict[str, Tensor]) -> Path:
    """What the published training saves: the state among other entries, discriminators in it."""
    training = {"multiperioddisc.discriminators.0.bias": torch.zeros(2), "dac.bias": torch.zeros(2)}
    torch.save({"epoch": 3, "state_dict": state | training, "callbacks": {"last": {"step": 7}}}, path)
    return path
