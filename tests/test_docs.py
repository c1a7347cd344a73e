"""What a user finds: documentation of every public name, completion, signatures, types."""

import contextlib
import doctest
import importlib
import inspect
import io
import os
import pydoc
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import robocache_cupy as rc

ROOT = Path(__file__).parent.parent
MODULES = ["config", "health", "logs", "metrics", "viz"]


def public() -> dict[str, object]:
    """Each public name of the package and of its modules, and what it is."""
    found = {name: getattr(rc, name) for name in rc.__all__}
    for module in MODULES:
        space = importlib.import_module(f"robocache_cupy.{module}")
        found |= {f"{module}.{name}": getattr(space, name) for name in space.__all__}
    return {name: x for name, x in found.items() if inspect.isclass(x) or callable(x)}


NAMES = public()
FUNCTIONS = {name: x for name, x in NAMES.items() if not inspect.isclass(x)}
CLASSES = {name: x for name, x in NAMES.items() if inspect.isclass(x)}
# What functions with an example return, or raise.
RESULTS = {n for n in CLASSES if n.partition(".")[0] in ("config", "health", "metrics")}


def sections(x) -> dict[str, str]:
    """The parts of a NumPy-style docstring, what comes first under an empty name."""
    text = inspect.getdoc(x) or ""
    parts = re.split(r"^([A-Z]\w+)\n-{3,}\n", text, flags=re.M)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def parameters(x) -> list[str]:
    return list(inspect.signature(x).parameters)


# ------------------------------------------------------------------------------------ documentation


@pytest.mark.parametrize("name", NAMES)
def test_every_name_begins_with_a_sentence(name):
    first = sections(NAMES[name])[""].partition("\n\n")[0]
    assert re.search(r"[.:]`*\)?$|``\.$|``$", first.strip()), first
    assert len(first) > 10


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_is_described(name):
    found = sections(FUNCTIONS[name]).get("Parameters", "")
    listed = re.findall(r"^([*\w][\w, *]*?)(?: : .*)?$", found, flags=re.M)
    named = {each.strip().lstrip("*") for line in listed for each in line.split(",")}
    assert set(parameters(FUNCTIONS[name])) <= named


@pytest.mark.parametrize("name", FUNCTIONS)
def test_results_and_errors_are_described(name):
    x, found = FUNCTIONS[name], sections(FUNCTIONS[name])
    returns = inspect.signature(x).return_annotation
    assert ("Returns" in found or "Yields" in found) == (returns not in (None, "None"))
    takes_data = name in rc.__all__ and set(parameters(x)) - {"progress", "args", "kwargs"}
    assert "Raises" in found or not takes_data or name == "warmup"


@pytest.mark.parametrize("name", CLASSES)
def test_every_field_is_described(name):
    """In the docstring, or beside it in the source."""
    cls = CLASSES[name]
    fields = getattr(cls, "_fields", None) or getattr(cls, "__dataclass_fields__", ())
    text = (inspect.getdoc(cls) or "") + "".join(
        line.partition("#:")[0] for line in inspect.getsource(cls).splitlines() if "#:" in line
    )
    for field in fields:
        assert re.search(rf"\b{field}\b", text), field


@pytest.mark.parametrize("name", [n for n in NAMES if n not in RESULTS])
def test_every_name_has_an_example_that_runs(name, tmp_path, monkeypatch):
    """Also run by --doctest-modules, which is silent about one that is not there."""
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    x = NAMES[name]
    space = vars(sys.modules[inspect.unwrap(x).__module__]).copy()
    found = doctest.DocTestParser().get_doctest(inspect.getdoc(x) or "", space, name, None, 0)
    assert found.examples
    said = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    assert runner.run(found, out=said.write).failed == 0, said.getvalue()


@pytest.mark.parametrize("name", NAMES)
def test_help_shows_it(name):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        pydoc.Helper(output=said)(NAMES[name])
    text = said.getvalue()
    assert name.rpartition(".")[2] in text.splitlines()[0] + text.splitlines()[2]
    for parameter in parameters(NAMES[name]) if name in FUNCTIONS else ():
        assert parameter in text


def test_help_on_the_package():
    text = pydoc.plain(pydoc.render_doc(rc))
    for name in rc.__all__:
        assert name in text or name == "__version__"  # which is a section, VERSION


# --------------------------------------------------------------------------------------- completion


def test_completion_offers_what_is_public_and_nothing_else():
    assert dir(rc) == sorted({*rc.__all__, *MODULES})
    for name in dir(rc):
        assert getattr(rc, name) is not None
    assert len(set(rc.__all__)) == len(rc.__all__)
    assert rc.__all__ == sorted(rc.__all__)


@pytest.mark.parametrize("module", MODULES)
def test_completion_in_a_module(module):
    """Every public function or class that is defined in it is in __all__."""
    space = importlib.import_module(f"robocache_cupy.{module}")
    assert len(set(space.__all__)) == len(space.__all__)
    for name in space.__all__:
        assert getattr(space, name) is not None


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signatures_can_be_seen(name):
    """Of an op, that of the function which is documented, defaults and annotations included."""
    signature = inspect.signature(FUNCTIONS[name])
    assert signature.return_annotation is not signature.empty
    for parameter in signature.parameters.values():
        assert parameter.annotation is not parameter.empty
    assert FUNCTIONS[name].__name__ == name.rpartition(".")[2]
    assert FUNCTIONS[name].__module__.startswith("robocache_cupy")


def test_a_signature_in_full():
    assert str(inspect.signature(rc.voxelize_occupancy)) == (
        "(points: 'Array', grid_size: 'Any', voxel_size: 'Any', origin: 'Any' = 0.0, "
        "*, backend: 'str' = 'auto') -> 'Any'"
    )


