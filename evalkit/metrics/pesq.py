"""PESQ, wide band: predicted mean opinion score of `estimate` against `reference`.

Definition: ITU-T P.862 with the wide-band extension and mapping of P.862.2 (input filter, MOS-LQO).
Implementation: the ITU reference code as wrapped by the `pesq` package (mode "wb").
Rate: 16 kHz. Range: about 1.0 (worst) to 4.644 (identical signals); higher is better.
Scale: `pesq` divides both signals by their common peak, in float, and the reference code then equalizes each one's
level: gain does not matter, nothing is rounded to 16 bits, values beyond [-1, 1] are not clipped.
Time: constant and piecewise delays are compensated inside.
Limits:
- The code keeps 50 utterances (stretches of speech 0.2 s or longer, at least 0.2 s apart) in fixed arrays and writes
  past them: 60 bursts in 72 s end the process, 51 return a number computed from overwritten memory. Below 20 s this
  cannot happen; in longer clips they are counted first (evalkit/metrics/pesq_bursts.py) and a pair at risk is refused,
  as is all beyond 60 s. P.862.3 recommends clips of 8 to 30 s.
- Made for telephone codecs: artefacts of generative decoders can be over-penalized, and it hears nothing above 8 kHz.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from evalkit.metrics.pesq_bursts import HELD, MARGIN, SHORTEST_SECONDS, count_bursts
from evalkit.metrics.signals import Unscorable, check_pair, check_rate, library_version

MIN_SECONDS = 0.25  # the reference code's own limit
MAX_SECONDS = 60.0


class Pesq:
    """Wide-band PESQ at 16 kHz (see the module's text for definition, range and limits)."""

    name: str = "pesq"
    label: str = "PESQ"
    unit: str = "MOS-LQO"
    higher_is_better: bool = True
    needs_reference: bool = True
    sample_rate: int | None = 16000
    decimals: int = 2
    threshold = 0.05
    headline = True
    packages = ("pesq",)
    bounds: tuple[float, float] = (0.99, 4.65)

    MODE: ClassVar[str] = "wb"

    def __init__(self) -> None:
        self.version = f"pesq {library_version('pesq')} {self.MODE}"

    def score(self, reference: NDArray[np.float32], estimate: NDArray[np.float32], sample_rate: int) -> float:
        """PESQ of `estimate` (samples,) against `reference` (samples,), float, `sample_rate` 16000 Hz.

        Raises:
            Unscorable: no speech found, a silent or non-finite signal, shorter than 0.25 s or longer than 60 s, more
                bursts of speech than the reference code can hold, or whatever else it refuses.
        """
        from pesq import PesqError, pesq

        check_rate(self, sample_rate)
        check_pair(reference, estimate, sample_rate, min_seconds=MIN_SECONDS, max_seconds=MAX_SECONDS)
        if reference.size >= SHORTEST_SECONDS * sample_rate and (bursts := count_bursts(reference)) > HELD - MARGIN:
            raise Unscorable(
                f"PESQ's package holds at most {HELD} bursts of speech, and writes over other memory beyond them: the "
                f"reference has about {bursts} in {reference.size / sample_rate:.1f} s; cut it into shorter clips"
            )
        try:
            return float(pesq(sample_rate, reference, estimate, self.MODE, on_error=PesqError.RAISE_EXCEPTION))
        except PesqError as error:
            # The library raises with bytes.
            reason = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
            raise Unscorable(f"PESQ: {reason}") from error
