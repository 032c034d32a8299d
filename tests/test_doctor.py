"""`evalkit doctor`: nothing there, something there, something wrong; and what scripts make of it."""

from __future__ import annotations

import contextlib
import importlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from huggingface_hub import constants

from evalkit.datasets import DATASETS, corpus
from evalkit.datasets import folder as folder_dataset
from evalkit.doctor import checks as doctor_checks
from evalkit.doctor.checks import Check, check_cache, check_machine, check_metric
from evalkit.metrics import METRICS, load_metric, pesq
from evalkit.metrics.signals import library_version
from evalkit.scoring.cache import Cache
from tests.command import evalkit

ROOTS = [doctor_checks.root_variable(name) for name in DATASETS.names()]
UTTERANCE = "LibriSpeech/test-clean/1089/134686/1089-134686-0000.wav"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home and an environment that names nothing."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    for variable in (*ROOTS, "EVALKIT_WEIGHTS", "EVALKIT_CACHE", "EVALKIT_CACHE_SIZE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    load_metric.cache_clear()
    yield folder
    load_metric.cache_clear()


def write_audio(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(4000, 0.1, dtype=np.float32), 16_000)
    return path


def lines(*arguments: object) -> list[str]:
    outcome = evalkit("doctor", *arguments, width=100)
    assert outcome.status == 0, outcome
    return outcome.out.splitlines()


def line_of(name: str, *arguments: object) -> str:
    """The line of a missing thing, of a codec or of a dataset."""
    (line,) = [line for line in lines(*arguments) if line[2:].partition(" ")[2].startswith(f"{name} ")]
    return line


