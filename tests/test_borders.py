"""Nonsense is an error at the borders of a codec: never a code, never a number, and it costs nobody else's work."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from baselines.codecs import CodecError, build_codec
from baselines.codecs.opus import Opus
from evalkit.metrics import load_metric
from evalkit.metrics.signals import Unscorable, check_signal
from evalkit.run import runner
from evalkit.run.experiment import SpeedSection
from evalkit.run.systems import CodecSystem
from evalkit.scoring.cache import Cache
from evalkit.scoring.pair import Pair, PairScorer
from evalkit.scoring.protocol import get_protocol
from q2d2.audio import AudioError, encode_flac, read_audio, read_blocks
from q2d2.bottleneck import NullBottleneck, build_bottleneck
from q2d2.checkpoints import save_codec
from q2d2.codec import Codec, codec_config
from q2d2.codec.chunks import encode_blocks
from q2d2.codec.inference import prepare_for_inference
from q2d2.errors import NotFinite
from tests.command import TINY, evalkit, write_experiment
from tests.finished_run import leave_out_plots, rows
from tests.small_whole_codec import Halved

FAMILIES: dict[str, dict[str, Any]] = {
    "null": {},
    "q2d2": {"tiling": "rhombic", "levels": [5, 5]},
    "lattice": {"lattice": "d4", "levels": [5]},
    "fsq": {"levels": [5, 4]},
    "vq": {"codebook_size": 16},
    "rvq": {"codebook_size": 8, "num_quantizers": 2},
}
CODED = [name for name in FAMILIES if name != "null"]


def small_codec(name: str) -> Codec:
    torch.manual_seed(0)
    config = codec_config("tiny", **TINY["backbone"]["changes"])
    codec = Codec(config, build_bottleneck(name, config.dimension, **FAMILIES[name]))
    if name in ("vq", "rvq"):
        codec.train()(torch.randn(2, 6400) * 0.1)  # k-means
    return codec.eval()


@pytest.mark.parametrize("name", FAMILIES)
def test_latents_that_are_not_finite_are_refused_by_every_bottleneck(name: str) -> None:
    codec = small_codec(name)
    audio = 0.1 * torch.randn(1, 6400)
    with torch.no_grad():
        next(codec.encoder.parameters()).fill_(torch.nan)
        for call in (codec.encode, codec, lambda audio: encode_blocks(codec, [audio])):
            with pytest.raises(NotFinite, match=r"latents of the encoder: .* NaN or infinite"):
                call(audio)


@pytest.mark.parametrize("name", FAMILIES)
def test_audio_that_is_not_finite_is_refused_on_both_sides(name: str) -> None:
    codec = small_codec(name)
    for ready in (codec, prepare_for_inference(codec)):
        for value in (torch.nan, torch.inf):
            audio = torch.zeros(1, 6400)
            audio[0, 3] = value
            with pytest.raises(NotFinite, match=r"audio: 1 of 6,400 values"):
                ready.encode(audio)
    with torch.no_grad():
        codes = codec.encode(0.1 * torch.randn(1, 6400))
        next(codec.head.parameters()).fill_(torch.nan)
        with pytest.raises(NotFinite, match="decoded audio"):
            codec.decode(codes)


@pytest.mark.parametrize("name", CODED)
def test_codes_out_of_range_or_of_another_kind_are_refused_alike(name: str) -> None:
    bottleneck = small_codec(name).bottleneck
    codes = torch.zeros(1, len(bottleneck.codebook_sizes), 4, dtype=torch.int64)
    for wrong in (bottleneck.lowest_code - 1, bottleneck.codebook_sizes[0], 2**62, -(2**63)):
        bad = codes.clone()
        bad[0, 0, 1] = wrong
        with pytest.raises(ValueError, match="of quantizer 0, whose codebook has"):
            bottleneck.decode(bad)
    for other in (codes.int(), codes.float(), codes[0], codes.repeat(1, 3, 1)):
        with pytest.raises(ValueError, match=r"codes .*expected \(batch, \d, frames\) int64"):
            bottleneck.decode(other)
    with pytest.raises(TypeError, match="codes are a ndarray, expected a tensor"):
        bottleneck.decode(codes.numpy())


def test_wrong_types_get_a_sentence() -> None:
    codec = small_codec("fsq")
    audio = torch.zeros(1, 6400)
    cases = [
        (audio.double(), ValueError, r"float64, expected torch.float32 in \[-1, 1\]: audio.float\(\)$"),
        (audio.short(), ValueError, r"int16, expected .* audio.float\(\) / 32768$"),
        (audio.half(), ValueError, "float16, expected"),
        (audio.numpy(), TypeError, "audio is a ndarray, expected a tensor"),
        (audio[0], ValueError, r"expected \(batch, samples\)"),
    ]
    for given, kind, words in cases:
        for call in (codec.encode, codec):
            with pytest.raises(kind, match=words):
                call(given)
    with pytest.raises(ValueError, match=r"weights are torch.bfloat16, expected torch.float32: codec.float\(\)"):
        small_codec("fsq").bfloat16().encode(audio)


@pytest.mark.parametrize("value", [1e30, 50.0, -32768.0])
def test_one_sample_beyond_the_peak_fails_the_pair_and_the_file(tmp_path: Path, value: float) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(32_000).astype(np.float32)
    spiked = noise.copy()
    spiked[16_000] = value
    scorer = PairScorer(Pair("u", noise, 16_000, spiked, 16_000), get_protocol("paper"))
    for metric in ("stft_distance", "stoi", "si_sdr", "mel_distance"):
        score = scorer.score(metric)
        assert (score.status, score.value) == ("failed", None)
        assert "estimate has a peak of" in score.detail
    soundfile.write(tmp_path / "a.wav", spiked, 16_000, subtype="FLOAT")
    for read in (lambda path: read_audio(path), lambda path: list(read_blocks(path))):
        with pytest.raises(AudioError, match="where full scale is 1"):
            read(tmp_path / "a.wav")


def test_an_overshoot_is_no_error() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(32_000).astype(np.float32)
    noise[7] = 3.0
    check_signal(noise, "estimate")
    noise[7] = 10.1
    with pytest.raises(Unscorable, match=r"peak of 10\.1, at most 10 allowed"):
        check_signal(noise, "estimate")


def test_a_value_that_a_metric_cannot_have_is_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evalkit.metrics.stoi.Stoi.score", lambda self, *signals: 1.5)
    noise = 0.1 * np.random.default_rng(0).standard_normal(32_000).astype(np.float32)
    score = PairScorer(Pair("u", noise, 16_000, noise, 16_000), get_protocol("strict")).score("stoi")
    assert (score.status, score.detail) == ("failed", "stoi gave 1.5, which is no STOI")


def test_writers_refuse_what_is_not_finite() -> None:
    bad = np.array([0.1, np.nan, np.inf], np.float32)
    with pytest.raises(NotFinite, match="2 of 3 samples"):
        encode_flac(bad, 16_000)
    with pytest.raises(NotFinite, match="opus: audio"):
        Opus(kbps=16).encode(torch.from_numpy(bad)[None])


def test_a_codec_that_diverges_fails_its_rows_and_the_next_one_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out_plots(monkeypatch)
    broken = small_codec("fsq")
    with torch.no_grad():
        next(broken.head.parameters()).fill_(3e38)  # finite, but nothing that comes of it
    save_codec(broken, tmp_path / "broken")
    save_codec(small_codec("fsq"), tmp_path / "whole")
    systems = {name: {"checkpoint": str(tmp_path / name)} for name in ("broken", "whole")}
    data = {"test": {"name": "sample", "part": "test", "limit": 1}}
    path = write_experiment(tmp_path / "x.yaml", data=data, systems=systems, metrics=["stft_distance"], examples=1)
    assert evalkit("run", path, "--out", tmp_path / "run", "--workers", 1).status == 1
    found = rows(tmp_path / "run", "utterances").set_index("system")
    assert found.loc["broken", "status"] == "failed"
    assert found.loc["broken", "detail"].startswith("estimate: NotFinite: decoded audio")
    assert found.loc["whole", "status"] == "ok"


def test_decode_names_the_file_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_codec(small_codec("fsq"), tmp_path / "codec")
    rng = np.random.default_rng(0)
    for name in "abc":
        soundfile.write(tmp_path / f"{name}.wav", 0.1 * rng.standard_normal(16_000), 16_000)
    sources = [tmp_path / f"{name}.wav" for name in "abc"]
    assert evalkit("encode", *sources, "--codec", tmp_path / "codec", "-o", tmp_path / "tokens").status == 0
    files = sorted((tmp_path / "tokens").iterdir())
    decode = Codec.decode
    alone: list[int] = []

    def diverging(self: Codec, codes: torch.Tensor, length: int | None = None) -> torch.Tensor:
        if len(codes) == 1:
            alone.append(1)
        if len(codes) > 1 or len(alone) == 1:  # the whole batch, then the first of its files
            raise NotFinite("decoded audio: NaN")
        return decode(self, codes, length)

    monkeypatch.setattr(Codec, "decode", diverging)
    outcome = evalkit("decode", tmp_path / "tokens", "--codec", tmp_path / "codec", "-o", tmp_path / "out", width=300)
    assert outcome.status == 1
    assert f"{files[0]}: decoded audio" in outcome.out + outcome.err
    assert len(list((tmp_path / "out").iterdir())) == 2


class Unchecked(NullBottleneck):
    """As somebody else would write it: any code is taken."""

    codebook_sizes = (2, 2)

    def encode(self, latents: torch.Tensor) -> torch.Tensor:
        return (latents[:, :2] > 0).long()

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        return codes.float().repeat(1, self.dim // 2, 1)


def test_codes_of_anybodys_bottleneck_are_looked_at() -> None:
    config = codec_config("tiny", **TINY["backbone"]["changes"])
    codec = Codec(config, Unchecked(config.dimension)).eval()
    codes = codec.encode(0.1 * torch.randn(1, 6400))
    assert codec.decode(codes).isfinite().all()
    codes[0, 1, 3] = 2
    with pytest.raises(IndexError, match="of quantizer 1, whose codebook has 2"):
        codec.decode(codes)


def test_a_quantizer_left_out_in_training_decodes() -> None:
    bottleneck = small_codec("rvq").bottleneck
    codes = torch.tensor([[[3], [-1]]])
    assert bottleneck.decode(codes).isfinite().all()
    for code in (-2, 8):
        with pytest.raises(IndexError, match=r"outside -1\.\.7"):
            bottleneck.decode(codes.index_fill(1, torch.tensor([1]), code))


@pytest.mark.parametrize("value", [1e30, 1000.0, -50.0])
def test_a_sample_beyond_the_peak_is_not_coded(value: float) -> None:
    codec = small_codec("fsq")
    audio = 0.1 * torch.randn(1, 6400)
    audio[0, 99] = value
    for encode in (codec.encode, lambda audio: encode_blocks(codec, [audio]), Opus(12).encode):
        with pytest.raises(ValueError, match=r"audio has a peak of .*, at most 10 allowed"):
            encode(audio)
    with pytest.raises(ValueError, match=r"float64, expected torch\.float32"):
        encode_blocks(codec, [torch.zeros(1, 6400, dtype=torch.float64)])


def test_weights_of_another_type_decode_nothing() -> None:
    codec = small_codec("q2d2")
    codes = codec.encode(torch.zeros(1, 6400))
    with pytest.raises(ValueError, match=r"weights are torch\.bfloat16"):
        codec.bfloat16().decode(codes)


def test_what_an_earlier_version_scored_is_not_taken_from_the_cache(tmp_path: Path) -> None:
    signal = (0.1 * np.random.default_rng(0).standard_normal(16_000)).astype(np.float32)
    spike = signal.copy()
    spike[99] = 1e30
    with closing(Cache(tmp_path)) as cache:
        scorer = PairScorer(Pair("u", signal, 16_000, spike, 16_000), get_protocol("strict"), cache)
        metric = load_metric("stft_distance")
        cache.put(scorer._key(metric), {"value": 3e29, "detail": "", "seconds": 1.0})
        assert scorer.cached(["stft_distance"]) == {}
        assert scorer.score("stft_distance").status == "failed"


def test_speed_of_a_codec_that_fails_on_its_clip_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(self: CodecSystem, clip: np.ndarray, rate: int) -> torch.Tensor:
        raise NotFinite("decoded audio: 1 of 2 values are NaN or infinite")

    system = CodecSystem.of_whole("x", "x", {}, Halved(), torch.device("cpu"))
    monkeypatch.setattr(CodecSystem, "prepare", diverge)
    monkeypatch.setattr(runner, "_clip", lambda utterances, seconds: (np.ones(1600, np.float32), 16_000))
    plan = SimpleNamespace(experiment=SimpleNamespace(speed=SpeedSection()), test_utterances=())
    store = SimpleNamespace(speed=lambda name, key: None)
    assert runner._measure_speed(plan, store, system) is None  # type: ignore[arg-type]


def test_no_option_of_a_codec_reaches_the_builder() -> None:
    for option in ({"trust_code": True}, {"weights_root": "."}):
        with pytest.raises(CodecError, match="has no option"):
            build_codec("opus", **option, kbps=12)  # type: ignore[arg-type]
