"""What the choices of the published protocol do to scores of published decoded audio.

Every trap is the difference of two ways to score the same files by evalkit's own metrics.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from evalkit.scoring.protocol import PROTOCOLS, Resampler, get_protocol
from studies.forensics.averages import published_pesq
from studies.forensics.decoded_audio import Decoded, Scores, change_estimate, largest, mean, score_all
from studies.forensics.trap import Figure, Trap

METRICS = ("pesq", "stoi", "estoi", "si_sdr")
UNITS = {"pesq": "MOS", "stoi": "", "estoi": "", "si_sdr": "dB"}
PAPER, STRICT = PROTOCOLS["paper"], PROTOCOLS["strict"]
SCORED_RATE = 16_000
DELAY = 12  # samples at 24 kHz by which DAC's files of LibriSpeech lead
# The steepest filter in common use: torchaudio's settings for what librosa calls kaiser_best.
STEEP = Resampler(lowpass_filter_width=64, rolloff=0.9475937167399596, method="sinc_interp_kaiser")
SEED = 0


def audio_traps(published: Sequence[Decoded]) -> list[Trap]:
    """All traps that need decoded audio."""
    paper = score_all((file.pair for file in published), METRICS, PAPER)
    measurements: list[Callable[[Sequence[Decoded], Scores], Trap]] = [
        agreement, protocols, sixteen_bits, stoi_rate, resampler, round_trip, delay, lengths, failed_clip,
    ]  # fmt: skip
    return [measure(published, paper) for measure in measurements]


def agreement(published: Sequence[Decoded], paper: Scores) -> Trap:
    """Scores of the published procedure against ours: how far it can be trusted where no trap is met."""
    figures = {}
    for metric in ("pesq", "stoi"):
        theirs = {file.pair.utterance: file.scores[metric] for file in published}
        differences = [value - theirs[utt] for (name, utt), value in paper.values.items() if name == metric]
        figures[metric] = Figure(largest(differences), UNITS[metric], f"largest difference, {metric}")
    return _trap(
        "audio.agreement",
        "No trap: PESQ and STOI of the published procedure where neither fails.",
        "the same definitions, protocol `paper`",
        figures,
        published,
        [paper],
    )


def protocols(published: Sequence[Decoded], paper: Scores) -> Trap:
    """Means per system and metric under `strict` less those under `paper`, and what `strict` notes."""
    strict = score_all((file.pair for file in published), METRICS, STRICT)
    figures = {
        metric: Figure(
            largest(_by_system(strict.minus(paper, metric)).values()),
            UNITS[metric],
            f"largest change of a system's mean {metric}",
        )
        for metric in METRICS
    }
    figures["noted"] = Figure(len(strict.notes), "files", "with a note under `strict` (length, delay, clipping)")
    return _trap(
        "audio.protocols",
        "Signals are scored as 16-bit files; lengths and delays are not looked at.",
        "`strict` scores floats and notes both; on files of 16 bits the scores are the same",
        figures,
        published,
        [paper, strict],
    )


def sixteen_bits(published: Sequence[Decoded], paper: Scores) -> Trap:
    """Floats that round to the same 16-bit files: `strict` less `paper`."""
    rng = np.random.default_rng(SEED)
    floats = [
        change_estimate(file.pair, file.pair.estimate + rng.uniform(-0.5, 0.5, file.pair.estimate.size) / 32768)
        for file in published
    ]
    strict = score_all(floats, METRICS, STRICT)
    changes = {metric: strict.minus(paper, metric).values() for metric in METRICS}
    return _trap(
        "audio.sixteen_bits",
        "What a codec gives is rounded and clipped to 16 bits before it is scored.",
        "`strict` scores what the codec gives",
        {
            metric: Figure(largest(changes[metric]), UNITS[metric], f"largest change by rounding, {metric}")
            for metric in METRICS
        },
        published,
        [paper, strict],
    )


def stoi_rate(published: Sequence[Decoded], paper: Scores) -> Trap:
    """STOI from the stored rate less STOI from 16 kHz."""
    lower = [
        change_estimate(file.pair, _resampled(file.pair.estimate, file.pair.estimate_rate, SCORED_RATE), SCORED_RATE)
        for file in published
    ]
    at_16k = score_all(lower, ["stoi", "estoi"], PAPER)
    return _trap(
        "audio.stoi_rate",
        "STOI is taken from the stored rate (24 kHz), everything else from 16 kHz; pystoi goes on to 10 kHz itself.",
        "the same (the estimate's own rate), so a codec of 16 kHz goes through one filter less",
        _mean_and_largest(paper, at_16k, ["stoi", "estoi"], "24 kHz less 16 kHz"),
        published,
        [paper, at_16k],
    )


def resampler(published: Sequence[Decoded], paper: Scores) -> Trap:
    """PESQ behind torchaudio's default filter less PESQ behind a steep one."""
    steep = score_all((file.pair for file in published), ["pesq"], replace(PAPER, resampler=STEEP))
    return _trap(
        "audio.resampler",
        "Signals are resampled by torchaudio's defaults, a short filter (width 6).",
        "the same, with its settings written out and part of the protocol",
        _mean_and_largest(paper, steep, ["pesq"], "default less steep filter"),
        published,
        [paper, steep],
    )


