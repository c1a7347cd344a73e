"""`make demo` picks the CuPy that suits the driver, with the standard library alone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from robocache_cupy import cuda_extra

SCRIPT = Path(cuda_extra.__file__)

DRIVER = """
int cuInit(unsigned flags) {{ return {started}; }}
int cuDeviceGetCount(int *count) {{ *count = {count}; return 0; }}
int cuDriverGetVersion(int *version) {{ *version = {version}; return {asked}; }}
"""


@pytest.fixture
def driver(tmp_path, require):
    """A stand-in for libcuda."""
    if shutil.which("gcc") is None:
        require.skip("cuda_extra", "there is no gcc")

    def build(version, count=1, started=0, asked=0, source=DRIVER):
        library = tmp_path / "libcuda.so.1"
        text = source.format(version=version, count=count, started=started, asked=asked)
        command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)]
        subprocess.run(command, input=text, text=True, check=True)
        return library

    return build


def said_by_the_script(library, *options):
    """What `make demo` runs, without site-packages: a fresh .venv has none."""
    command = [sys.executable, "-I", "-S", *options, str(SCRIPT), str(library)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    return ended.stdout.strip(), ended.stderr.strip()


@pytest.mark.parametrize(
    ("version", "extra"),
    [(13020, "cuda13"), (13000, "cuda13"), (12090, "cuda12"), (12000, "cuda12")],
)
def test_the_driver_decides(driver, version, extra):
    assert said_by_the_script(driver(version)) == (extra, "")


def test_an_old_driver_is_named(driver):
    extra, said = said_by_the_script(driver(11080))
    assert extra == ""
    assert "is for CUDA 11.8 and CuPy needs 12 or newer" in said


@pytest.mark.parametrize("trouble", [{"count": 0}, {"started": 100}, {"asked": 999}])
def test_a_driver_without_a_gpu(driver, trouble):
    extra, said = said_by_the_script(driver(13000, **trouble))
    assert extra == ""
    assert "no GPU" in said


def test_a_library_that_is_no_driver(driver):
    extra, said = said_by_the_script(driver(0, source="int other;"))
    assert extra == ""
    assert "is no NVIDIA driver" in said


def test_no_driver_is_nothing_to_talk_about(tmp_path):
    assert said_by_the_script(tmp_path / "missing.so") == ("", "")
    (tmp_path / "broken.so").write_bytes(b"no library")
    assert said_by_the_script(tmp_path / "broken.so") == ("", "")


def test_a_cupy_that_is_there_stays(driver):
    pytest.importorskip("cupy")
    command = [sys.executable, "-I", str(SCRIPT), str(driver(13000))]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""


@pytest.mark.parametrize(("extra", "names"), [("", "logs,viz"), ("cuda13", "logs,viz,cuda13")])
def test_the_makefile_installs_it(tmp_path, extra, names):
    """The very recipe, with a stand-in for Python that says what it is asked."""
    if shutil.which("make") is None:
        pytest.skip("there is no make")
    shutil.copy(SCRIPT.parent.parent / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\ncase "$*" in *cuda_extra*) echo {extra};; *) echo "$@";; esac\n')
    python.chmod(0o755)
    command = ["make", "--silent", "-C", str(tmp_path), ".venv/.demo"]
    # What an outer make was told, `make test VENV=...`, is not for this one.
    clean = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKEOVERRIDES")}
    ended = subprocess.run(command, capture_output=True, text=True, check=True, env=clean)
    assert ended.stdout.endswith(f"-e .[{names}]\n")
