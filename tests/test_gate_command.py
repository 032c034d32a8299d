"""`evalkit compare` as people call it: real audio and metrics, every exit status, and the recipes of docs/examples."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from evalkit.cli_compare import compare_app
from evalkit.datasets import load_corpus, read_audio
from tests.command import Outcome, evalkit
from tests.gate_runs import base_scores, make_run, noisy, write_run

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "docs" / "examples"
GUARD = ROOT / "results" / "guard"
RATE = 16_000
FAST = ("--metrics", "stoi,si_sdr", "--workers", "1")


def compare(*arguments: object) -> Outcome:
    return evalkit("compare", *arguments)


def line(outcome: Outcome) -> str:
    """The one line on standard error of a broken call."""
    assert outcome.status == 2, outcome
    (only,) = outcome.err.strip().splitlines()
    return only


def white(clip: np.ndarray, snr: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(clip.size)
    return clip + noise * np.sqrt(np.mean(clip**2) / np.mean(noise**2) / 10 ** (snr / 10))


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """originals/, decoded/ (a coarse codec), noisy/ (the same and white noise at 30 dB SNR), and runs of both."""
    root = tmp_path_factory.mktemp("gate")
    for name in ("originals", "decoded", "noisy"):
        (root / name).mkdir()
    for number, utterance in enumerate(load_corpus("sample", "test").utterances):
        clip = read_audio(utterance.path)[0][: 3 * RATE // 2]
        # Names without speakers: six of them would be too few for a test of two metrics.
        coded = np.round(clip * 256) / 256
        for name, audio in (("originals", clip), ("decoded", coded), ("noisy", white(coded, 30, number))):
            soundfile.write(root / name / f"clip{number}.wav", audio.clip(-1, 1), RATE, subtype="FLOAT")
    for name in ("decoded", "noisy"):
        assert evalkit("score", root / "originals", root / name, "--out", root / f"run-{name}", *FAST).status == 0
    return root


class TestRealAudio:
    def test_the_same_audio_passes(self, scored):
        outcome = compare(scored / "run-decoded", scored / "run-decoded")
        assert outcome.status == 0
        assert outcome.out.startswith("same: no regression in 2 comparisons of 12 utterances")

    def test_white_noise_at_30_db_is_caught(self, scored):
        outcome = compare(scored / "run-decoded", scored / "run-noisy")
        assert outcome.status == 1, outcome
        assert "noisy is compared with decoded" in " ".join(outcome.out.split())
        assert re.search(r"worse\n +- decoded: (STOI|SI-SDR)", outcome.out)
        assert compare(scored / "run-noisy", scored / "run-decoded").status == 0

    def test_swapped_files_are_named(self, scored, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        shutil.copytree(scored / "decoded", tmp_path / "elsewhere" / "decoded")
        files = [tmp_path / "elsewhere" / "decoded" / f"clip{number}.wav" for number in (2, 5)]
        files[0].rename(tmp_path / "third.wav")
        files[1].rename(files[0])
        (tmp_path / "third.wav").rename(files[1])
        folders = (scored / "originals", tmp_path / "elsewhere" / "decoded")
        # Lengths differ too much for a score in places: that is for the comparison to see.
        evalkit("score", *folders, "--out", tmp_path / "run", *FAST, "--allow-failures", 99)
        outcome = compare(scored / "run-decoded", tmp_path / "run")
        assert outcome.status == 2
        assert "clip2 and clip5 are swapped (decoded audio of decoded)" in " ".join(outcome.out.split())

    def test_a_missing_file_is_named(self, scored, tmp_path):
        shutil.copytree(scored / "decoded", tmp_path / "decoded")
        (tmp_path / "decoded" / "clip4.wav").unlink()
        evalkit("score", scored / "originals", tmp_path / "decoded", "--out", tmp_path / "run", *FAST)
        outcome = compare(scored / "run-decoded", tmp_path / "run")
        assert outcome.status == 2
        assert "1 utterance missing from the candidate: clip4" in " ".join(outcome.out.split())
        assert "1 utterance extra in the candidate: clip4" in " ".join(
            compare(tmp_path / "run", scored / "run-decoded").out.split()
        )


class TestExitStatus:
    """Zero and one on made-up runs; two for everything that is wrong, a defect included."""

    @pytest.fixture
    def runs(self, tmp_path: Path) -> list[Path]:
        scores = base_scores()
        worse = scores | {("fsq", "pesq"): scores["fsq", "pesq"] - 0.2}
        made = {"good": scores, "noise": noisy(scores, 1), "worse": worse}
        return [write_run(make_run(values), tmp_path / name) for name, values in made.items()]

    def test_zero_and_one(self, runs):
        good, noise, worse = runs
        assert (compare(good, noise).status, compare(good, worse).status, compare(worse, good).status) == (0, 1, 0)

    @pytest.mark.parametrize("form", ["text", "markdown", "json", "junit"])
    def test_out_holds_the_report_and_the_terminal_the_decision(self, runs, tmp_path, form):
        printed = compare(*runs[::2], "--format", form)
        outcome = compare(*runs[::2], "--format", form, "--out", tmp_path / "report")
        assert printed.status == outcome.status == 1
        written = (tmp_path / "report").read_text(encoding="utf-8")
        assert [each.rstrip() for each in printed.out.splitlines()] == written.splitlines()
        assert outcome.out.startswith("regression: 1 regression in 12 comparisons")
        assert len(outcome.out.splitlines()) == 1

    def test_a_run_that_cannot_be_read_is_reported_in_every_format(self, runs, tmp_path):
        (runs[1] / "utterances.parquet").unlink()
        for candidate, why in ((tmp_path / "none", "no such folder"), (runs[1], "utterances.parquet is missing")):
            outcome = compare(runs[0], candidate, "--format", "json")
            assert outcome.status == 2
            (reason,) = json.loads(outcome.out)["reasons"]
            assert reason.startswith("candidate: ")
            assert why in reason
        (runs[1] / "utterances.parquet").write_bytes(b"PAR1 damaged PAR1")
        assert compare(runs[0], runs[1]).status == 2

    def test_mistakes_are_one_line_and_two(self, runs, tmp_path):
        gate = tmp_path / "gate.yaml"
        gate.write_text("treshold: {}")
        assert "treshold is not a known key" in line(compare(*runs[:2], "--gate", gate))
        assert "cannot be read" in line(compare(*runs[:2], "--gate", tmp_path / "none.yaml"))
        assert "--system fsk" in line(compare(*runs[:2], "--system", "fsk"))
        assert "No such file or directory" in line(compare(*runs[:2], "--out", tmp_path / "none" / "report"))

    def test_bad_options_are_two(self, runs):
        for arguments in (runs[:1], [*runs[:2], "--format", "html"], [*runs[:2], "--gates", "x"], []):
            assert compare(*arguments).status == 2

    def test_a_defect_is_two_and_shows_where(self, runs, monkeypatch):
        monkeypatch.setattr("evalkit.gate.comparison.compare_scores", lambda *args: 1 / 0)
        outcome = compare(*runs[:2])
        assert outcome.status == 2
        assert "ZeroDivisionError" in outcome.err

    def test_as_a_process_of_its_own(self, runs):
        for pair, status in (((0, 1), 0), ((0, 2), 1)):
            command = [sys.executable, "-m", "evalkit", "compare", *(str(runs[place]) for place in pair)]
            assert subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120).returncode == status

    def test_help_tells_the_statuses(self):
        shown = " ".join(compare("--help").out.split())
        for words in (
            "0 same or better, 1 regression, 2 not comparable or broken",
            "--format markdown",
        ):
            assert words in shown
        assert len(compare_app.registered_commands) == 1


class TestGuard:
    def test_the_committed_baseline_is_comparable_with_itself(self):
        outcome = compare(GUARD, GUARD, "--gate", GUARD / "gate.yaml")
        assert outcome.status == 0, outcome

    def test_tells_no_path_of_the_machine_that_made_it(self):
        for path in GUARD.iterdir():
            content = path.read_bytes()
            assert not re.search(rb"/(home|root|work|tmp|Users)/", content), path

    def test_a_change_of_one_trained_score_is_found(self, tmp_path):
        import pandas as pd

        shutil.copytree(GUARD, tmp_path / "guard")
        path = tmp_path / "guard" / "utterances.parquet"
        frame = pd.read_parquet(path)
        row = frame.index[(frame["system"] == "rhombic") & (frame["metric"] == "pesq")][3]
        frame.loc[row, "value"] += 0.2
        frame.to_parquet(path)
        outcome = compare(GUARD, tmp_path / "guard", "--gate", GUARD / "gate.yaml")
        assert outcome.status == 1
        assert "rhombic: pesq 1 of 12 utterances beyond the tolerance of 0.05" in " ".join(outcome.out.split())


class TestExamples:
    def test_the_workflow_is_yaml_pinned_and_may_do_little(self):
        text = (EXAMPLES / "codec-gate.yml").read_text(encoding="utf-8")
        workflow = yaml.safe_load(text)
        assert workflow["permissions"] == {}
        assert workflow[True] == "pull_request"  # YAML reads the bare key `on` as true, GitHub does not
        jobs = workflow["jobs"]
        assert {name: job["permissions"] for name, job in jobs.items()} == {
            "compare": {"contents": "read"},
            "comment": {"pull-requests": "write"},
        }
        steps = [step for job in jobs.values() for step in job["steps"]]
        for uses in (step["uses"] for step in steps if "uses" in step):
            assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", uses), uses
        # Nothing that others write (titles, reports) is pasted into a script.
        assert not any("${{" in step.get("run", "") for step in steps)

    def test_the_workflows_comparison_ends_with_the_commands_status(self, scored, tmp_path):
        workflow = yaml.safe_load((EXAMPLES / "codec-gate.yml").read_text(encoding="utf-8"))
        (script,) = (step["run"] for step in workflow["jobs"]["compare"]["steps"] if step.get("id") == "gate")
        (tmp_path / "gate.yaml").write_text("thresholds: {stoi: 0.001}\n")
        shutil.copytree(scored / "run-decoded", tmp_path / "baseline")
        for run, status in (("run-noisy", 1), ("run-decoded", 0)):
            shutil.copytree(scored / run, tmp_path / "run", dirs_exist_ok=True)
            files = {"GITHUB_OUTPUT": str(tmp_path / "output"), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
            assert self.shell(["bash", "-e", "-c", script], tmp_path, **files).returncode == status
            written = (tmp_path / "output").read_text(encoding="utf-8").splitlines()
            mark = written[-1]
            assert f"report<<{mark}" in written
        assert "### ❌ regression" in (tmp_path / "summary").read_text(encoding="utf-8")

    def test_the_shell_recipe_runs(self, scored, tmp_path):
        baseline = tmp_path / "baseline"
        baseline.mkdir()
        for path in [scored / "run-decoded" / "run.json", *(scored / "run-decoded").glob("*.parquet")]:
            shutil.copy(path, baseline)
        done = self.shell(
            [str(EXAMPLES / "codec-gate.sh")], tmp_path, BASELINE=str(baseline), ORIGINALS=str(scored / "originals"),
            DECODED=str(scored / "noisy"), METRICS="stoi,si_sdr",
        )  # fmt: skip
        assert done.returncode == 1, done.stdout + done.stderr
        report = (tmp_path / "codec-gate" / "comparison.md").read_text(encoding="utf-8")
        assert report.startswith("### ❌ regression")

    def test_the_shell_recipe_says_what_it_needs(self, tmp_path):
        done = self.shell([str(EXAMPLES / "codec-gate.sh")], tmp_path)
        assert done.returncode == 2
        assert "BASELINE: folder of the good run" in done.stderr

    def shell(self, command: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run with this interpreter's `evalkit` first on the path."""
        (folder / "bin").mkdir(exist_ok=True)
        shim = folder / "bin" / "evalkit"
        shim.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m evalkit "$@"\n')
        shim.chmod(0o755)
        path = f"{shim.parent}{os.pathsep}{os.environ['PATH']}"
        own = os.environ | {"PATH": path, "COLUMNS": "80"} | variables
        return subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, timeout=200)
