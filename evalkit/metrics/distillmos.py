"""Distill-MOS: what a network predicts that listeners would say of `estimate`, which it hears alone, without reference.

Definition: Stahl, Gamper, "Distillation and Pruning for Scalable Self-Supervised Representation-Based Speech Quality
Assessment", ICASSP 2025: a small network trained to repeat the opinions of one on top of wav2vec 2.0 XLS-R.
Implementation: Microsoft's package `distillmos` (network and weights, version 7).
Rate: 16 kHz. Range: 1 to 5 (a sigmoid); higher is better.
Segments, as in the package: 7.68 s, spread evenly over the clip and at most 1 s apart; the score is their mean. Shorter
clips are padded with silence.
Scale: each segment is divided by its peak; gain does not matter, and nothing is clipped.
Limits: it repeats another network's opinions, and cannot know what was said, or by whom. docs/metrics.md says which
codecs it puts above the ground truth.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.metrics.dnsmos import CAVEAT
from evalkit.metrics.signals import Unavailable, check_rate, check_signal, library_version

WEIGHTS = Path("weights") / "distill_mos_v7.pt"
SEGMENT = 122_880
MAX_HOP = 16_000
# Segments that go through the network at once: more are no faster on a CPU (measured), and take more memory.
BATCH = 2


class DistillMos:
    """Distill-MOS at 16 kHz (see the module's text for definition, range and limits)."""

    name: str = "distillmos"
    label: str = "Distill-MOS"
    unit: str = "MOS"
    higher_is_better: bool = True
    needs_reference: bool = False
    sample_rate: int | None = 16_000
    decimals: int = 2
    threshold = 0.05
    packages = ("distillmos",)
    bounds: tuple[float, float] = (1.0, 5.0)
    caveat: str = CAVEAT

    def __init__(self) -> None:
        version = library_version("distillmos", "predictors")
        self._weights = _weights()
        try:
            digest = hashlib.sha256(self._weights.read_bytes()).hexdigest()
        except OSError as error:
            raise Unavailable(
                f"distillmos {version} has no {self._weights}: pip install --force-reinstall distillmos"
            ) from error
        self.version = f"distillmos {version} weights {digest[:12]}"
        self._device = "cpu"

    def to(self, device: str) -> None:
        """Have the network run on `device` ("cpu", "cuda", ...)."""
        self._device = device

    def score(self, reference: NDArray[np.float32], estimate: NDArray[np.float32], sample_rate: int) -> float:
        """Predicted opinion of `estimate` (samples,), float, `sample_rate` 16000 Hz; `reference` is not looked at.

        Raises:
            Unscorable: another rate, a silent or non-finite signal.
        """
        import torch

        check_rate(self, sample_rate)
        check_signal(estimate, "estimate")
        network = _network(self._weights, self._device)
        segments = torch.from_numpy(_segments(estimate))
        with torch.inference_mode():
            scores = [network(batch.to(self._device)).cpu() for batch in segments.split(BATCH)]
        return float(torch.cat(scores).double().mean())


def _weights() -> Path:
    """The file of weights in the installed package, found without importing it (which imports torch)."""
    found = importlib.util.find_spec("distillmos")
    if found is None or not found.submodule_search_locations:
        raise Unavailable("the library 'distillmos' is missing: pip install 'codec-bottlenecks[predictors]'")
    return Path(found.submodule_search_locations[0]) / WEIGHTS


@functools.cache
def _network(weights: Path, device: str) -> Any:
    """The network on `device`, loaded once per process; the package's own loading prints."""
    from distillmos import ConvTransformerSQAModel

    from q2d2.tensors import listed, tensor_faults
    from q2d2.torch_files import TorchFileError, read_torch

    network = ConvTransformerSQAModel(load_weights=False, segmenting_in_forward=False)
    try:
        state = read_torch(weights)["model"]
    except (TorchFileError, LookupError, TypeError) as error:
        raise Unavailable(f"{weights} holds no weights of distillmos: install the package again") from error
    if faults := tensor_faults(state, network.state_dict()):
        raise Unavailable(f"{weights}: {listed(faults)}: install the package distillmos again")
    network.load_state_dict(state)
    return network.eval().to(device)


def _segments(signal: NDArray[np.float32]) -> NDArray[np.float32]:
    """The segments (segments, SEGMENT) of `signal` (samples,) that the package scores."""
    signal = np.pad(signal.astype(np.float32), (0, max(0, SEGMENT - signal.size)))
    spare = signal.size - SEGMENT
    starts = np.linspace(0, 1, math.ceil(spare / MAX_HOP) + 1) * spare
    return np.stack([signal[int(start) :][:SEGMENT] for start in starts])
