"""Stores of publications: read back in order, in every version of their form, with what is damaged named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from evalkit.history.archive import read_history
from evalkit.history.changes import find_steps
from evalkit.history.migrations import MIGRATIONS, HistoryError, Stored, migrate
from evalkit.history.publication import read_publication
from evalkit.history.publish import publish
from tests.published_runs import write_run

RESULTS = Path(__file__).parents[1] / "results"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Three publications, days 0, 1 and 2, published in another order."""
    for day in (1, 0, 2):
        publish(write_run(tmp_path / f"run{day}", day=day), tmp_path / "store")
    return tmp_path / "store"


class TestReading:
    def test_in_the_order_in_which_the_runs_were_made(self, store):
        history = read_history(store)
        assert [publication.made.day for publication in history.publications] == [1, 2, 3]
        assert history.damaged == ()
        rows = history.rows()
        assert len(rows) == sum(publication.summary.num_rows for publication in history.publications)
        assert set(rows["position"]) == {0, 1, 2}

    def test_one_run_published_under_two_times_is_one(self, store):
        (folder,) = (store / "published" / "nightly").glob("20260101*")
        shutil.copytree(folder, folder.with_name(folder.name.replace("20260101", "20260105")))
        assert len(read_history(store).publications) == 3

    def test_what_a_killed_publish_left_is_not_looked_at(self, store):
        (store / "published" / "nightly" / ".part-abc").mkdir()
        assert read_history(store).damaged == ()

    @pytest.mark.parametrize(
        ("make", "told"),
        [
            (lambda folder: None, "no such folder; evalkit publish RUN --to"),
            (lambda folder: folder.mkdir(), "holds nothing published"),
            (lambda folder: write_run(folder), "is one run; give the folder that holds published ones"),
        ],
    )
    def test_what_is_no_store(self, tmp_path, make, told):
        make(tmp_path / "store")
        with pytest.raises(HistoryError, match=told):
            read_history(tmp_path / "store")


class TestFirstVersion:
    """A store whose entries are plain folders of runs: run.json and rows, no signals, no summary."""

    @pytest.fixture
    def old(self, tmp_path: Path) -> Path:
        for day in (0, 1):
            run = write_run(tmp_path / "old" / f"nightly-{day}", day=day)
            (run / "signals.parquet").unlink()
        return tmp_path / "old"

    def test_is_brought_to_the_present_form(self, old, tmp_path):
        migrated = read_history(old).publications
        published = [publish(old / f"nightly-{day}", tmp_path / "new").publication for day in (0, 1)]
        for before, now in zip(migrated, published, strict=True):
            assert before.id == now.id
            assert before.summary.equals(now.summary)
            assert before.values == {key: value for key, value in now.values.items() if key != "files"}
        assert set(migrated[0].summary["references"].to_pylist()) == {""}

    def test_is_shown_once_where_it_was_published_since(self, old):
        publish(old / "nightly-0", old)
        history = read_history(old)
        assert [publication.folder.parent.name for publication in history.publications] == ["nightly", "old"]

    def test_the_migration_takes_plain_values_and_frames(self, old):
        run = old / "nightly-0"
        values = json.loads((run / "run.json").read_text()) | {
            "name": "nightly", "title": "Nightly", "made": "2026-01-01T00:00:00+00:00", "made_from": "run.json",
            "digest": "abc",
        }  # fmt: skip
        frames = {name: pd.read_parquet(run / f"{name}.parquet") for name in ("utterances", "systems")}
        stored = migrate(Stored(values, frames), 1, "sample", MIGRATIONS)
        assert stored.values["schema_version"] == 2
        assert stored.values["kind"] == "run"
        assert stored.values["commit"] == "abc0000"
        pesq = stored.frames["summary"].query("metric == 'pesq' and system == 'fsq'").iloc[0]
        mean = frames["utterances"].query("metric == 'pesq' and system == 'fsq'")["value"].mean()
        assert pesq["mean"] == pytest.approx(mean)
        assert pesq["n_ok"] == 48

    def test_every_step_is_taken_in_turn(self):
        steps = {number: lambda stored, number=number: Stored({"took": [*stored.values["took"], number]}, {})
                 for number in (1, 2, 3)}  # fmt: skip
        assert migrate(Stored({"took": []}, {}), 2, "x", steps).values["took"] == [2, 3]
        assert migrate(Stored({"took": []}, {}), 4, "x", steps).values["took"] == []

    def test_committed_results_are_such_a_store(self):
        history = read_history(RESULTS)
        assert {"tiny", "opus", "q2d2-ablation"} <= {publication.name for publication in history.publications}
        assert history.damaged == ()


