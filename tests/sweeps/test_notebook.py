"""The notebook runs from its first cell to its last on a study that has been confirmed."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from sweeps.stores.store import Store
from tests.conftest import ROOT


@pytest.mark.slow
def test_the_notebook_runs(seeded: Store, outputs: Path) -> None:
    notebook = nbformat.read(ROOT / "notebooks" / "best_runs.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()
    shown = ["".join(str(output.get("data", {})) for output in cell.get("outputs", [])) for cell in notebook.cells]
    assert "val_accuracy" in shown[1] and "image/png" in shown[3]
    assert "test_mean" in shown[5] and "verdict" in shown[5]
