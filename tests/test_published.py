"""Parity with the published models, and the entries of their checkpoints: all of them, in and out."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from q2d2.bottleneck import build_bottleneck
from q2d2.codec import Codec, CodecConfig, codec_config
from q2d2.published import (
    CheckpointMismatch,
    export_state,
    is_of_training,
    load_published,
    published_shapes,
    published_state,
    unused_shapes,
)
from q2d2.published_layouts import as_float32
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
WINDOW = "head.istft.window"
ENCODER = "feature_extractor.encodec.encoder.model"
QUANTIZER = "feature_extractor.encodec.quantizer"


def small_codec(bottleneck: str, seed: int = 0) -> Codec:
    torch.manual_seed(seed)
    name, options = BOTTLENECKS[bottleneck]
    codec = Codec(SMALL, build_bottleneck(name, SMALL.dimension, **options))
    codec.train()(torch.randn(1, 200))  # initializes codebooks
    return codec.eval()


def copied(codec: Codec) -> dict[str, Tensor]:
    """A whole published state: float32 copies of what the codec uses, shapes without memory of what it does not."""
    unused = {name: torch.empty(shape, device="meta") for name, shape in unused_shapes(codec).items()}
    used = {name: tensor.clone().float() for name, tensor in published_state(codec).items()}
    return used | unused | {WINDOW: torch.hann_window(codec.head.n_fft)}


def codec_without_memory(name: str) -> Codec:
    ratios, bottleneck, options = MODELS[name]
    config = codec_config("wavtokenizer", ratios=ratios)
    with torch.device("meta"):  # nothing to initialize: every weight comes from the state
        return Codec(config, build_bottleneck(bottleneck, config.dimension, **options))


@pytest.mark.parametrize("name", MODELS)
def test_parity_with_the_published_model(name: str) -> None:
    codec = codec_without_memory(name)
    assert published_shapes(codec) == golden.keys(name)
    assert len(golden.keys(name)) == {"q2d2_rhombic_3k": 293, "wavtokenizer_75": 289}[name]
    assert published_state(codec).keys().isdisjoint(unused_shapes(codec))

    codec = codec.to_empty(device="cpu").eval()
    load_published(codec, golden.state(name) | {WINDOW: torch.hann_window(codec.head.n_fft)})
    expected, signal = golden.excerpt(name), golden.wave()
    assert np.abs(signal[:: golden.INPUT_STEP] - expected["input"]).max() < 1e-7

    with torch.inference_mode():
        batch = torch.from_numpy(signal)[None]
        latents = codec.encoder(batch[:, None])
        codes = codec.encode(batch)
        features = codec.bottleneck.decode(codes)
        audio = codec.decode(codes)
        output = codec(batch)
    frame_codes = codec.bottleneck.frame_index(codes) if name.startswith("q2d2") else codes[:, 0]
    assert np.array_equal(frame_codes.numpy(), expected["codes"])
    for found, key in ((latents, "encoder_latents"), (features, "features")):
        channels = found[0, :: golden.CHANNEL_STEP].numpy()
        np.testing.assert_allclose(channels, expected[key], atol=1e-4, rtol=0)
    assert audio.shape == (1, int(expected["audio_length"]))
    difference = np.abs(audio[0, :: golden.AUDIO_STEP].numpy() - expected["audio"]).max()
    assert difference < 1e-4 * float(expected["audio_peak"])
    torch.testing.assert_close(output.audio, audio[:, : batch.shape[-1]])


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


def test_what_no_forward_pass_uses_is_handed_back_and_exported() -> None:
    codec = small_codec("q2d2")
    state = {name: torch.randn(shape) for name, shape in published_shapes(codec).items()}
    state[WINDOW] = torch.hann_window(codec.head.n_fft)
    unused = load_published(codec, state)
    assert unused.keys() == unused_shapes(codec).keys()
    exported = export_state(codec, unused)
    assert exported.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(exported[name], tensor), name
    with pytest.raises(CheckpointMismatch, match=r"kept entries do not fit this codec: .*decoder"):
        export_state(codec, {WINDOW: state[WINDOW]})
    with pytest.raises(CheckpointMismatch, match=r"kept entries do not fit this codec: .*quantizer"):
        export_state(small_codec("vq"), unused)
    with pytest.raises(CheckpointMismatch, match="their shapes"):
        export_state(codec, unused | {WINDOW: torch.zeros(3)})


@pytest.mark.parametrize("bottleneck", ["q2d2", "vq"])
def test_a_codec_trained_here_exports_fillers_that_load(bottleneck: str) -> None:
    codec, other = small_codec(bottleneck), small_codec(bottleneck, seed=1)
    state = export_state(codec)
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    assert torch.equal(state[WINDOW], torch.hann_window(16))  # the published head computes with it
    for name in unused_shapes(codec).keys() - {WINDOW}:
        assert (state[name] == (1 if name.endswith("weight_g") else 0)).all(), name
    load_published(other, state)
    audio = torch.randn(2, 50)
    assert torch.equal(codec(audio).audio, other(audio).audio)
    before = state["head.out.weight"].clone()
    codec.head.out.weight.data.zero_()
    assert torch.equal(state["head.out.weight"], before)  # a copy


def test_entries_of_the_training_may_be_there() -> None:
    codec = small_codec("q2d2")
    training = (
        "multiperioddisc.discriminators.0.bias", "multiresddisc.discriminators.0.bias", "dac.discriminator.bias",
        "dacdiscriminator.discriminators.0.bias", "melspec_loss.mel_spec.mel_scale.fb",
    )  # fmt: skip
    load_published(codec, copied(codec) | {name: torch.zeros(3) for name in training})
    assert all(map(is_of_training, training))
    assert not any(map(is_of_training, published_shapes(codec)))
    with pytest.raises(CheckpointMismatch, match=r"unexpected dacx\.bias"):
        load_published(codec, copied(codec) | {"dacx.bias": torch.zeros(3)})


@pytest.mark.parametrize("bottleneck", ["q2d2", "vq"])
@settings(max_examples=10)
@given(random=st.randoms(use_true_random=False))
def test_order_does_not_matter(bottleneck: str, random: Random) -> None:
    codec, other = small_codec(bottleneck), small_codec(bottleneck, seed=1)
    order = list(copied(codec).items())
    random.shuffle(order)
    load_published(other, dict(order))
    for name, tensor in codec.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


@pytest.mark.parametrize("bottleneck", ["q2d2", "vq"])
@settings(max_examples=25)
@given(data=st.data())
def test_missing_and_renamed_and_extra_entries_are_named(bottleneck: str, data: st.DataObject) -> None:
    """Any entry may be the one, used or not; nothing is changed then."""
    codec = small_codec(bottleneck)
    before = {name: tensor.clone() for name, tensor in codec.state_dict().items()}
    state = {name: tensor + 1 if not tensor.is_meta else tensor for name, tensor in copied(codec).items()}
    state[WINDOW] = torch.hann_window(codec.head.n_fft)
    lost = data.draw(st.lists(st.sampled_from(sorted(state)), min_size=1, max_size=2, unique=True))
    renamed = data.draw(st.booleans())
    for name in lost:
        tensor = state.pop(name)
        if renamed:
            state[f"{name}x"] = tensor
    with pytest.raises(CheckpointMismatch) as caught:
        load_published(codec, state)
    for name in lost:
        assert f"missing {name}" in str(caught.value)
        assert (f"unexpected {name}x" in str(caught.value)) == renamed
    for name, tensor in codec.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@settings(max_examples=25)
@given(data=st.data())
def test_any_other_shape_or_type_is_named(data: st.DataObject) -> None:
    codec = small_codec("q2d2")
    state = copied(codec)
    name = data.draw(st.sampled_from(sorted(state)))
    shape = tuple(state[name].shape)
    wrong: dict[str, Any] = {
        rf"shape .*expected {re.escape(str(shape))}": torch.empty((*shape, 1), device="meta"),
        "float16, expected float32": torch.empty(shape, dtype=torch.float16, device="meta"),
        "str, expected a tensor": "text",
    }
    message = data.draw(st.sampled_from(sorted(wrong)))
    with pytest.raises(CheckpointMismatch, match=re.escape(name) + ": " + message):
        load_published(codec, state | {name: wrong[message]})


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda bias: bias.index_fill(0, torch.tensor([1]), torch.nan), "1 of 18 values are not finite"),
        (lambda bias: bias.double() * 1e300, "18 of 18 values are not finite"),
        (lambda bias: bias.long(), "int64, expected float32"),
        (lambda bias: bias.to(torch.complex64), "complex64, expected float32"),
        (lambda bias: bias.to(torch.float8_e5m2), "float8_e5m2, expected float32"),
        (lambda bias: bias.to("meta"), "a shape without values (device meta)"),
        (lambda bias: bias.half()[:1].expand(10**6, 10**6), "shape (1000000, 1000000), expected (18,)"),
    ],
)
def test_weights_that_are_no_numbers_are_refused_by_name(change: Callable[[Tensor], Tensor], fault: str) -> None:
    codec = small_codec("q2d2")
    state = copied(codec)
    state["head.out.bias"] = change(state["head.out.bias"] + 1)
    given, _ = as_float32(state, published_shapes(codec))
    with pytest.raises(CheckpointMismatch, match=re.escape(f"head.out.bias: {fault}")):
        load_published(codec, given)


def test_values_that_no_forward_pass_uses_are_checked_too() -> None:
    codec = small_codec("q2d2")
    name = f"{QUANTIZER}.quantizer.project_in.bias"
    with pytest.raises(CheckpointMismatch, match=re.escape(f"{name}: 2 of 2 values are not finite")):
        load_published(codec, copied(codec) | {name: torch.full((2,), torch.inf)})
    unused = {name: torch.zeros(shape) for name, shape in unused_shapes(codec).items()}
    with pytest.raises(CheckpointMismatch, match=re.escape(f"{name}: 2 of 2 values are not finite")):
        export_state(codec, unused | {name: torch.full((2,), torch.nan)})


def test_misfits_are_named_and_change_nothing() -> None:
    codec = small_codec("q2d2")
    before = {name: tensor.clone() for name, tensor in codec.state_dict().items()}
    good = {name: torch.full_like(tensor, 7.0) for name, tensor in copied(codec).items()}
    good[WINDOW] = torch.hann_window(16)
    cases: list[tuple[dict[str, Tensor], str]] = [
        (good | {"head.surplus": torch.zeros(1)}, r"unexpected head\.surplus"),
        (good | {"surplus": torch.zeros(1)}, r"unexpected surplus"),
        (good | {WINDOW: torch.hamming_window(16)}, rf"{WINDOW}: not the Hann window"),
        ({}, r"missing .*and \d+ more"),
    ]
    for state, message in cases:
        with pytest.raises(CheckpointMismatch, match=message):
            load_published(codec, state)
    for key, tensor in codec.state_dict().items():
        assert torch.equal(tensor, before[key]), key
    load_published(codec, good)
    assert all((tensor == 7).all() for tensor in codec.state_dict().values())


def test_an_untrained_codebook_is_refused() -> None:
    codec = small_codec("vq")
    name = f"{QUANTIZER}.vq.layers.0._codebook.inited"
    with pytest.raises(CheckpointMismatch, match=f"{name} is 0: this codebook was never trained"):
        load_published(codec, copied(codec) | {name: torch.zeros(1)})


def test_another_bottleneck_is_a_misfit() -> None:
    state = copied(small_codec("q2d2"))
    for other in ("null", "vq", "fsq"):
        with pytest.raises(CheckpointMismatch, match=r"unexpected .*quantizer\.project_in\."):
            load_published(small_codec(other), state)
    with pytest.raises(CheckpointMismatch, match=r"project_in.*shape \(2, 8\), expected \(4, 8\)"):
        load_published(Codec(SMALL, build_bottleneck("q2d2", 8, levels=[7, 7, 7, 7])), state)
