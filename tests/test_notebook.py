"""The example notebook runs as it stands, shows what it promises, and is kept without outputs."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.finished_run import finished_run

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed (extra dev)")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed (extra dev)")
pytest.importorskip("ipykernel", reason="ipykernel is not installed (extra dev)")

from jupyter_client import AsyncKernelManager  # noqa: E402
from jupyter_client.kernelspec import KernelSpecManager  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "docs" / "examples" / "explore-a-run.ipynb"


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def run(notebook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Execute it in its own folder by this interpreter; what it showed as text, with one line "image" a picture."""
    for variable in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel's own shows figures in the notebook
    # Without any kernels that are installed: somebody's "python3" may be another interpreter.
    kernels = KernelSpecManager(kernel_dirs=[], ensure_native_kernel=True)
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=kernels)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    client = nbclient.NotebookClient(
        notebook, km=manager, timeout=120, resources={"metadata": {"path": str(NOTEBOOK.parent)}}
    )
    client.execute(env=environment)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert [output for output in outputs if output.get("name") == "stderr"] == []
    shown = []
    for output in outputs:
        data = output.get("data", {})
        shown += [output.get("text", ""), data.get("text/plain", ""), "image" if "image/png" in data else ""]
        shown.append("audio" if "<audio" in data.get("text/html", "") else "")
    return "\n".join(shown)


def test_it_shows_tables_a_difference_plots_and_the_worst(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run(read(), tmp_path, monkeypatch)
    assert "57 utterances, 11 systems" in shown
    assert re.search(r"ground-truth +NaN +4\.644 +4\.644 +4\.644 +57", shown)
    assert re.search(r"rvq +2403\.6775 +57 +0\.0980 +0\.0766 +0\.1172 +\d\.\de-\d+", shown)  # to fsq, paired
    assert shown.count("\nimage\n") == 2
    assert "mean of the other codecs" in shown
    assert "tiny holds no audio" in shown


def test_it_can_be_pointed_at_a_run_of_ones_own(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the three names that it says, and nothing else."""
    notebook, own = read(), finished_run(tmp_path_factory).folder
    (cell,) = [cell for cell in notebook.cells if cell.cell_type == "code" and "FOLDER =" in cell.source]
    cell.source = f"from pathlib import Path\n\nFOLDER = Path({str(own)!r})\nMETRIC = 'stoi'\nSYSTEM = 'rvq'"
    shown = run(notebook, tmp_path, monkeypatch)
    assert "Trial [of all]: 2 utterances, 11 systems" in shown
    assert shown.count("\naudio") == 2


def test_it_is_kept_without_outputs_and_places() -> None:
    notebook = read()
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) > 5
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert not re.search(r"[\"' (](/[a-z]+){2,}|[A-Z]:\\", text)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
