"""The published WavTokenizer and Q2D2 as they are: their .ckpt under the name of its configuration.

WavTokenizer (arXiv 2408.16532): the two small models, trained on LibriTTS, are on the hub; SHA-256 as listed there:
    WavTokenizer_small_320_24k_4096.ckpt, 1 584 739 132 bytes
        721a204fcfadf720b1136660b466c53d482c63fdfcaa0ac2a824bf2a006217b6
    WavTokenizer_small_600_24k_4096.ckpt, 1 589 082 492 bytes
        d44c40fbb83d2d42329ac098e252a31b5708fb7b3bf864d108dd3ed26911d004
Q2D2 (arXiv 2512.01537): its repository, as read in November 2026, links no checkpoint of any tiling. The names here are
those of its rhombic configurations; the hexagon and rectangle of 1 kbit/s go through `evalkit import`.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from baselines.codecs import CodecError, WholeCodec
from baselines.codecs.weights import HubWeights, LocalWeights, files_sha256
from q2d2.codec import Codec, codec_config
from q2d2.codec.inference import prepare_for_inference
from q2d2.errors import UserError
from q2d2.published import load_published, published_shapes
from q2d2.published_config import PublishedConfig, read_published_config
from q2d2.published_files import build_published, read_state
from q2d2.published_layouts import as_float32

_YAML = "wavtokenizer_smalldata_frame{}_3s_nq1_code4096_dim512_kmeans200_attn.yaml"


def _wavtokenizer(*ratios: int) -> PublishedConfig:
    vq = {"name": "vq", "codebook_size": 4096, "kmeans_iters": 200, "dead_code_fraction": 0.0}
    return PublishedConfig("wavtokenizer", codec_config("wavtokenizer", ratios=ratios), vq)


def _q2d2(ratios: tuple[int, ...], *levels: int) -> PublishedConfig:
    q2d2 = {"name": "q2d2", "tiling": "rhombic", "levels": list(levels), "gradient": "published"}
    return PublishedConfig("q2d2", codec_config("wavtokenizer", ratios=ratios), q2d2)


# What each name promises. A .ckpt does not say its levels and tiling, so with it alone these are taken on trust.
CONFIGURATIONS = {
    "wavtokenizer-75": _wavtokenizer(8, 5, 4, 2),
    "wavtokenizer-40": _wavtokenizer(6, 5, 5, 4),
    "q2d2-1k": _q2d2((6, 5, 5, 3), 9, 9, 7, 7, 7, 7),
    "q2d2-3k": _q2d2((6, 4, 3, 2), 9, 9, 7, 7, 7, 7),
    "q2d2-6k": _q2d2((6, 4, 3, 1), 9, 9, 9, 9, 7, 7),
}


class PublishedCodec(WholeCodec):
    """A published model, imported strictly and made ready to run fast; nothing is written.

    Args:
        folder: holds one .ckpt, and may hold one .yaml or .yml, which then has to describe this configuration. Where
            there are several, those called as published are taken.

    Raises:
        CodecError: there is no .ckpt, or several files to choose from; a file cannot be read, is damaged, or is of
            another configuration or model. The message names the file and what differs.
        WeightsDamaged: the .ckpt is not what the hub published.
    """

    name: ClassVar[str]
    configuration: ClassVar[PublishedConfig]
    published_names: ClassVar[Collection[str]] = ()
    module: Codec

    def __init__(self, folder: Path) -> None:
        checkpoint = self._only(folder, ".ckpt")
        if checkpoint is None:
            raise CodecError(f"{self.name}: {folder} holds no .ckpt")
        self._check_yaml(folder, checkpoint)
        self.module = self._load(checkpoint)
        self._ready = prepare_for_inference(self.module)
        self.sample_rate = self.module.sample_rate
        self.hop_length = self.module.hop_length
        self.frame_rate = self.module.frame_rate
        self.codebook_sizes = self.module.bottleneck.codebook_sizes
        self.tokens_per_frame = self.module.bottleneck.tokens_per_frame
        self.weights_sha256 = files_sha256(folder, (checkpoint.name,))

    def encode(self, audio: Tensor) -> Tensor:
        """Audio (batch, samples) in [-1, 1] at 24 kHz -> codes (batch, quantizers, ceil(samples / hop_length)) int64.

        Raises:
            ValueError: audio is not (batch, samples) or is empty.
        """
        return self._ready.encode(audio)

    def decode(self, codes: Tensor, length: int | None = None) -> Tensor:
        """Codes (batch, quantizers, frames) -> audio (batch, length), by default frames * hop_length samples.

        Raises:
            ValueError: `length` is below 1 or more than the codes hold, or there is another number of quantizers.
            IndexError: a code is out of range (on the CPU).
        """
        return self._ready.decode(codes, length)

    def to(self, device: torch.device) -> None:
        # What is packed for one device cannot move: it is made anew there.
        if next(self.module.parameters()).device != device:
            super().to(device)
            self._ready = prepare_for_inference(self.module)

    def _only(self, folder: Path, *suffixes: str) -> Path | None:
        try:
            found = sorted(path for path in folder.iterdir() if path.suffix in suffixes and path.is_file())
        except OSError as error:
            raise CodecError(f"{self.name}: {folder} cannot be read: {error.strerror or error}") from error
        if len(found) > 1:
            found = [path for path in found if path.name in self.published_names] or found
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise CodecError(f"{self.name}: {folder} holds several {' or '.join(suffixes)}: {names}. Leave one there")
        return found[0] if found else None

    def _check_yaml(self, folder: Path, checkpoint: Path) -> None:
        path = self._only(folder, ".yaml", ".yml")
        if path is None:
            return
        family = self.configuration.family
        try:
            described = read_published_config(path, family)
        except UserError as error:
            raise CodecError(f"{self.name}: {error}") from error
        expected, found = _facts(self.configuration), _facts(described)
        if differing := [f"{key} {found[key]}, not {value}" for key, value in expected.items() if found[key] != value]:
            raise CodecError(
                f"{path} is another configuration than {self.name}: {'; '.join(differing)}. To have it as a system of "
                f"its own: evalkit import {family} {checkpoint} --config {path} -o FOLDER, and checkpoint: FOLDER"
            )

    def _load(self, checkpoint: Path) -> Codec:
        try:
            codec = build_published(self.configuration)
            state, _ = as_float32(read_state(checkpoint), published_shapes(codec))
            self._check_hop(checkpoint, state)
            load_published(codec, state)
        except CodecError:
            raise
        except UserError as error:
            where = "" if str(checkpoint) in str(error) else f"{checkpoint}: "
            raise CodecError(f"{self.name}: {where}{error}") from error
        return codec.eval().requires_grad_(False)

    def _check_hop(self, checkpoint: Path, state: dict[str, Tensor]) -> None:
        """Of all that tells the published models apart, the hop is what a user knows them by."""
        window = state.get("head.istft.window")
        hop = self.configuration.backbone.hop_length
        if not isinstance(window, Tensor) or window.shape == (4 * hop,):
            return  # the strict loading names what is missing
        found = window.numel() // 4
        known = [name for name, each in CONFIGURATIONS.items() if each.backbone.hop_length == found]
        like = f", as those of {known[0]} have" if known else ""
        raise CodecError(
            f"{checkpoint} is no file of {self.name}: its frames have {found} samples{like}, where {hop} are expected"
        )


def _facts(config: PublishedConfig) -> dict[str, Any]:
    """What decides which model a configuration is."""
    sizes = config.backbone.to_dict()
    bottleneck = {key: config.bottleneck.get(key) for key in ("codebook_size", "tiling", "levels")}
    return {"ratios": sizes.pop("ratios"), "hop_length": config.backbone.hop_length} | bottleneck | sizes


def _on_the_hub(file: str) -> HubWeights:
    return HubWeights(
        repo="novateur/WavTokenizer",
        revision="8040025592781c0993deb46dc0a503579cab5f54",
        files=(file,),
        source="WavTokenizer by Shengpeng Ji and others (arXiv 2408.16532); weights under MIT",
        own_files=("*.ckpt",),
    )


_Q2D2_WEIGHTS = LocalWeights(
    page="https://github.com/tashQ/Q2D2",
    files=("*.ckpt",),
    source="Q2D2 by Tal Shuster and Eliya Nachmani (arXiv 2512.01537); no licence is stated",
)


class WavTokenizer75(PublishedCodec):
    """WavTokenizer, the small model of 75 tokens/s: one code of 4096, 0.9 kbit/s."""

    name = "wavtokenizer-75"
    configuration = CONFIGURATIONS[name]
    weights = _on_the_hub("WavTokenizer_small_320_24k_4096.ckpt")
    published_names = (*weights.files, _YAML.format(75))


class WavTokenizer40(PublishedCodec):
    """WavTokenizer, the small model of 40 tokens/s: one code of 4096, 0.48 kbit/s."""

    name = "wavtokenizer-40"
    configuration = CONFIGURATIONS[name]
    weights = _on_the_hub("WavTokenizer_small_600_24k_4096.ckpt")
    published_names = (*weights.files, _YAML.format(40))


class Q2D2At1k(PublishedCodec):
    """Q2D2 rhombic, 53.3 tokens/s of 20.0 bits: 1.07 kbit/s."""

    name = "q2d2-1k"
    configuration = CONFIGURATIONS[name]
    weights = _Q2D2_WEIGHTS


class Q2D2At3k(PublishedCodec):
    """Q2D2 rhombic, 166.7 tokens/s of 20.0 bits: 3.33 kbit/s."""

    name = "q2d2-3k"
    configuration = CONFIGURATIONS[name]
    weights = _Q2D2_WEIGHTS


class Q2D2At6k(PublishedCodec):
    """Q2D2 rhombic, 333.3 tokens/s of 20.77 bits: 6.92 kbit/s."""

    name = "q2d2-6k"
    configuration = CONFIGURATIONS[name]
    weights = _Q2D2_WEIGHTS
