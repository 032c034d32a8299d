"""The backbone and the codec around it: lengths, batches, named sizes."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from q2d2.bottleneck import build_bottleneck
from q2d2.codec import SIZES, Codec, CodecConfig, codec_config
from q2d2.codec.encoder import reflect_pad
from q2d2.codec.head import ISTFTHead
from tests.small_codec import HOP, SMALL, codec_with


@pytest.mark.parametrize("samples", [1, 2, 5, HOP - 1, HOP, HOP + 1, 2 * HOP - 1, 100, 12 * HOP, 1000])
@pytest.mark.parametrize("bottleneck", ["q2d2", "null"])
def test_length_is_restored(samples: int, bottleneck: str) -> None:
    codec = codec_with(bottleneck)
    audio = torch.randn(1, samples)
    output = codec(audio)
    codes = codec.encode(audio)
    frames = -(-samples // HOP)
    assert codes.shape[-1] == frames
    assert codec.decode(codes).shape == (1, frames * HOP)
    decoded = codec.decode(codes, length=samples)
    assert decoded.shape == output.audio.shape == audio.shape
    assert torch.equal(decoded, output.audio)
    assert decoded.isfinite().all()


def test_any_ratios_give_whole_frames() -> None:
    for ratios in itertools.product((1, 2, 3, 5), repeat=2):
        config = codec_config("tiny", ratios=ratios, num_filters=2, decoder_dim=64, decoder_layers=1)
        codec = codec_with(config=config)
        for samples in (1, config.hop_length, config.hop_length + 1, 61):
            assert codec(torch.randn(1, samples)).audio.shape == (1, samples), (ratios, samples)


def test_batch_equals_single() -> None:
    codec = codec_with()
    audio = torch.randn(3, 40 * HOP + 5)
    together, codes = codec(audio), codec.encode(audio)
    for index in range(3):
        alone = codec(audio[index : index + 1])
        assert torch.equal(alone.codes, codes[index : index + 1])
        torch.testing.assert_close(alone.audio, together.audio[index : index + 1], atol=1e-5, rtol=1e-5)


def test_bad_audio_and_lengths_are_named() -> None:
    codec = codec_with()
    codes = codec.encode(torch.randn(1, 3 * HOP))
    for length in (3 * HOP + 1, 0, -1):
        with pytest.raises(ValueError, match=rf"length {length} asked of codes that hold {3 * HOP} samples"):
            codec.decode(codes, length=length)
    for shape in ((5,), (1, 0), (1, 1, 50)):
        with pytest.raises(ValueError, match=r"expected \(batch, samples\)"):
            codec.encode(torch.zeros(shape))
    with pytest.raises(ValueError, match="bottleneck has 5 channels, the backbone 8"):
        Codec(SMALL, build_bottleneck("null", 5))


def test_evaluation_is_deterministic_and_training_draws_conditions() -> None:
    codec = codec_with()
    for module in codec.modules():
        if isinstance(module, torch.nn.Embedding):  # conditions that differ, as after training
            torch.nn.init.normal_(module.weight)
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    audio = torch.randn(1, 100)
    assert torch.equal(codec(audio).audio, codec(audio).audio)
    codec.train()
    drawn = {codec(audio).audio.sum().item() for _ in range(40)}
    assert len(drawn) == SMALL.num_embeddings


def test_gradient_reaches_every_weight() -> None:
    codec = codec_with(config=codec_config("tiny", num_filters=2, decoder_dim=64, decoder_layers=2, num_embeddings=1))
    codec.train()(torch.randn(2, 20 * 128)).audio.square().sum().backward()
    for name, parameter in codec.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # A key's bias in attention, for one, changes nothing.
        if not name.endswith("bias"):
            assert parameter.grad.abs().sum() > 0, name


def test_bit_rates_follow_from_the_codes() -> None:
    published = codec_config("wavtokenizer", ratios=(6, 4, 3, 2))
    with torch.device("meta"):
        codec = Codec(published, build_bottleneck("q2d2", 512, levels=(9, 9, 7, 7, 7, 7)))
    assert codec.hop_length == 144
    assert codec.frame_rate == pytest.approx(166.667, abs=1e-3)
    assert codec.bottleneck.codebook_sizes == (145, 85, 85)
    assert codec.bitrate == pytest.approx(3333, abs=1)
    assert codec.tokens_per_second == pytest.approx(1000 / 6)
    assert codec_with("null").bitrate == codec_with("null").tokens_per_second == 0


@pytest.mark.parametrize("size", SIZES)
def test_named_sizes(size: str) -> None:
    config = SIZES[size]
    with torch.device("meta"):
        codec = Codec(config, build_bottleneck("null", config.dimension))
    millions = sum(parameter.numel() for parameter in codec.parameters()) / 1e6
    low, high, rate = {"wavtokenizer": (60, 90, 24000), "small": (3, 20, 16000), "tiny": (0.5, 2.5, 16000)}[size]
    assert low < millions < high
    assert codec.sample_rate == rate
    assert CodecConfig(**config.to_dict()) == config


@pytest.mark.parametrize(
    ("size", "changes", "message"),
    [
        ("huge", {}, "unknown codec size 'huge'. Known: wavtokenizer, small, tiny"),
        ("tiny", {"depth": 3}, "codec size 'tiny' has no depth. Known: sample_rate"),
        ("tiny", {"ratios": (4, 0)}, r"ratios \(4, 0\)"),
        ("tiny", {"ratios": ()}, r"ratios \(\)"),
        ("tiny", {"decoder_dim": 100}, "decoder_dim 100: expected a multiple of 32"),
        ("tiny", {"decoder_dim": 0}, "decoder_dim 0: expected a multiple of 32"),
    ],
)
def test_bad_sizes_are_named(size: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        codec_config(size, **changes)


def test_head_inverts_the_stft() -> None:
    """The head is an inverse STFT: fed a signal's own spectrum, it gives the signal back, away from the ends."""
    hop, frames = 16, 30
    head = ISTFTHead(8, hop)
    signal = torch.randn(1, frames * hop)
    cut = (head.n_fft - hop) // 2
    framed = F.pad(signal, (cut, cut)).unfold(1, head.n_fft, hop) * head.window
    spectrum = torch.fft.rfft(framed, dim=-1).transpose(1, 2)
    assert spectrum.shape[-1] == frames
    torch.testing.assert_close(head._overlap_add(spectrum), signal, atol=1e-5, rtol=1e-5)


def test_reflection_pads_signals_shorter_than_itself() -> None:
    signal = torch.arange(1.0, 9.0).view(1, 1, -1)
    assert torch.equal(reflect_pad(signal, 3, 2), F.pad(signal, (3, 2), mode="reflect"))
    # Extended by two zeros to [1, 2, 0, 0], reflected, and cut again by two at the end.
    assert reflect_pad(signal[..., :2], 3, 1).flatten().tolist() == [0, 0, 2, 1, 2, 0]


def test_meta_device() -> None:
    codec = codec_with()
    with torch.device("meta"):
        other = Codec(SMALL, build_bottleneck("q2d2", SMALL.dimension, levels=(7, 7, 5, 5)))
    other = other.to_empty(device="cpu").eval()
    other.load_state_dict(codec.state_dict())
    audio = torch.randn(1, 200)
    assert torch.equal(codec(audio).audio, other(audio).audio)


def test_half_precision_keeps_the_spectrum_in_float32() -> None:
    codec = codec_with("null")
    audio = torch.randn(1, 50 * HOP)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = codec(audio).audio
    assert output.dtype == torch.float32
    reference = codec(audio).audio
    assert (output - reference).abs().max() < 0.1 * reference.abs().max()