class TestDamage:
    def damage(self, store: Path, name: str, text: bytes | None) -> Path:
        (folder,) = (store / "published" / "nightly").glob("20260102*")
        if text is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(text)
        return folder / name

    @pytest.mark.parametrize(
        ("name", "text", "told"),
        [
            ("publication.json", b"{", "is damaged"),
            ("publication.json", b"[]", "expected keys and values"),
            ("publication.json", b'{"schema_version": 2}', "is damaged: 'made' is missing"),
            ("publication.json", b'{"schema_version": "two"}', "has schema version 'two': not one of 1 to 2"),
            ("publication.json", b'{"schema_version": 3}', "has schema version 3, this evalkit reads up to 2: install"),
            ("summary.parquet", None, "is missing: get it back"),
            ("summary.parquet", b"PAR1", "is damaged: 4 bytes, not"),
            ("utterances.parquet", None, "is missing"),
        ],
    )
    def test_is_named_and_the_rest_is_read(self, store, name, text, told):
        path = self.damage(store, name, text)
        history = read_history(store)
        assert len(history.publications) == 2
        (line,) = history.damaged
        assert line.startswith(f"{path} ")
        assert told in line
        assert "\n" not in line

    def test_changed_numbers_are_found(self, store):
        (folder,) = (store / "published" / "nightly").glob("20260102*")
        raw = bytearray((folder / "summary.parquet").read_bytes())
        raw[len(raw) // 2] ^= 1
        self.damage(store, "summary.parquet", bytes(raw))
        (line,) = read_history(store).damaged
        assert "its SHA-256 is not the one in publication.json" in line

    def test_a_time_without_zone(self, store):
        (folder,) = (store / "published" / "nightly").glob("20260102*")
        values = json.loads((folder / "publication.json").read_text()) | {"made": "2026-01-02T00:00:00"}
        path = self.damage(store, "publication.json", json.dumps(values).encode())
        with pytest.raises(HistoryError, match="made names no time zone"):
            read_publication(path.parent)

    def test_a_folder_without_its_description(self, store):
        self.damage(store, "publication.json", None)
        (folder,) = (store / "published" / "nightly").glob("20260102*")
        (folder / "run.json").unlink()
        (line,) = read_history(store).damaged
        assert "publication.json is missing" in line


class TestPredecessors:
    def steps(self, store: Path) -> dict[int, set[str]]:
        history = read_history(store)
        found = find_steps(history.publications, history.rows())
        return {position: {step.predecessor.split("/")[1][:8] for step in steps} for position, steps in found.items()}

    def test_are_the_newest_before(self, store):
        assert self.steps(store) == {1: {"20260101"}, 2: {"20260102"}}

    def test_never_of_another_name(self, store, tmp_path):
        publish(write_run(tmp_path / "other", day=1, name="other", finished="2026-01-02T12:00:00+00:00"), store)
        assert self.steps(store) == {1: {"20260101"}, 3: {"20260102"}}

    def test_over_a_shorter_run_between(self, store, tmp_path):
        publish(write_run(tmp_path / "short", day=3, utterances=24), store)
        publish(write_run(tmp_path / "long", day=4), store)
        assert self.steps(store)[4] == {"20260103"}

    def test_unknown_audio_may_be_the_same(self, store, tmp_path):
        run = write_run(tmp_path / "unsigned", day=3)
        (run / "signals.parquet").unlink()
        publish(run, store)
        assert self.steps(store)[3] == {"20260103"}

    def test_a_metric_of_another_version_goes_its_own_way(self, store, tmp_path):
        publish(write_run(tmp_path / "a", day=3, versions={"pesq": "2"}), store)
        publish(write_run(tmp_path / "b", day=4), store)
        history = read_history(store)
        found = find_steps(history.publications, history.rows())
        assert "pesq" not in {step.metric for step in found[3]}
        before = {step.metric: step.predecessor.split("/")[1][:8] for step in found[4]}
        assert before["pesq"] == "20260103"
        assert before["stoi"] == "20260104"
