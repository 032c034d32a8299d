"""The site of published runs, as files: what its pages say, that links lead somewhere, what a rebuild leaves alone."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from evalkit.history import site as building
from evalkit.history import views
from evalkit.history.archive import read_history, records
from evalkit.history.boards import leaderboards
from evalkit.history.links import report_page, run_page, system_page
from evalkit.history.migrations import HistoryError
from evalkit.history.publish import publish
from evalkit.history.site import MANIFEST, Built, build_site
from evalkit.history.timeline import system_histories
from evalkit.history.views import _shares
from evalkit.text import printable
from tests.command import evalkit
from tests.published_runs import SYSTEMS, write_run

RESULTS = Path(__file__).parents[1] / "results"
HOSTILE = "<img src=x onerror=alert(1)>\"'&../../../etc/passwd \U0001f600 \u202eabc " + "x" * 250


class Page(HTMLParser):
    """Links, texts and tables of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.tips: list[str] = []
        self.texts: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        values = dict(attrs)
        if tag == "a":
            self.links.append(values["href"] or "")
        if "data-tip" in values:
            self.tips.append(values["data-tip"] or "")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def row(self, first: str) -> list[str]:
        """The first row that begins with this text."""
        return next([cell.strip() for cell in row] for row in self.rows if row and row[0].strip() == first)


