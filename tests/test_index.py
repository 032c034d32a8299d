"""Indexing speech into a manifest, and the manifest as a dataset to train and test on."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

from evalkit.datasets import DATASETS, DatasetError, check_corpus, load_corpus
from evalkit.datasets.corpus import Problem, map_in_threads
from evalkit.datasets.index import index_files
from evalkit.datasets.selection import select_manifest, select_utterances
from evalkit.run.experiment import load_experiment
from evalkit.run.plan import Plan, make_plan
from q2d2.training.manifest import AudioFile, Manifest, ManifestError, write_manifest
from tests.command import evalkit, write_experiment

RATE = 16_000


@pytest.fixture(autouse=True)
def _no_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in DATASETS.names():
        monkeypatch.delenv(f"EVALKIT_{name.upper()}_ROOT", raising=False)


def write(path: Path, seconds: float = 0.5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(len(path.name)).uniform(-0.5, 0.5, round(seconds * RATE))
    soundfile.write(path, samples, RATE)
    return path


def indexed(tmp_path: Path, *sources: object) -> tuple[Manifest, list[Problem]]:
    left_out: list[Problem] = []
    counts: dict[str, list[int]] = {}

    def progress(source: str, done: int, total: int | None) -> None:
        counts.setdefault(source, []).append(done)

    index_files(tmp_path / "out" / "x.arrow", [str(source) for source in sources], left_out.append, progress)
    manifest = Manifest.open(tmp_path / "out" / "x.arrow")
    assert all(seen == sorted(seen) for seen in counts.values())
    assert sum(max(seen) for seen in counts.values()) == len(manifest) + len(left_out)
    return manifest, left_out


class TestSources:
    def test_a_folder_is_read_in_order_and_bad_files_are_left_out_by_name(self, tmp_path: Path) -> None:
        folder = tmp_path / "speech"
        good = [write(folder / name) for name in ("z.wav", "a/10.flac", "a/9.flac", "b/c/x.ogg")]
        (folder / "empty.wav").touch()
        (folder / "film.m4a").write_bytes(b"x")
        write(folder / "short.wav", 0.05)
        (folder / "notes.txt").touch()
        manifest, left_out = indexed(tmp_path, folder)
        assert [file.path for file in manifest] == [good[0], *good[1:]]
        assert {file.sample_rate for file in manifest} == {RATE}
        assert manifest[0].frames == RATE // 2
        reasons = {problem.path.name: problem.reason for problem in left_out}
        assert list(reasons) == ["empty.wav", "film.m4a", "short.wav"]
        assert "empty file" in reasons["empty.wav"]
        assert "too short" in reasons["short.wav"]

    def test_a_dataset_by_name_part_and_root(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        root = tmp_path / "here@home"
        for name in ("61-70968-0001", "61-70968-0000"):
            write(root / "LibriSpeech" / "dev-clean" / "61" / "70968" / f"{name}.flac")
        (root / "LibriSpeech" / "dev-clean" / "61" / "70968" / "61-70968-0002.flac").touch()
        manifest, left_out = indexed(tmp_path, f"librispeech:dev-clean@{root}", "sample:train")
        assert [file.path.stem for file in manifest][:2] == ["61-70968-0000", "61-70968-0001"]
        assert len(manifest) == 2 + 24
        assert [problem.path.stem for problem in left_out] == ["61-70968-0002"]
        monkeypatch.setenv("EVALKIT_LIBRISPEECH_ROOT", str(root))
        assert list(indexed(tmp_path, "librispeech:dev-clean", "sample:train")[0]) == list(manifest)
        with pytest.raises(DatasetError, match="Did you mean 'dev-clean'"):
            indexed(tmp_path, "librispeech:devclean")

    def test_a_list_is_trusted_where_it_gives_a_length(self, tmp_path: Path) -> None:
        here = write(tmp_path / "lists" / "here.wav")
        (tmp_path / "lists" / "files.csv").write_text(
            "text,path,frames,sample_rate\n"
            f'"one, two",{here},,\n'
            "far,/far/away.flac,48000,24000\n"
            "rate only,here.wav,,16000\n"
            "short,short.wav,100,24000\n"
            "gone,gone.wav,,\n",
            encoding="utf-8-sig",
        )
        manifest, left_out = indexed(tmp_path, tmp_path / "lists" / "files.csv")
        known, far = AudioFile(here, RATE // 2, RATE), AudioFile(Path("/far/away.flac"), 48_000, 24_000)
        assert list(manifest) == [known, far, known]
        assert [problem.path.name for problem in left_out] == ["short.wav", "gone.wav"]

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("", "found nothing"),
            ("file,frames\na.wav,3\n", "column path and, if known, .*, found file, frames"),
            ("path,frames,sample_rate\na.wav,many,16000\n", "line 2: frames 'many' and sample_rate '16000'"),
            ("path,frames,sample_rate\na.wav,16000,16000\nb.wav,-1,16000\n", "line 3: frames '-1'"),
            (f"path,frames,sample_rate\na.wav,{10**30},16000\n", "line 2"),
            ("path\n\na.wav\n''\n", "there are no files to list"),
            ("path,text\n,hello\n", "line 2 has no path"),
            ('path\n"a.wav\n', "cannot be read as a CSV file"),
        ],
    )
    def test_a_bad_list_is_named(self, tmp_path: Path, content: str, words: str) -> None:
        path = tmp_path / "files.csv"
        path.write_text(content)
        with pytest.raises((DatasetError, ManifestError), match=words) as caught:
            indexed(tmp_path, path)
        assert "\n" not in str(caught.value)
        assert not list((tmp_path / "out").iterdir())

    def test_a_list_that_is_no_text_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "files.csv").write_bytes(b"path\n\xff\xfe.wav\n")
        with pytest.raises(DatasetError, match=r"files\.csv cannot be read as a CSV file in UTF-8"):
            indexed(tmp_path, tmp_path / "files.csv")

    @pytest.mark.parametrize("source", ["librispech:dev-clean", "folder:/tmp", "/no/such/folder"])
    def test_what_is_no_source_is_refused_before_anything_is_read(self, tmp_path: Path, source: str) -> None:
        with pytest.raises(DatasetError, match=r"there is no '.*'\. A source is a dataset .* sample, librispeech"):
            indexed(tmp_path, "sample", source)
        assert not (tmp_path / "out").exists()

    def test_manifests_can_be_joined(self, tmp_path: Path) -> None:
        first = write_manifest(tmp_path / "a.arrow", [AudioFile(Path("/a.wav"), 5, 8000)])
        manifest, _ = indexed(tmp_path, "sample", f"manifest@{tmp_path / 'a.arrow'}")
        assert list(manifest)[-1] == first[0]

    def test_threads_keep_the_order_and_do_not_run_ahead(self) -> None:
        taken = itertools.count()
        results = map_in_threads(lambda item: item * 2, (number for number in taken))
        assert [next(results) for _ in range(5000)] == list(range(0, 10_000, 2))
        assert next(taken) < 5000 + 1000
        results.close()  # type: ignore[attr-defined]


def test_the_command_names_what_it_leaves_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("speech/[good].wav"), 1.8)
    Path("speech/[bad].wav").touch()
    done = evalkit("data", "index", "speech", "-o", "train.arrow")
    assert done.status == 0
    assert "left out: speech/[bad].wav: empty file (0 bytes)" in done.out
    assert done.out.endswith("train.arrow: 1 file, 0.00 hours; left out: 1\n")
    assert Manifest.open("train.arrow")[0].path == tmp_path / "speech" / "[good].wav"
    Path("speech/[good].wav").unlink()
    assert "there are no files to list" in evalkit("data", "index", "speech", "-o", "train.arrow").complaint
    assert len(Manifest.open("train.arrow")) == 1  # the old one is kept
    assert "there is no 'nothing'" in evalkit("data", "index", "nothing", "-o", "train.arrow").complaint
    assert evalkit("data", "index", "sample").status == 2  # no -o


class TestDataset:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        corpus = load_corpus("sample", "train")
        files = [AudioFile(each.path, each.frames, each.sample_rate) for each in corpus.utterances]
        write_manifest(tmp_path / "train.arrow", files)
        return tmp_path / "train.arrow"

    def test_utterances_are_those_of_the_files(self, path: Path) -> None:
        corpus, listed = load_corpus("manifest", root=path), load_corpus("sample", "train")
        assert len(corpus.utterances) == 24
        assert corpus.seconds == pytest.approx(listed.seconds)
        assert [u.path for u in corpus.utterances] == [u.path for u in listed.utterances]
        ids = [u.id for u in corpus.utterances]
        assert ids == sorted(set(ids))
        assert ids[3] == f"03-{listed.utterances[3].id}"
        assert corpus.utterances[-1] == list(corpus.utterances)[-1] == corpus.utterances[-1:][0]
        assert corpus.utterances[2:5] == tuple(corpus.utterances)[2:5]
        assert (corpus.speakers, corpus.coverage) == ((), "24 utterances")
        assert "speakers unknown" in corpus.describe()
        with pytest.raises(IndexError):
            corpus.utterances[24]
        assert check_corpus(corpus) == []

    def test_opening_makes_no_utterance(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise AssertionError("an entry was read")

        monkeypatch.setattr(Manifest, "__getitem__", refuse)
        monkeypatch.setattr(Manifest, "__iter__", refuse)
        corpus = load_corpus("manifest", root=path)
        assert "24 utterances, 1." in corpus.describe()
        assert select_manifest(corpus, None) is corpus.manifest

    def test_a_limit_is_drawn_over_the_whole_list(self, path: Path) -> None:
        corpus = load_corpus("manifest", root=path)
        four, ten = ([u.id for u in select_utterances(corpus, limit)] for limit in (4, 10))
        assert set(four) < set(ten)
        assert four == sorted(four)
        assert ten != [u.id for u in corpus.utterances[:10]]
        assert len(select_utterances(corpus, 100)) == 24
        assert [file.path.stem for file in select_manifest(corpus, 4)] == [name[3:] for name in four]

    def test_errors_are_one_line_and_say_what_to_do(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for root, part, words in (
            (None, "all", r"manifest: which file\? .*EVALKIT_MANIFEST_ROOT.*evalkit data index"),
            (path.with_name("gone.arrow"), "all", r"gone\.arrow: there is no such manifest"),
            (path.parent, "all", "directory"),
            (path, "train", "manifest has no part 'train'"),
        ):
            with pytest.raises(DatasetError, match=words) as caught:
                load_corpus("manifest", part, root)
            assert "\n" not in str(caught.value)
        monkeypatch.setenv("EVALKIT_MANIFEST_ROOT", str(path))
        assert len(load_corpus("manifest").utterances) == 24


class TestPlan:
    @staticmethod
    def planned(tmp_path: Path, *train: dict[str, Any]) -> Plan:
        write_experiment(tmp_path / "e.yaml")
        override = f"data.train={yaml.safe_dump(list(train), default_flow_style=True, width=10_000).strip()}"
        return make_plan(load_experiment(str(tmp_path / "e.yaml"), [override]), tmp_path / "run")

    def test_trains_on_manifests_and_listed_corpora_in_turn(self, tmp_path: Path) -> None:
        sample = load_corpus("sample", "train").utterances
        write_manifest(tmp_path / "x.arrow", [AudioFile(u.path, u.frames, u.sample_rate) for u in sample[:5]])
        indexed = {"name": "manifest", "root": str(tmp_path / "x.arrow")}
        plan = self.planned(tmp_path, indexed, {"name": "sample", "part": "train"}, indexed | {"limit": 2})
        paths = [file.path for file in plan.train_manifest]
        assert paths[:29] == [u.path for u in (*sample[:5], *sample)]
        assert len(paths) == 31
        assert any(
            f"{plan.train_manifest.seconds / 60:.1f} minutes of speech" in note for note in plan.evaluation.notes
        )

    def test_files_are_known_by_content_not_by_place(self, tmp_path: Path) -> None:
        one, other = tmp_path / "one", tmp_path / "other"
        for folder in (one, other):
            for number in range(3):
                write(folder / f"{number}.wav")
            write_manifest(folder / "x.arrow", [AudioFile(folder / f"{n}.wav", RATE // 2, RATE) for n in range(3)])
        digests = {
            self.planned(tmp_path, {"name": name, "root": str(root)}).training["files_sha256"]
            for name, root in (
                ("folder", one), ("folder", other), ("manifest", one / "x.arrow"), ("manifest", other / "x.arrow")
            )
        }  # fmt: skip
        assert len(digests) == 1
        (other / "2.wav").unlink()
        assert self.planned(tmp_path, {"name": "folder", "root": str(other)}).training["files_sha256"] not in digests
