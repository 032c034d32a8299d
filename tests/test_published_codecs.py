"""The published WavTokenizer and Q2D2 as whole codecs: equal to the published code, found where they may lie."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from torch import Tensor

from baselines.codecs import CODECS, WholeCodec, build_codec, codec_class
from baselines.codecs.published import CONFIGURATIONS, PublishedCodec
from baselines.codecs.weights import HubWeights, LocalWeights, WeightsMissing, files_sha256
from q2d2.published_config import read_published_config
from q2d2.published_files import build_published, import_checkpoint, read_state
from q2d2.quantizer import Q2D2
from tests import golden
from tests.published_models import SEVEN, description, write_ckpt, write_yaml
from tests.small_published import CONTENT, HOP, SmallPublished, write_models

# Name -> its file of golden outputs, quantizers, bits a frame, frames a second.
FULL = {
    "q2d2-3k": ("q2d2_rhombic_3k", 3, math.log2(145 * 85 * 85), 24000 / 144),
    "wavtokenizer-75": ("wavtokenizer_75", 1, 12.0, 75.0),
}


def whole_state(name: str) -> dict[str, Tensor]:
    """The golden state with memory behind what no forward pass reads."""
    state = {key: torch.zeros(t.shape) if t.is_meta else t for key, t in golden.state(name).items()}
    return state | {"head.istft.window": torch.hann_window(state["head.istft.window"].shape[0])}


def one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(params=list(CONTENT))
def small(request: pytest.FixtureRequest, models: Path, tmp_path: Path) -> SmallPublished:
    return SmallPublished(request.param, models, tmp_path)


@pytest.mark.parametrize("name", FULL)
def test_output_is_that_of_the_published_code(name: str, tmp_path: Path) -> None:
    excerpt, quantizers, bits, rate = FULL[name]
    (tmp_path / name).mkdir()
    file = write_ckpt(tmp_path / name / "epoch=7.ckpt", whole_state(excerpt))
    codec = build_codec(name, tmp_path)

    assert (codec.sample_rate, codec.frame_rate, codec.tokens_per_second) == (24000, rate, rate)
    assert codec.bits_per_frame == pytest.approx(bits)
    assert codec.bitrate == pytest.approx(bits * rate)
    assert codec.weights_sha256 == files_sha256(file.parent, (file.name,))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["epoch=7.ckpt", name]  # nothing is written
    file.unlink()  # pytest would keep it
    assert isinstance(codec, PublishedCodec)
    assert codec.num_parameters == sum(parameter.numel() for parameter in codec.module.parameters())

    expected, audio = golden.excerpt(excerpt), torch.from_numpy(golden.wave())[None]
    codes = codec.encode(audio)
    assert codes.shape == (1, quantizers, math.ceil(24000 / codec.hop_length))
    bottleneck = codec.module.bottleneck
    index = bottleneck.frame_index(codes) if isinstance(bottleneck, Q2D2) else codes[:, 0]
    assert np.array_equal(index.numpy(), expected["codes"])
    with torch.inference_mode():
        assert torch.equal(codes, codec.module.encode(audio))
    decoded = codec.decode(codes)
    assert decoded.shape == (1, int(expected["audio_length"]))
    difference = np.abs(decoded[0, :: golden.AUDIO_STEP].numpy() - expected["audio"]).max()
    assert difference < 1e-4 * float(expected["audio_peak"])
    assert torch.equal(codec.decode(codes, length=24000), decoded[:, :24000])


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_names_promise_the_published_rates(name: str) -> None:
    cls = codec_class(name)
    assert issubclass(cls, PublishedCodec)
    assert (cls.name, cls.configuration) == (name, CONFIGURATIONS[name])
    published = SEVEN[name if name in SEVEN else f"{name}-rhombic"]
    codec = build_published(cls.configuration)
    assert codec.config.ratios == published.ratios
    assert codec.bottleneck.bits_per_frame == pytest.approx(published.bits, abs=0.005)
    assert codec.bitrate / 1000 == pytest.approx(published.kbps, abs=0.0005)
    assert codec.tokens_per_second == codec.frame_rate  # one token a frame, as the papers count


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_promised_yaml_is_the_published_one(name: str, tmp_path: Path) -> None:
    family, ratios, tiling, levels, _, _ = SEVEN[name if name in SEVEN else f"{name}-rhombic"]
    path = write_yaml(tmp_path / "x.yaml", description(family, ratios, tiling, levels))
    assert read_published_config(path, family) == CONFIGURATIONS[name]


def test_a_small_one_is_the_imported_codec(small: SmallPublished, tmp_path: Path) -> None:
    imported = import_checkpoint(small.family, small.ckpt, small.yaml, tmp_path / "imported").codec
    codec = small.cls(small.folder)
    assert codec.codebook_sizes == imported.bottleneck.codebook_sizes
    assert codec.frame_rate == 24000 / HOP
    for samples in (1, HOP - 1, HOP, HOP + 1, 50):
        audio = 0.3 * torch.randn(2, samples, generator=torch.Generator().manual_seed(samples))
        codes = codec.encode(audio)
        assert codes.dtype == torch.int64
        assert codes.shape == (2, len(codec.codebook_sizes), math.ceil(samples / HOP))
        with torch.inference_mode():
            assert torch.equal(codes, imported.encode(audio))
            expected = imported.decode(codes, samples)
        decoded, peak = codec.decode(codes, samples), expected.abs().max()
        assert decoded.shape == (2, samples)
        torch.testing.assert_close(decoded / peak, expected / peak, atol=2e-5, rtol=0)
    assert codes.unique().numel() > 2


def test_a_yaml_that_agrees_changes_nothing(small: SmallPublished) -> None:
    alone = small.cls(small.folder)
    shutil.copy(small.yaml, small.folder / "their.yml")
    beside = small.cls(small.folder)
    audio = torch.randn(1, 40)
    assert torch.equal(alone.encode(audio), beside.encode(audio))
    assert alone.fingerprint == beside.fingerprint


def test_other_weights_are_another_system(small: SmallPublished) -> None:
    before = small.cls(small.folder)
    state = read_state(small.ckpt)
    state["head.out.bias"] = state["head.out.bias"] + 1
    small.ckpt.unlink()
    write_ckpt(small.ckpt, state)
    assert small.cls(small.folder).fingerprint != before.fingerprint


def test_it_moves_as_a_whole(small: SmallPublished) -> None:
    codec = small.cls(small.folder)
    audio = torch.randn(1, 40)
    before, ready = codec.encode(audio), codec._ready
    codec.to(torch.device("cpu"))
    assert codec._ready is ready  # already there
    assert torch.equal(codec.encode(audio), before)
    codec.to(torch.device("meta"))
    for module in (codec.module, codec._ready):
        assert {tensor.device.type for tensor in module.state_dict().values()} == {"meta"}


class TestWeights:
    @pytest.fixture(autouse=True)
    def empty_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))

    @pytest.mark.parametrize("name", ["q2d2-1k", "q2d2-3k", "q2d2-6k"])
    def test_no_hub_has_those_of_q2d2(self, name: str, tmp_path: Path) -> None:
        page = "https://github.com/tashQ/Q2D2"
        weights = codec_class(name).weights
        assert isinstance(weights, LocalWeights)
        for root in (None, tmp_path):
            with pytest.raises(WeightsMissing, match=f"{name}: the weights are missing") as caught:
                build_codec(name, root)
            for words in (page, f"DIR/{name}", "--weights-root DIR"):
                assert words in one_line(caught)
        assert str(tmp_path / name) in str(caught.value)
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.yaml").write_text("")
        with pytest.raises(WeightsMissing):
            weights.find(name, tmp_path)
        (tmp_path / name / "x.ckpt").write_bytes(b"")
        assert weights.find(name, tmp_path) == tmp_path / name
        with pytest.raises(WeightsMissing, match=rf"cannot be fetched: .*{page}.*DIR/NAME") as caught:
            weights.fetch(tmp_path)
        one_line(caught)

    @pytest.mark.parametrize("name", ["wavtokenizer-75", "wavtokenizer-40"])
    def test_those_of_wavtokenizer_are_pinned(self, name: str, tmp_path: Path) -> None:
        weights = codec_class(name).weights
        assert isinstance(weights, HubWeights)
        assert re.fullmatch("[0-9a-f]{40}", weights.revision or "")
        (file,) = weights.files
        with pytest.raises(WeightsMissing, match=rf"{file} of novateur/WavTokenizer.*weights fetch {name}"):
            build_codec(name, tmp_path)
        snapshot = tmp_path / "cache" / "models--novateur--WavTokenizer" / "snapshots" / str(weights.revision)
        snapshot.mkdir(parents=True)
        (snapshot / "other.ckpt").write_bytes(b"")
        with pytest.raises(WeightsMissing):
            weights.find(name)
        (snapshot / file).write_bytes(b"")
        assert weights.find(name) == snapshot

    def test_a_folder_of_one_s_own_may_name_its_file_otherwise(self, tmp_path: Path) -> None:
        weights = codec_class("wavtokenizer-75").weights
        assert weights is not None
        (tmp_path / "wavtokenizer-75").mkdir()
        with pytest.raises(WeightsMissing, match=r"wavtokenizer-75 lacks \*\.ckpt of novateur/WavTokenizer"):
            weights.find("wavtokenizer-75", tmp_path)
        (tmp_path / "wavtokenizer-75" / "mine.ckpt").write_bytes(b"")
        assert weights.find("wavtokenizer-75", tmp_path) == tmp_path / "wavtokenizer-75"


def test_every_name_is_registered() -> None:
    published = {name for name in CODECS.names() if issubclass(codec_class(name), PublishedCodec)}
    assert published == CONFIGURATIONS.keys()
    assert all(issubclass(codec_class(name), WholeCodec) for name in published)
