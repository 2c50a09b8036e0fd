"""The notebook in docs/: its cells run from top to bottom with the embedded model, and say what the settings say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.render.browser import find_browser
from tests.conftest import ROOT

NOTEBOOK = ROOT / "docs" / "colab.ipynb"
SMALL = """\
PROFILE = "smollm2-135m"
MODELS = "base"
LIMIT = 2
TRAIN = {"rows": 4}
SFT = {"max_steps": 2, "gradient_accumulation_steps": 2, "max_length": 256}
"""


def read() -> Any:
    import nbformat

    return nbformat.read(NOTEBOOK, as_version=4)


def test_the_notebook_is_whole_holds_no_output_and_uses_its_settings() -> None:
    import nbformat

    notebook = read()
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code:
        compile(cell.source, cell.id, "exec")
        assert (cell.outputs, cell.execution_count) == ([], None)
    (settings,) = (cell for cell in code if "parameters" in cell.metadata.get("tags", []))
    names = set(re.findall(r"^(\w+) = ", settings.source, re.MULTILINE))
    used = " ".join(cell.source for cell in code if cell is not settings)
    assert {name for name in names if name not in used} == set()


@pytest.mark.slow
def test_the_cells_run_with_the_embedded_model(workplace: Path, embedded_folder: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    try:
        find_browser()
    except HarnessError as error:
        pytest.skip(str(error))
    profile = workplace / "baselines" / "smollm2-135m" / "profile.yaml"
    profile.write_text(profile.read_text() + "max_new_tokens: 96\n")
    notebook = read()
    place = next(number for number, cell in enumerate(notebook.cells) if cell.id == "settings")
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(SMALL))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("COLUMNS", "200")
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(workplace)}}).execute()
    outputs = {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    said = {name: "".join(output.get("text", "") for output in found) for name, found in outputs.items()}
    shown = {name: [output.data for output in found if "data" in output] for name, found in outputs.items()}
    assert "max_steps: 2" in said["training"]
    assert "tokens/s" in said["plan"]
    assert "4 rows, 2 steps, loss" in said["train"]
    assert (workplace / "adapter" / "adapter_model.safetensors").is_file()
    assert "colab" in said["evaluate"]
    (report,), (page,) = shown["report"], shown["page"]
    assert report["text/html"].startswith('<iframe sandbox="allow-scripts" srcdoc="&lt;!')
    assert len(report["text/html"]) > 100_000
    assert page["text/html"].startswith('<iframe sandbox="" srcdoc="')
    card = (workplace / "reports" / "colab" / "index.html").read_text()
    assert "colab" in card


@pytest.mark.slow
def test_a_command_that_fails_stops_the_notebook(workplace: Path) -> None:
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook = read()
    notebook.cells = [cell for cell in notebook.cells if cell.id in ("settings", "install", "training", "plan")]
    notebook.cells.insert(1, nbformat.v4.new_code_cell('GPU = "t44"'))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        with pytest.raises(CellExecutionError, match=r"this failed, see above: .* plan colab"):
            NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(workplace)}}).execute()
