"""A codec prepared for inference: equal to the codec it was made from, on packed layers and on folded ones."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from q2d2.audio import read_audio
from q2d2.bottleneck import build_bottleneck
from q2d2.checkpoints import load_codec
from q2d2.codec import Codec, CodecConfig, chunks, inference, packed
from q2d2.codec.encoder import PaddedConv1d
from q2d2.codec.inference import InferenceCodec, prepare_for_inference
from q2d2.codec.packed import can_pack, elu_into
from tests import small_codec
from tests.small_codec import HOP, codec_with

# Groups of eight channels: the variance of two, when there is but one frame, multiplies rounding errors.
SMALL = dataclasses.replace(small_codec.SMALL, decoder_dim=256)
CPU = torch.device("cpu")
needs_packing = pytest.mark.skipif(not can_pack(CPU), reason="this build of torch has no oneDNN operators")


@pytest.fixture(params=["packed", "folded"])
def prepare(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., InferenceCodec]:
    if request.param == "folded":
        monkeypatch.setattr(inference, "can_pack", lambda *asked: False)
    elif not can_pack(CPU):
        pytest.skip("this build of torch has no oneDNN operators")
    return prepare_for_inference


def lively(bottleneck: str = "q2d2", config: CodecConfig = SMALL) -> Codec:
    """A codec whose every weight differs from what it starts with, conditions and layer scales included."""
    codec = codec_with(bottleneck, config)
    with torch.no_grad():
        for parameter in codec.parameters():
            parameter.mul_(1 + 0.3 * torch.randn_like(parameter)).add_(0.02 * torch.randn_like(parameter))
    return codec


def snr(reference: Tensor, estimate: Tensor) -> float:
    return 10 * math.log10(float(reference.square().sum() / (estimate - reference).square().sum()))


@pytest.mark.parametrize("samples", [1, 2, HOP - 1, HOP, HOP + 1, 5 * HOP + 2, 700])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("bottleneck", ["q2d2", "null"])
def test_equal_to_the_codec(prepare: Callable[..., InferenceCodec], samples: int, batch: int, bottleneck: str) -> None:
    codec = lively(bottleneck)
    fast = prepare(codec)
    audio = torch.randn(batch, samples)
    with torch.no_grad():
        output, codes, latents = codec(audio), codec.encode(audio), codec.latents(audio)
        scale = codec.decode(codes).abs().max()
    found = fast(audio)
    torch.testing.assert_close(fast.latents(audio), latents, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(fast.encode(audio), codes, atol=1e-5, rtol=1e-5)
    assert torch.equal(found.codes, output.codes)
    for estimate in (found.audio, fast.decode(codes, samples)):
        torch.testing.assert_close(estimate / scale, output.audio / scale, atol=2e-5, rtol=0)
    assert fast.decode(codes).shape == codec.decode(codes).shape
    assert found.audio.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equal_on_real_weights_and_speech(
    prepare: Callable[..., InferenceCodec], speech: Tensor, dtype: torch.dtype
) -> None:
    codec = load_codec("tiny")
    fitted = build_bottleneck("q2d2", codec.config.dimension, levels=(9, 9, 7, 7))
    with torch.no_grad():
        fitted.fit(codec.latents(speech))
    codec.bottleneck = fitted.eval()
    fast = prepare(codec, dtype)
    with torch.inference_mode():
        codes, audio = codec.encode(speech), codec(speech).audio
        decoded = fast.decode(codes, speech.shape[-1])
    differing = float((fast.encode(speech) != codes).float().mean())
    if dtype == torch.float32:
        assert differing == 0
        assert snr(audio, decoded) > 80
    else:
        assert 0 < differing < 0.2
        assert 20 < snr(audio, decoded) < 60


@pytest.fixture(scope="module")
def speech() -> Tensor:
    """(1, samples) at 16 kHz, from the bundled corpus."""
    from evalkit.datasets import load_corpus

    channels, rate = read_audio(load_corpus("sample", "test").utterances[0].path)
    assert rate == 16000
    return torch.from_numpy(np.ascontiguousarray(channels)).reshape(1, -1)[:, :32000]


@needs_packing
def test_stretches_equal_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = lively()
    audio = torch.randn(2, 60 * HOP + 5)
    whole = prepare_for_inference(codec).latents(audio)
    monkeypatch.setattr(packed, "STRETCH", 7 * HOP * SMALL.num_filters)
    fast = prepare_for_inference(codec)
    lengths: list[int] = []
    fast.encoder.model[0].register_forward_hook(lambda layer, given, output: lengths.append(given[0].shape[-1]))
    torch.testing.assert_close(fast.latents(audio), whole, atol=1e-5, rtol=1e-5)
    assert len(lengths) == 2 * 9
    assert max(lengths) < 20 * HOP


@needs_packing
def test_fits_where_the_codec_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Coding in blocks takes the encoder apart: it finds the same parts, and audio of any length comes out the same."""
    codec = lively()
    fast = prepare_for_inference(codec)
    assert fast.config == codec.config
    assert (fast.sample_rate, fast.hop_length, fast.bitrate) == (codec.sample_rate, codec.hop_length, codec.bitrate)
    assert fast.bottleneck.spec == codec.bottleneck.spec
    assert chunks.reach(fast.encoder.model[:-3]) == chunks.reach(codec.encoder.model[:-3])
    audio = torch.randn(1, 50 * HOP + 3)
    seconds = 7 / codec.frame_rate
    assert torch.equal(
        chunks.encode_blocks(fast, audio.split(100, dim=1), seconds),
        chunks.encode_blocks(codec, audio.split(100, dim=1), seconds),
    )
    half = prepare_for_inference(codec, torch.bfloat16)
    with torch.inference_mode():
        assert half.encoder.model(audio[:, None]).dtype == torch.float32


