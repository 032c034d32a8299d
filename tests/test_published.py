"""Parity with the published models, and the names of their checkpoints."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from q2d2.bottleneck import build_bottleneck
from q2d2.codec import Codec, CodecConfig, codec_config
from q2d2.published import CheckpointMismatch, load_published, published_state
from tests import golden

MODELS: dict[str, tuple[tuple[int, ...], str, dict[str, Any]]] = {
    "q2d2_rhombic_3k": ((6, 4, 3, 2), "q2d2", {"tiling": "rhombic", "levels": (9, 9, 7, 7, 7, 7)}),
    "wavtokenizer_75": ((8, 5, 4, 2), "vq", {"codebook_size": 4096}),
}
SMALL = CodecConfig(
    sample_rate=8000, ratios=(2, 2), num_filters=2, dimension=8, lstm_layers=1, decoder_dim=64,
    decoder_intermediate=8, decoder_layers=1,
)  # fmt: skip
BOTTLENECKS: dict[str, tuple[str, dict[str, Any]]] = {
    "null": ("null", {}),
    "q2d2": ("q2d2", {"levels": (7, 7)}),
    "vq": ("vq", {"codebook_size": 5}),
    "vq-projected": ("vq", {"codebook_size": 5, "codebook_dim": 3}),
    "rvq": ("rvq", {"codebook_size": 5, "num_quantizers": 2}),
    "fsq": ("fsq", {"levels": (5, 5)}),
}
ENCODER = "feature_extractor.encodec.encoder.model"
QUANTIZER = "feature_extractor.encodec.quantizer"


def small_codec(bottleneck: str, seed: int = 0) -> Codec:
    torch.manual_seed(seed)
    name, options = BOTTLENECKS[bottleneck]
    codec = Codec(SMALL, build_bottleneck(name, SMALL.dimension, **options))
    codec.train()(torch.randn(1, 200))  # initializes codebooks
    return codec.eval()


def copied(codec: Codec) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in published_state(codec).items()}


@pytest.mark.parametrize("name", MODELS)
def test_parity_with_the_published_model(name: str) -> None:
    ratios, bottleneck, options = MODELS[name]
    config = codec_config("wavtokenizer", ratios=ratios)
    with torch.device("meta"):  # nothing to initialize: every weight comes from the state
        codec = Codec(config, build_bottleneck(bottleneck, config.dimension, **options))
    codec = codec.to_empty(device="cpu").eval()
    load_published(codec, golden.state(name))
    expected, signal = golden.excerpt(name), golden.wave()
    assert np.abs(signal[:: golden.INPUT_STEP] - expected["input"]).max() < 1e-7

    with torch.inference_mode():
        batch = torch.from_numpy(signal)[None]
        latents = codec.encoder(batch[:, None])
        codes = codec.encode(batch)
        features = codec.bottleneck.decode(codes)
        audio = codec.decode(codes)
        output = codec(batch)
    frame_codes = codec.bottleneck.frame_index(codes) if bottleneck == "q2d2" else codes[:, 0]
    assert np.array_equal(frame_codes.numpy(), expected["codes"])
    for found, key in ((latents, "encoder_latents"), (features, "features")):
        channels = found[0, :: golden.CHANNEL_STEP].numpy()
        np.testing.assert_allclose(channels, expected[key], atol=1e-4, rtol=0)
    assert audio.shape == (1, int(expected["audio_length"]))
    difference = np.abs(audio[0, :: golden.AUDIO_STEP].numpy() - expected["audio"]).max()
    assert difference < 1e-4 * float(expected["audio_peak"])
    torch.testing.assert_close(output.audio, audio[:, : batch.shape[-1]])

    # Exported again, the entries are those of the file, less the ones that no forward pass uses.
    exported = {key: tuple(tensor.shape) for key, tensor in published_state(codec).items()}
    unused = {key: shape for key, shape in golden.keys(name).items() if key not in exported}
    assert exported.items() <= golden.keys(name).items()
    dead = (".encodec.decoder.", "head.istft.window", f"{QUANTIZER}.quantizer.project_")
    assert all(any(part in key for part in dead) for key in unused)


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_exported_state_loads_to_the_bit(bottleneck: str) -> None:
    codec, other = small_codec(bottleneck), small_codec(bottleneck, seed=1)
    audio = torch.randn(2, 50)
    assert not torch.equal(codec(audio).audio, other(audio).audio)
    load_published(other, copied(codec))
    for name, tensor in codec.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    assert torch.equal(codec(audio).audio, other(audio).audio)


def test_exported_names_are_the_published_ones() -> None:
    names = published_state(small_codec("vq")).keys()
    assert f"{ENCODER}.0.conv.conv.weight_g" in names
    assert f"{ENCODER}.1.block.1.conv.conv.weight_v" in names
    assert f"{ENCODER}.1.shortcut.conv.conv.bias" in names
    assert f"{ENCODER}.7.lstm.weight_ih_l0" in names
    assert {name for name in names if name.startswith(QUANTIZER)} == {
        f"{QUANTIZER}.vq.layers.0._codebook.{name}" for name in ("inited", "cluster_size", "embed", "embed_avg")
    }
    assert not any("parametrizations" in name for name in names)
    names = published_state(small_codec("q2d2")).keys()
    assert {name for name in names if name.startswith(QUANTIZER)} == {
        f"{QUANTIZER}.quantizer.vq.{name}.{kind}"
        for name in ("project_in.0", "project_out")
        for kind in ("weight", "bias")
    }


def test_what_no_forward_pass_uses_may_be_there() -> None:
    codec = small_codec("q2d2")
    unused = (
        "feature_extractor.encodec.decoder.model.0.conv.conv.bias", f"{QUANTIZER}.quantizer.project_in.weight",
        f"{QUANTIZER}.quantizer.project_out.bias", "head.istft.window", "multiperioddisc.discriminators.0.bias",
        "multiresddisc.discriminators.0.bias", "dac.discriminator.bias", "dacdiscriminator.discriminators.0.bias",
    )  # fmt: skip
    load_published(codec, copied(codec) | {name: torch.zeros(3) for name in unused})


def test_misfits_are_named_and_change_nothing() -> None:
    codec = small_codec("q2d2")
    before = {name: tensor.clone() for name, tensor in codec.state_dict().items()}
    good = {name: torch.full_like(tensor, 7.0) for name, tensor in published_state(codec).items()}
    name = f"{ENCODER}.0.conv.conv.weight_g"

    missing = good.copy()
    del missing[name]
    renamed = missing | {f"{ENCODER}.0.conv.weight_g": good[name]}
    cases: list[tuple[dict[str, Tensor], str]] = [
        (missing, rf"missing {name}"),
        (good | {"head.surplus": torch.zeros(1)}, r"unexpected head\.surplus"),
        (good | {"surplus": torch.zeros(1)}, r"unexpected surplus"),
        (renamed, rf"missing {name}; unexpected {ENCODER}\.0\.conv\.weight_g"),
        (good | {name: good[name][..., 0]}, rf"{name}: shape \(2, 1\), expected \(2, 1, 1\)"),
        ({}, r"missing .*and \d+ more"),
    ]
    for state, message in cases:
        with pytest.raises(CheckpointMismatch, match=message):
            load_published(codec, state)
    for key, tensor in codec.state_dict().items():
        assert torch.equal(tensor, before[key]), key
    load_published(codec, good)
    assert all((tensor == 7).all() for tensor in codec.state_dict().values())


def test_another_bottleneck_is_a_misfit() -> None:
    state = copied(small_codec("q2d2"))
    for other in ("null", "vq", "fsq"):
        with pytest.raises(CheckpointMismatch, match=r"unexpected .*quantizer\.vq\.project_in\.0\."):
            load_published(small_codec(other), state)
