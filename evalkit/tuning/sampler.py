"""Which point is tried next, and which training is stopped early."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState

from evalkit.tuning.space import CHANNELS, Choice, Space

FAMILY, CHANNELS_OF, LEARNING_RATE = "family", "channels", "learning_rate"
STARTUP = 10  # points drawn evenly over the families before any is preferred
PROPOSALS = 32  # of TPE, until one is new
RUNGS = 8
PRUNE_FROM = 2  # rungs: a quarter of the training
COMPARED = 5  # trainings that must have ended before one is stopped


class UntriedTPE(TPESampler):
    """Optuna's TPE over (family, channels), each pair once, or again with other learning rates where these vary.

    TPE (Bergstra et al., NeurIPS 2011), because families are categories without an order, trainings are few, and some
    run at the same time. Its model holds both at once (multivariate), so that what is seen of a family in one number of
    channels counts in another. Of the product of families and channels only the pairs in the space exist, and a pair
    need not be trained twice: other proposals are passed over, and when none is left that way, or at the start, a pair
    is drawn, evenly over the families.

    Args:
        space: what is searched.
        learning_rate: (low, high), searched on a logarithmic scale; None: not searched.
        seed: of all draws.
    """

    def __init__(self, space: Space, learning_rate: tuple[float, float] | None, seed: int) -> None:
        super().__init__(seed=seed, multivariate=True, n_startup_trials=STARTUP)
        self._space = space
        self._learning_rate = learning_rate
        self._draws = np.random.default_rng(seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The same in every trial, but for what has one value only."""
        whole = distributions(self._space, self._learning_rate)
        return {name: distribution for name, distribution in whole.items() if not distribution.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values for all of `search_space`; empty where every pair was tried."""
        candidates = untried(study, self._space) if self._learning_rate is None else list(self._space.choices)
        keys = {choice.key for choice in candidates}
        for _ in range(PROPOSALS if keys else 0):
            found = super().sample_relative(study, trial, search_space)
            if not found:  # too few trials yet
                break
            family = found.get(FAMILY, self._space.choices[0].family)
            channels = found.get(CHANNELS_OF, self._space.choices[0].channels)
            if (family, channels) in keys:
                return found
        return self._drawn(candidates, search_space) if keys else {}

    def _drawn(self, candidates: list[Choice], search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        families = list(dict.fromkeys(choice.family for choice in candidates))
        family = families[int(self._draws.integers(len(families)))]
        of_family = [choice for choice in candidates if choice.family == family]
        choice = of_family[int(self._draws.integers(len(of_family)))]
        values: dict[str, Any] = {FAMILY: choice.family, CHANNELS_OF: choice.channels}
        if self._learning_rate is not None:
            low, high = self._learning_rate
            drawn = math.exp(self._draws.uniform(math.log(low), math.log(high)))
            values[LEARNING_RATE] = float(np.clip(drawn, low, high))  # exp of log rounds
        return {name: value for name, value in values.items() if name in search_space}


def median_pruner() -> MedianPruner:
    """Stops a training whose reconstruction loss is above the median of the finished ones at the same rung.

    The median rule (Golovin et al., Vizier, KDD 2017) rather than successive halving: with some forty short trainings
    halving would decide most by their first steps, when the learning rate is still high and ranks still change. Nothing
    is stopped in the first quarter of a training, nor before five have ended. A rung is the mean over an eighth of the
    training; all trials see the same batches there (same seed), so what one has lucky batches of, all have.
    """
    return MedianPruner(n_startup_trials=COMPARED, n_warmup_steps=PRUNE_FROM)


def distributions(space: Space, learning_rate: tuple[float, float] | None) -> dict[str, BaseDistribution]:
    """Optuna's description of the parameters."""
    channels = [choice.channels for choice in space.choices]
    found: dict[str, BaseDistribution] = {
        FAMILY: CategoricalDistribution(list(dict.fromkeys(choice.family for choice in space.choices))),
        CHANNELS_OF: IntDistribution(min(channels), max(channels), step=CHANNELS.step),
    }
    if learning_rate is not None:
        found[LEARNING_RATE] = FloatDistribution(*learning_rate, log=True)
    return found


def untried(study: Study, space: Space) -> list[Choice]:
    """The points that no trial of the study has, in any state."""
    tried = set()
    for trial in study.get_trials(deepcopy=False):
        values = trial.params if trial.state != TrialState.WAITING else trial.system_attrs.get("fixed_params", {})
        tried.add((values.get(FAMILY), values.get(CHANNELS_OF)))
    return [choice for choice in space.choices if choice.key not in tried]
