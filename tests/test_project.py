"""The package as installed: command, version, registries, packaged files, layering and the recipes in CONTRIBUTING."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import evalkit
import q2d2
from q2d2.bottleneck import BOTTLENECKS, Bottleneck
from q2d2.registry import Registry, UnknownName

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("q2d2", "baselines", "evalkit")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SLOW_IMPORTS = ("torch", "torchaudio", "lightning_fabric", "matplotlib", "pandas", "pyarrow", "scipy")


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)


def loaded_after(code: str) -> list[str]:
    """Names among SLOW_IMPORTS that a fresh interpreter has loaded after running `code`."""
    done = run_python(f"{code}\nimport sys\nprint('loaded:', *[n for n in {SLOW_IMPORTS!r} if n in sys.modules])")
    assert done.returncode == 0, done.stderr
    return done.stdout.rpartition("loaded:")[2].split()


def recipe(path: str) -> dict[str, Any]:
    """Run the Python block of CONTRIBUTING.md that starts with the comment `# path`; its names."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.search(rf"^```python\n# {re.escape(path)}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found, f"CONTRIBUTING.md has no recipe for {path}"
    names: dict[str, Any] = {"__name__": "recipe"}
    exec(compile(found[1], path, "exec"), names)
    return names


def test_help_loads_nothing_slow() -> None:
    code = """
import sys
from evalkit.cli.main import main
sys.argv = ["evalkit", "--help"]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
"""
    assert loaded_after(code) == []


def test_importing_the_packages_loads_nothing_slow() -> None:
    assert loaded_after("import q2d2, baselines, evalkit") == []


def test_a_report_without_audio_loads_no_torch(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "results" / "tiny", tmp_path / "run")
    code = f"""
import sys
from evalkit.cli.main import main
sys.argv = ["evalkit", "report", {str(tmp_path / "run")!r}, "--listen", "0"]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
"""
    assert not {"torch", "torchaudio", "lightning_fabric"} & set(loaded_after(code))
    assert (tmp_path / "run" / "report.html").is_file()


def test_the_codec_needs_four_packages(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.bare_codec", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_installed_version_is_the_code_version() -> None:
    assert evalkit.__version__ == q2d2.__version__ == importlib.metadata.version(PROJECT["name"]), "run `make setup`"


def test_every_declared_entry_point_is_installed_and_resolves() -> None:
    groups = {"console_scripts": PROJECT["scripts"], **PROJECT["entry-points"]}
    for group, declared in groups.items():
        installed = importlib.metadata.distribution(PROJECT["name"]).entry_points.select(group=group)
        assert {entry.name: entry.value for entry in installed} == declared, "run `make setup`"
        for entry in installed:
            assert callable(entry.load())


@pytest.mark.parametrize(
    "where",
    [
        "q2d2.bottleneck:BOTTLENECKS",
        "baselines.codecs:CODECS",
        "evalkit.metrics:METRICS",
        "evalkit.datasets:DATASETS",
    ],
)
def test_every_registry_entry_can_be_imported(where: str) -> None:
    module, _, attribute = where.partition(":")
    registry = getattr(importlib.import_module(module), attribute)
    assert isinstance(registry, Registry)
    assert registry.names()
    for name in registry.names():
        assert callable(registry.resolve(name)), name


def test_registered_bottlenecks_keep_the_interface() -> None:
    assert {"q2d2", "fsq", "vq", "rvq", "unquantized"} <= set(BOTTLENECKS.names())
    for name in BOTTLENECKS.names():
        assert issubclass(BOTTLENECKS.resolve(name), Bottleneck), name


def test_a_mistyped_name_is_answered_with_the_close_one() -> None:
    known = "unquantized, q2d2, lattice, fsq, rvq, vq"
    with pytest.raises(UnknownName, match=rf"unknown bottleneck 'q2d'.*'q2d2'.*Known: {known}"):
        BOTTLENECKS.resolve("q2d")


def test_the_wheel_holds_every_file_of_the_packages(tmp_path: Path) -> None:
    source = tmp_path / "source"
    skip = shutil.ignore_patterns("__pycache__", "*.pyc")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=skip)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    files = {p.relative_to(source).as_posix() for package in PACKAGES for p in (source / package).rglob("*")}
    wanted = {name for name in files if (source / name).is_file()}

    build = "import setuptools.build_meta as backend; backend.build_wheel('dist')"
    done = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (wheel,) = (source / "dist").glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == wanted


def rooms() -> list[str]:
    """In the order of docs/architecture.md: "evalkit/cli" ... "q2d2"."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`.*?) \|", text.partition("## Rooms")[2].partition("## One way in")[0], re.MULTILINE)
    found = []
    for name in re.findall(r"`([^`]+)`", " ".join(cells)):
        name = name.rstrip("/").removesuffix(".py")
        found.append(name if "/" in name or (ROOT / name).is_dir() else f"evalkit/{name}")
    return found


