"""What a search will be, before it begins: the space, the parts of the audio, and how long it takes."""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from evalkit.run.plan import make_plan
from evalkit.run.training import train_system
from evalkit.tuning.settings import Tuning

MEASURED_STEPS = 6


def describe(tuning: Tuning, trials: int, finalists: int, seeds: int) -> list[str]:
    """The space with exact rates, the parts of the audio and the work, as lines."""
    choices = tuning.space.choices
    lines = [f"{len(choices)} configurations within half a bit of {tuning.space.target:g} bits per frame:"]
    for choice in choices:
        levels = " ".join(map(str, choice.bottleneck["levels"]))
        lines.append(f"  {choice.family:18} d={choice.channels:<3} {choice.bits_per_frame:7.3f}  levels {levels}")
    if tuning.space.left_out:
        named = [f"{family} d={', '.join(map(str, each))}" for family, each in tuning.space.left_out.items()]
        lines.append(f"left out, nothing within half a bit: {'; '.join(named)}")
    if tuning.learning_rate is not None:
        lines.append("learning rate from {:g} to {:g}".format(*tuning.learning_rate))
    base = tuning.baseline
    lines.append(f"baseline: {base.family} d={base.channels}, {base.bits_per_frame:.3f} bits per frame")
    lines += tuning.split.describe()
    lines.append(
        f"scored: {tuning.num_scored('search')} utterances in the search, {tuning.num_scored('held-out')} held out"
    )
    lines.append(
        f"search: {count_trials(tuning, trials)} trials of {tuning.steps:,} steps by {tuning.metric}, seed "
        f"{tuning.seed}; then {finalists} finalists and the baseline, {seeds} seeds of "
        f"{tuning.experiment.train.steps:,} steps each"
    )
    return lines


def count_trials(tuning: Tuning, trials: int) -> int:
    """Trials that a search has at most: each configuration once, unless learning rates vary."""
    return trials if tuning.learning_rate is not None else min(trials, len(tuning.space.choices))


def expected_seconds(tuning: Tuning, device: str, workers: int, trials: int, finalists: int, seeds: int) -> float:
    """Seconds of training to come, from a few steps of the baseline measured now; scoring and pruning left aside.

    Args:
        tuning: the search; nothing is written to its folder.
        device: "auto", "cpu" or "cuda".
        workers: trials at a time; that they slow each other down is left aside.
        trials, finalists, seeds: as in `tune`.
    """
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        inside = replace(tuning.moved_to(Path(folder)), steps=MEASURED_STEPS)
        inside.write()
        experiment = inside.trial(tuning.baseline, None).experiment
        assert experiment is not None
        # With discriminators from the first step, as in most of a training that has them.
        train = replace(experiment.train, log_every=1, checkpoint_every=MEASURED_STEPS, spectral_steps=0)
        plan = make_plan(experiment.model_copy(update={"train": train}), Path(folder, "measured"))
        train_system(plan, plan.trained[0], device, lambda step, losses: times.append(time.monotonic()))
    each = statistics.median(after - before for before, after in itertools.pairwise(times[1:]))
    steps = count_trials(tuning, trials) * tuning.steps + (finalists + 1) * seeds * tuning.experiment.train.steps
    return steps * each / workers
