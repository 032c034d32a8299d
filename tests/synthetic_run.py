"""A made-up run of 11 systems and 60 utterances, some of them failed, and what makes its figures legible."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

FRAME_RATE = 50.0
NUM_UTTERANCES = 60
ANCHOR_SCORES = {"ground-truth": (4.64, 1.0), "mulaw-8bit": (4.21, 0.998), "noise-10db": (1.38, 0.92)}
CODECS = {
    "unquantized": (None, [], 2.31, 0.91),
    "rectangular": ({"name": "q2d2", "tiling": "rectangular", "levels": [9, 9, 9, 9, 9, 9]}, [81] * 3, 1.82, 0.86),
    "rhombic": ({"name": "q2d2", "tiling": "rhombic", "levels": [7, 7, 7, 7, 7, 7]}, [85] * 3, 1.88, 0.868),
    "hexagonal": ({"name": "q2d2", "tiling": "hexagonal", "levels": [9, 9, 9, 9, 9, 9]}, [81] * 3, 1.86, 0.867),
    "hexagonal-regular": (
        {"name": "q2d2", "tiling": "hexagonal-regular", "levels": [9, 9, 9, 9, 9, 9]},
        [81] * 3,
        1.87,
        0.866,
    ),
    "fsq": ({"name": "fsq", "levels": [9] * 6}, [9] * 6, 1.80, 0.859),
    "vq": ({"name": "vq", "size": 4096}, [4096], 1.55, 0.81),
    "rvq": ({"name": "rvq", "sizes": [512, 1024]}, [512, 1024], 1.84, 0.863),
}


def make_systems() -> pd.DataFrame:
    rows = [
        {"system": name, "kind": "anchor", "bottleneck": None, "bitrate": 128_000 if name == "mulaw-8bit" else None}
        for name in ANCHOR_SCORES
    ]
    for name, (spec, sizes, _, _) in CODECS.items():
        bits = sum(math.log2(size) for size in sizes)
        entropy = bits * (0.7 if name == "vq" else 0.95) if sizes else None
        rows.append(
            {
                "system": name,
                "kind": "codec",
                "bottleneck": json.dumps(spec or {"name": "unquantized"}),
                "bits_per_frame": bits or None,
                "bitrate": bits * FRAME_RATE or None,
                "tokens_per_second": len(sizes) * FRAME_RATE or None,
                "utilization": 0.9 if sizes else None,
                "normalized_entropy": 0.95 if sizes else None,
                "entropy_bitrate": None if entropy is None else entropy * FRAME_RATE,
                "rtf_encode": 0.012,
                "rtf_decode": 0.02,
                "rtf_detail": "batch 1",
                "parameters": 4.1e6,
            }
        )
    return pd.DataFrame(rows)


# metric -> (worst, best, noise of an utterance): quality q in 0..1 of a system lies between them
SCALES = {
    "utmos": (1.3, 4.1, 0.2),
    "pesq": (1.1, 4.64, 0.25),
    "stoi": (0.75, 1.0, 0.03),
    "estoi": (0.6, 1.0, 0.04),
    "vuv_f1": (0.8, 1.0, 0.03),
    "periodicity_rmse": (0.4, 0.0, 0.04),
    "pitch_rmse": (90.0, 0.0, 9.0),
    "dnsmos_p808": (2.6, 3.9, 0.15),
    "dnsmos_ovrl": (2.2, 3.3, 0.15),
    "distillmos": (2.0, 4.5, 0.2),
    "mel_distance": (1.6, 0.0, 0.1),
    "stft_distance": (3.0, 0.0, 0.2),
    "si_sdr": (-6.0, 40.0, 1.5),
    "si_sdr_aligned": (-2.0, 60.0, 1.5),
}
UNAVAILABLE = "weights are missing: run evalkit fetch"


def make_utterances(datasets: tuple[str, ...] = ("librispeech/test-clean",)) -> pd.DataFrame:
    """PESQ and STOI, three of hexagonal's PESQ failed."""
    rng = np.random.default_rng(1)
    means = ANCHOR_SCORES | {name: (pesq, stoi) for name, (_, _, pesq, stoi) in CODECS.items()}
    rows = []
    for dataset, (system, (pesq, stoi)), number in itertools.product(datasets, means.items(), range(NUM_UTTERANCES)):
        for metric, mean, width in (("pesq", pesq, 0.25), ("stoi", stoi, 0.03)):
            failed = system == "hexagonal" and metric == "pesq" and number < 3
            spread_ = 0.0 if system == "ground-truth" else width
            top = 4.64 if metric == "pesq" else 1.0
            value = None if failed else min(top, mean + spread_ * rng.standard_normal())
            detail = "no utterance detected" if failed else ""
            rows.append(make_row(system, dataset, number, metric, value, "failed" if failed else "ok", detail))
    return pd.DataFrame(rows).astype({"value": "float64"})


