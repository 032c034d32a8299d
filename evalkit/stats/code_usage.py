"""How a bottleneck uses its codes: counts over any number of utterances, and what follows from them.

Everything is computed from how often each code occurred, never from the set of codes that did (a set is always uniform,
whatever the usage), and codebook sizes come from the bottleneck itself: a code outside them is an error, not a wrap.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def split_words(sizes: Sequence[int]) -> list[range]:
    """Runs of quantizers whose sizes multiply to at most 2**63, so that each run's codes fit one int64."""
    words: list[range] = []
    start, product = 0, 1
    for index, size in enumerate(sizes):
        if product * size > 2**63:
            words.append(range(start, index))
            start, product = index, 1
        product *= size
    return [*words, range(start, len(sizes))] if sizes else []


def frame_ids(codes: Ints, sizes: Sequence[int], words: Sequence[range]) -> Ints:
    """Whole frames of `codes` (quantizers, frames) as mixed-radix numbers (frames, words)."""
    ids = np.zeros((codes.shape[1], len(words)), np.int64)
    for word, quantizers in enumerate(words):
        for quantizer in quantizers:
            ids[:, word] = ids[:, word] * sizes[quantizer] + codes[quantizer]
    return ids


def frame_codes(ids: Ints, sizes: Sequence[int], words: Sequence[range]) -> list[Ints]:
    """The inverse of `frame_ids`: (frames, words) -> the codes (frames,) of each quantizer."""
    codes: list[Ints] = []
    for word, quantizers in enumerate(words):
        for quantizer in quantizers:
            rest = ids[:, word] // math.prod(sizes[quantizer + 1 : quantizers.stop])
            codes.append(rest if quantizer == quantizers.start else rest % sizes[quantizer])
    return codes


def tally(codes: Ints, counts: Ints) -> Ints:
    """Sum of `counts` over each different code, in the order of the codes; both (frames,)."""
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    return np.add.reduceat(counts[order], starts)


Floats = NDArray[np.float64]

# Frames gathered before they are folded into the table of distinct frames; above this the table's own size rules.
MIN_PENDING = 65_536
# Codes of the largest codebook of which every count is kept.
MAX_COUNTED = 2**20


def entropy_bits(counts: NDArray[np.integer[Any]]) -> float:
    """Entropy in bits of the empirical distribution `counts` (codes,): -sum p log2 p, the plug-in estimate.

    Too low by about (codes - 1) / (2 n ln 2) bits for n observations. NaN where all counts are zero.
    """
    total = int(counts.sum())
    if total == 0:
        return math.nan
    p = counts[counts > 0] / total
    return float(-(p * np.log2(p)).sum()) + 0.0  # no negative zero


