"""One run shared out over processes or machines: every n-th utterance each, merged afterwards."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from evalkit.run.descriptions import read_description
from evalkit.run.experiment import Experiment
from evalkit.run.store import RunStore
from evalkit.schema import validated
from q2d2.errors import UserError
from q2d2.plain_values import differences

Item = TypeVar("Item")
# Where a machine keeps things; what they are is compared by content.
PLACES = ("root", "weights_root")


class ShardError(UserError, ValueError):
    """Shards that cannot be run or merged; the message names what is missing or differs."""


@dataclass(frozen=True)
class Shard:
    """Part `number` (from 1) of `count`."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Of "2/8".

        Raises:
            ShardError: it is not such a text, or there is no such part.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ShardError(f"--shard {text}: expected I/N with I in 1..N, for instance 2/8")
        return cls(int(match[1]), int(match[2]))

    def folder(self, run: Path) -> Path:
        """Where this part of the run in folder `run` is computed."""
        return run / "shards" / f"{self.number}-of-{self.count}"

    def select(self, items: Sequence[Item]) -> tuple[Item, ...]:
        """Every `count`-th of them, so that long and short ones are spread evenly."""
        return tuple(items[self.number - 1 :: self.count])


def merge_shards(run: Path) -> Experiment:
    """Take over into the folder `run` what its shards have scored; their experiment.

    Nothing is scored here and nothing is taken twice: `evalkit.run.runner.run` on the same folder then only
    computes what no shard had done.

    Raises:
        ShardError: there are no shards, some are missing, or they are of different experiments.
        StoreError: a shard is still running, or its journal is damaged.
    """
    shards = _complete_set(run)
    described = {shard: _description(shard.folder(run)) for shard in shards}
    first = shards[0]
    for shard in shards[1:]:
        if found := differences(described[shard]["experiment"], described[first]["experiment"], PLACES):
            raise ShardError(
                f"{shard.folder(run)} was run with {found[0]} as in {first.folder(run)}. Delete one and run it anew."
            )
    with RunStore(run) as whole:
        for shard in shards:
            with RunStore(shard.folder(run)) as part:
                whole.take_over(part)
    where = f"{first.folder(run) / 'run.json'}: experiment"
    return validated(Experiment, described[first]["experiment"], where, ShardError)


def refuse_another_experiment(experiment: Experiment, folder: Path) -> None:
    """Raise ShardError where `folder` holds a shard of an experiment with other settings."""
    if not (folder / "run.json").is_file():
        return
    if found := differences(_description(folder)["experiment"], experiment.resolved(), PLACES):
        raise ShardError(
            f"{folder} was begun with {found[0]}. Give the same settings again, choose another --out, or delete that "
            "folder."
        )


def _complete_set(run: Path) -> list[Shard]:
    found = [
        Shard(int(match[1]), int(match[2]))
        for path in (run / "shards").glob("*-of-*")
        if (match := re.fullmatch(r"(\d+)-of-(\d+)", path.name))
    ]
    if not found:
        raise ShardError(f"{run / 'shards'}: no shards; they are made by evalkit run ... --out {run} --shard I/N")
    counts = sorted({shard.count for shard in found})
    if len(counts) > 1:
        raise ShardError(f"{run / 'shards'} holds shards of {' and of '.join(map(str, counts))}: delete one kind")
    missing = sorted(set(range(1, counts[0] + 1)) - {shard.number for shard in found})
    if missing:
        wanted = ", ".join(f"--shard {number}/{counts[0]}" for number in missing)
        raise ShardError(f"{run / 'shards'}: not run yet: {wanted}")
    return sorted(found, key=lambda shard: shard.number)


def _description(folder: Path) -> dict[str, Any]:
    try:
        described = read_description(folder / "run.json", ShardError)
    except OSError as error:
        raise ShardError(f"{folder / 'run.json'} cannot be read: {error}") from error
    if not described.get("experiment"):
        raise ShardError(f"{folder} holds no part of an experiment")
    return described
