"""The notebooks run from top to bottom, and are committed as nobody has run them."""

import json
import os
import re
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SECONDS = 600  # for a cell: the first run on a machine compiles


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return request.param


@pytest.fixture
def executed(tmp_path, monkeypatch):
    """Run a notebook, in a folder of its own and by this interpreter: the outputs of its cells."""
    import nbformat
    from matplotlib import font_manager  # noqa: F401  says on stderr if it makes its cache
    from nbclient import NotebookClient
    from traitlets.config import Config

    kernel = tmp_path / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(
        json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)

    def run(path):
        # Sockets are files here: ports could be taken by another worker. Their paths must be short.
        with tempfile.TemporaryDirectory() as sockets:
            notebook = nbformat.read(path, as_version=4)
            NotebookClient(
                notebook,
                timeout=SECONDS,
                resources={"metadata": {"path": str(tmp_path)}},
                config=Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"}}),
            ).execute()
        return [output for cell in notebook.cells for output in cell.get("outputs", ())]

    return run


def texts(outputs, name):
    return "".join(x["text"] for x in outputs if x["output_type"] == "stream" and x["name"] == name)


def pictures(outputs):
    return sum("image/png" in x.get("data", ()) for x in outputs)


def test_there_are_notebooks():
    assert NOTEBOOKS


def test_committed_without_outputs(notebook):
    import nbformat

    made = nbformat.read(notebook, as_version=4)
    nbformat.validate(made)
    for number, cell in enumerate(made.cells):
        if cell.cell_type == "code":
            assert not cell.outputs, f"cell {number} has outputs"
            assert cell.execution_count is None, f"cell {number} has an execution count"


def test_runs(notebook, executed, monkeypatch):
    monkeypatch.delenv("ROBOCACHE_LOGS", raising=False)
    outputs = executed(notebook)
    assert texts(outputs, "stderr") == ""
    assert ": False" not in texts(outputs, "stdout")  # what is said to be equal is
    assert pictures(outputs)


def test_runs_with_the_log_of_the_tilting_laser(executed, monkeypatch, logs_dir):
    monkeypatch.setenv("ROBOCACHE_LOGS", str(logs_dir.absolute()))
    outputs = executed(ROOT / "notebooks" / "01_align_a_real_log.ipynb")
    assert texts(outputs, "stderr") == ""
    said = texts(outputs, "stdout")
    found = re.search(r"([\d,]+) points; .* ([\d.]+) cm \(median\), ([\d.]+) cm at worst", said)
    assert found, said
    assert found.groups() == ("110,868", "0.5", "15.3")


def test_runs_with_the_clouds_of_a_lidar_and_a_kinect(executed, monkeypatch, logs_dir):
    monkeypatch.setenv("ROBOCACHE_LOGS", str(logs_dir.absolute()))
    outputs = executed(ROOT / "notebooks" / "02_point_clouds_to_voxels.ipynb")
    assert texts(outputs, "stderr") == ""
    assert pictures(outputs) == 7
    said = texts(outputs, "stdout")
    assert "False" not in said
    assert "(480, 640), 32% NaN; 139,656 points in the box" in said
    assert "sparse: 45,421 voxels" in said