def test_the_codec_is_left_as_it_is(prepare: Callable[..., InferenceCodec]) -> None:
    codec = lively().train()
    before = {name: value.clone() for name, value in codec.state_dict().items()}
    audio = torch.randn(1, 100)
    fast = prepare(codec)
    expected = fast(audio).audio
    assert codec.training
    assert not fast.training
    assert all(torch.equal(value, before[name]) for name, value in codec.state_dict().items())
    codec(audio).audio.sum().backward()  # it can still be trained
    with torch.no_grad():
        for parameter in codec.parameters():
            parameter.zero_()
    assert torch.equal(fast(audio).audio, expected)  # and the copy does not follow


def test_there_is_no_gradient_and_no_weight_norm(prepare: Callable[..., InferenceCodec]) -> None:
    fast = prepare(lively("null"))
    assert fast(torch.randn(1, 50, requires_grad=True)).audio.is_inference()
    assert not any(parameter.requires_grad for parameter in fast.parameters())
    assert not any("parametrizations" in name for name, _ in fast.named_modules())


def test_bfloat16_is_close_and_not_the_same(prepare: Callable[..., InferenceCodec]) -> None:
    codec = lively("null")
    audio = torch.randn(2, 80 * HOP)
    reference = codec(audio).audio.detach()
    output = prepare(codec, torch.bfloat16)(audio).audio
    assert output.dtype == torch.float32
    assert 15 < snr(reference, output) < 60


@needs_packing
def test_group_normalization_far_from_zero() -> None:
    """torch's own kernel for this memory order is off by 1e-4 here."""
    rows = torch.randn(2, 300, 64) + 30
    norm = nn.GroupNorm(32, 64, eps=1e-6)
    expected = norm.double()(rows.double().transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(packed.PackedGroupNorm(norm.float())(rows).double(), expected, atol=2e-5, rtol=0)


def test_elu() -> None:
    values = torch.cat([torch.linspace(-100, 100, 999), torch.tensor([0.0, -1e-9, 1e-9, -torch.inf, torch.inf])])
    rows = values.repeat(2, 300, 1)
    out = torch.empty_like(rows)
    elu_into(rows, out)
    torch.testing.assert_close(out, nn.functional.elu(rows), atol=1e-7, rtol=1e-6)
    elu_into(rows, rows)
    assert torch.equal(rows, out)
    assert elu_into(torch.full((1, 1, 1), torch.nan), out[:1, :1, :1]) is None
    assert out[0, 0, 0].isnan()


def test_misuse_is_named() -> None:
    codec = lively()
    with pytest.raises(ValueError, match=r"dtype torch\.float16: expected one of torch\.float32, torch\.bfloat16"):
        prepare_for_inference(codec, torch.float16)
    fast = prepare_for_inference(codec)
    with pytest.raises(ValueError, match="prepared for inference already"):
        prepare_for_inference(fast)
    with pytest.raises(ValueError, match="cannot be trained"):
        fast.train()
    with pytest.raises(ValueError, match=r"expected \(batch, samples\)"):
        fast.encode(torch.zeros(5))
    with pytest.raises(ValueError, match="length 13 asked of codes that hold 12 samples"):
        fast.decode(fast.encode(torch.zeros(1, 12)), length=13)


@needs_packing
def test_packed_weights_do_not_move() -> None:
    fast = prepare_for_inference(lively())
    fast.to("cpu")
    for move in (lambda: fast.double(), lambda: fast.to("meta")):
        with pytest.raises(ValueError, match="move the codec it was made from"):
            move()


def test_what_is_compiled_are_the_codec_s_own_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.Module, "compile", lambda module: compiled.append(type(module).__name__))
    compiled: list[str] = []
    codec = lively()
    fast = prepare_for_inference(codec, compile=True)
    assert compiled == ["Encoder", "Decoder", "ISTFTHead"]
    assert any(isinstance(layer, PaddedConv1d) for layer in fast.encoder.model)
    audio = torch.randn(1, 100)
    torch.testing.assert_close(fast(audio).audio, codec(audio).audio, atol=1e-5, rtol=1e-4)
