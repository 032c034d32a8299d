"""Nothing that a file or folder names is executed unless --trust-code is given."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from evalkit.run.saved_run import load_run
from q2d2.registry import UntrustedCode, import_trusted
from tests.command import evalkit, write_experiment
from tests.finished_run import leave_out_plots

EVIL = "from pathlib import Path\nPath({marker!r}).write_text('executed')\nfrom tests.small_whole_codec import Halved\n"
ADVICE = "'stranger.evil:Halved' is code to import, which can do anything that you can: read it, then give --trust-code"
SYSTEMS = {"x": {"codec": {"name": "stranger.evil:Halved"}}}
DATA = {"test": {"name": "sample", "part": "test", "limit": 1}}


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that is there once stranger/evil.py of the working directory has run; x.yaml beside it names that."""
    marker = tmp_path / "marker"
    (tmp_path / "stranger").mkdir()
    (tmp_path / "stranger" / "evil.py").write_text(EVIL.format(marker=str(marker)))
    write_experiment(tmp_path / "x.yaml", data=DATA, systems=SYSTEMS, paper="q2d2")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    yield marker
    marker.touch()
    forget(marker)


@pytest.mark.parametrize(
    "command",
    [
        ("run", "x.yaml"),
        ("run", "x.yaml", "--dry-run"),
        ("train", "x.yaml", "--dry-run"),
        ("reproduce", "x.yaml", "--dry-run"),
        ("weights", "fetch", "stranger.evil:Halved"),
    ],
)
def test_an_experiment_is_refused_in_one_line(marker: Path, command: tuple[str, ...]) -> None:
    assert evalkit(*command).complaint.endswith(ADVICE)
    assert not marker.exists()
    assert str(marker.parent) not in sys.path


def test_it_runs_once_it_is_trusted(marker: Path) -> None:
    assert evalkit("run", "x.yaml", "--dry-run", "--trust-code").status == 0
    assert marker.exists()


def forget(marker: Path) -> None:
    marker.unlink()
    for name in ("stranger.evil", "stranger"):
        sys.modules.pop(name, None)


def test_looking_at_a_run_executes_nothing(marker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_out_plots(monkeypatch)
    write_experiment(marker.parent / "x.yaml", data=DATA, systems=SYSTEMS, metrics=["stoi"], examples=0)
    assert evalkit("run", "x.yaml", "--out", "run", "--workers", 1, "--trust-code").status == 0
    forget(marker)
    assert evalkit("report", "run", "--listen", 2).status == 0
    assert "read it, then give --trust-code" in Path("run/report.html").read_text(encoding="utf-8")
    for status, *command in (
        (2, "compare", "run", "run"), (0, "publish", "run", "--to", "store"),
        (0, "dashboard", "store", "--out", "site"),
        (1, "sweep", "status", "run"), (1, "sweep", "report", "run"), (1, "run", "x.yaml", "--out", "run"),
    ):  # fmt: skip
        assert evalkit(*command).status == status, command
    assert list(load_run(Path("run")).systems["system"])[-1] == "x"
    assert not marker.exists()
    assert evalkit("report", "run", "--listen", 2, "--trust-code").status == 0
    assert marker.exists()


def test_a_sweep_executes_nothing(marker: Path) -> None:
    write_experiment(marker.parent / "x.yaml", data=DATA, systems=SYSTEMS, metrics=["stoi"], examples=0)
    points = [{"grid": {"codec.name": ["stranger.evil:Halved"]}}]
    Path("sweep.yaml").write_text(yaml.safe_dump({"name": "s", "experiment": "x.yaml", "points": points}))
    assert evalkit("sweep", "run", "sweep.yaml", "--plan").status == 0
    done = evalkit("sweep", "run", "sweep.yaml", "--out", "out", "--workers", 1)
    assert done.status == 1
    assert "read it, then give --trust-code" in done.out + done.err
    assert "1 failed" in evalkit("sweep", "status", "out").out
    assert evalkit("sweep", "report", "out").status == 1
    assert "no trial of this sweep has scores" in evalkit("report", "out").complaint
    assert not marker.exists()


def test_a_module_of_the_working_directory_is_not_ours(marker: Path) -> None:
    """`python -m` begins the import path with the working directory."""
    for name in ("typer", "yaml", "numpy"):
        (marker.parent / f"{name}.py").write_text(f"open({str(marker)!r}, 'w')")
    info = marker.parent / "stranger-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[evalkit.codecs]\nopus = stranger.evil:Halved\nevil = stranger.evil:Halved\n"
    )
    write_experiment(marker.parent / "y.yaml", data=DATA, systems={"x": {"codec": {"name": "evil"}}})
    source = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "evalkit", "run", "y.yaml", "--dry-run"],
        env=os.environ | {"PYTHONPATH": source}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("evalkit: unknown codec 'evil'"), done.stderr
    assert not marker.exists()


@pytest.mark.parametrize("target", ["os:system", "a.b:c", "..evil:X", ":", "evil:", "ev\u0131l:X"])
def test_no_name_of_code_is_imported_without_trust(target: str) -> None:
    with pytest.raises(UntrustedCode, match="--trust-code"):
        import_trusted("codec", target, trust_code=False)


def test_an_option_of_the_file_is_not_the_users_word(marker: Path) -> None:
    systems = {"x": {"codec": {"name": "stranger.evil:Halved", "trust_code": True}}}
    path = write_experiment(marker.parent / "z.yaml", data=DATA, systems=systems)
    assert evalkit("run", path, "--dry-run").complaint.endswith(ADVICE)
    assert not marker.exists()
