"""How much of a corpus is used: all of it, or a number of utterances that is the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from evalkit.datasets.corpus import Corpus, Utterance
from q2d2.training.manifest import AudioFile, Manifest
from q2d2.training.permutation import Permutation


def select_utterances(corpus: Corpus, limit: int | None) -> Sequence[Utterance]:
    """`limit` utterances of a corpus, or all for None, sorted by id.

    They are the first of an order that does not depend on how ids are sorted or who speaks; of a manifest nothing is
    read but what is taken.
    """
    total = len(corpus.utterances)
    if limit is None or limit >= total:
        return corpus.utterances
    if corpus.manifest is not None:
        order = Permutation(total, (0,))
        return [corpus.utterances[number] for number in sorted(order[place] for place in range(limit))]
    by_digest = sorted(corpus.utterances, key=lambda u: hashlib.sha256(u.id.encode()).digest())
    return sorted(by_digest[:limit], key=lambda u: u.id)


def select_manifest(corpus: Corpus, limit: int | None) -> Manifest:
    """The files of `select_utterances` to train on; all of a manifest are the manifest itself."""
    if corpus.manifest is not None and limit is None:
        return corpus.manifest
    return Manifest.of(AudioFile(u.path, u.frames, u.sample_rate) for u in select_utterances(corpus, limit))
