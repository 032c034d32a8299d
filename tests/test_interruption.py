"""The same command again: after it finished, after failures, and after `kill -9` in training and in scoring."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from evalkit.scoring.protocol import KNOWN_ANSWERS
from q2d2.checkpoints import CONFIG
from q2d2.training.state import STATE
from tests import warm
from tests.command import TINY, evalkit, write_experiment
from tests.finished_run import Run, journal, rows

TIMED = ["rtf_encode", "rtf_decode", "rtf_detail"]


class TestSecondCall:
    def test_computes_nothing_and_says_the_same(self, copied: Run, undrawn: None) -> None:
        names = ("utterances", "systems", "codes")
        before = {name: copied.rows(name) for name in names}
        weights = {path: path.stat().st_mtime_ns for path in copied.folder.rglob("*.safetensors")}
        audio = {path: path.stat().st_mtime_ns for path in copied.folder.rglob("*.flac")}
        lines = (copied.folder / "journal.jsonl").read_bytes()
        outcome = evalkit("run", copied.experiment, "--out", copied.folder, "--workers", 1, width=120)
        assert outcome.status == 0
        assert outcome.out.count("trained already") == 8
        assert "score " not in outcome.out
        assert (copied.folder / "journal.jsonl").read_bytes() == lines
        assert {path: path.stat().st_mtime_ns for path in weights} == weights
        assert {path: path.stat().st_mtime_ns for path in audio} == audio
        for name in names:
            pd.testing.assert_frame_equal(copied.rows(name), before[name])

    def test_retries_what_failed_and_drops_a_torn_line(self, copied: Run, undrawn: None) -> None:
        before = copied.rows("utterances").drop(columns="seconds")
        path = copied.folder / "journal.jsonl"
        entries = journal(copied.folder)
        for entry in entries:
            record = entry.get("utterance_record", {})
            if record.get("system") == "vq":
                record["scores"][0] |= {"value": None, "status": "failed", "detail": "a bad day"}
                break
        path.write_text("".join(json.dumps(entry) + "\n" for entry in entries) + '{"utterance_record": {"sys')
        assert evalkit("run", copied.experiment, "--out", copied.folder, "--workers", 1).status == 0
        assert len(journal(copied.folder)) == len(entries) + 1
        pd.testing.assert_frame_equal(copied.rows("utterances").drop(columns="seconds"), before)

    def test_more_utterances_only_add(self, copied: Run, undrawn: None) -> None:
        before = copied.rows("utterances")
        only = write_experiment(copied.folder / "fewer.yaml", systems={"vq": TINY["systems"]["vq"]})
        lines = len(journal(copied.folder))
        assert evalkit("run", only, "--out", copied.folder, "--set", "data.test.limit=3", "--workers", 1).status == 0
        assert len(journal(copied.folder)) == lines + 4
        kept = copied.rows("utterances").merge(before, how="inner")  # seconds included: not scored again
        assert len(kept) == 4 * 2 * 2

    def test_other_training_in_one_folder_is_refused_and_nothing_touched(self, copied: Run) -> None:
        before = {path: path.read_bytes() for path in copied.folder.rglob("*") if path.is_file()}
        outcome = evalkit("run", copied.experiment, "--out", copied.folder, "--set", "train.steps=13")
        assert "train.steps 12, not 13" in outcome.complaint
        assert {path: path.read_bytes() for path in copied.folder.rglob("*") if path.is_file()} == before


class TestKilled:
    """The same command after `kill -9`, until it ends, leaves the rows of an undisturbed run."""

    @pytest.mark.slow
    def test_during_scoring_and_training(self, finished: Run, tmp_path: Path, undrawn: None) -> None:
        systems = {"rhombic": TINY["systems"]["rhombic"]}
        experiment = write_experiment(tmp_path / "trial.yaml", systems=systems)
        folder = tmp_path / "run"
        command, output = ["run", str(experiment), "--out", str(folder), "--workers", "2"], tmp_path / "output"
        state, checkpoint = folder / "checkpoints/rhombic" / STATE, folder / "checkpoints/rhombic" / CONFIG

        kill_when(command, output, lambda: len(journal(folder)) > 1)
        scored = len(journal(folder))
        assert not state.exists()
        kill_when(command, output, state.exists)
        assert not checkpoint.exists(), "killed too late to tell"
        assert len(journal(folder)) >= max(scored, 6)
        kill_when(command, output, lambda: any("rhombic" in json.dumps(line)[:60] for line in journal(folder)))
        assert not (folder / "utterances.parquet").exists(), "killed too late to tell"
        first_time = checkpoint.stat().st_mtime_ns
        assert evalkit("run", experiment, "--out", folder, "--workers", 2).status == 0

        assert checkpoint.stat().st_mtime_ns == first_time
        names = [*KNOWN_ANSWERS, "rhombic"]
        for name, drop in (("utterances", ["seconds"]), ("systems", TIMED), ("codes", [])):
            undisturbed = finished.rows(name)
            undisturbed = undisturbed[undisturbed["system"].isin(names)].reset_index(drop=True)
            pd.testing.assert_frame_equal(rows(folder, name).drop(columns=drop), undisturbed.drop(columns=drop),
                                          check_dtype=False)  # fmt: skip
        assert not [line for line in keys(folder) if keys(folder).count(line) > 1], "scored twice"


def keys(folder: Path) -> list[tuple[str, str]]:
    records = [line["utterance_record"] for line in journal(folder) if "utterance_record" in line]
    return [(record["system"], record["utterance"]) for record in records]


def kill_when(command: list[str], output: Path, condition: Callable[[], bool]) -> None:
    """Start `command` and end it with SIGKILL as soon as `condition` holds."""
    process = warm.start_evalkit(*command, output=output)
    warm.wait_until(condition, process, output)
    process.kill()
    process.join()
