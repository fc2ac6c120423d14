"""The notebook of the README runs from beginning to end, and is stored without outputs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs" / "quickstart.ipynb"
# Fewer videos and epochs, and one process for both runs of the study: each start of torch takes seconds.
SHORTER = {
    "train=4, test=2": "train=2, test=1",
    '"training.epochs": 3': '"training.epochs": 1',
    '"training.epochs": 2': '"training.epochs": 1',
    "jobs=2": "jobs=1",
}


@pytest.mark.timeout(230)
def test_notebook_runs_in_an_empty_folder(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)
    for text, shorter in SHORTER.items():
        (cell,) = (cell for cell in cells if text in cell.source)
        cell.source = cell.source.replace(text, shorter)
    NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(output.get("text", "") for cell in cells for output in cell.outputs)
    assert "accuracy 0." in printed
    assert (tmp_path / "studies/frames/report.html").stat().st_size > 10_000
    assert len(list((tmp_path / "studies/frames/runs").iterdir())) == 2
