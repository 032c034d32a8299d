"""DNSMOS and Distill-MOS: equal to the packages whose networks they run, on any length, and quiet about it."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from evalkit.metrics import Unavailable, Unscorable, dnsmos, load_metric
from evalkit.metrics.distillmos import DistillMos
from evalkit.metrics.dnsmos import DnsmosOvrl, DnsmosP808

RATE = 16_000
NOTHING = np.empty(0, np.float32)
SHORT = 1.13  # seconds; eight times that is one segment of DNSMOS, while 1 s makes seven


def babble(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise with more low than high frequencies, in syllables; peak 0.5."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(round(seconds * RATE))
    noise = np.convolve(noise, 0.8 ** np.arange(30), "same") * np.sin(2 * np.pi * 2 * np.arange(noise.size) / RATE) ** 2
    return (0.5 * noise / np.abs(noise).max()).astype(np.float32)


def dnsmos_scores(signal: np.ndarray) -> dict[str, float]:
    metrics = DnsmosP808(), DnsmosOvrl()
    analysed = metrics[0].analysis(signal, RATE)
    return {metric.name: metric.compare({}, analysed) for metric in metrics}


class TestDnsmos:
    def test_scores_are_the_packages(self) -> None:
        from speechmos import dnsmos as package

        signal = babble(9.2)
        expected = package.run(signal, RATE)
        scores = dnsmos_scores(signal)
        assert scores["dnsmos_p808"] == pytest.approx(float(expected["p808_mos"]), abs=1e-5)
        assert scores["dnsmos_ovrl"] == pytest.approx(float(expected["ovrl_mos"]), abs=1e-5)

    @pytest.mark.parametrize("seconds", [0.3, 3.275, 9.01, 9.99, 10.02, 15.3, 17.1, 20.5, 26.0, 34.96])
    def test_networks_get_what_the_package_gives_them(self, seconds: float) -> None:
        """Repetition, steps and dropped segments, for any length; the package runs with networks that write down."""
        from speechmos.dnsmos import DNSMOS

        class Recorder:
            def __init__(self, answer: np.ndarray) -> None:
                self.inputs: list[np.ndarray] = []
                self.answer = answer

            def run(self, _: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
                self.inputs.append(inputs["input_1"][0])
                return [self.answer]

        package = DNSMOS.__new__(DNSMOS)
        package.onnx_sess, package.p808_onnx_sess = Recorder(np.ones((1, 3))), Recorder(np.ones((1, 1)))
        package(babble(seconds), RATE, False)
        ours = dnsmos._segments(babble(seconds))
        assert len(ours) == len(package.onnx_sess.inputs)
        for mine, theirs, mel in zip(ours, package.onnx_sess.inputs, package.p808_onnx_sess.inputs, strict=True):
            np.testing.assert_array_equal(mine, theirs)
            if seconds < 10:
                np.testing.assert_allclose(dnsmos._log_mel(mine[: -dnsmos.HOP]), mel, atol=1e-5)

    def test_both_share_one_analysis(self) -> None:
        assert load_metric("dnsmos_p808").analysis is load_metric("dnsmos_ovrl").analysis  # type: ignore[attr-defined]

    def test_samples_beyond_full_scale_count_as_clipped(self) -> None:
        signal = babble(SHORT)
        signal[3000:3010] *= 20
        assert dnsmos_scores(signal) == dnsmos_scores(signal.clip(-1, 1))

    def test_one_thread(self) -> None:
        analysis = DnsmosP808().analysis
        for path in analysis._paths.values():
            options = dnsmos._session(path).get_session_options()
            assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)

    def test_all_samples_are_looked_at(self) -> None:
        assert DnsmosP808().analysis.span(12_345) == 12_345


class TestDistillMos:
    @pytest.mark.parametrize("seconds", [1.0, 9.0])
    def test_scores_are_the_packages(self, seconds: float, capsys: pytest.CaptureFixture[str]) -> None:
        signal = babble(seconds)
        score = DistillMos().score(NOTHING, signal, RATE)
        assert capsys.readouterr().out == ""
        assert score == pytest.approx(_package_distillmos(signal), abs=1e-5)

    def test_gain_does_not_matter(self) -> None:
        signal = babble(1.0)
        assert DistillMos().score(NOTHING, 0.05 * signal, RATE) == pytest.approx(
            DistillMos().score(NOTHING, signal, RATE), abs=1e-4
        )

    def test_the_device_is_the_one_asked_for(self) -> None:
        metric = DistillMos()
        metric.to("no-such-device")
        with pytest.raises(RuntimeError, match="no-such-device"):
            metric.score(NOTHING, babble(0.5), RATE)


def _package_distillmos(signal: np.ndarray) -> float:
    import torch
    from distillmos import ConvTransformerSQAModel

    with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        return float(ConvTransformerSQAModel().eval()(torch.from_numpy(signal)[None]))


def score_of(name: str, signal: np.ndarray, rate: int = RATE) -> float:
    """By a predictor of either kind."""
    metric: Any = load_metric(name)
    if hasattr(metric, "analysis"):
        return float(metric.compare({}, metric.analysis(signal, rate)))
    return float(metric.score(NOTHING, signal, rate))


@pytest.mark.parametrize("name", ["dnsmos_p808", "dnsmos_ovrl", "distillmos"])
class TestAll:
    def test_equal_input_gives_equal_output(self, name: str) -> None:
        assert score_of(name, babble(SHORT)) == score_of(name, babble(SHORT))

    def test_what_cannot_be_scored(self, name: str) -> None:
        for signal, rate, reason in (
            (np.zeros(RATE, np.float32), RATE, "estimate is silent"),
            (babble(1.0) * np.float32(np.nan), RATE, "estimate has 16000 NaN"),
            (babble(1.0), 24_000, f"{name.split('_')[0]} needs 16000 Hz, got 24000 Hz"),
        ):
            with pytest.raises(Unscorable, match=reason):
                score_of(name, signal, rate)

    def test_the_caveat_is_one_sentence(self, name: str) -> None:
        caveat = load_metric(name).caveat  # type: ignore[attr-defined]
        assert "ground truth" in caveat
        assert caveat.count(".") == 1

    def test_the_version_names_package_and_weights(self, name: str) -> None:
        package, number, _, digest = load_metric(name).version.split()
        assert package in ("speechmos", "distillmos")
        assert number[0].isdigit()
        assert len(digest) == 12

    def test_real_speech_beats_the_same_in_noise(self, name: str, speech_root: Path) -> None:
        path = next(iter(sorted(speech_root.glob("LibriSpeech/test-clean/**/*.flac"))))
        clean, rate = soundfile.read(path, dtype="float32", frames=int(4.6 * RATE))
        noise = np.random.default_rng(0).standard_normal(clean.size) * clean.std()
        assert score_of(name, clean, rate) > score_of(name, (clean + noise).astype(np.float32), rate) + 0.5


def test_a_missing_package_is_unavailable_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata as installed

    def missing(name: str) -> str:
        raise installed.PackageNotFoundError(name)

    monkeypatch.setattr(installed, "version", missing)
    dnsmos._analysis.cache_clear()
    for metric, package in ((DnsmosP808, "onnxruntime"), (DistillMos, "distillmos")):
        with pytest.raises(Unavailable, match=rf"'{package}' is missing: pip install 'codec-.*\[predictors\]'"):
            metric()
    dnsmos._analysis.cache_clear()


def test_missing_models_are_unavailable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(dnsmos, "MODELS", {"p808": "gone.onnx"})
    with pytest.raises(Unavailable, match=r"gone\.onnx: pip install"):
        dnsmos.DnsmosAnalysis()
    monkeypatch.setattr("evalkit.metrics.distillmos._weights", lambda: tmp_path / "gone.pt")
    with pytest.raises(Unavailable, match=r"gone\.pt: pip install"):
        DistillMos()


def test_building_them_loads_no_heavy_library() -> None:
    program = (
        "import sys; from evalkit.metrics import load_metric\n"
        "for name in ('dnsmos_p808', 'dnsmos_ovrl', 'distillmos'): load_metric(name)\n"
        "print([name for name in ('torch', 'onnxruntime', 'librosa', 'scipy', 'speechmos') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"
