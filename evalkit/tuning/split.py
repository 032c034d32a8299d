"""Audio in parts that share no speaker: to train on, to choose by, and to test on what nothing was chosen by."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from evalkit.datasets import Corpus, Utterance
from evalkit.tuning.space import TuneError
from q2d2.files import whole

TRAIN, SEARCH, HELD_OUT = "train", "search", "held-out"
# Share of the seconds. What is tested on is worth as much as what is chosen by.
SHARES_OF_AUDIO = {TRAIN: 0.6, SEARCH: 0.2, HELD_OUT: 0.2}
SHARES_OF_TEST_SET = {SEARCH: 0.5, HELD_OUT: 0.5}
MIN_FILES = 2  # of one file there is no interval


@dataclass(frozen=True)
class Split:
    """Utterances in parts.

    Attributes:
        parts: name of the part -> (path of its link below the part's folder, utterance), sorted by path.
        by_speaker: no speaker is in two parts; else no file is, as speakers are too few or not known.
        source: what was split, for people.
    """

    parts: Mapping[str, tuple[tuple[str, Utterance], ...]]
    by_speaker: bool
    source: str

    def describe(self) -> list[str]:
        """A line a part: files, minutes, speakers."""
        lines = []
        for name, entries in self.parts.items():
            speakers = {utterance.speaker for _, utterance in entries} - {None}
            seconds = math.fsum(utterance.seconds for _, utterance in entries)
            of = f", {len(speakers)} speaker{'' if len(speakers) == 1 else 's'}" if speakers else ""
            lines.append(f"{name:9} {len(entries):,} files, {seconds / 60:.1f} min{of}")
        how = "no speaker is" if self.by_speaker else "no file is (speakers are too few or not known)"
        return [f"{self.source}: {how} in two parts", *lines]

    def digests(self) -> dict[str, str]:
        """Part -> digest of its files' names and lengths, the same wherever they lie."""
        found = {}
        for name, entries in self.parts.items():
            text = "\n".join(f"{path} {each.frames} {each.sample_rate}" for path, each in entries)
            found[name] = hashlib.sha256(text.encode()).hexdigest()[:16]
        return found

    def write(self, folder: Path) -> None:
        """Make a link to each file in a folder a part below `folder`, to be opened as dataset `folder`.

        Links that are right are left alone, so that another process may be reading them.
        """
        for name, entries in self.parts.items():
            for path, utterance in entries:
                link, target = folder / name / path, os.path.realpath(utterance.path)
                if link.is_symlink() and os.readlink(link) == target:
                    continue
                link.parent.mkdir(parents=True, exist_ok=True)
                with whole(link) as part:
                    part.unlink()
                    part.symlink_to(target)


def split_audio(corpus: Corpus) -> Split:
    """A corpus in train, search and held-out, about 60 : 20 : 20 of its seconds.

    Raises:
        TuneError: there are too few files.
    """
    return _split(corpus.utterances, SHARES_OF_AUDIO, f"audio in {corpus.root}")


def split_test_set(corpus: Corpus, utterances: Sequence[Utterance]) -> Split:
    """The chosen utterances of a test set in search and held-out, about half of the seconds each.

    Raises:
        TuneError: there are too few files.
    """
    return _split(utterances, SHARES_OF_TEST_SET, f"test set {corpus.name} {corpus.part}")


def _split(utterances: Sequence[Utterance], shares: Mapping[str, float], source: str) -> Split:
    speakers = {utterance.speaker for utterance in utterances} - {None}
    ways = [True, False] if len(speakers) >= len(shares) else [False]
    for by_speaker in ways:
        parts = _divide(utterances, shares, by_speaker)
        if min(map(len, parts.values())) >= MIN_FILES:
            named = {
                name: tuple(sorted(((_link_path(each), each) for each in part), key=lambda entry: entry[0]))
                for name, part in parts.items()
            }
            _refuse_twins(named)
            return Split(named, by_speaker, source)
    needed = MIN_FILES * len(shares)
    raise TuneError(
        f"{source}: {len(utterances)} usable files cannot make {len(shares)} parts ({', '.join(shares)}) of at least "
        f"{MIN_FILES} files each; give at least {needed} files, better {10 * needed} of several speakers"
    )


def _divide(
    utterances: Sequence[Utterance], shares: Mapping[str, float], by_speaker: bool
) -> dict[str, list[Utterance]]:
    """Largest groups first, each to the part that lacks most; which of equal ones comes first, its digest decides."""
    groups: dict[tuple[str, str], list[Utterance]] = {}
    for each in utterances:
        alone = not by_speaker or each.speaker is None
        groups.setdefault(("file", each.id) if alone else ("speaker", str(each.speaker)), []).append(each)
    seconds = {key: math.fsum(each.seconds for each in group) for key, group in groups.items()}
    ordered = sorted(groups, key=lambda key: (-seconds[key], hashlib.sha256(key[1].encode()).digest()))
    lacking = {name: share * math.fsum(seconds.values()) for name, share in shares.items()}
    parts: dict[str, list[Utterance]] = {name: [] for name in shares}
    for place, key in enumerate(ordered):
        short = {name: MIN_FILES - len(part) for name, part in parts.items() if len(part) < MIN_FILES}
        left = ordered[place:]
        scarce = len(left) <= len(short) or sum(len(groups[each]) for each in left) <= sum(short.values())
        chosen = max(short if scarce else parts, key=lambda name: lacking[name])
        parts[chosen] += groups[key]
        lacking[chosen] -= seconds[key]
    return parts


def _link_path(utterance: Utterance) -> str:
    """Where dataset `folder` reads the same speaker from: the first folder, none where it is not known."""
    path = PurePosixPath(utterance.id)
    if utterance.speaker is None:
        path = PurePosixPath("_".join(path.parts))
    elif path.parts[0] != utterance.speaker or len(path.parts) == 1:
        path = PurePosixPath(utterance.speaker.replace("/", "_"), "_".join(path.parts))
    return f"{path}{utterance.path.suffix}"


def _refuse_twins(parts: Mapping[str, tuple[tuple[str, Any], ...]]) -> None:
    for name, entries in parts.items():
        for (path, _), (after, _) in itertools.pairwise(entries):  # sorted by path
            if path == after:
                raise TuneError(f"two files would both be {path} in part {name}: rename one of them")
