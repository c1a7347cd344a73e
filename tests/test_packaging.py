"""What is shipped: a wheel and an sdist hold all they should, and the kernels are found in each."""

import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

import robocache_cupy

ROOT = Path(__file__).parent.parent
MODULES = sorted(path.stem for path in ROOT.glob("cuda_src/*.cu"))


def run(*command, cwd: Path, **env: str) -> str:
    """The output of a Python command in an environment that knows of no checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd, env={**kept, **env}, timeout=300, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(source: Path, kind: str, folder: Path) -> Path:
    run("-m", "hatchling", "build", "-t", kind, "-d", folder, cwd=source)
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module", autouse=True)
def tools(require):
    for name in ("hatchling", "pip"):
        if importlib.util.find_spec(name) is None:
            require.skip("packaging", f"{name} is not installed")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    return build(ROOT, "sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def unpacked(sdist, tmp_path_factory):
    """The top folder of the sdist."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (top,) = folder.iterdir()
    return top


def tracked(*patterns: str) -> set[str]:
    return {
        str(path.relative_to(ROOT))
        for pattern in patterns
        for path in ROOT.glob(pattern)
        if path.is_file() and "__pycache__" not in path.parts
    }


def metadata(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return HeaderParser().parsestr(archive.read(name).decode())


# ------------------------------------------------------------------------------------ what is held


def test_wheel_holds_all_it_needs_at_run_time(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    sources = {f"robocache_cupy/{name}" for name in tracked("cuda_src/*")}
    python = tracked("robocache_cupy/**/*.py")
    data = tracked("robocache_cupy/data/*.hdf5")
    assert sources
    assert python
    assert data
    assert sources | python | data | {"robocache_cupy/py.typed"} <= names
    assert any(re.fullmatch(r"[^/]+\.dist-info/(licenses/)?LICENSE", name) for name in names)


def test_wheel_holds_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert len(names) == len(set(names))
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"robocache_cupy"}
    assert not [n for n in names if re.search(r"__pycache__|\.(pyc|nbi|nbc|cubin)$|tests/", n)]


def test_sdist_holds_the_sources_and_the_tests(unpacked):
    expected = tracked(
        "robocache_cupy/**/*.py", "cuda_src/*", "tests/*.py", "robocache_cupy/data/*"
    )
    expected |= {"pyproject.toml", "README.md", "LICENSE", "robocache_cupy/py.typed"}
    held = {str(p.relative_to(unpacked)) for p in unpacked.rglob("*") if p.is_file()}
    assert expected - held == set()
    assert not [n for n in held if re.search(r"__pycache__|\.pyc$|(^|/)\.(venv|scratch)/", n)]


def test_metadata(wheel):
    about = metadata(wheel)
    assert about["Version"] == robocache_cupy.__version__
    assert f"-{robocache_cupy.__version__}-py3-none-any" in wheel.name
    assert {"cuda12", "cuda13", "logs", "viz"} <= set(about.get_all("Provides-Extra"))
    assert about["License-Expression"] == "Apache-2.0"
    requirements = about.get_all("Requires-Dist")
    core = {re.match(r"[\w-]+", r)[0] for r in requirements if "extra ==" not in r}
    assert core == {"numpy", "numba"}
    for extra, cupy in (("cuda12", "cupy-cuda12x"), ("cuda13", "cupy-cuda13x")):
        (of_cupy,) = (
            r for r in requirements if r.startswith("cupy") and re.search(f"['\"]{extra}['\"]", r)
        )
        assert of_cupy.startswith(f"{cupy}>=14.2")


def test_console_script_exists(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("entry_points.txt"))
        script = re.search(r"^robocache = ([\w.]+):(\w+)$", archive.read(name).decode(), re.M)
        assert f"{script[1].replace('.', '/')}.py" in archive.namelist()


# ----------------------------------------------------------------------- the kernels are found

FIND = """
import sys
from pathlib import Path
import robocache_cupy
from robocache_cupy._core import kernel
package = Path(robocache_cupy.__file__).parent
assert package.parent == Path(sys.argv[1]).resolve(), package
assert kernel.cuda_src() == package.joinpath(sys.argv[2]).resolve(), kernel.cuda_src()
for module in sys.argv[3:]:
    text = kernel.source(module)
    assert "__global__" in text and '#include "' not in text
    print(module)
"""


def found(target: Path, sources: str, tmp_path: Path) -> list[str]:
    return run(
        "-c", FIND, target, sources, *MODULES, cwd=tmp_path, PYTHONPATH=str(target)
    ).split()  # fmt: skip


def install(wheel: Path, target: Path) -> None:
    options = ["--quiet", "--no-deps", "--no-index", "--target", target]
    quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}
    run("-m", "pip", "install", *options, wheel, cwd=target.parent, **quiet)


def test_installed_wheel_finds_its_kernels(wheel, tmp_path):
    install(wheel, tmp_path / "target")
    assert found(tmp_path / "target", "cuda_src", tmp_path) == MODULES


def test_wheel_from_the_sdist_finds_its_kernels(unpacked, wheel, tmp_path):
    again = build(unpacked, "wheel", tmp_path / "wheel")
    with zipfile.ZipFile(again) as a, zipfile.ZipFile(wheel) as b:
        assert {i.filename: i.CRC for i in a.infolist()} == {
            i.filename: i.CRC for i in b.infolist()
        }
    install(again, tmp_path / "target")
    assert found(tmp_path / "target", "cuda_src", tmp_path) == MODULES


def test_checkout_finds_its_kernels(tmp_path):
    assert found(ROOT, "../cuda_src", tmp_path) == MODULES


def test_editable_install_finds_its_kernels(tmp_path):
    """An editable wheel is a path to the checkout."""
    folder = tmp_path / "editable"
    run("-c", "import hatchling.build, sys; hatchling.build.build_editable(sys.argv[1])", folder,
        cwd=ROOT)  # fmt: skip
    (made,) = folder.glob("*.whl")
    with zipfile.ZipFile(made) as archive:
        (pth,) = (n for n in archive.namelist() if n.endswith(".pth"))
        (path,) = archive.read(pth).decode().splitlines()
    assert found(Path(path), "../cuda_src", tmp_path) == MODULES


def test_missing_sources_are_a_sentence(tmp_path):
    """As after a copy of the package alone."""
    package = tmp_path / "robocache_cupy"
    for name in tracked("robocache_cupy/**/*.py"):
        copy = tmp_path / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((ROOT / name).read_bytes())
    code = """
from robocache_cupy._core import kernel
try:
    kernel.source("resample")
except FileNotFoundError as e:
    print(e)
"""
    said = run("-c", code, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert said.strip() == (
        f"cuda_src is neither in nor beside {package}: reinstall robocache-cupy"
    )