def imported_modules(path: Path) -> set[str]:
    """As paths, imports within functions too; what is only looked at by type checkers is not."""
    names = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.replace(".", "/") for name in names}


def room_of(path: str) -> str | None:
    return max((room for room in rooms() if path == room or path.startswith(f"{room}/")), key=len, default=None)


def test_every_module_has_a_room() -> None:
    lost = [
        path.as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if room_of(path.relative_to(ROOT).with_suffix("").as_posix()) is None
    ]
    assert sorted(Path(path).name for path in lost) == ["__init__.py", "__main__.py"]  # evalkit's own
    assert len(list((ROOT / "evalkit").glob("*.py"))) <= 8


@pytest.mark.parametrize("room", rooms())
def test_imports_go_down_the_rooms(room: str) -> None:
    above = rooms()[: rooms().index(room)]
    files = [ROOT / f"{room}.py"] if (ROOT / f"{room}.py").is_file() else list((ROOT / room).rglob("*.py"))
    assert files
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        if room_of(path.relative_to(ROOT).with_suffix("").as_posix()) == room
        for name in imported_modules(path)
        if room_of(name) in above
    }
    assert not wrong


def test_the_bottleneck_recipe_works() -> None:
    import torch

    bottleneck = recipe("baselines/sign.py")["Sign"](16, bits=5)
    latents = torch.randn(2, 16, 7, requires_grad=True)
    out = bottleneck(latents)
    assert out.codes.shape == (2, 5, 7)
    assert out.codes.dtype == torch.int64
    assert bottleneck.bits_per_frame == 5
    torch.testing.assert_close(bottleneck.decode(bottleneck.encode(latents)), out.quantized)
    out.quantized.sum().backward()
    assert latents.grad is not None
    assert latents.grad.abs().sum() > 0

    frames = torch.randn(2, 16, 40)
    lost = (bottleneck(frames).quantized - frames).square().mean()
    bottleneck.fit(frames)
    assert (bottleneck(frames).quantized - frames).square().mean() < lost


def test_the_metric_recipe_works() -> None:
    from evalkit.metrics import Metric, Unscorable

    metric = recipe("evalkit/metrics/level_error.py")["LevelError"]()
    assert [name for name in Metric.__annotations__ if not hasattr(metric, name)] == []
    speech = np.sin(np.arange(1600, dtype=np.float32))
    assert metric.score(speech, speech / 10, 16_000) == pytest.approx(20, abs=1e-4)
    with pytest.raises(Unscorable):
        metric.score(speech, np.zeros_like(speech), 16_000)


def test_the_dataset_recipe_works(tmp_path: Path) -> None:
    import soundfile

    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000).astype(np.float32)
    (tmp_path / "wav" / "anna").mkdir(parents=True)
    soundfile.write(tmp_path / "wav" / "anna" / "0001.wav", noise, 16_000)
    (tmp_path / "wav" / "anna" / "0002.wav").write_bytes(b"not audio")
    corpus = recipe("evalkit/datasets/studio.py")["open_corpus"](tmp_path, "wav")
    assert [(u.id, u.speaker, u.frames) for u in corpus.utterances] == [("anna-0001", "anna", 16_000)]
    assert [problem.path.name for problem in corpus.problems] == ["0002.wav"]
