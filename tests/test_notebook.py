"""The example notebook runs as it stands, shows what it promises, and is kept without outputs."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.finished_run import Run

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed (extra dev)")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed (extra dev)")
pytest.importorskip("ipykernel", reason="ipykernel is not installed (extra dev)")

from jupyter_client import AsyncKernelManager  # noqa: E402
from jupyter_client.kernelspec import KernelSpecManager  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "docs" / "examples" / "explore-a-run.ipynb"


OWN = "from pathlib import Path\n\nFOLDER = Path({!r})\nMETRIC = 'stoi'\nSYSTEM = 'rvq'"


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def shown(finished: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """What it shows as it stands, and then, in the same kernel (one takes seconds to start), of a run of one's own."""
    code = [cell.source for cell in read().cells if cell.cell_type == "code"]
    assert "FOLDER =" in code[0]
    both = [*code, OWN.format(str(finished.folder)), *code[1:]]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in both])
    with pytest.MonkeyPatch.context() as patch:
        execute(notebook, tmp_path_factory.mktemp("jupyter"), patch)
    return text_of(notebook.cells[: len(code)]), text_of(notebook.cells[len(code) :])


def execute(notebook: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run it where the example lies, by this interpreter; what Jupyter writes goes to `folder`."""
    for variable in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(variable, str(folder / variable))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel's own shows figures in the notebook
    # Without any kernels that are installed: somebody's "python3" may be another interpreter.
    kernels = KernelSpecManager(kernel_dirs=[], ensure_native_kernel=True)
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=kernels)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    client = nbclient.NotebookClient(
        notebook, km=manager, timeout=120, resources={"metadata": {"path": str(NOTEBOOK.parent)}}
    )
    client.execute(env=environment)


def text_of(cells: list[Any]) -> str:
    """What they showed as text, with one line "image" a picture and "audio" a sound; no complaints."""
    outputs = [output for cell in cells for output in cell.outputs]
    assert [output for output in outputs if output.get("name") == "stderr"] == []
    found = []
    for output in outputs:
        data = output.get("data", {})
        found += [output.get("text", ""), data.get("text/plain", ""), "image" if "image/png" in data else ""]
        found.append("audio" if "<audio" in data.get("text/html", "") else "")
    return "\n".join(found)


def test_it_shows_tables_a_difference_plots_and_the_worst(shown: tuple[str, str]) -> None:
    text = shown[0]
    assert "57 utterances, 11 systems" in text
    assert re.search(r"ground-truth +NaN +4\.644 +4\.644 +4\.644 +57", text)
    assert re.search(r"rvq +2403\.6775 +57 +0\.0980 +0\.0766 +0\.1172 +\d\.\de-\d+", text)  # to fsq, paired
    assert text.count("\nimage\n") == 2
    assert "mean of the other codecs" in text
    assert "tiny holds no audio" in text


def test_it_can_be_pointed_at_a_run_of_ones_own(shown: tuple[str, str]) -> None:
    """By the three names that it says, and nothing else."""
    text = shown[1]
    assert "Trial [of all]: 2 utterances, 11 systems" in text
    assert text.count("\nimage\n") == 2
    assert text.count("\naudio") == 2


def test_it_is_kept_without_outputs_and_places() -> None:
    notebook = read()
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) > 5
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert not re.search(r"[\"' (](/[a-z]+){2,}|[A-Z]:\\", text)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