def make_all_metrics(unavailable: tuple[str, ...] = ("utmos",), systems: tuple[str, ...] | None = None) -> pd.DataFrame:
    """Every metric of `SCALES`: utterances differ in difficulty, which all systems share; some metrics unavailable."""
    rng = np.random.default_rng(5)
    means = {name: pesq for name, (pesq, _) in ANCHOR_SCORES.items()}
    means |= {name: pesq for name, (_, _, pesq, _) in CODECS.items()}
    difficulty = rng.normal(size=NUM_UTTERANCES)
    rows = []
    for system, (metric, (worst, best, noise)) in itertools.product(systems or means, SCALES.items()):
        quality = (means[system] - 1.1) / 3.54
        for number in range(NUM_UTTERANCES):
            shared = 0.0 if system == "ground-truth" else noise * difficulty[number]
            value = worst + (best - worst) * quality + shared + 0.3 * noise * rng.standard_normal() * (shared != 0)
            lost = metric in unavailable
            status, detail = ("unavailable", UNAVAILABLE) if lost else ("ok", "")
            rows.append(
                make_row(system, "librispeech/test-clean", number, metric, None if lost else value, status, detail)
            )
    return pd.DataFrame(rows).astype({"value": "float64"})


def make_row(
    system: str, dataset: str, number: int, metric: str, value: float | None, status: str, detail: str
) -> dict[str, object]:
    return {
        "system": system,
        "dataset": dataset,
        "utterance": f"u{number}",
        "speaker": f"s{number % 12}",
        "metric": metric,
        "value": value,
        "status": status,
        "detail": detail,
        "seconds": 0.1,
        "protocol": "strict",
        "version": "1",
    }


def make_folders(names: tuple[str, ...]) -> pd.DataFrame:
    """Systems as `evalkit score` knows them: folders of decoded audio, nothing else."""
    nothing = dict.fromkeys(make_systems().columns)
    rows = [nothing | {"system": name, "kind": "folder"} for name in names]
    return pd.DataFrame(rows).astype({"bitrate": "float64", "rtf_encode": "float64"})


def make_codes() -> pd.DataFrame:
    rng = np.random.default_rng(2)
    frames = []
    for name, (_, sizes, _, _) in CODECS.items():
        for quantizer, size in enumerate(sizes):
            weights = rng.dirichlet(np.full(size, 0.15 if name == "vq" else 1.0))
            counts = rng.multinomial(20_000, weights)
            counts[size - 1] = 0
            frames.append(
                pd.DataFrame({"system": name, "quantizer": quantizer, "code": np.arange(size), "count": counts})
            )
    return pd.concat(frames, ignore_index=True)


def make_training() -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(3)
    steps = np.arange(0, 2000, 10)
    training = {}
    for index, name in enumerate(CODECS):
        decay = (1.0 + 0.06 * index) * (0.6 + 2.0 * np.exp(-steps / 300))
        log = pd.DataFrame({"step": steps})
        for loss, weight in (("mel", 1.5), ("stft", 0.8), ("waveform", 0.1), ("complex_stft", 0.3)):
            log[loss] = weight * decay * rng.lognormal(0, 0.1, len(steps))
        if name in ("vq", "rvq"):
            log["commitment"] = 0.05 * decay
        log["total"] = log.drop(columns="step").sum(axis=1)
        log["learning_rate"] = 2e-4 * 0.5 * (1 + np.cos(np.pi * steps / 2000))
        log["seconds"] = steps * 0.15
        training[name] = log
    return training


def make_signals(names: list[str]) -> dict[str, tuple[np.ndarray, int]]:
    rng = np.random.default_rng(4)
    signals = {}
    for index, name in enumerate(names):
        rate = 24000 if name == "fsq" else 16000
        time = np.arange(int(2.2 * rate)) / rate
        pitch = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 0.7 * time)) / rate
        voiced = sum(np.sin(k * pitch) / k for k in range(1, 25)) * (np.sin(2 * np.pi * 1.5 * time) > -0.3)
        audio = 0.2 * voiced + 0.001 * (index + 1) * rng.standard_normal(len(time))
        signals[name] = (audio.astype(np.float32), rate)
    return signals


def drawn_texts(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, object]]:
    """(text, box in pixels) of everything written when the figure is drawn: ticks out of range are not."""
    written: dict[int, Text] = {}
    original = Text.draw

    def record(self: Text, renderer: object) -> None:
        if self.get_visible() and self.get_text().strip():
            written[id(self)] = self
        original(self, renderer)

    with monkeypatch.context() as patch:
        patch.setattr(Text, "draw", record)
        figure.draw_without_rendering()
    return [(text.get_text(), text.get_window_extent()) for text in written.values()]


def assert_legible(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No text covers another or leaves the page, none is tiny; returns the texts."""
    texts = drawn_texts(figure, monkeypatch)
    assert texts
    width, height = figure.canvas.get_width_height()
    for text, box in texts:
        assert box.x0 >= -1, f"{text!r} is cut off"
        assert box.y0 >= -1, f"{text!r} is cut off"
        assert box.x1 <= width + 1, f"{text!r} is cut off"
        assert box.y1 <= height + 1, f"{text!r} is cut off"
    for (first, a), (second, b) in itertools.combinations(texts, 2):
        apart = a.x1 < b.x0 + 1 or b.x1 < a.x0 + 1 or a.y1 < b.y0 + 1 or b.y1 < a.y0 + 1
        assert apart, f"{first!r} and {second!r} overlap"
    assert min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text()) >= 7
    return [text for text, _ in texts]
