"""The notebooks run from their first cell to their last."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from sweeps.stores.storage import study_names
from sweeps.stores.store import Store
from tests.conftest import ROOT


def shown_by(name: str) -> list[str]:
    """Run a notebook in a kernel of its own; return what its cells show."""
    notebook = nbformat.read(ROOT / "notebooks" / name, as_version=4)
    NotebookClient(notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()
    return [
        "".join(str(output.get("data", "")) + str(output.get("text", "")) for output in cell.get("outputs", []))
        for cell in notebook.cells
    ]


@pytest.mark.slow
def test_the_notebook_runs(seeded: Store, outputs: Path) -> None:
    shown = shown_by("best_runs.ipynb")
    assert "val_accuracy" in shown[1] and "image/png" in shown[3]
    assert "test_mean" in shown[5] and "verdict" in shown[5]


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_whole_study_in_a_notebook_and_the_next_day(outputs: Path) -> None:
    shown = "\n".join(shown_by("study.ipynb"))
    assert "3 of 3 trials done" in shown and "4 of 4 trials done" in shown and "2 of 2 trials done" in shown
    assert "test_accuracy" in shown and "array([" in shown
    assert study_names() == ["notebook_digits", "notebook_digits-confirm-" + study_names()[-1].rpartition("-")[2]]
    shown = "\n".join(shown_by("resume.ipynb"))
    assert "5 of 5 trials done" in shown and "model: notebook_digits_model" in shown
    assert study_names() == []