class CodeUsage:
    """Accumulates codes and derives usage statistics; memory grows with distinct frames, not with utterances.

    Args:
        codebook_sizes: codes of each quantizer (for Q2D2: points of each pair's tiling); empty for no quantizer.

    Attributes:
        codebook_sizes: as given.
        frames: frames added so far, over all utterances.
        counts: one int64 array (codebook_sizes[q],) per quantizer: how often each code occurred. Empty where any
            codebook has more than 2**20 codes: then the occurrences are taken from the whole frames.

    Statistics are None where nothing was added or there is no quantizer. Those of a quantizer with more than 2**20
    codes are NaN as long as it has more codes than frames were counted: they would describe the sample.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(self, codebook_sizes: Sequence[int]) -> None:
        self.codebook_sizes = tuple(int(size) for size in codebook_sizes)
        if any(size < 1 for size in self.codebook_sizes):
            raise ValueError(f"codebook sizes are at least 1, got {self.codebook_sizes}")
        self.frames = 0
        self.counts: list[Ints] = []
        if max(self.codebook_sizes, default=0) <= MAX_COUNTED:
            self.counts = [np.zeros(size, np.int64) for size in self.codebook_sizes]
        self._words = split_words(self.codebook_sizes)
        self._frame_ids: Ints = np.empty((0, len(self._words)), np.int64)
        self._frame_counts: Ints = np.empty(0, np.int64)
        self._pending: list[tuple[Ints, Ints]] = []
        self._num_pending = 0

    def add(self, codes: NDArray[np.integer[Any]]) -> None:
        """Count one utterance's codes (quantizers, frames), code q in [0, codebook_sizes[q]).

        Raises:
            ValueError: wrong shape or type, or a code out of range; nothing is counted then.
        """
        codes = np.asarray(codes)
        if codes.ndim != 2 or codes.shape[0] != len(self.codebook_sizes):
            raise ValueError(f"codes have shape {codes.shape}, expected ({len(self.codebook_sizes)}, frames)")
        if not np.issubdtype(codes.dtype, np.integer):
            raise ValueError(f"codes have type {codes.dtype}, expected integers")
        if codes.shape[1] == 0:
            return
        for quantizer, (row, size) in enumerate(zip(codes, self.codebook_sizes, strict=True)):
            low, high = int(row.min()), int(row.max())
            if low < 0 or high >= size:
                raise ValueError(f"quantizer {quantizer}: codes {low}..{high} are outside 0..{size - 1}")
        symbols = codes.astype(np.int64)  # small types would wrap in whole-frame numbers
        for row, count in zip(symbols, self.counts, strict=bool(self.counts)):
            count += np.bincount(row, minlength=count.size)
        self.frames += codes.shape[1]
        self._gather(frame_ids(symbols, self.codebook_sizes, self._words), np.ones(codes.shape[1], np.int64))

    @property
    def bits_per_frame(self) -> float:
        """Nominal bits of one frame: sum of log2 of the codebook sizes; 0 without quantizers."""
        return float(sum(math.log2(size) for size in self.codebook_sizes))

    @property
    def _empty(self) -> bool:
        return self.frames == 0 or not self.codebook_sizes

    @property
    def utilization(self) -> Floats | None:
        """Share of each quantizer's codes that occurred at least once, (quantizers,), 0..1."""
        if self._empty:
            return None
        used = [len(counts) / size for counts, size in zip(self._occurrences(), self.codebook_sizes, strict=True)]
        return self._without_unseen(used)

    @property
    def distinct_frames(self) -> int:
        """Number of different whole frames (all quantizers' codes together) seen."""
        self._fold()
        return len(self._frame_counts)

    @property
    def frame_utilization(self) -> float | None:
        """Different whole frames seen / min(product of codebook sizes, frames seen), in (0, 1].

        1 means as many different frames as could have been seen. Values of different `frames` do not compare.
        """
        if self._empty:
            return None
        return self.distinct_frames / min(math.prod(self.codebook_sizes), self.frames)

    @property
    def entropy(self) -> Floats | None:
        """Entropy of each quantizer's codes in bits, (quantizers,), 0..log2(size); see `entropy_bits`."""
        if self._empty:
            return None
        return self._without_unseen([entropy_bits(counts) for counts in self._occurrences()])

    @property
    def normalized_entropy(self) -> Floats | None:
        """Entropy / log2(size) of each quantizer, (quantizers,), 0..1; NaN for a quantizer of a single code."""
        entropy = self.entropy
        if entropy is None:
            return None
        capacity = np.log2(np.array(self.codebook_sizes, np.float64))
        return np.divide(entropy, capacity, out=np.full_like(entropy, np.nan), where=capacity > 0)

    @property
    def perplexity(self) -> Floats | None:
        """2 ** entropy of each quantizer, (quantizers,), 1..size: the equivalent number of equally used codes."""
        entropy = self.entropy
        return None if entropy is None else np.exp2(entropy)

    def entropy_bitrate(self, frame_rate: float) -> float | None:
        """Bit/s under an ideal static entropy code per quantizer: sum of entropies x `frame_rate` (Hz).

        No dependence between quantizers or frames is used and the code tables are free: at most the nominal bit rate.
        None too where an entropy is NaN.
        """
        entropy = self.entropy
        total = None if entropy is None else _known(entropy.sum())
        return None if total is None else total * frame_rate

    def summary(self, frame_rate: float | None) -> dict[str, float | int | None]:
        """One row of system-level statistics under the column names of systems.parquet.

        frames_counted; utilization (mean over quantizers); frame_utilization; entropy (bits/frame, sum over
        quantizers); normalized_entropy (that sum / nominal bits per frame, None if those are 0); perplexity (mean);
        entropy_bitrate (bit/s, None where `frame_rate` in Hz is None). None too where it is NaN for a quantizer.
        """
        utilization, entropy, perplexity = self.utilization, self.entropy, self.perplexity
        total = None if entropy is None else _known(entropy.sum())
        bits = self.bits_per_frame
        return {
            "frames_counted": self.frames,
            "utilization": None if utilization is None else _known(utilization.mean()),
            "frame_utilization": self.frame_utilization,
            "entropy": total,
            "normalized_entropy": None if total is None or bits == 0 else total / bits,
            "perplexity": None if perplexity is None else _known(perplexity.mean()),
            "entropy_bitrate": None if frame_rate is None else self.entropy_bitrate(frame_rate),
        }

    def _occurrences(self) -> list[Ints]:
        """How often each code that occurred did, one array a quantizer."""
        if self.counts:
            return [count[count > 0] for count in self.counts]
        self._fold()
        rows = frame_codes(self._frame_ids, self.codebook_sizes, self._words)
        return [tally(row, self._frame_counts) for row in rows]

    def _without_unseen(self, values: list[float]) -> Floats:
        """One value a quantizer, NaN where there are too many codes to judge them by as few frames."""
        hidden = [size > max(MAX_COUNTED, self.frames) for size in self.codebook_sizes]
        return np.where(hidden, np.nan, values)

    def _gather(self, ids: Ints, counts: Ints) -> None:
        """Put frames (n, words) seen `counts` (n,) times aside for the next fold."""
        self._pending.append((ids, counts))
        self._num_pending += len(ids)
        # Folding only once as much has gathered as the table holds keeps the total cost at n log n.
        if self._num_pending >= max(MIN_PENDING, len(self._frame_counts)):
            self._fold()

    def _fold(self) -> None:
        """Bring the table of distinct frames up to date."""
        if not self._pending or not self.codebook_sizes:
            return
        ids = np.concatenate([self._frame_ids, *(ids for ids, _ in self._pending)])
        counts = np.concatenate([self._frame_counts, *(counts for _, counts in self._pending)])
        self._pending, self._num_pending = [], 0
        if len(ids):
            order = np.lexsort(ids.T)
            ids = ids[order]
            starts = np.flatnonzero(np.append(True, (ids[1:] != ids[:-1]).any(axis=1)))
            self._frame_ids, self._frame_counts = ids[starts], np.add.reduceat(counts[order], starts)


def _known(value: float) -> float | None:
    """A plain float; None for NaN."""
    return None if math.isnan(value) else float(value)


# Columns that say how the codes of a system are used.
CODE_USE = ("utilization", "entropy", "normalized_entropy")
# With fewer frames for each code of a codebook, its entropy would describe the sample: it is too low by about
# codes / (2 ln 2 frames) bits, here at most 0.07 for each codebook.
FRAMES_PER_CODE = 10


def seen_enough(trial: Mapping[Any, Any]) -> bool:
    """Whether each codebook of a trial was seen in enough frames for `CODE_USE` to describe it, not the sample."""
    sizes, frames = trial.get("codebook_sizes"), trial.get("frames_counted")
    if sizes is None or frames is None or not len(sizes):
        return False
    return bool(frames >= FRAMES_PER_CODE * max(sizes))