def build(store: Path, out: Path) -> Built:
    return build_site(store, out, reports=False)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six nights: fsq better from day 2, PESQ by another version from day 4, fewer utterances on day 5."""
    root = tmp_path_factory.mktemp("published")
    for day in range(6):
        run = write_run(
            root / f"run{day}",
            day=day,
            quality={"fsq": 0.6 if day >= 2 else 0.0},
            versions={"pesq": "2"} if day >= 4 else None,
            utterances=36 if day == 5 else 48,
            systems=SYSTEMS[:3],
            metrics=("pesq", "stoi", "mel_distance"),
        )
        publish(run, root / "store")
    hostile = write_run(root / "hostile", name=HOSTILE, day=9, systems=(HOSTILE, "..", "a/b"), metrics=("pesq",))
    publish(hostile, root / "store", note=HOSTILE)
    for name in ("opus", "q2d2-ablation"):
        shutil.copytree(RESULTS / "published" / name, root / "store" / "published" / name)
    return root / "store"


def small_run(folder: Path, **options: Any) -> Path:
    return write_run(folder, **({"systems": ("rhombic",), "metrics": ("pesq",), "utterances": 12} | options))


@pytest.fixture(scope="module")
def site(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "site"
    assert build(store, out).damaged == ()
    return out


class TestPages:
    def test_every_link_leads_to_a_page_of_the_site(self, site):
        pages = list(site.rglob("*.html"))
        reached = {site / "index.html"}
        for page in pages:
            for link in Page(page).links:
                path, _, mark = link.partition("#")
                target = (page.parent / path).resolve() if path else page
                assert target.is_file(), f"{page} leads to {link}"
                assert target.is_relative_to(site.resolve())
                assert mark in ("", "main")
                reached.add(target)
        assert reached == {page.resolve() for page in pages} | {site / "index.html"}

    def test_the_newest_result_of_each_system(self, store, site):
        page = Page(site / "index.html")
        row = page.row("rhombic")
        first = page.row("System")
        assert [row[first.index(key)] for key in ("Run", "n", "Date", "Version")] == [
            "nightly", "36‡", "2026-01-06", "abc0005"
        ]  # fmt: skip
        (newest,) = [each for each in read_history(store).publications if each.made.day == 6]
        summary = newest.summary.to_pandas().query("system == 'rhombic'").set_index("metric")
        pesq = summary.loc["pesq"]
        half = (pesq["high"] - pesq["low"]) / 2
        assert row[first.index("PESQ (MOS-LQO) ↑")] == f"{pesq['mean']:.2f}± {half:.2f}†"  # opus is newer
        assert row[3:5] == ["20.20", "1.010"]
        interval = f"95 % interval {pesq['low']:.3f} to {pesq['high']:.3f}, n 36"
        assert f"{interval}; by another version of the metric: 2" in page.tips
        assert "unavailable" in page.row("opus-12")
        assert any("the weights are missing" in tip for tip in page.tips)

    def test_a_known_answer_has_one_row_a_codec_one_a_name(self, store, tmp_path):
        two = SYSTEMS[:2]
        publish(small_run(tmp_path / "other", name="other", day=1, systems=two), tmp_path / "store")
        publish(small_run(tmp_path / "nightly", systems=two), tmp_path / "store")
        history = read_history(tmp_path / "store")
        (board,) = leaderboards(history.publications, history.rows())
        named = [row.system for row in board.rows]
        assert named.count("ground-truth") == 1
        assert named.count("rhombic") == 2
        assert named[-1] == "ground-truth"

    def test_a_row_without_any_number_does_not_hide_an_older_one(self, tmp_path):
        three = SYSTEMS[:3]
        publish(small_run(tmp_path / "a", systems=three), tmp_path / "store")
        lost = small_run(tmp_path / "b", day=1, systems=three)
        rows = pd.read_parquet(lost / "utterances.parquet")
        of_fsq = rows["system"] == "fsq"
        rows.loc[of_fsq, ["value", "status", "detail"]] = [None, "unavailable", "no weights here"]
        rows.to_parquet(lost / "utterances.parquet")
        publish(lost, tmp_path / "store")
        history = read_history(tmp_path / "store")
        (board,) = leaderboards(history.publications, history.rows())
        assert {row.system: row.position for row in board.rows} == {"ground-truth": 1, "rhombic": 1, "fsq": 0}

    def test_what_does_not_compare_is_marked(self, tmp_path):
        two = SYSTEMS[1:3]
        publish(small_run(tmp_path / "a", name="old", systems=two), tmp_path / "store")
        newer = small_run(tmp_path / "b", name="new", day=1, systems=two, versions={"pesq": "2"})
        publish(newer, tmp_path / "store")
        build(tmp_path / "store", tmp_path / "site")
        page = Page(tmp_path / "site" / "index.html")
        assert "† by another version of the metric than the newest row" in page.text
        assert "‡" not in page.text
        assert sum(cell.strip().endswith("†") for row in page.rows for cell in row) == 2

    def test_a_system_over_time(self, store, site):
        history = read_history(store)
        changes = records([publication.changes for publication in history.publications])
        (fsq,) = [
            each
            for each in system_histories(history.publications, history.rows(), changes)
            if (each.name, each.system) == ("nightly", "fsq")
        ]
        (board,) = fsq.boards
        by_metric = {timeline.metric: timeline for timeline in board.timelines}
        assert [len(part) for part in by_metric["stoi"].segments()] == [5, 1]
        assert [len(part) for part in by_metric["pesq"].segments()] == [4, 1, 1]
        assert [point.broken for point in by_metric["pesq"].points] == [
            "", "", "", "", "metric version 1 → 2", "other utterances: 48 → 36"
        ]  # fmt: skip
        marks = [point.change and point.change["verdict"] for point in by_metric["mel_distance"].points]
        assert marks == [None, "", "better", "", "", None]
        page = Page(site / system_page("nightly", "fsq"))
        assert any(tip.startswith("2026-01-03 abc0002\n") and "better: -0.0" in tip for tip in page.tips)
        assert any("not comparable with the one before: metric version 1 → 2" in tip for tip in page.tips)

    def test_a_run_and_its_neighbours(self, store, site):
        third = read_history(store).publications[2]
        page = Page(site / run_page(third))
        assert page.text.count("▲ better") >= 3
        assert "before: 2026-01-02 abc0001" in page.text
        assert "after: 2026-01-04 abc0003" in page.text
        assert "0.1.0+gabc0002" in page.text
        assert page.row("fsq")

    def test_sweeps_with_their_verdicts(self, store, site):
        page = Page(site / "sweeps.html")
        row = page.row("q2d2-ablation")
        assert row[4] == "19"
        assert "dimension: contradicted" in row[5]
        (sweep,) = [each for each in read_history(store).publications if each.is_sweep]
        own = Page(site / run_page(sweep))
        assert any(row and row[0] == "rhombic-8x4-7x2" for row in own.rows)
        assert not (site / system_page("q2d2-ablation", "rhombic-8x4-7x2 seed 0")).exists()

    def test_hostile_names_are_text(self, site):
        assert {path.name for path in site.parent.iterdir()} == {"site"}
        for path in site.rglob("*.html"):
            page = Page(path)
            assert "img" not in page.tags
            assert not [name for name, _ in page.attributes if name.startswith("on")]
        assert HOSTILE.split()[0] in Page(site / "index.html").text
        assert printable(HOSTILE) in "".join(Page(site / system_page(HOSTILE, HOSTILE)).texts)

    def test_hostile_versions_are_text_in_charts_too(self, tmp_path):
        for day in (0, 1):
            versions = {"pesq": f"{HOSTILE}{day}"}
            publish(
                small_run(tmp_path / str(day), day=day, version=f"{day}{HOSTILE}", versions=versions),
                tmp_path / "store",
            )
        build(tmp_path / "store", tmp_path / "site")
        page = Page(tmp_path / "site" / system_page("nightly", "rhombic"))
        assert "img" not in page.tags
        assert any(printable(HOSTILE) in tip for tip in page.tips)
        assert not [name for name, _ in page.attributes if name.startswith("on")]

    def test_nothing_is_asked_of_the_network(self, site):
        for path in site.rglob("*.html"):
            text = path.read_text(encoding="utf-8")
            assert any(value and value.startswith("default-src 'none'") for _, value in Page(path).attributes)
            assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)


class TestSize:
    def test_small_boards_get_all_and_large_ones_share_the_rest(self):
        assert _shares([10, 10_000, 20], 6000) == [10, 5970, 20]
        assert _shares([9000, 9000], 6000) == [3000, 3000]
        assert _shares([], 6000) == []

    def test_the_index_is_cut_and_says_so(self, tmp_path, monkeypatch):
        monkeypatch.setattr(views, "INDEX_CELLS", 120)
        monkeypatch.setattr(views, "PAGE_ROWS", 10)
        names = ["ground-truth", *(f"codec-{number}" for number in range(20))]
        publish(small_run(tmp_path / "run", systems=names, utterances=6), tmp_path / "store")
        build(tmp_path / "store", tmp_path / "site")
        index = Page(tmp_path / "site" / "index.html")
        found = re.search(r"The newest (\d+) of (\d+) systems: all of them", index.text)
        assert found
        assert int(found[1]) < int(found[2]) == len(names)
        assert len(index.rows) == int(found[1]) + 1
        paths = sorted((tmp_path / "site" / "boards").iterdir(), key=lambda path: (len(path.name), path.name))
        boards = [Page(path) for path in paths]
        assert [len(board.rows) - 1 for board in boards] == [10, 10, 1]
        assert "here 11 to 20" in boards[1].text
        assert set(boards[0].links) >= {link for link in boards[1].links if "boards/" in link}


@pytest.fixture(scope="module")
def two_nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("small")
    for day in (0, 1):
        publish(small_run(root / f"run{day}", day=day), root / "store")
    return root / "store"


class TestBuildingAgain:
    @pytest.fixture
    def small(self, two_nights: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(two_nights, tmp_path / "store"))

    def test_leaves_what_did_not_change(self, small, tmp_path):
        build(small, tmp_path / "site")
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "site").rglob("*.html")}
        assert build(small, tmp_path / "site").removed == 0
        assert {path: path.stat().st_mtime_ns for path in (tmp_path / "site").rglob("*.html")} == before

    def test_removes_its_own_pages_and_nothing_else(self, small, tmp_path):
        build(small, tmp_path / "site")
        (gone, _) = read_history(small).publications
        (tmp_path / "site" / "runs" / "mine.txt").write_text("mine")
        (tmp_path / "site" / "CNAME").write_text("codecs.example")
        (gone.folder / "publication.json").unlink()
        for path in gone.folder.iterdir():
            path.unlink()
        gone.folder.rmdir()
        assert build(small, tmp_path / "site").removed == 1
        assert not (tmp_path / "site" / run_page(gone)).exists()
        assert (tmp_path / "site" / "runs" / "mine.txt").read_text() == "mine"
        assert (tmp_path / "site" / "CNAME").exists()

    def test_never_removes_what_a_manifest_names_outside(self, small, tmp_path):
        build(small, tmp_path / "site")
        victims = [tmp_path / "victim.html", tmp_path / "site" / "other" / "victim.html"]
        for victim in victims:
            victim.parent.mkdir(exist_ok=True)
            victim.write_text("precious")
        names = ["../victim.html", "runs/../../victim.html", str(victims[0]), "other/victim.html", "runs/..html"]
        manifest = tmp_path / "site" / MANIFEST
        manifest.write_text(json.dumps({"files": [*json.loads(manifest.read_text())["files"], *names]}))
        assert build(small, tmp_path / "site").removed == 0
        assert [victim.read_text() for victim in victims] == ["precious"] * 2

    @pytest.mark.parametrize("page", ["index.html", "runs.html"])
    def test_replaces_no_page_of_somebody_else(self, small, tmp_path, page):
        (tmp_path / "site").mkdir()
        (tmp_path / "site" / page).write_text("mine")
        with pytest.raises(HistoryError, match=f"{page} is not from an earlier build of this site: choose another"):
            build(small, tmp_path / "site")
        assert (tmp_path / "site" / page).read_text() == "mine"

    def test_goes_on_after_one_that_was_cut_off(self, small, tmp_path, monkeypatch):
        def cut(what: str, done: int, total: int) -> None:
            if what == "pages" and done == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            build_site(small, tmp_path / "site", reports=False, progress=cut)
        assert build(small, tmp_path / "site").damaged == ()

    def test_a_damaged_manifest_is_refused(self, small, tmp_path):
        build(small, tmp_path / "site")
        (tmp_path / "site" / MANIFEST).write_text("{")
        with pytest.raises(HistoryError, match="is damaged"):
            build(small, tmp_path / "site")


class TestChanges:
    def test_kept_ones_are_not_computed_again(self, store, tmp_path, monkeypatch):
        def never(*args: object) -> None:
            raise AssertionError("compared again")

        monkeypatch.setattr(building, "compare_steps", never)
        build(store, tmp_path / "site")

    def test_a_run_published_late_is_what_the_next_is_compared_with(self, tmp_path):
        """A branch brings day 1 after day 2 was published: day 2 then differs from day 1, not from day 0."""
        for day, better in ((0, 0.0), (2, 0.8), (1, 0.8)):
            run = small_run(tmp_path / f"run{day}", day=day, quality={"rhombic": better}, utterances=48)
            publish(run, tmp_path / "store")
        build(tmp_path / "store", tmp_path / "site")
        page = Page(tmp_path / "site" / system_page("nightly", "rhombic"))
        assert [tip.split()[0] for tip in page.tips if "better: +" in tip and tip.startswith("2026")] == ["2026-01-02"]


class TestReports:
    @pytest.fixture
    def written(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Names of the publications whose report was written, by a stand-in: the page itself has its own tests."""
        names: list[str] = []

        def write(publication: object, path: Path) -> None:
            names.append(publication.id)  # type: ignore[attr-defined]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("report")

        monkeypatch.setattr(building, "write_report", write)
        return names

    def test_only_what_is_missing_or_old_is_written(self, tmp_path, written):
        runs = [publish(small_run(tmp_path / str(day), day=day), tmp_path / "store").publication for day in (0, 1)]
        first = build_site(tmp_path / "store", tmp_path / "site", reports=True)
        assert (first.reports, first.new_reports) == (2, 2)
        again = build_site(tmp_path / "store", tmp_path / "site", reports=True)
        assert (again.reports, again.new_reports) == (2, 0)
        (tmp_path / "site" / report_page(runs[0])).unlink()
        assert build_site(tmp_path / "store", tmp_path / "site", reports=True).new_reports == 1
        assert written == [runs[0].id, runs[1].id, runs[0].id]

    def test_are_linked_and_kept_by_a_build_without(self, tmp_path, written):
        run = publish(small_run(tmp_path / "run"), tmp_path / "store").publication
        build_site(tmp_path / "store", tmp_path / "site", reports=True)
        assert build(tmp_path / "store", tmp_path / "site").reports == 1
        assert f"../{report_page(run)}" in Page(tmp_path / "site" / run_page(run)).links
        assert report_page(run) in Page(tmp_path / "site" / "runs.html").links

    def test_the_real_one(self, tmp_path):
        run = publish(small_run(tmp_path / "run"), tmp_path / "store").publication
        built = build_site(tmp_path / "store", tmp_path / "site", reports=True)
        assert built.damaged == ()
        assert "rhombic" in (tmp_path / "site" / report_page(run)).read_text(encoding="utf-8")


