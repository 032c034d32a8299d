"""The command line: help at once, mistakes in one line, and nothing written by a dry run."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile

from evalkit.datasets import librispeech
from evalkit.datasets.layout import Archive
from evalkit.scoring.cache import Cache
from tests.command import evalkit, write_experiment

ROOT = Path(__file__).resolve().parent.parent
HELP_SECONDS = 0.5
SLOW = ("torch", "pandas", "numpy", "pydantic", "yaml", "joblib", "matplotlib", "rich.console", "rich.progress")


def cpu_seconds(arguments: list[str]) -> float:
    """Processor time of a finished child: unlike wall time, not that of its neighbours."""
    before = os.times()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True, timeout=60)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


class TestHelp:
    def test_takes_less_than_half_a_second(self) -> None:
        assert min(cpu_seconds(["-m", "evalkit", "--help"]) for _ in range(3)) < HELP_SECONDS

    @pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["data", "fetch", "--help"]])
    def test_loads_nothing_slow(self, arguments: list[str]) -> None:
        """typer itself loads pydantic for the options of a single command."""
        code = (
            f"import sys\nfrom evalkit.cli.main import main\nsys.argv = {['evalkit', *arguments]!r}\n"
            f"try:\n    main()\nexcept SystemExit:\n    print('loaded', [n for n in {SLOW!r} if n in sys.modules])\n"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        allowed = ("loaded []",) if arguments == ["--help"] else ("loaded []", "loaded ['pydantic']")
        assert done.stdout.rstrip().endswith(allowed)

    def test_names_the_commands_and_shows_examples(self) -> None:
        for words in ("run", "experiments", "data", "evalkit run quick"):
            assert words in evalkit("--help").out
        shown = " ".join(evalkit("run", "--help").out.split())
        for words in ("evalkit run quick", "--dry-run", "--set train.steps=200", "data.test.root=", "exit status"):
            assert words in shown
        assert "evalkit data fetch librispeech --part test-clean" in " ".join(
            evalkit("data", "fetch", "--help").out.split()
        )

    def test_lists_experiments_with_their_titles(self) -> None:
        out = evalkit("experiments").out
        assert "quick" in out
        assert "Quick comparison on the sample corpus" in out


class TestDryRun:
    @pytest.mark.parametrize("width", [80, 120])
    def test_shows_the_plan_and_writes_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int
    ) -> None:
        monkeypatch.chdir(tmp_path)
        experiment = write_experiment(tmp_path / "trial.yaml")
        outcome = evalkit("run", experiment, "--dry-run", width=width)
        assert outcome.status == 0
        assert sorted(path.name for path in tmp_path.iterdir()) == ["trial.yaml"]
        lines = outcome.out.splitlines()
        assert lines[0] == "Trial [of all]  ->  runs/trial"
        assert "train on  sample train: 24 of 24 utterances (complete), 1.3 min" in lines
        assert "          limited to 2 test utterances" in lines
        assert "backbone  16 kHz, 125 frames/s" in lines
        assert "training  recipe spectral, from scratch, 12 steps of 1 x 0.1 s each" in lines
        assert "scoring   2 utterances by pesq, stoi" in lines
        assert "protocol  strict" in lines
        assert [line.split() for line in lines if line.startswith("rhombic")] == [["rhombic", "5.36", "0.670", "train"]]
        assert all(len(line) <= width for line in lines)

    def test_overrides_show(self, tmp_path: Path) -> None:
        experiment = write_experiment(tmp_path / "trial.yaml")
        out = evalkit("run", experiment, "--dry-run", "--set", "train.steps=7000", "--set", "metrics=[stoi]").out
        assert "7,000 steps" in out
        assert "by stoi" in out


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["quik"], "Did you mean 'quick'?"),
            (["absent.yaml"], "absent.yaml cannot be read: No such file or directory"),
            (["quick", "--set", "train.stepz=3"], "Did you mean 'steps'?"),
            (["quick", "--set", "train.steps"], "expected key=value"),
            (["quick", "--set", "train.steps=0"], "train.steps is 0"),
            (["quick", "--set", "metrics=[pesk]"], "Did you mean 'pesq'?"),
            (["quick", "--set", "data.test.name=sampel"], "Did you mean 'sample'?"),
            (["quick", "--set", "systems.vq.bottleneck.name=v"], "unknown bottleneck 'v'"),
            (["librispeech"], "Give the folder in EVALKIT_"),
        ],
    )
    def test_are_one_line(
        self, arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for name in ("LIBRISPEECH", "LIBRITTS"):
            monkeypatch.delenv(f"EVALKIT_{name}_ROOT", raising=False)
        assert words in evalkit("run", *arguments, "--set", "train.init_from=").complaint
        assert not list(tmp_path.iterdir())

    def test_in_options_point_to_help(self) -> None:
        outcome = evalkit("run", "quick", "--sett", "x=1")
        assert outcome.status == 2
        assert "--sett" in outcome.err

    def test_os_errors_are_one_line(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*args: object) -> None:
            raise OSError(28, "No space left on device", "/disk/journal.jsonl")

        monkeypatch.setattr("evalkit.run.runner.run", full)
        experiment = write_experiment(tmp_path / "trial.yaml")
        assert evalkit("run", experiment).complaint.startswith("/disk/journal.jsonl: No space left on device; make")

    def test_a_defect_is_a_traceback(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("evalkit.run.runner.run", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            evalkit("run", write_experiment(tmp_path / "trial.yaml"))

    def test_interruption_says_how_to_go_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # Raised, not signalled: a shell starts its background jobs with SIGINT ignored.
        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("evalkit.run.runner.run", interrupted)
        outcome = evalkit("run", write_experiment(tmp_path / "trial.yaml"))
        assert (outcome.status, outcome.err) == (130, "interrupted; run the same command again to go on\n")


class TestData:
    def test_check_names_every_problem(self, tmp_path: Path) -> None:
        noise = np.random.default_rng(0).uniform(-0.1, 0.1, 16_000)
        soundfile.write(tmp_path / "good.wav", noise, 16_000)
        outcome = evalkit("data", "check", "folder", "--root", tmp_path)
        assert outcome.status == 0
        assert "decoded: 1, of which unusable: 0" in outcome.out
        soundfile.write(tmp_path / "silent.wav", noise * 0, 16_000)
        (tmp_path / "empty.wav").write_bytes(b"")
        outcome = evalkit("data", "check", "folder", "--root", tmp_path)
        assert outcome.status == 1
        assert "silent.wav: silent" in outcome.out
        assert outcome.out.count("empty.wav: empty file") == 1

    def test_check_without_a_root_names_the_ways(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("EVALKIT_LIBRISPEECH_ROOT", raising=False)
        assert "EVALKIT_LIBRISPEECH_ROOT" in evalkit("data", "check", "librispeech").complaint

    def test_fetch_leaves_a_corpus_that_the_printed_setting_opens(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        audio = io.BytesIO()
        soundfile.write(audio, np.random.default_rng(0).uniform(-0.1, 0.1, 16_000), 16_000, format="FLAC")
        served = tmp_path / "served"
        served.mkdir()
        with tarfile.open(served / "test-clean.tar.gz", "w:gz") as tar:
            member = tarfile.TarInfo("LibriSpeech/test-clean/61/70968/61-70968-0000.flac")
            member.size = len(audio.getvalue())
            tar.addfile(member, io.BytesIO(audio.getvalue()))
        content = (served / "test-clean.tar.gz").read_bytes()
        handler = partial(SimpleHTTPRequestHandler, directory=str(served))
        monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *args: None)
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
            url = f"http://127.0.0.1:{server.server_port}/test-clean.tar.gz"
            digests = hashlib.md5(content).hexdigest(), hashlib.sha256(content).hexdigest()
            archive = Archive(url, "LibriSpeech/test-clean", 1, len(content), *digests)
            monkeypatch.setitem(librispeech.ARCHIVES, "test-clean", archive)
            arguments = ("data", "fetch", "librispeech", "--part", "test-clean", "--to", tmp_path / "corpora")
            outcome = evalkit(*arguments)
            server.shutdown()
        assert outcome.status == 0, outcome
        setting = f"EVALKIT_LIBRISPEECH_ROOT={tmp_path / 'corpora'}"
        assert setting in outcome.out
        monkeypatch.setenv(*setting.split("="))
        assert evalkit("data", "check", "librispeech", "--part", "test-clean").status == 0

    def test_fetch_of_something_else_is_refused(self) -> None:
        assert "Did you mean 'librispeech'" in evalkit("data", "fetch", "librispech").complaint
        assert "which part?" in evalkit("data", "fetch", "librispeech").complaint


class TestCacheAndWeights:
    def test_cache_is_shown_and_emptied(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path))
        Cache(tmp_path).put_many({"a": {"value": 1.0}, "b": {"value": 2.0}})
        shown = evalkit("cache", "info")
        assert shown.out.startswith(f"{tmp_path}/cache.sqlite: 2 entries, 0.0 of 2,147 MB\n")
        assert evalkit("cache", "clear").out == "2 entries removed\n"
        assert "0 entries" in evalkit("cache", "info").out

    def test_a_cache_that_cannot_be(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "file" / "cache"))
        shown = evalkit("cache", "info")
        assert shown.status == 1
        assert "EVALKIT_CACHE can name another folder" in shown.out
        monkeypatch.setenv("EVALKIT_CACHE_SIZE", "much")
        assert "EVALKIT_CACHE_SIZE='much': expected a size" in evalkit("cache", "info").complaint

    def test_weights_are_listed_and_unknown_ones_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EVALKIT_WEIGHTS", str(tmp_path))
        listed = evalkit("weights", "list").out
        assert f"absent: {tmp_path}/utmos22_strong_step7459_v1.pt (411,179,119 bytes)" in listed
        assert "utmos" in evalkit("weights", "fetch", "utmso").complaint
