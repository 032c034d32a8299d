"""DNSMOS: what a network predicts that listeners would say of `estimate`, which it hears alone, without reference.

`dnsmos_p808`: overall quality by ITU-T P.808. Reddy, Gopal, Cutler, "DNSMOS: A Non-Intrusive Perceptual Objective
Speech Quality Metric to Evaluate Noise Suppressors", ICASSP 2021.
`dnsmos_ovrl`: overall quality (OVRL) by ITU-T P.835. The same, "DNSMOS P.835", ICASSP 2022.
Implementation: networks of Microsoft's package `speechmos` 0.0.1.1 (module `speechmos.dnsmos`; the GitHub project
SpeechMOS predicts UTMOS and is another one), run by onnxruntime on one thread. The package itself is not imported: it
needs librosa and requests, which it does not declare. Scores equal those of its `dnsmos.run`; a test compares them.
Rate: 16 kHz. Range: nominally 1 to 5, in practice about 1 to 4.5; higher is better.
Segments, as in the package: 9.01 s, one each second; scores are means over segments. Shorter clips are repeated, and
the last fraction of a second is not heard. Where the end of a segment is rounded down by one sample (starts at 7 to
23 s), the package drops it, and so do we, since published scores are made that way: of a clip of up to 33 s, nothing
after the first 16 s counts.
Scale: `dnsmos_p808` does not depend on gain, `dnsmos_ovrl` does: quiet recordings score lower. Samples beyond [-1, 1],
which the package refuses, are clipped, as a file would clip them.
Limits: made to rank noise suppressors, not codecs. It cannot know what was said, or by whom. docs/metrics.md
says which codecs it puts above the ground truth.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.metrics import Features
from evalkit.metrics.signals import Unavailable, check_rate, check_signal, library_version

# One sentence for tables.
CAVEAT = (
    "DNSMOS and Distill-MOS never hear the reference and rank some codecs above the ground truth: "
    "they replace neither UTMOS nor a listening test."
)

RATE = 16_000
SEGMENT_SECONDS = 9.01
SEGMENT = int(SEGMENT_SECONDS * RATE)
MODELS = {"p808": "model_v8.onnx", "ovrl": "sig_bak_ovr.onnx"}
# The package's polynomial from the network's OVRL output to the scale of listeners; highest power first.
OVRL_POLYNOMIAL = (-0.06766283, 1.11546468, 0.04602535)
OVRL_OUTPUT = 2  # of SIG, BAK, OVRL

# Input of the P.808 network: librosa's mel spectrogram of the segment without its last 10 ms.
FFT = 321
HOP = 160
NUM_MELS = 120
FLOOR = 1e-10
DYNAMIC_RANGE_DB = 80.0


class DnsmosAnalysis:
    """Both networks' scores of a signal's segments.

    Raises:
        Unavailable: `speechmos` or `onnxruntime` is missing.
    """

    name: str = "dnsmos"
    sample_rate: int | None = RATE

    def __init__(self) -> None:
        library_version("onnxruntime", "predictors")
        version = library_version("speechmos", "predictors")
        found = importlib.util.find_spec("speechmos")
        if found is None or not found.submodule_search_locations:
            raise Unavailable("the library 'speechmos' is missing: pip install 'codec-bottlenecks[predictors]'")
        folder = Path(found.submodule_search_locations[0]) / "dnsmos_models"
        self._paths = {model: folder / file for model, file in MODELS.items()}
        try:
            contents = b"".join(path.read_bytes() for path in self._paths.values())
        except OSError as error:
            raise Unavailable(
                f"speechmos {version} has no {error.filename}: pip install --force-reinstall speechmos==0.0.1.1"
            ) from error
        self.version = f"speechmos {version} models {hashlib.sha256(contents).hexdigest()[:12]}"

    def span(self, samples: int) -> int:
        """All samples are looked at."""
        return samples

    def __call__(self, signal: NDArray[np.float32], sample_rate: int) -> Features:
        """Scores of `signal` (samples,) at 16000 Hz: {"p808": (segments,), "ovrl": (segments,)}, nominally 1 to 5.

        Raises:
            Unscorable: another rate, a silent or non-finite signal.
        """
        check_rate(self, sample_rate)
        check_signal(signal, "estimate")
        scores: dict[str, list[float]] = {model: [] for model in MODELS}
        for segment in _segments(np.clip(signal, -1, 1).astype(np.float32)):
            (outputs,) = _session(self._paths["ovrl"]).run(None, {"input_1": segment[None]})
            scores["ovrl"].append(float(np.polyval(OVRL_POLYNOMIAL, outputs[0, OVRL_OUTPUT])))
            (outputs,) = _session(self._paths["p808"]).run(None, {"input_1": _log_mel(segment[:-HOP])[None]})
            scores["p808"].append(float(outputs[0, 0]))
        return {model: np.array(values) for model, values in scores.items()}


class DnsmosP808:
    """DNSMOS P.808 at 16 kHz (see the module's text for definition, range and limits)."""

    name: str = "dnsmos_p808"
    label: str = "DNSMOS P.808"
    unit: str = "MOS"
    higher_is_better: bool = True
    needs_reference: bool = False
    sample_rate: int | None = RATE
    decimals: int = 2
    threshold = 0.05
    packages = ("onnxruntime", "speechmos")
    caveat: str = CAVEAT

    MODEL = "p808"

    def __init__(self) -> None:
        self.analysis = _analysis()
        self.version = self.analysis.version

    def compare(self, reference: Features, estimate: Features) -> float:
        """Mean score over the estimate's segments; `reference` is empty."""
        return float(np.mean(estimate[self.MODEL]))


class DnsmosOvrl(DnsmosP808):
    """DNSMOS P.835, overall quality, at 16 kHz (see the module's text for definition, range and limits)."""

    name: str = "dnsmos_ovrl"
    label: str = "DNSMOS OVRL"

    MODEL = "ovrl"


@functools.cache
def _analysis() -> DnsmosAnalysis:
    return DnsmosAnalysis()


@functools.cache
def _session(path: Path) -> Any:
    """The network at `path`, loaded once per process, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _segments(signal: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """The stretches of SEGMENT samples of `signal` (samples,) that the package scores."""
    while signal.size < SEGMENT:
        signal = np.concatenate([signal, signal])
    count = int(signal.size // RATE - SEGMENT_SECONDS) + 1
    stretches = [signal[start * RATE : int((start + SEGMENT_SECONDS) * RATE)] for start in range(count)]
    return [stretch for stretch in stretches if stretch.size == SEGMENT]


def _log_mel(signal: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-mel spectrogram (frames, mels) of `signal` (samples,): 1 at 40 dB above the middle of its 80 dB, -1 below."""
    import scipy.fft
    import scipy.signal

    frames = np.lib.stride_tricks.sliding_window_view(np.pad(signal.astype(np.float64), FFT // 2), FFT)[::HOP]
    spectra = scipy.fft.rfft(frames * scipy.signal.get_window("hann", FFT))
    powers = np.maximum(np.square(np.abs(spectra)) @ _mel_filters(), FLOOR)
    levels = 10 * np.log10(powers / powers.max())
    return ((np.maximum(levels, -DYNAMIC_RANGE_DB) + 40) / 40).astype(np.float32)


@functools.cache
def _mel_filters() -> NDArray[np.float64]:
    """Triangles (bins, mels) of equal area on Slaney's mel scale: linear below 1 kHz, logarithmic above."""
    step = 200 / 3  # Hz a mel below 1 kHz
    log_step = np.log(6.4) / 27  # above it, 27 mels are a factor of 6.4
    corner = 1000 / step
    mels = np.linspace(0, corner + np.log(RATE / 2 / 1000) / log_step, NUM_MELS + 2)
    edges = np.where(mels < corner, step * mels, 1000 * np.exp(log_step * (mels - corner)))
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    bins = np.arange(FFT // 2 + 1)[:, None] * RATE / FFT
    triangles = np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle))
    return np.maximum(triangles, 0) * 2 / (high - low)