class TestCommand:
    def test_says_what_it_did(self, store, tmp_path):
        outcome = evalkit("dashboard", store, "--out", tmp_path / "site", "--no-reports", width=200)
        assert outcome.status == 0
        assert re.search(r"^9 runs, \d+ pages, of these 0 reports \(0 new\)$", outcome.out, re.MULTILINE)
        assert f"open {tmp_path / 'site' / 'index.html'}" in outcome.out

    def test_damage_is_named_at_the_end_and_the_rest_is_built(self, tmp_path):
        torn = publish(small_run(tmp_path / "a", day=0), tmp_path / "store").publication
        (torn.folder / "publication.json").write_text("{")
        shutil.copytree(RESULTS / "published" / "q2d2-ablation", tmp_path / "store" / "published" / "q2d2-ablation")
        (table,) = (tmp_path / "store" / "published" / "q2d2-ablation").glob("*/configurations.parquet")
        table.write_bytes(b"X" * table.stat().st_size)
        publish(small_run(tmp_path / "b", day=1), tmp_path / "store")
        outcome = evalkit("dashboard", tmp_path / "store", "--out", tmp_path / "site", "--no-reports", width=400)
        assert outcome.status == 1
        lines = [line for line in outcome.out.splitlines() if line.startswith("left out: ")]
        assert len(lines) == 2
        assert "publication.json cannot be read: it is not valid JSON" in lines[0]
        assert "configurations.parquet is damaged" in lines[1]
        assert Page(tmp_path / "site" / "index.html").row("rhombic")

    def test_nothing_readable_is_an_error(self, tmp_path):
        run = publish(small_run(tmp_path / "a"), tmp_path / "store").publication
        (run.folder / "publication.json").write_text("{")
        complaint = evalkit("dashboard", tmp_path / "store", "--out", tmp_path / "site").complaint
        assert "nothing in it can be read; " in complaint
        assert not (tmp_path / "site").exists()
