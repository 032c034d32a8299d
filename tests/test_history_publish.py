"""Publishing: what a publication holds, that it is one and the same for one run, and what changed since the last."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.cli.history import change_lines
from evalkit.history import publish as publishing
from evalkit.history.migrations import HistoryError
from evalkit.history.publication import Publication, folder_name, read_publication, slug
from evalkit.history.publish import publish
from evalkit.report.against_paper import published_table
from evalkit.run.saved_run import RunError, load_run
from tests.command import evalkit
from tests.published_runs import METRICS, SYSTEMS, write_run

RESULTS = Path(__file__).parents[1] / "results"
HOSTILE = "<script>alert(1)</script> \"'& ../../../etc/passwd \\ \U0001f600 \u202eabc" + "x" * 250


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Publication]:
    """The committed run `backbone` and sweep `q2d2-ablation`, published anew."""
    store = tmp_path_factory.mktemp("published")
    return {name: publish(RESULTS / name, store).publication for name in ("backbone", "q2d2-ablation")}


def small_run(folder: Path, **options: Any) -> Path:
    return write_run(folder, **({"systems": SYSTEMS[:2], "metrics": ("pesq",)} | options))


def changes(publication: Publication) -> pd.DataFrame:
    return publication.changes.to_pandas()


class TestWhatItHolds:
    def test_all_rows_as_the_run_had_them(self, tmp_path):
        run = write_run(tmp_path / "run")
        done = publish(run, tmp_path / "store", note="a first one")
        assert done.is_new
        assert done.publication.folder.parent == tmp_path / "store" / "published" / "nightly"
        kept, own = load_run(done.publication.folder), load_run(run)
        for name in ("utterances", "systems", "codes", "signals"):
            pd.testing.assert_frame_equal(getattr(kept, name), getattr(own, name))
        assert kept.description == own.description
        values = done.publication.values
        assert values["note"] == "a first one"
        assert values["made"] == "2026-01-01T00:00:00+00:00"
        assert values["made_from"] == "run.json"
        assert values["commit"] == "abc0000"
        assert values["boards"] == [{"dataset": "librispeech/test-clean", "protocol": "strict", "n": 48}]
        assert values["metrics"]["pesq"] == ["1"]

    def test_the_summary_says_what_the_run_says(self, published):
        publication = published["backbone"]
        summary = load_run(RESULTS / "backbone").summary().set_index("system")
        rows = publication.summary.to_pandas()
        assert set(rows["system"]) == set(summary.index)
        for row in rows[rows["n_ok"] > 0].to_dict("records"):
            own = summary.loc[row["system"]]
            for key, column in (("mean", ""), ("low", "_low"), ("high", "_high"), ("n_ok", "_n_ok")):
                assert row[key] == own[f"{row['metric']}{column}"]
        lost = rows[rows["metric"] == "utmos"]
        assert (lost["n_unavailable"] == lost["n_total"]).all()
        assert lost["detail"].str.contains("the weights are missing").all()
        kbps = rows[rows["metric"] == "kbps"].set_index("system")["mean"]
        pd.testing.assert_series_equal(kbps, summary["kbps"].dropna(), check_names=False, check_like=True)

    def test_training_curves_in_one_file(self, published):
        own, kept = load_run(RESULTS / "backbone").training, load_run(published["backbone"].folder).training
        assert set(kept) == set(own) != set()
        for name, curve in own.items():
            pd.testing.assert_frame_equal(kept[name], curve, check_like=True, check_dtype=False)

    def test_a_sweep_with_its_tables(self, published):
        publication = published["q2d2-ablation"]
        assert publication.is_sweep
        pd.testing.assert_frame_equal(
            load_run(publication.folder).utterances, load_run(RESULTS / "q2d2-ablation").utterances
        )
        claims = pd.read_parquet(publication.folder / "claims.parquet")
        assert len(claims) == len(pd.read_csv(RESULTS / "q2d2-ablation" / "tables" / "claims.csv"))

    def test_no_use_of_codes_that_were_seen_too_seldom(self, published):
        """As in the sweep's tables: E8 has a codebook of 1,035,121 codes, seen in 13,000 frames."""
        rows = published["q2d2-ablation"].summary.to_pandas().query("metric == 'utilization_percent'")
        families = rows["system"].str.split("-").str[0]
        assert set(families) == {"rhombic", "rectangular", "hexagonal", "d4", "fsq", "rvq"}

    def test_every_file_is_listed_with_its_digest(self, tmp_path):
        publication = publish(write_run(tmp_path / "run"), tmp_path / "store").publication
        listed = set(publication.values["files"]) | {"publication.json"}
        assert {path.name for path in publication.folder.iterdir()} == listed
        mode = publication.folder.stat().st_mode & 0o777
        assert mode == 0o755

    def test_a_papers_numbers_as_the_run_had_them(self, tmp_path):
        run = shutil.copytree(RESULTS / "q2d2-table", tmp_path / "run")
        own = published_table(load_run(run))
        done = publish(run, tmp_path / "store")
        kept = published_table(load_run(done.publication.folder))
        assert own is not None
        assert kept is not None
        assert kept.lines == own.lines
        assert "published.csv" in done.publication.values["files"]
        (done.publication.folder / "published.csv").unlink()
        with pytest.raises(HistoryError, match=r"published\.csv is missing"):
            read_publication(done.publication.folder)