class TestNothingThere:
    def test_one_screen_that_says_how_to_get_each_thing(self) -> None:
        shown = lines()
        on_screen = sum(max(1, -(-len(line) // 100)) for line in shown)
        assert on_screen <= 45
        missing = [line for line in shown if line.startswith("  -- ")]
        assert missing
        assert all("; " in line for line in missing)
        text = "\n".join(shown)
        for words in (
            f"torch {torch.__version__}",
            "-- utmos  the weights are missing; evalkit weights fetch utmos\n",
            "no weights; evalkit weights fetch mimi\n",
            "ok opus             needs no weights\n",
            "ok sample ",
            "EVALKIT_LIBRISPEECH_ROOT not set; evalkit data fetch librispeech --part test-clean\n",
            "EVALKIT_LJSPEECH_ROOT not set; evalkit data fetch ljspeech --part all\n",
            "EVALKIT_FOLDER_ROOT not set; set it, or give root in the experiment\n",
            "whole codecs: 1 of ",
            "scores' cache: 0 entries",
        ):
            assert words in text

    def test_every_registered_thing_is_named(self) -> None:
        from baselines.codecs import CODECS

        text = " ".join(" ".join(lines()).replace(",", " ").split())
        for name in (*METRICS.names(), *CODECS.names(), *DATASETS.names()):
            assert f" {name} " in text, name

    def test_nothing_is_written(self, home: Path) -> None:
        lines()
        assert list(home.iterdir()) == []


class TestDatasets:
    def test_a_root_that_is_no_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EVALKIT_LIBRISPEECH_ROOT", "/no/such/folder")
        assert line_of("librispeech").endswith(
            "EVALKIT_LIBRISPEECH_ROOT: /no/such/folder is not a folder; "
            "correct it, or evalkit data fetch librispeech --part test-clean"
        )

    def test_a_root_that_holds_something_else(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EVALKIT_LJSPEECH_ROOT", str(tmp_path))
        monkeypatch.setenv("EVALKIT_FOLDER_ROOT", str(tmp_path / "home"))
        monkeypatch.setenv("EVALKIT_MANIFEST_ROOT", str(tmp_path / "train.arrow"))
        line = line_of("ljspeech")
        assert f"EVALKIT_LJSPEECH_ROOT: no wavs/ in {tmp_path}" in line
        assert line.endswith(f"; evalkit data fetch ljspeech --part all --to {tmp_path}")
        assert f"no usable audio in {tmp_path}/home" in line_of("folder")
        assert "EVALKIT_MANIFEST_ROOT: " in line_of("manifest")
        assert line_of("manifest").endswith("; correct it")

    def test_found(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_audio(tmp_path / UTTERANCE)
        monkeypatch.setenv("EVALKIT_LIBRISPEECH_ROOT", str(tmp_path))
        assert line_of("librispeech") == f"  ok librispeech  test-clean, 1 file in {tmp_path}"

    def test_a_corpus_is_not_read_through(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        read: list[Path] = []
        header = corpus.header_or_problem(write_audio(tmp_path / "0.wav"))
        for number in range(1, 1000):
            (tmp_path / f"{number}.wav").touch()

        def counted(path: Path) -> Any:
            read.append(path)
            return header

        monkeypatch.setattr(corpus, "header_or_problem", counted)
        monkeypatch.setenv("EVALKIT_FOLDER_ROOT", str(tmp_path))
        assert line_of("folder") == f"  ok folder       all, 1,000 files in {tmp_path}"
        assert 0 < len([path for path in read if path.parent == tmp_path]) < 500

    def test_one_that_takes_long_is_not_waited_for(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = threading.Event()

        def slow(root: Path) -> Iterator[Path]:
            asked.wait(30)
            return iter(())

        monkeypatch.setattr(folder_dataset, "find_audio", slow)
        monkeypatch.setattr(doctor_checks, "SECONDS_FOR_CORPORA", 0.2)
        monkeypatch.setenv("EVALKIT_FOLDER_ROOT", str(tmp_path))
        (check,) = doctor_checks.check_datasets(["folder"])
        asked.set()
        assert not check.ok
        assert check.state == f"EVALKIT_FOLDER_ROOT={tmp_path} is not listed within 0.2 s"
        assert check.way == "evalkit data check folder"

    def test_a_defect_is_no_missing_corpus(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(folder_dataset, "find_audio", lambda folder: 1 / 0)
        monkeypatch.setenv("EVALKIT_FOLDER_ROOT", str(tmp_path))
        with pytest.raises(ZeroDivisionError):
            doctor_checks.check_datasets(["folder"])


class TestRequire:
    def test_what_is_there(self, tmp_path: Path) -> None:
        (tmp_path / "codecs" / "bigcodec").mkdir(parents=True)
        (tmp_path / "codecs" / "bigcodec" / "bigcodec.pt").write_bytes(b"123")
        names = [word for name in ("pesq", "opus", "sample", "bigcodec") for word in ("--require", name)]
        assert "weights present, your own folder" in line_of("bigcodec", *names, "--weights-root", tmp_path / "codecs")

    def test_what_is_missing(self) -> None:
        outcome = evalkit("doctor", "--require", "pesq", "--require", "utmos", "--require", "mimi")
        assert outcome.complaint == (
            "required, and missing here: utmos (the weights are missing; evalkit weights fetch utmos), "
            "mimi (no weights; evalkit weights fetch mimi)"
        )
        assert outcome.out.startswith("machine\n")

    def test_a_part_of_a_dataset(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_audio(tmp_path / UTTERANCE)
        monkeypatch.setenv("EVALKIT_LIBRISPEECH_ROOT", str(tmp_path))
        assert lines("--require", "librispeech", "--require", "librispeech:test-clean")
        complaint = evalkit("doctor", "--require", "librispeech:dev-clean").complaint
        assert f"no dev-clean in {tmp_path}" in complaint
        assert f"evalkit data fetch librispeech --part dev-clean --to {tmp_path}" in complaint

    def test_names_that_do_not_exist(self) -> None:
        outcome = evalkit("doctor", "--require", "utmoss")
        assert outcome.complaint.startswith(
            "--require utmoss: no such metric, codec or dataset. Did you mean 'utmos'? Known: utmos, pesq, "
        )
        assert outcome.out == ""
        assert "Did you mean 'dev-clean'" in evalkit("doctor", "--require", "libritts:devclean").complaint
        assert "no such metric" in evalkit("doctor", "--require", "pesq:dev-clean").complaint

    def test_a_weights_root_that_does_not_exist(self, tmp_path: Path) -> None:
        assert "nowhere: no such folder" in evalkit("doctor", "--weights-root", tmp_path / "nowhere").complaint


def test_json(tmp_path: Path) -> None:
    outcome = evalkit("doctor", "--json", "--require", "utmos", "--weights-root", tmp_path)
    assert outcome.complaint.startswith("required, and missing here: utmos (")
    report = json.loads(outcome.out)
    assert [metric["name"] for metric in report["metrics"]] == METRICS.names()
    assert {"name": "opus", "ok": True, "state": "needs no weights", "way": ""} in report["codecs"]
    (pesq_found,) = [metric for metric in report["metrics"] if metric["name"] == "pesq"]
    assert pesq_found["state"] == load_metric("pesq").version
    assert report["weights"]["there"] == 0
    assert report["weights"]["codec_folders"][0] == str(tmp_path)
    assert report["machine"]["torch"] == torch.__version__
    assert report["cache"]["problem"] == ""


class TestMetrics:
    def test_a_library_that_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pesq, "library_version", lambda name: library_version("no-such-package"))
        assert check_metric("pesq") == Check(
            "pesq", False, "the library 'no-such-package' is missing", "pip install no-such-package"
        )

    def test_a_module_that_cannot_be_imported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(METRICS, "_entries", {"mine": "no_such_module:Mine"})
        check = check_metric("mine")
        assert (check.ok, check.state) == (False, "No module named 'no_such_module'")

    def test_weights_of_another_length(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EVALKIT_WEIGHTS", str(tmp_path))
        name = importlib.import_module("evalkit.metrics.utmos").WEIGHT_FILES[0].file_name
        (tmp_path / name).write_bytes(b"short")
        assert check_metric("utmos") == Check(
            "utmos", False, f"{tmp_path / name} is not the published file", "evalkit weights fetch utmos"
        )


def test_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(name="Some GPU", total_memory=80 * 2**30)
    for name, value in (
        ("is_available", lambda: True),
        ("device_count", lambda: 2),
        ("get_device_name", lambda number: properties.name),
        ("get_device_properties", lambda number: properties),
        ("is_bf16_supported", lambda including_emulation: not including_emulation),
        ("device", lambda number: contextlib.nullcontext()),
    ):
        monkeypatch.setattr(torch.cuda, name, value)
    machine = check_machine()
    assert machine["cuda"] == [{"name": "Some GPU", "gib": 80.0, "bf16": True}] * 2
    assert machine["cuda_problem"] == ""
    assert "  CUDA: 2 x Some GPU, 80.0 GiB, bf16 yes" in lines()


def test_a_driver_s_complaint_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    import warnings

    def unavailable() -> bool:
        warnings.warn("CUDA initialization: the driver is too old\nmore", stacklevel=2)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", unavailable)
    assert check_machine()["cuda_problem"] == "CUDA initialization: the driver is too old"


class TestCache:
    def test_what_it_holds(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        cache = Cache(tmp_path)
        cache.put_many({"a": {"value": 1}, "b": {"value": 2}})
        cache.close()
        monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path))
        assert check_cache()["entries"] == 2
        assert lines()[-1].startswith("scores' cache: 2 entries, 0.0 of 2,147 MB, ")

    def test_one_that_cannot_be(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "file" / "cache"))
        assert "EVALKIT_CACHE can name another folder" in lines()[-1]
        monkeypatch.setenv("EVALKIT_CACHE_SIZE", "much")
        assert lines()[-1].startswith("scores' cache: not in use; EVALKIT_CACHE_SIZE='much'")


def test_help_shows_examples() -> None:
    shown = " ".join(evalkit("doctor", "--help").out.split())
    for words in ("evalkit doctor --json", "--require utmos", "NAME:PART", "no network"):
        assert words in shown
