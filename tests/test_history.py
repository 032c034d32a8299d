"""Stores of publications: read back in order, in every version of their form, with what is damaged named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from evalkit.history import archive, publication
from evalkit.history.archive import read_history
from evalkit.history.changes import find_steps
from evalkit.history.content import Site
from evalkit.history.migrations import MIGRATIONS, HistoryError, Stored, migrate
from evalkit.history.publication import read_publication
from evalkit.history.publish import publish
from tests.published_runs import write_run

RESULTS = Path(__file__).parents[1] / "results"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three publications, days 0, 1 and 2, published in another order."""
    root = tmp_path_factory.mktemp("published")
    for day in (1, 0, 2):
        publish(small_run(root / f"run{day}", day=day), root / "store")
    return root / "store"


@pytest.fixture
def store(published: Path, tmp_path: Path) -> Path:
    """A copy of `published`, to change."""
    return Path(shutil.copytree(published, tmp_path / "store"))


def small_run(folder: Path, **options: Any) -> Path:
    return write_run(folder, **({"systems": ("rhombic", "fsq"), "metrics": ("pesq", "stoi")} | options))


class TestReading:
    def test_in_the_order_in_which_the_runs_were_made(self, store):
        history = read_history(store)
        assert [publication.made.day for publication in history.publications] == [1, 2, 3]
        assert history.damaged == ()
        rows = history.rows()
        assert len(rows) == sum(publication.summary.num_rows for publication in history.publications)
        assert [row["position"] for row in rows] == sorted(row["position"] for row in rows)
        assert {row["position"] for row in rows} == {0, 1, 2}

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
            (small_run, "is one run; give the folder that holds published ones"),
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
            run = small_run(tmp_path / "old" / f"nightly-{day}", day=day)
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

    def test_is_shown_once_where_it_was_published_since(self, old, monkeypatch):
        summed = []
        monkeypatch.setattr(archive, "plain_publication", lambda run, stored: summed.append(run) or made(run, stored))
        made = publication.plain_publication
        publish(old / "nightly-0", old)
        history = read_history(old)
        assert [publication.folder.parent.name for publication in history.publications] == ["nightly", "old"]
        assert [run.folder.name for run in summed] == ["nightly-1"]

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"finished": "yesterday"}, "run.json: finished is 'yesterday': no time with a zone"),
            ({"finished": "2026-01-01T00:00:00"}, "no time with a zone"),
            ({"schema_version": 1}, "run.json has schema version 1"),
        ],
    )
    def test_what_is_wrong_in_one_is_named(self, old, change, told):
        path = old / "nightly-0" / "run.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        history = read_history(old)
        assert [each.folder.name for each in history.publications] == ["nightly-1"]
        (line,) = history.damaged
        assert told in line

    def test_rows_of_two_versions_of_a_metric_are_named(self, old):
        path = old / "nightly-0" / "utterances.parquet"
        rows = pd.read_parquet(path)
        rows.loc[0, "version"] = "2"
        rows.to_parquet(path)
        (line,) = read_history(old).damaged
        assert "nightly-0 cannot be published: pesq was scored by versions 1, 2" in line

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
            ("publication.json", b"{", "is not valid JSON"),
            ("publication.json", b"[]", "expected keys and values"),
            ("publication.json", b'{"schema_version": 2}', "is damaged: name: Field required"),
            ("publication.json", None, "is missing: "),
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
        with pytest.raises(HistoryError, match="is damaged: made: Input should have timezone info"):
            read_publication(path.parent)

    @pytest.mark.parametrize("key", ["boards", "metrics", "hardware", "note", "files", "weights_sha256"])
    def test_a_description_without_a_key(self, store, key):
        (folder,) = (store / "published" / "nightly").glob("20260102*")
        values = json.loads((folder / "publication.json").read_text())
        del values[key]
        self.damage(store, "publication.json", json.dumps(values).encode())
        (line,) = read_history(store).damaged
        assert f"is damaged: {key}: Field required" in line


class TestPredecessors:
    def steps(self, store: Path) -> dict[int, set[str]]:
        history = read_history(store)
        found = find_steps(history.publications, history.rows())
        return {position: {step.predecessor.split("/")[1][:8] for step in steps} for position, steps in found.items()}

    def test_are_the_newest_before(self, store):
        assert self.steps(store) == {1: {"20260101"}, 2: {"20260102"}}

    def test_never_of_another_name(self, store, tmp_path):
        publish(small_run(tmp_path / "other", day=1, name="other", finished="2026-01-02T12:00:00+00:00"), store)
        assert self.steps(store) == {1: {"20260101"}, 3: {"20260102"}}

    def test_over_a_shorter_run_between(self, store, tmp_path):
        publish(small_run(tmp_path / "short", day=3, utterances=24), store)
        publish(small_run(tmp_path / "long", day=4), store)
        assert self.steps(store)[4] == {"20260103"}

    def test_unknown_audio_may_be_the_same(self, store, tmp_path):
        run = small_run(tmp_path / "unsigned", day=3)
        (run / "signals.parquet").unlink()
        publish(run, store)
        assert self.steps(store)[3] == {"20260103"}

    def test_a_metric_of_another_version_goes_its_own_way(self, store, tmp_path):
        publish(small_run(tmp_path / "a", day=3, versions={"pesq": "2"}), store)
        publish(small_run(tmp_path / "b", day=4), store)
        history = read_history(store)
        found = find_steps(history.publications, history.rows())
        assert "pesq" not in {step.metric for step in found[3]}
        before = {step.metric: step.predecessor.split("/")[1][:8] for step in found[4]}
        assert before["pesq"] == "20260103"
        assert before["stoi"] == "20260104"


@pytest.mark.parametrize("name", ["tiny", "backbone", "opus", "q2d2-table", "q2d2-ablation"])
def test_committed_results_are_published(name):
    """The same run finds its place: what is committed is readable, and of these very rows."""
    done = publish(RESULTS / name, RESULTS)
    assert not done.is_new
    assert done.publication.name == name


def test_a_committed_result_is_shown_once():
    history = read_history(RESULTS)
    names = [publication.name for publication in history.publications]
    assert sorted(names) == ["backbone", "guard", "opus", "q2d2-ablation", "q2d2-table", "tiny"]
    assert history.damaged == ()


def test_runs_of_one_day_are_told_apart_by_their_time(store, tmp_path):
    publish(small_run(tmp_path / "noon", day=1, finished="2026-01-02T12:00:00+00:00"), store)
    folders = small_run(tmp_path / "folders", day=9, name="mine")
    path = folders / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"folders": {"rhombic": "decoded"}}))
    publish(folders, store)
    history = read_history(store)
    site = Site(history, history.rows(), [], {}, frozenset())
    labels = [site.label(position) for position in range(len(history.publications))]
    assert labels[0] == "2026-01-01 abc0000"
    assert [label[:19] for label in labels[1:3]] == ["2026-01-02 00:00:00", "2026-01-02 12:00:00"]
    assert labels[-1] == "2026-01-10", "evalkit's version is not the codec's"