class TestTheSameRunAgain:
    def test_is_the_same_folder_and_says_so(self, tmp_path):
        run = small_run(tmp_path / "run")
        first = evalkit("publish", run, "--to", tmp_path / "store")
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")}
        again = evalkit("publish", run, "--to", tmp_path / "store", width=400)
        assert (first.status, again.status) == (0, 0)
        assert again.out.startswith("already published, nothing changed: ")
        assert {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")} == before

    def test_whenever_the_files_were_written(self, tmp_path):
        run = small_run(tmp_path / "run", finished=None)
        shutil.copytree(run, tmp_path / "copy")
        first = publish(run, tmp_path / "store")
        os.utime(tmp_path / "copy" / "utterances.parquet", (1e9, 1e9))
        again = publish(tmp_path / "copy", tmp_path / "store")
        assert not again.is_new
        assert again.publication.folder == first.publication.folder

    def test_one_score_makes_another(self, tmp_path):
        first = publish(small_run(tmp_path / "run"), tmp_path / "store")
        rows = pd.read_parquet(tmp_path / "run" / "utterances.parquet")
        rows.loc[0, "value"] += 1e-9
        rows.to_parquet(tmp_path / "run" / "utterances.parquet")
        second = publish(tmp_path / "run", tmp_path / "store")
        assert second.is_new
        assert second.publication.values["digest"] != first.publication.values["digest"]

    def test_another_note_is_refused(self, tmp_path):
        run = small_run(tmp_path / "run")
        publish(run, tmp_path / "store", note="one")
        assert not publish(run, tmp_path / "store").is_new
        with pytest.raises(HistoryError, match="with the note 'one': delete that folder"):
            publish(run, tmp_path / "store", note="two")

    def test_another_name_is_another_publication(self, tmp_path):
        run = small_run(tmp_path / "run")
        publish(run, tmp_path / "store")
        named = publish(run, tmp_path / "store", name="weekly").publication
        assert named.name == "weekly"
        assert named.folder.parent.name == "weekly"


@pytest.fixture(scope="module")
def first_night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one run of day 1."""
    root = tmp_path_factory.mktemp("first")
    publish(small_run(root / "run", day=1), root / "store")
    return root / "store"


class TestChanges:
    def test_a_change_is_marked_with_its_direction(self, tmp_path):
        publish(write_run(tmp_path / "a", day=0), tmp_path / "store")
        worse = write_run(tmp_path / "b", day=1, quality={"fsq": -0.6})
        outcome = evalkit("publish", worse, "--to", tmp_path / "store", width=200)
        (folder,) = (tmp_path / "store" / "published" / "nightly").glob("20260102*")
        found = changes(read_publication(folder)).set_index(["system", "metric"])
        assert len(found) == len(SYSTEMS) * len(METRICS)
        assert (found.loc["fsq", "verdict"] == "worse").all()
        assert found.loc[("fsq", "pesq"), "difference"] == pytest.approx(-0.12, abs=0.05)
        assert found.loc[("fsq", "mel_distance"), "difference"] > 0
        assert set(found.query("system != 'fsq'")["verdict"]) == {""}
        assert "compared with what was before: 6 of 24 differ" in outcome.out
        assert "▼ fsq: PESQ -0.1" in outcome.out

    def test_noise_is_not(self, tmp_path):
        """A step has a mark with a chance of at most 5 %; 4 or more of 12 steps then have one with 0.002."""
        marked = 0
        for day in range(13):
            run = write_run(tmp_path / str(day), day=day, systems=SYSTEMS[1:3], metrics=("pesq", "stoi"))
            found = changes(publish(run, tmp_path / "store").publication)
            assert len(found) == (4 if day else 0)
            marked += bool((found["verdict"] != "").any())
        assert marked <= 3

    def test_equal_scores_are_no_test(self, tmp_path):
        publish(small_run(tmp_path / "a", day=0), tmp_path / "store")
        later = small_run(tmp_path / "b", day=0, finished="2026-02-01T00:00:00+00:00")
        found = changes(publish(later, tmp_path / "store").publication)
        assert (found["difference"] == 0).all()
        assert found["p_holm"].isna().all()

    def test_too_few_units_are_said(self, tmp_path):
        """Six utterances, each of another speaker: the smallest p there can be is 1/32, times 18 comparisons."""
        for day in (0, 1):
            run = write_run(tmp_path / str(day), day=day, quality={"fsq": 5.0 * day}, utterances=6)
            outcome = evalkit("publish", run, "--to", tmp_path / "store", width=200)
        assert "compared with what was before: 0 of 24 differ" in outcome.out
        assert "With 6 units and 18 comparisons the smallest corrected p there can be is 0.56" in outcome.out

    @pytest.mark.parametrize(
        "other",
        [
            {"utterances": 36}, {"audio": "again-"}, {"protocol": "paper"}, {"dataset": "ljspeech/gt"}, {"name": "x"},
            {"versions": dict.fromkeys(METRICS, "2")}, {"day": 0},
        ],
    )  # fmt: skip
    def test_only_with_what_compares(self, tmp_path, first_night, other):
        shutil.copytree(first_night, tmp_path / "store")
        run = small_run(tmp_path / "b", **({"day": 2} | other))
        assert len(changes(publish(run, tmp_path / "store").publication)) == 0

    def test_what_is_damaged_is_named_and_passed_over(self, tmp_path):
        first = publish(small_run(tmp_path / "a", day=0), tmp_path / "store").publication
        broken = publish(small_run(tmp_path / "b", day=1), tmp_path / "store").publication
        (broken.folder / "summary.parquet").unlink()
        done = publish(small_run(tmp_path / "c", day=2), tmp_path / "store")
        assert set(changes(done.publication)["predecessor"]) == {first.id}
        (told,) = done.damaged
        assert str(broken.folder / "summary.parquet") in told

    def test_what_was_not_compared_is_said(self, tmp_path):
        publish(small_run(tmp_path / "a", name="x"), tmp_path / "store")
        other = small_run(tmp_path / "b", name="x", day=1, systems=("ground-truth", "renamed"))
        first, second, *_ = change_lines(publish(other, tmp_path / "store").publication)
        assert first.startswith("compared with what was before, known answers only: 0 of")
        assert second.startswith("not compared: renamed; ")


class TestRefused:
    def test_what_is_no_run(self, tmp_path):
        with pytest.raises(RunError, match="no such folder"):
            publish(tmp_path / "nothing", tmp_path / "store")
        assert not (tmp_path / "store").exists()

    def test_a_publication(self, tmp_path):
        publication = publish(small_run(tmp_path / "run"), tmp_path / "store").publication
        with pytest.raises(HistoryError, match="is a publication already: copy its folder"):
            publish(publication.folder, tmp_path / "other")

    def test_rows_of_two_versions_of_a_metric(self, tmp_path):
        run = small_run(tmp_path / "run")
        rows = pd.read_parquet(run / "utterances.parquet")
        rows.loc[0, "version"] = "2"
        rows.to_parquet(run / "utterances.parquet")
        complaint = evalkit("publish", run, "--to", tmp_path / "store").complaint
        assert "run cannot be published: pesq was scored by versions 1, 2" in complaint

    def test_an_empty_name(self, tmp_path):
        with pytest.raises(HistoryError, match="the name is empty"):
            publish(small_run(tmp_path / "run"), tmp_path / "store", name=" ")

    def test_nothing_half_written_is_left(self, tmp_path, monkeypatch):
        def full(*args: object, **options: object) -> None:
            raise OSError(28, "No space left on device")

        run = small_run(tmp_path / "run")
        monkeypatch.setattr(publishing, "write_atomically", full)
        with pytest.raises(OSError, match="No space left"):
            publish(run, tmp_path / "store")
        assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
        monkeypatch.undo()
        assert publish(run, tmp_path / "store").is_new


class TestWhen:
    def test_told_by_the_user_where_the_run_does_not_say(self, tmp_path):
        run = small_run(tmp_path / "run", finished=None)
        outcome = evalkit("publish", run, "--to", tmp_path / "store", "--made", "2026-03-04")
        assert outcome.status == 0
        (folder,) = (tmp_path / "store" / "published" / "nightly").iterdir()
        assert folder.name.startswith("20260304T000000Z-")
        assert json.loads((folder / "publication.json").read_text())["made_from"] == "--made"

    def test_not_against_the_run(self, tmp_path):
        run = small_run(tmp_path / "run")
        complaint = evalkit("publish", run, "--to", tmp_path / "store", "--made", "2026-03-04").complaint
        assert "run.json says when it was made, 2026-01-01T00:00:00+00:00: leave out --made" in complaint

    def test_else_the_time_of_its_rows_and_that_is_said(self, tmp_path):
        small_run(tmp_path / "run", finished=None)
        os.utime(tmp_path / "run" / "utterances.parquet", (1e9, 1e9))
        outcome = evalkit("publish", tmp_path / "run", "--to", tmp_path / "store", width=200)
        assert "note: when it was made is the time of its utterances.parquet, 2001-09-09T01:46:40+00:00" in outcome.out


class TestNames:
    def test_hostile_ones_stay_in_the_store_and_are_kept_as_they_are(self, tmp_path):
        run = write_run(tmp_path / "deep" / "run", name=HOSTILE, systems=(HOSTILE, "..", "a/b", ""))
        publication = publish(run, tmp_path / "deep" / "store", note=HOSTILE).publication
        assert publication.name == HOSTILE
        assert set(publication.summary["system"].to_pylist()) == {HOSTILE, "..", "a/b", ""}
        assert {path.name for path in tmp_path.iterdir()} == {"deep"}
        assert {path.name for path in (tmp_path / "deep").iterdir()} == {"run", "store"}
        assert publication.folder.resolve().is_relative_to((tmp_path / "deep" / "store" / "published").resolve())

    @given(st.text(max_size=60) | st.just(HOSTILE))
    def test_a_slug_is_a_plain_file_name(self, name):
        for made in (slug(name), folder_name(name)):
            assert 1 <= len(made) <= 49
            assert all(letter in "abcdefghijklmnopqrstuvwxyz0123456789-" for letter in made)

    @given(st.lists(st.text(max_size=9), min_size=1, max_size=3), st.lists(st.text(max_size=9), min_size=1, max_size=3))
    def test_other_names_have_another_slug(self, one, other):
        assert (slug(*one) == slug(*other)) == (one == other)

    def test_a_plain_name_stays(self):
        assert folder_name("q2d2-table") == "q2d2-table"
        assert folder_name("Q2D2") != "q2d2"