# -------------------------------------------------------------------------------------------- types

STRANGER = '''
"""A stranger's pipeline."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import robocache_cupy as rc
from robocache_cupy import logs, viz

Floats = NDArray[np.float32]


def batches(path: Path, hz: float, rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    log: logs.Log = logs.open(path)
    pose: logs.Stream = log.streams["ee_pose"]
    report: rc.TimingReport = rc.timing_report({"pose": pose.times})
    slowest: float = float(report.rate.min())
    latency = rc.random_latency(rng, mean=0.02, jitter=0.01, size=1)
    goals = rc.relabel_goals([0, len(pose)], key=0)
    stream = rc.Stream(pose.values, pose.times, method="linear", latency=float(latency[0]))
    fused: rc.Fused = rc.fuse_multimodal({"pose": stream}, hz=min(hz, slowest), return_valid=True)
    stats: dict[str, NDArray[np.float64]] = rc.compute_stats(fused.values)
    scaled = rc.normalize(fused.values, rc.normalization(stats, "min_max"))
    windows: rc.Windows = rc.sample_windows(
        scaled, [0, len(scaled)], goals[:1], delta_indices=[0, 1]
    )
    return {"x": windows.values, "pad": windows.is_pad}


def voxels(points: Floats) -> NDArray[np.uint8]:
    lattice: rc.Grid = rc.grid_from_bounds((0, 0, 0, 1, 1, 1), 0.1)
    size: tuple[int, int, int] = lattice.grid_size
    made: NDArray[np.uint8] = rc.voxelize_occupancy(points, *lattice)
    few = rc.crop_and_sample(points, (0, 0, 0, 1, 1, 1), 64, method="random", seed=None)
    keep: NDArray[np.int64] = rc.farthest_point_sample(few.points, 16)
    print(rc.voxel_centers(*lattice).shape, rc.voxel_indices(points, *lattice).shape, size, keep)
    viz.plot_voxels(made, *lattice[1:])
    return made


def healthy() -> bool:
    rc.enable_metrics()
    with rc.config.override(backend="numba"):
        ok = rc.health_check().status == "healthy"
    settings: str = rc.get_config().backend
    return ok and settings == "auto" and bool(rc.__version__)


reveal_type(rc.timing_report([0.0]))
reveal_type(rc.timing_report([0.0]).rate)
reveal_type(rc.grid_from_bounds((0, 0, 0, 1, 1, 1), 0.1).origin)
reveal_type(rc.random_latency(0, 0.1, 0.1, 3))
reveal_type(rc.relabel_goals([0, 3], 0))
reveal_type(rc.normalization({}, "min_max"))
reveal_type(rc.compute_stats([[0.0]]))
reveal_type(logs.open("x").streams["a"].times)
reveal_type(rc.resample_trajectories)
'''
REVEALED = [
    r"tuple\[tuple\[str, ...\], numpy.ndarray.*fallback=robocache_cupy.timing.TimingReport",
    r"numpy.ndarray.*(float64|floating\[.*_64Bit)",
    r"tuple\[float, float, float\]",
    r"numpy.ndarray.*(float64|floating\[.*_64Bit)",
    r"numpy.ndarray.*(int64|signedinteger\[.*_64Bit)",
    r"robocache_cupy.normalize.Normalization",
    r"dict\[str, Any\]",
    r"numpy.ndarray.*(int64|signedinteger\[.*_64Bit)",
    r"def \(data: Any, ",
]


@pytest.fixture(scope="module")
def stranger(require, tmp_path_factory):
    """A function that runs mypy --strict on a script, outside the checkout.

    In an environment of its own, which knows of this package by a .pth file as of one that is
    installed: only then does py.typed count.
    """
    if importlib.util.find_spec("mypy") is None:
        require.skip("types", "mypy is not installed")
    folder = tmp_path_factory.mktemp("stranger")
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True, timeout=120
    )
    python = folder / "env" / "bin" / "python"
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    numpy = Path(np.__file__).parent.parent
    site.joinpath("installed.pth").write_text(f"{ROOT}\n{numpy}\n")

    def check(code: str) -> list[str]:
        script = folder / "script.py"
        script.write_text(textwrap.dedent(code))
        done = subprocess.run(
            [sys.executable, "-m", "mypy", "--strict", "--no-color-output", "--hide-error-context",
             "--python-executable", str(python), "--cache-dir", str(folder / "cache"), script.name],
            cwd=folder, env={**os.environ, "MYPYPATH": ""}, timeout=600, text=True,
            capture_output=True, check=False,
        )  # fmt: skip
        assert not done.stderr, done.stderr
        return done.stdout.splitlines()

    return check


def test_a_strangers_script_passes_mypy_strict(stranger):
    *notes, last = stranger(STRANGER)
    revealed = [re.search(r'Revealed type is "(.*)"', line) for line in notes]
    assert all(revealed), "\n".join(notes)
    assert last.startswith("Success: no issues found"), last
    for found, expected in zip(revealed, REVEALED, strict=True):
        assert re.match(expected, found[1])


def test_mistakes_of_a_stranger_are_found(stranger):
    *errors, last = stranger(
        """
        import robocache_cupy as rc

        rc.resample_trajectories([0.0], metod="linear")
        rc.timing_report([0.0]).rte
        rc.grid_from_bounds((0, 0, 0, 1, 1, 1), 0.1).origin.append(1)
        x: str = rc.__version__ + 1
        rc.no_such_name
        """
    )
    assert last.startswith("Found "), last
    said = "\n".join(errors)
    for words in ('"metod"', '"rte"', '"append"', "operator", '"no_such_name"'):
        assert words in said, said