def round_trip(published: Sequence[Decoded], paper: Scores) -> Trap:
    """References of 16 kHz that went through 24 kHz, as those of LibriSpeech do, against untouched ones."""
    kept, through = [], []
    for file in published:
        original = _resampled(file.pair.reference, file.pair.reference_rate, SCORED_RATE)
        there = _resampled(original, SCORED_RATE, 24_000)
        kept.append(replace(file.pair, reference=original, reference_rate=SCORED_RATE))
        through.append(replace(file.pair, reference=there, reference_rate=24_000))
    untouched, passed = (score_all(pairs, ["pesq"], PAPER) for pairs in (kept, through))
    return _trap(
        "audio.round_trip",
        "The reference is what went into the codec: a recording of 16 kHz, resampled to 24 kHz and back to 16 kHz.",
        "the reference is the recording",
        _mean_and_largest(passed, untouched, ["pesq"], "round trip less original"),
        published,
        [untouched, passed],
    )


def delay(published: Sequence[Decoded], paper: Scores) -> Trap:
    """Estimates that lead by 12 samples, less the same estimates in time."""
    early = [change_estimate(file.pair, file.pair.estimate[DELAY:]) for file in published]
    moved = score_all(early, METRICS, PAPER)
    noted = score_all(early, ["si_sdr"], STRICT)
    aligned = score_all(early, ["si_sdr"], get_protocol("strict", align=True))
    figures = _mean_and_largest(moved, paper, METRICS, f"early by {DELAY} samples less in time")
    changes = _by_system(moved.minus(paper, "si_sdr"))
    if changes:
        worst = min(changes, key=lambda system: changes[system])
        figures["si_sdr_worst"] = Figure(changes[worst], "dB", f"change of mean si_sdr, {worst}")
    leads = [f"leads by {samples} samples" for samples in (DELAY - 1, DELAY, DELAY + 1)]
    found = sum(any(lead in note for lead in leads) for note in noted.notes.values())
    figures["found"] = Figure(found, "files", "whose lead `strict` notes, to a sample")
    figures["aligned"] = Figure(
        largest(aligned.minus(paper, "si_sdr").values()), "dB", "largest change of si_sdr left by --align"
    )
    return _trap(
        "audio.delay",
        "Delays are not looked at; DAC's published files of LibriSpeech lead by 12 samples.",
        "`strict` notes a certain delay, --align takes it out",
        figures,
        published,
        [paper, moved, noted, aligned],
    )


def lengths(published: Sequence[Decoded], paper: Scores) -> Trap:
    """By how much decoded files differ in length from their originals."""
    at_own_rate = [
        file.pair.estimate.size - file.pair.reference.size * file.pair.estimate_rate / file.pair.reference_rate
        for file in published
    ]
    differ = sum(abs(each) >= 1 for each in at_own_rate)
    return _trap(
        "audio.lengths",
        "Decoded files are not cut to the original's length; pairs are cropped to the shorter without a word.",
        "a codec here returns as many samples as it got; `strict` notes differences of more than 10 ms",
        {
            "differ": Figure(differ, "files", "of another length than the original"),
            "shorter": Figure(-min(0.0, *at_own_rate), "samples", "missing at most"),
            "longer": Figure(max(0.0, *at_own_rate), "samples", "too many at most"),
        },
        published,
        [],
    )


def failed_clip(published: Sequence[Decoded], paper: Scores) -> Trap:
    """Mean PESQ of the decoded files with one more whose reference has no speech."""
    first = published[0].pair
    rate = first.estimate_rate
    silent = replace(first, utterance="silent", reference=np.zeros_like(first.reference))
    ours = score_all([silent], ["pesq"], PAPER)
    signals = [_resampled(signal, rate, SCORED_RATE) for signal in (np.zeros_like(first.estimate), first.estimate)]
    value = published_pesq(signals[0], signals[1])
    scores = [score for (metric, _), score in paper.values.items() if metric == "pesq"]
    return _trap(
        "audio.failed_clip",
        "One recording without speech among the others, its PESQ error averaged in.",
        f"a failed row: {ours.failed[0].split(': ', 1)[1] if ours.failed else 'scored'}",
        {
            "mean": Figure(mean(scores), "MOS", f"mean PESQ of {len(scores)} files (ours, with and without that one)"),
            "published": Figure(mean([*scores, value]), "MOS", f"mean with that one, published (PESQ = {value:g})"),
            "shift": Figure(mean([*scores, value]) - mean(scores), "MOS", "change by one clip"),
        },
        published,
        [paper],
    )


def _resampled(signal: np.ndarray, rate: int, target: int) -> np.ndarray:
    return PAPER.resampler(signal, rate, target)


def _by_system(changes: dict[str, float]) -> dict[str, float]:
    """ "DATASET/SYSTEM" -> mean over its utterances."""
    systems: dict[str, list[float]] = defaultdict(list)
    for utterance, change in changes.items():
        systems[utterance.rpartition("/")[0]].append(change)
    return {system: mean(values) for system, values in systems.items()}


def _mean_and_largest(one: Scores, other: Scores, metrics: Sequence[str], what: str) -> dict[str, Figure]:
    figures = {}
    for metric in metrics:
        changes = one.minus(other, metric).values()
        figures[f"{metric}_mean"] = Figure(mean(changes), UNITS[metric], f"{what}, mean {metric}")
        figures[f"{metric}_largest"] = Figure(largest(changes), UNITS[metric], f"{what}, largest, {metric}")
    return figures


def _trap(
    name: str,
    statement: str,
    instead: str,
    figures: dict[str, Figure],
    published: Sequence[Decoded],
    scores: Sequence[Scores],
) -> Trap:
    failed = [reason for each in scores for reason in each.failed]
    missing = f"{len(failed)} scores failed, the first: {failed[0]}" if failed else ""
    return Trap(name, statement, instead, figures, len(published), "decoded files", missing)


def without_audio(reason: str) -> Trap:
    """What stands in the table where there is no decoded audio."""
    return Trap(
        "audio",
        "Agreement, protocols, 16 bits, STOI's rate, resampling, delay, lengths, a failed clip.",
        "the same metrics on both sides",
        missing=reason,
    )
