"""How signals are brought to a metric: a protocol is data, and it is written beside every score.

Two are known. `paper` is the published evaluation (scripts of WavTokenizer and Q2D2) without its traps: signals as the
16-bit files they were written to, PESQ, UTMOS and pitch at 16 kHz, STOI at the stored rate, cropped to the shorter.
`strict` is the same on signals in float, and looks for differences in length and for delay. Both resample alike.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from q2d2.errors import UserError
from q2d2.rates import check_rates

# Systems of which it is known how they score; the first is the references themselves.
GROUND_TRUTH = "ground-truth"
KNOWN_ANSWERS = (GROUND_TRUTH, "mulaw-8bit", "noise-10db")


class ProtocolError(UserError, ValueError):
    """No such protocol; the message lists those there are."""


@dataclass(frozen=True)
class Resampler:
    """Band-limited resampling by torchaudio.functional.resample.

    Attributes:
        lowpass_filter_width: zero crossings of the sinc kernel on each side.
        rolloff: cutoff as a fraction of the lower Nyquist frequency.
        method: torchaudio's name of the window.
    """

    lowpass_filter_width: int
    rolloff: float
    method: str

    def __call__(self, signal: NDArray[np.float32], rate: int, target: int) -> NDArray[np.float32]:
        """`signal` (samples,) from `rate` to `target` Hz: (ceil(samples * target / rate),); untouched if equal.

        Raises:
            RateError: a rate is not positive, or the two have too little in common.
        """
        if rate == target:
            return signal
        check_rates(rate, target, self.lowpass_filter_width, self.rolloff)
        import torch
        import torchaudio.functional

        resampled = torchaudio.functional.resample(
            torch.from_numpy(np.array(signal, dtype=np.float32)),
            rate,
            target,
            lowpass_filter_width=self.lowpass_filter_width,
            rolloff=self.rolloff,
            resampling_method=self.method,
        )
        return np.asarray(resampled.numpy(), dtype=np.float32)

    def __str__(self) -> str:
        return f"torchaudio {self.method} width {self.lowpass_filter_width} rolloff {self.rolloff}"


@dataclass(frozen=True)
class Protocol:
    """What is done to a pair before a metric sees it. Rates are the metrics' own (`Metric.sample_rate`).

    Attributes:
        name: as on the command line.
        signals: "float", as they are; "pcm16", rounded and clipped to 16 bits, as in a file.
        crop: "shorter": both begin at their first sample and end with the shorter.
        checked: whether a difference in length of more than `hop_seconds` and a delay are looked for and reported.
        aligned: whether a delay that is found is compensated.
        hop_seconds: the longest difference in length that is not worth a word: the pitch tracker's step, the
            shortest step of any metric.
        max_delay_seconds: delays are looked for up to this much, either way.
        max_mismatch: the part of the longer signal that may be missing from the shorter; beyond it (and 0.1 s) the
            pair is refused, since that is a wrong file or a wrong sample rate.
        resampler: of all metrics.
        version: of the code that does it (pair.py and delay.py beside it): raised when equal settings may give
            other signals or notes.
    """

    name: str
    signals: Literal["float", "pcm16"]
    checked: bool
    aligned: bool = False
    crop: Literal["shorter"] = "shorter"
    hop_seconds: float = 0.01
    max_delay_seconds: float = 0.05
    max_mismatch: float = 0.1
    # torchaudio's defaults, written out so that a new release cannot change scores; published scripts use them.
    resampler: Resampler = Resampler(lowpass_filter_width=6, rolloff=0.99, method="sinc_interp_hann")
    version: int = 1

    @property
    def label(self) -> str:
        """As in rows: "strict", "paper", "strict+align"."""
        return f"{self.name}+align" if self.aligned else self.name

    @property
    def digest(self) -> str:
        """Of all settings: scores with different ones are different scores."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    def describe(self, metrics: Mapping[str, tuple[int | None, str]]) -> dict[str, Any]:
        """All settings in plain values, for run.json; `metrics` maps each to its rate in Hz and its version."""
        rates = {name: rate or "the estimate's own" for name, (rate, _) in metrics.items()}
        return asdict(self) | {"rates": rates, "versions": {name: version for name, (_, version) in metrics.items()}}


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("strict", signals="float", checked=True),
        Protocol("paper", signals="pcm16", checked=False),
    )
}


def get_protocol(name: str, align: bool = False) -> Protocol:
    """The protocol called `name`, compensating delays if `align`.

    Raises:
        ProtocolError: no such protocol.
    """
    if name not in PROTOCOLS:
        raise ProtocolError(f"unknown protocol {name!r}; known: {', '.join(PROTOCOLS)}")
    return replace(PROTOCOLS[name], aligned=align)
