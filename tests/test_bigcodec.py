"""BigCodec: the published file's entries, its loading, and what the codec makes of audio."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.codecs import CodecError, build_codec, codec_class
from baselines.codecs import bigcodec as module
from baselines.codecs.bigcodec import BigCodec
from baselines.codecs.bigcodec_file import PARTS, load_network, published_shapes
from baselines.codecs.bigcodec_model import BigCodecNetwork, BigCodecSizes
from baselines.codecs.weights import WeightsMissing
from tests.golden import fill, wave

TINY = BigCodecSizes(
    channels=4, strides=(2, 5), dilations=(1, 3), latent_dim=24, decoder_channels=16, codebook_size=64
)  # fmt: skip
HOP = 10
Shapes = dict[str, tuple[int, ...]]
Content = dict[str, Any]


class TinyBigCodec(BigCodec):
    sizes = TINY


def published(sizes: BigCodecSizes) -> dict[str, Shapes]:
    """Names and shapes in the published file, written down from the published code's constructors."""
    shapes: Shapes = {}

    def convolution(name: str, first: int, second: int, *kernel: int, bias: int | None = None) -> None:
        ones = (1,) * (1 + len(kernel))
        shapes.update({f"{name}.weight_g": (first, *ones), f"{name}.weight_v": (first, second, *kernel)})
        shapes[f"{name}.bias"] = (bias or first,)

    def activation(name: str, channels: int) -> None:
        shapes.update({f"{name}.act.alpha": (channels,), f"{name}.act.beta": (channels,)})
        shapes.update({f"{name}.upsample.filter": (1, 1, 12), f"{name}.downsample.lowpass.filter": (1, 1, 12)})

    def unit(name: str, channels: int) -> None:
        activation(f"{name}.block.0", channels)
        convolution(f"{name}.block.1", channels, channels, 7)
        activation(f"{name}.block.2", channels)
        convolution(f"{name}.block.3", channels, channels, 1)

    def lstm(name: str, channels: int) -> None:
        for layer in range(sizes.lstm_layers):
            for side in ("ih", "hh"):
                shapes[f"{name}.lstm.weight_{side}_l{layer}"] = (4 * channels, channels)
                shapes[f"{name}.lstm.bias_{side}_l{layer}"] = (4 * channels,)

    channels, num_units, last = sizes.channels, len(sizes.dilations), len(sizes.strides)
    convolution("block.0", channels, 1, 7)
    for place, stride in enumerate(sizes.strides, start=1):
        for number in range(num_units):
            unit(f"block.{place}.block.{number}", channels)
        activation(f"block.{place}.block.{num_units}", channels)
        convolution(f"block.{place}.block.{num_units + 1}", 2 * channels, channels, 2 * stride)
        channels *= 2
    lstm(f"block.{last + 1}", channels)
    activation(f"block.{last + 2}", channels)
    convolution(f"block.{last + 3}", sizes.latent_dim, channels, 3)
    encoder, shapes = shapes, {}

    channels = sizes.decoder_channels
    convolution("quantizer.layers.0.in_proj", sizes.codebook_dim, sizes.latent_dim)
    convolution("quantizer.layers.0.out_proj", sizes.latent_dim, sizes.codebook_dim)
    shapes["quantizer.layers.0._codebook.weight"] = (sizes.codebook_size, sizes.codebook_dim)
    convolution("model.0", channels, sizes.latent_dim, 7)
    lstm("model.1", channels)
    for place, stride in enumerate(reversed(sizes.strides), start=2):
        activation(f"model.{place}.block.0", channels)
        convolution(f"model.{place}.block.1", channels, channels // 2, 2 * stride, bias=channels // 2)
        channels //= 2
        for number in range(2, 2 + num_units):
            unit(f"model.{place}.block.{number}", channels)
    activation(f"model.{last + 2}", channels)
    convolution(f"model.{last + 3}", 1, channels, 7)
    return {"CodecEnc": encoder, "generator": shapes}


def kaiser_sinc() -> Tensor:
    """The filter of alias-free-torch for a ratio of 2: cutoff 1/4, half width 0.3, Kaiser's formula for beta."""
    attenuation = 2.285 * 5 * math.pi * 1.2 + 7.95
    taps = np.kaiser(12, 0.1102 * (attenuation - 8.7)) * np.sinc(0.5 * (np.arange(12) - 5.5))
    return torch.from_numpy(taps / taps.sum()).float().view(1, 1, 12)


@pytest.fixture
def content() -> Content:
    """A file of the tiny network: weights by formula, the true filters, the last gain small so that tanh is not 1."""
    states: Content = {
        part: {
            name: kaiser_sinc() if name.endswith("filter") else torch.from_numpy(np.asarray(fill(name, shape)).copy())
            for name, shape in shapes.items()
        }
        for part, shapes in published(TINY).items()
    }
    states["generator"]["model.5.weight_g"] *= 0.1
    return {part: {name: tensor.float() for name, tensor in state.items()} for part, state in states.items()}


def write(folder: Path, content: object) -> Path:
    torch.save(content, folder / "bigcodec.pt")
    return folder


@pytest.fixture
def codec(tmp_path: Path, content: Content) -> BigCodec:
    return TinyBigCodec(write(tmp_path, content))


@pytest.fixture
def audio() -> Tensor:
    return torch.from_numpy(wave()[:403])[None]


def test_the_full_network_has_the_published_entries() -> None:
    with torch.device("meta"):
        network = BigCodecNetwork()
    entries = published(BigCodecSizes())
    for part, attribute in PARTS.items():
        assert published_shapes(network.get_submodule(attribute)) == entries[part]
    # Counted by loading the published file into the published code (159 M in the paper).
    assert [len(shapes) for shapes in entries.values()] == [263, 270]
    numbers = {
        f"{part}.{name}": math.prod(shape)
        for part, shapes in entries.items()
        for name, shape in shapes.items()
        if not name.endswith("filter")
    }
    assert sum(numbers.values()) == 159_436_290
    gains = sum(number for name, number in numbers.items() if name.endswith("weight_g"))
    assert sum(parameter.numel() for parameter in network.parameters()) == 159_436_290 - gains


def test_rates_are_the_published_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bigcodec.pt").write_bytes(b"")
    with torch.device("meta"):
        network = BigCodecNetwork()
    monkeypatch.setattr(module, "load_network", lambda file, sizes: network)
    codec = BigCodec(tmp_path)
    assert (codec.sample_rate, codec.frame_rate, codec.codebook_sizes) == (16000, 80, (8192,))
    assert (codec.bitrate, codec.tokens_per_second) == (1040, 80)


def test_it_is_registered_and_says_how_to_get_its_weights(tmp_path: Path) -> None:
    assert codec_class("bigcodec") is BigCodec
    with pytest.raises(WeightsMissing, match=r"bigcodec\.pt of Alethia/BigCodec.*weights fetch bigcodec"):
        build_codec("bigcodec", tmp_path)


def test_output_is_that_of_the_published_code(codec: BigCodec, audio: Tensor) -> None:
    """Codes, and every 40th sample, that the published modules computed with the same weights and audio."""
    codes = codec.encode(audio)
    assert codes.flatten().tolist() == [
        45, 45, 48, 48, 48, 48, 48, 45, 24, 24, 24, 31, 8, 8, 3, 1, 25, 16, 16, 4, 17, 56, 48, 50, 48, 48, 34, 48, 48,
        24, 24, 31, 41, 42, 1, 36, 25, 16, 16, 4, 32,
    ]  # fmt: skip
    decoded = codec.decode(codes)[0]
    expected = [
        0.292152, -0.17366, -0.183188, -0.099706, -0.258562, -0.064299, -0.132703, -0.39901, -0.021023, -0.206308,
        0.178071,
    ]  # fmt: skip
    torch.testing.assert_close(decoded[::40], torch.tensor(expected), atol=2e-5, rtol=0)
    assert decoded.shape == (410,)


def test_codes_and_lengths(codec: BigCodec) -> None:
    for samples in (1, HOP - 1, HOP, HOP + 1, 3 * HOP, 57):
        audio = 0.3 * torch.randn(2, samples, generator=torch.Generator().manual_seed(samples))
        codes = codec.encode(audio)
        assert codes.dtype == torch.int64
        assert codes.shape == (2, 1, samples // HOP + 1)  # zeros are appended to whole frames too
        assert codes.min() >= 0
        assert codes.max() < 64
        assert codec.decode(codes, length=samples).shape == (2, samples)
        assert torch.equal(codec.decode(codes, length=samples), codec.decode(codes)[:, :samples])
        assert codec.decode(codes).shape == (2, (samples // HOP + 1) * HOP)


def test_a_batch_is_coded_as_its_recordings(codec: BigCodec) -> None:
    audio = 0.3 * torch.randn(3, 95, generator=torch.Generator().manual_seed(1))
    codes = codec.encode(audio)
    assert codes.unique().numel() > 3
    assert torch.equal(codes, torch.cat([codec.encode(one[None]) for one in audio]))
    singly = torch.cat([codec.decode(one[None], length=95) for one in codes])
    torch.testing.assert_close(codec.decode(codes, length=95), singly, atol=1e-5, rtol=0)


def test_it_is_ready_to_run_and_known_by_its_weights(codec: BigCodec, content: Content, tmp_path: Path) -> None:
    assert codec.module is not None
    assert not codec.module.training
    assert not codec.encode(torch.zeros(1, 5)).is_inference()
    assert not any(parameter.requires_grad for parameter in codec.module.parameters())
    content["generator"]["model.0.bias"] += 1
    other = TinyBigCodec(write(tmp_path, content))
    assert len({codec.weights_sha256, other.weights_sha256, ""}) == 3


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda codec: codec.encode(torch.zeros(1, 0)), r"shape \(1, 0\).*samples > 0"),
        (lambda codec: codec.encode(torch.zeros(5)), r"shape \(5,\)"),
        (lambda codec: codec.decode(torch.zeros(1, 2, 3).long()), r"shape \(1, 2, 3\): expected \(batch, 1, frames\)"),
        (lambda codec: codec.decode(torch.tensor([[[0, 64]]])), "from 0 to 64: expected 0 to 63"),
        (lambda codec: codec.decode(torch.tensor([[[-1, 6]]])), "from -1 to 6"),
        (lambda codec: codec.decode(torch.zeros(1, 1, 2).long(), length=21), "length 21 asked .* hold 20"),
        (lambda codec: codec.decode(torch.zeros(1, 1, 2).long(), length=0), "length 0"),
    ],
)
def test_what_cannot_be_coded_is_refused(codec: BigCodec, call: Callable[[BigCodec], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call(codec)


def _change(part: str, name: str, change: Callable[[Tensor], object], content: Content) -> object:
    content[part][name] = change(content[part][name])
    return content


def _rename(part: str, old: str, new: str, content: Content) -> object:
    content[part][new] = content[part].pop(old)
    return content


_GAIN = "model.2.block.1.weight_g"
DAMAGES: dict[str, tuple[Callable[[Content], object], str]] = {
    "no decoder": (lambda content: {"CodecEnc": content["CodecEnc"]}, "missing generator"),
    "not a state": (lambda content: content | {"CodecEnc": torch.zeros(1)}, "missing CodecEnc"),
    "missing and extra": (
        partial(_rename, "CodecEnc", "block.0.bias", "block.0.bayes"),
        r"missing CodecEnc\.block\.0\.bias; unexpected CodecEnc\.block\.0\.bayes",
    ),
    "transposed": (
        partial(_change, "generator", _GAIN, lambda gain: gain[:8]),
        r"generator\.model\.2\.block\.1\.weight_g: shape \(8, 1, 1\), expected \(16, 1, 1\)",
    ),
    "half": (partial(_change, "generator", _GAIN, Tensor.half), "weight_g: float16, expected float32"),
    "no tensor": (partial(_change, "generator", _GAIN, Tensor.tolist), "weight_g: list, expected a tensor"),
    "not a number": (
        partial(_change, "generator", "model.1.lstm.bias_hh_l1", lambda bias: bias * math.nan),
        r"generator\.model\.1\.lstm\.bias_hh_l1: \d+ of \d+ values are not finite",
    ),
    "no direction": (
        partial(_change, "CodecEnc", "block.0.weight_v", torch.zeros_like),
        r"not finite: CodecEnc\.block\.0\.weight",
    ),
    "many": (lambda content: content | {"CodecEnc": {}}, "missing .*; and [0-9]+ more"),
    "a list": (lambda content: [content], "holds list, expected CodecEnc and generator"),
    "code": (lambda content: content | {"args": Path("x")}, r"objects beside its tensors \(pathlib"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_another_file_is_refused_by_name(damage: str, content: Content, tmp_path: Path) -> None:
    change, words = DAMAGES[damage]
    write(tmp_path, change(content))
    with pytest.raises(CodecError, match=words) as caught:
        TinyBigCodec(tmp_path)
    assert str(tmp_path / "bigcodec.pt") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "evalkit weights fetch bigcodec" in str(caught.value)


def test_files_that_are_no_checkpoints_are_refused(content: Content, tmp_path: Path) -> None:
    with pytest.raises(CodecError, match="cannot be read: No such file"):
        load_network(tmp_path / "bigcodec.pt", TINY)
    write(tmp_path, content)
    whole = (tmp_path / "bigcodec.pt").read_bytes()
    for damaged in (b"", b"hello", whole[: len(whole) // 2], pickle.dumps({"CodecEnc": Path("x")}, protocol=2)):
        (tmp_path / "bigcodec.pt").write_bytes(damaged)
        with pytest.raises(CodecError, match=r"is damaged, or was not written by|holds objects beside"):
            load_network(tmp_path / "bigcodec.pt", TINY)


def test_entries_beside_the_two_states_are_passed_over(content: Content, tmp_path: Path, audio: Tensor) -> None:
    plain = TinyBigCodec(write(tmp_path, content)).encode(audio)
    assert torch.equal(TinyBigCodec(write(tmp_path, content | {"epoch": 3})).encode(audio), plain)


def test_weight_normalization_is_folded(codec: BigCodec, content: Content) -> None:
    state = content["generator"]
    for name, gain in state.items():
        if name.endswith("weight_g"):
            folded = codec.network.decoder.get_parameter(name.removesuffix("_g"))
            expected = torch._weight_norm(state[name.removesuffix("_g") + "_v"], gain, 0)
            torch.testing.assert_close(folded.data, expected, atol=1e-6, rtol=1e-6)
