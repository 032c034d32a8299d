"""One pair scored in this process, as a worker does it."""

from __future__ import annotations

from collections.abc import Sequence

from evalkit.scoring.cache import Cache
from evalkit.scoring.pair import Pair, PairScorer, Score
from evalkit.scoring.protocol import Protocol


def score_pair(pair: Pair, metrics: Sequence[str], protocol: Protocol, cache: Cache | None = None) -> list[Score]:
    """The scores of `pair` by each of `metrics`, in their order; what `cache` knows is not computed again."""
    scorer = PairScorer(pair, protocol, cache)
    known = scorer.cached(metrics)
    return [known.get(name) or scorer.score(name) for name in metrics]
