"""A small fixed part of `make fuzz`, in this process: nothing damaged ends in a traceback or is taken for data."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from q2d2.errors import UserError
from tests.fuzz.__main__ import KINDS
from tests.fuzz.careless import Careless
from tests.fuzz.damage import damaged
from tests.fuzz.driver import Kind, fuzz

CASES = 24


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_what_is_damaged_is_refused_or_read_right(tmp_path: Path, kind: type[Kind]) -> None:
    cases = kind(tmp_path)
    refused = []
    for number in range(CASES):
        try:
            cases.run(random.Random(f"{kind.name} test {number}"), number)
        except (UserError, OSError) as error:
            refused.append(str(error))
    assert refused
    assert not [message for message in refused if "\n" in message]


def test_faults_are_counted_by_their_kind_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = fuzz(Careless, 0, range(4))
    monkeypatch.setattr("tests.fuzz.driver.SECONDS", 1.0)
    outcome += fuzz(Careless, 0, range(4, 6))
    assert (outcome.read, outcome.refused) == (1, 0)
    assert outcome.faults == {"traceback": 1, "hang": 1, "growth": 1, "silent": 1, "unreadable": 1}
    assert "case 1: traceback: KeyError at careless.py" in outcome.cases[1]


def test_damage_follows_from_the_seed_and_changes_something() -> None:
    data = bytes(range(256)) * 4
    for seed in range(50):
        assert damaged(random.Random(seed), data) == damaged(random.Random(seed), data)
    assert sum(damaged(random.Random(seed), data) != data for seed in range(50)) > 45
