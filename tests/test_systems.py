"""Known-answer systems do exactly what they say; a codec as a system keeps length, rate and codes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evalkit.datasets import load_corpus, read_audio
from evalkit.run.systems import CodecSystem, GroundTruth, MuLaw, WhiteNoise, anchors
from evalkit.scoring.pair import Pair
from evalkit.scoring.protocol import PROTOCOLS
from q2d2.bottleneck import build_bottleneck
from q2d2.codec import Codec, codec_config
from tests.one_pair import score_pair

RATE = 16_000


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return read_audio(load_corpus("sample", "test").utterances[0].path)[0]


def tiny_system(name: str = "q2d2", **options: object) -> CodecSystem:
    torch.manual_seed(0)
    config = codec_config("tiny", num_filters=2, dimension=8, decoder_dim=64, decoder_intermediate=64, decoder_layers=1)
    options = options or ({"tiling": "rhombic", "levels": [5, 5]} if name == "q2d2" else {})
    return CodecSystem.of_ours(
        name, Codec(config, build_bottleneck(name, config.dimension, **options)), torch.device("cpu"), "sha"
    )


def test_ground_truth_is_the_original(speech: np.ndarray) -> None:
    made = GroundTruth().reconstruct(speech, RATE, "u")
    assert np.array_equal(made.audio, speech)
    assert made.sample_rate == RATE


class TestMuLaw:
    def test_levels_are_256_and_symmetric(self) -> None:
        ramp = np.linspace(-1, 1, 100_001, dtype=np.float32)
        decoded = MuLaw(RATE).reconstruct(ramp, RATE, "u").audio
        levels = np.unique(decoded)
        assert len(levels) == 256
        assert np.allclose(levels, -levels[::-1], atol=1e-6)
        assert (levels[0], levels[-1]) == (-1, 1)

    def test_error_is_at_most_half_a_step_of_the_companded_scale(self) -> None:
        ramp = np.linspace(-1, 1, 10_001)
        decoded = MuLaw(RATE).reconstruct(ramp.astype(np.float32), RATE, "u").audio

        def compand(x: np.ndarray) -> np.ndarray:
            return np.sign(x) * np.log1p(255 * np.abs(x)) / np.log(256)

        assert np.abs(compand(decoded.astype(np.float64)) - compand(ramp)).max() <= 0.5 / 127.5 + 1e-5

    def test_signal_to_noise_ratio_is_that_of_8_bit_companding(self, speech: np.ndarray) -> None:
        noise = MuLaw(RATE).reconstruct(speech, RATE, "u").audio - speech
        assert 33 < 10 * np.log10(np.mean(speech**2) / np.mean(noise**2)) < 40

    def test_beyond_full_scale_is_clipped(self) -> None:
        loud = np.array([-7.0, 7.0], np.float32)
        assert MuLaw(RATE).reconstruct(loud, RATE, "u").audio.tolist() == [-1, 1]

    def test_rate_is_unknown_where_the_test_set_has_several(self) -> None:
        assert MuLaw(None).frame_rate is None
        assert MuLaw(RATE).frame_rate == RATE


class TestWhiteNoise:
    def test_ratio_is_exact_and_the_noise_white(self, speech: np.ndarray) -> None:
        noise = WhiteNoise().reconstruct(speech, RATE, "u").audio.astype(np.float64) - speech
        assert 10 * np.log10(np.mean(speech.astype(np.float64) ** 2) / np.mean(noise**2)) == pytest.approx(10, abs=1e-3)
        power = np.abs(np.fft.rfft(noise)) ** 2
        low, high = np.array_split(power, 2)
        assert low.mean() == pytest.approx(high.mean(), rel=0.05)

    def test_is_a_function_of_the_signal(self, speech: np.ndarray) -> None:
        once, again = (WhiteNoise().reconstruct(speech, RATE, "u").audio for _ in range(2))
        assert np.array_equal(once, again)
        other = WhiteNoise().reconstruct(speech[::-1].copy(), RATE, "u").audio - speech[::-1]
        assert abs(np.corrcoef(other, once - speech)[0, 1]) < 0.05

    def test_silence_stays_silent(self) -> None:
        assert not WhiteNoise().reconstruct(np.zeros(100, np.float32), RATE, "u").audio.any()


def test_known_answers_score_as_known(speech: np.ndarray) -> None:
    """The harness tests itself: these numbers move only if a metric, resampling or reading of audio is broken."""
    scored = {}
    for system in anchors(RATE):
        made = system.reconstruct(speech, RATE, "u")
        pair = Pair("u", speech, RATE, made.audio, made.sample_rate)
        scores = score_pair(pair, ["pesq", "stoi"], PROTOCOLS["strict"])
        scored[system.name] = [score.value or 0.0 for score in scores]
    assert scored["ground-truth"] == pytest.approx([4.644, 1.0], abs=1e-3)
    pesq, stoi = scored["mulaw-8bit"]
    assert 3.0 < pesq < 4.4
    assert 0.98 < stoi < 1
    pesq, stoi = scored["noise-10db"]
    assert 1.0 < pesq < 1.6
    assert 0.7 < stoi < 0.95


class TestCodecSystem:
    def test_gives_the_codecs_own_codes_and_audio(self, speech: np.ndarray) -> None:
        system = tiny_system()
        made = system.reconstruct(speech, RATE, "u")
        signal = torch.from_numpy(speech)[None]
        with torch.inference_mode():
            codes = system.coder.encode(signal)
            audio = system.coder.decode(codes, length=len(speech))
        assert made.codes is not None
        assert np.array_equal(made.codes, codes[0].numpy())
        assert np.array_equal(made.audio, audio[0].numpy())
        assert made.codes.shape == (1, -(-len(speech) // 128))
        assert made.codes.dtype == np.int64

    @pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100])
    @pytest.mark.parametrize("samples", [4_001, 4_410])
    def test_keeps_duration_at_any_rate(self, rate: int, samples: int) -> None:
        audio = np.random.default_rng(0).standard_normal(samples, np.float32)
        made = tiny_system().reconstruct(audio, rate, "u")
        assert made.sample_rate == RATE
        assert made.audio.shape == (-(-samples * RATE // rate),)
        assert made.audio.dtype == np.float32

    def test_without_codes_none_are_given(self, speech: np.ndarray) -> None:
        system = tiny_system("null")
        assert system.codebook_sizes == ()
        assert system.reconstruct(speech, RATE, "u").codes is None

    def test_does_not_depend_on_training_mode_or_thread(self, speech: np.ndarray) -> None:
        from concurrent.futures import ThreadPoolExecutor

        system = tiny_system()
        assert not system.coder.training
        with ThreadPoolExecutor(1) as pool:
            elsewhere = pool.submit(system.reconstruct, speech, RATE, "u").result()
        assert np.array_equal(elsewhere.audio, system.reconstruct(speech, RATE, "u").audio)
        assert not torch.is_inference_mode_enabled()
