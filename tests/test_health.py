"""What is said of an installation and of its health, here and on machines made up."""

import importlib.metadata
import inspect
import os
import subprocess
import sys
import types

import numpy as np
import pytest

import robocache_cupy as rc
from robocache_cupy import _self_test, cli, cuda_extra, health
from robocache_cupy._core import kernel
from robocache_cupy.health import Call, Check, Health, Installation, SelfTest


def found(checks) -> dict[str, Check]:
    return {x.name: x for x in checks}


# ----------------------------------------------------------------------------- machines made up


class FakeCupy:
    """As much of CuPy as is asked, on a machine with one GPU."""

    def __init__(self, version="14.2.0", runtime=12090, driver=12090, headers=True, nvrtc=True):
        self.__version__ = version

        class OneDevice:
            def __init__(self, device):
                assert device == 0

            def __enter__(self):
                return self

            def __exit__(self, *_):
                pass

        def version_of_nvrtc():
            if not nvrtc:
                raise RuntimeError("libnvrtc.so.12 not found\nmore lines")
            return 12, 9

        def raw_module(code, options):
            assert "cuda_fp16.h" in code
            assert options == kernel.OPTIONS

            def compile():
                if not headers:
                    raise RuntimeError("cannot open source file cuda_fp16.h\n1 error")

            return types.SimpleNamespace(compile=compile)

        self.RawModule = raw_module
        self.cuda = types.SimpleNamespace(
            Device=OneDevice,
            nvrtc=types.SimpleNamespace(getVersion=version_of_nvrtc),
            runtime=types.SimpleNamespace(
                runtimeGetVersion=lambda: runtime,
                driverGetVersion=lambda: driver,
                getDeviceCount=lambda: 1,
                getDeviceProperties=lambda device: {"name": b"Fast One", "major": 9, "minor": 0},
                memGetInfo=lambda: (3 * 2**29, 2**31),
            ),
        )


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine: what its driver says, what is installed, and CuPy or why it is not there."""

    def make(driver=("cuda12", ""), installed=("cupy-cuda12x",), cupy=None):
        def version(name):
            if name not in installed and name.startswith("cupy"):
                raise importlib.metadata.PackageNotFoundError(name)
            return "99.0"

        def import_cupy():
            if isinstance(cupy, Exception):
                raise ImportError("running on a CUDA device takes CuPy") from cupy
            return cupy

        monkeypatch.setattr(cuda_extra, "cuda_extra", lambda: driver)
        monkeypatch.setattr(importlib.metadata, "version", version)
        monkeypatch.setattr(health, "import_cupy", import_cupy)
        monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path))
        monkeypatch.setattr(health, "_works", lambda backend: Check(f"on {backend}", "ok", ""))

    return make


NOT_INSTALLED = ModuleNotFoundError("No module named 'cupy'", name="cupy")


def test_a_machine_without_a_gpu_is_healthy(machine):
    for cupy, installed in ((NOT_INSTALLED, ()), (FakeCupy(nvrtc=False), ("cupy-cuda12x",))):
        machine(driver=("", ""), installed=installed, cupy=cupy)
        checked = rc.health_check()
        assert checked.status == "healthy", checked
        assert found(checked.checks)["GPU"].found == "none"
        assert not any(x.advice for x in checked.checks)
        assert "cuda:0" not in found(checked.checks)


def test_a_machine_with_a_gpu_is_healthy(machine):
    machine(cupy=FakeCupy())
    checked = rc.health_check()
    assert checked.status == "healthy", checked
    checks = found(checked.checks)
    assert checks["cuda:0"].found == "Fast One, compute capability 9.0, 1.5 of 2.0 GiB free"
    assert checks["driver"].found == "CUDA 12.9"
    assert checks["CUDA headers"] == Check("CUDA headers", "ok", "found")
    assert {"on numba", "on cuda"} <= set(checks)


@pytest.mark.parametrize(
    ("options", "name", "said", "advice"),
    [
        ({"cupy": NOT_INSTALLED, "installed": ()}, "cupy", "not installed",
         "pip install 'robocache-cupy[cuda12]'"),
        ({"cupy": NOT_INSTALLED, "installed": (), "driver": ("cuda13", "")}, "cupy",
         "not installed", "pip install 'robocache-cupy[cuda13]'"),
        ({"cupy": OSError("libcudart.so.12: no such file")}, "cupy", "takes CuPy", "pip install"),
        ({"cupy": FakeCupy("13.6.0")}, "cupy", "13.6.0, expected 14.2 or newer", "[cuda12]"),
        ({"cupy": FakeCupy(), "installed": ("cupy-cuda12x", "cupy-cuda13x")}, "cupy",
         "cupy-cuda12x and cupy-cuda13x", "pip uninstall -y cupy-cuda12x cupy-cuda13x; pip"),
        ({"cupy": FakeCupy(headers=False)}, "CUDA headers", "cuda_fp16.h", "CUDA_PATH"),
        ({"cupy": FakeCupy(nvrtc=False)}, "NVRTC", "libnvrtc.so.12 not found", "pip install"),
        ({"cupy": FakeCupy(runtime=13000)}, "driver", "CUDA 12.9, older", "update the driver"),
        ({"driver": ("", "the NVIDIA driver is for CUDA 11.4"), "cupy": FakeCupy()}, "GPU",
         "CUDA 11.4", "nvidia-smi"),
    ],
)  # fmt: skip
def test_a_gpu_that_cannot_be_used_is_degraded(machine, options, name, said, advice):
    machine(**options)
    checked = rc.health_check()
    assert checked.status == "degraded", checked
    (bad,) = (x for x in checked.checks if x.status != "ok")
    assert (bad.name, bad.status) == (name, "warn")
    assert said in bad.found
    assert advice in bad.advice
    assert "\n" not in bad.found


def test_folders_that_cannot_be_written_to(machine, monkeypatch, tmp_path):
    machine(cupy=FakeCupy())
    monkeypatch.setattr(health, "_writable", lambda folder: False)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "numba"))
    checks = found(rc.check_installation().checks)
    for library, variable in (("Numba", "NUMBA_CACHE_DIR"), ("CuPy", "CUPY_CACHE_DIR")):
        check = checks[f"kernel cache of {library}"]
        assert check.status == "warn"
        assert variable in check.advice
        assert str(tmp_path) in check.found


def test_what_is_writable(tmp_path):
    assert health._writable(tmp_path)
    assert health._writable(tmp_path / "new" / "folder")
    (tmp_path / "file").touch()
    assert not health._writable(tmp_path / "file" / "folder")


def test_missing_sources_and_broken_packages(monkeypatch):
    def gone():
        raise FileNotFoundError("cuda_src is neither in nor beside")

    monkeypatch.setattr(kernel, "cuda_src", gone)
    monkeypatch.setitem(sys.modules, "numba", None)
    checked = rc.health_check()
    assert checked.status == "critical"
    assert found(checked.checks)["CUDA sources"].status == "warn"
    assert found(checked.checks)["numba"].status == "fail"
    assert "pip install" in found(checked.checks)["numba"].advice


@pytest.mark.parametrize(
    ("older", "newer"), [("14.1.9", "14.2"), ("9.0", "14.2"), ("13", "14.2"), ("0.6", "0.6.1")]
)
def test_versions_compare_by_number(older, newer):
    assert health._numbers(older) < health._numbers(newer)
    assert health._numbers(f"{newer}rc1+cu128") == health._numbers(newer)


def test_an_old_jax(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.4.30")
    check = health._optional("jax")
    assert (check.status, check.advice) == ("warn", "pip install -U 'jax>=0.6.1'")


# ------------------------------------------------------------------------------------- this one


def test_this_machine():
    checks = found(rc.check_installation().checks)
    assert checks["robocache_cupy"].found.startswith(f"{rc.__version__} on Python ")
    assert checks["numpy"].found == np.__version__
    assert checks["CUDA sources"].found == str(kernel.cuda_src())
    assert all(x.status in ("ok", "warn", "fail") for x in checks.values())
    assert all(bool(x.advice) == (x.status != "ok") for x in checks.values())
    checked = rc.health_check()
    assert found(checked.checks)["small ops on numba"].status == "ok"
    assert checked.status in ("healthy", "degraded")


def test_frameworks_are_not_imported():
    done = subprocess.run(
        [sys.executable, "-c", "import robocache_cupy as rc, sys; rc.check_installation(); "
         "print(sorted({'torch', 'jax', 'h5py', 'rich'} & set(sys.modules)))"],
        text=True, capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.stdout == "[]\n", done.stderr


def test_a_wrong_result_is_critical(monkeypatch):
    call, _ = _self_test.CASES["asof_index"]
    monkeypatch.setitem(_self_test.CASES, "asof_index", (call, ([0, 2],)))
    checked = rc.health_check()
    assert checked.status == "critical"
    check = found(checked.checks)["small ops on numba"]
    assert check.found == "asof_index: got [0, 1], expected [0, 2]"
    assert "report" in check.advice


def test_an_error_is_critical_on_the_cpu_and_degraded_on_a_gpu(monkeypatch):
    def fail(backend):
        raise OSError("cannot load\nsecond line")

    monkeypatch.setitem(_self_test.CASES, "asof_index", (fail, ()))
    for backend, status in (("numba", "fail"), ("cuda", "warn")):
        check = health._works(backend)
        assert (check.status, check.found) == (status, "asof_index: OSError: cannot load")
        assert check.advice
    assert rc.health_check().status == "critical"


# ----------------------------------------------------------------------------------- self-test


def public_ops() -> set[str]:
    functions = {name: getattr(rc, name) for name in rc.__all__}
    return {
        name
        for name, x in functions.items()
        if inspect.isfunction(x) and {"backend", "options"} & set(inspect.signature(x).parameters)
    }


def test_every_public_op_has_a_case():
    assert public_ops() == set(_self_test.CASES)
    assert {"interpolate_poses", "voxelize_point_cloud", "interp"} <= public_ops()


@pytest.mark.parametrize("backend", ["numba", "cuda"])
@pytest.mark.parametrize("op", _self_test.CASES)
def test_case(op, backend, require):
    if backend == "cuda":
        try:
            kernel.check_cuda(0)
        except (ImportError, RuntimeError) as e:
            require.skip("cupy_cuda", str(e))
    assert health._wrong(op, backend) == ""


@pytest.mark.parametrize("op", _self_test.CASES)
def test_case_can_fail(op, monkeypatch):
    call, expected = _self_test.CASES[op]
    assert expected
    spoilt = np.array(expected[-1], float)
    spoilt[(-1,) * spoilt.ndim] += 1e-3 if spoilt.dtype.kind == "f" else 1
    monkeypatch.setitem(_self_test.CASES, op, (call, (*expected[:-1], spoilt)))
    assert "expected" in health._wrong(op, "numba")
    monkeypatch.setitem(_self_test.CASES, op, (call, (*expected[:-1], spoilt[None])))
    assert "shape" in health._wrong(op, "numba")


@pytest.fixture
def two_cases(monkeypatch):
    def fail(backend):
        raise RuntimeError("broken")

    good = _self_test.CASES["asof_index"]
    monkeypatch.setattr(_self_test, "CASES", {"asof_index": good, "bad": (fail, ())})
    monkeypatch.setattr(health, "_backends", lambda installation: ["numba"])
    return _self_test.CASES


def test_self_test(two_cases, capsys):
    report = rc.self_test()
    assert not report.ok
    assert [(x.op, x.backend, x.ok, x.error) for x in report.calls] == [
        ("asof_index", "numba", True, ""),
        ("bad", "numba", False, "RuntimeError: broken"),
    ]
    assert "takes minutes" in capsys.readouterr().err
    del two_cases["bad"]
    assert rc.self_test(progress=False).ok
    assert capsys.readouterr() == ("", "")


def test_progress_on_a_terminal(two_cases, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    rc.self_test()
    said = capsys.readouterr().err
    assert "1/2 asof_index on numba" in said
    assert "2/2 bad on numba" in said


# --------------------------------------------------------------------------------- how it shows


@pytest.mark.parametrize(
    "shown",
    [
        Installation((Check("<name>", "ok", "found"),)),
        Health("healthy", (Check("<name>", "ok", "found"),)),
        SelfTest((Call("<name>", "numba", True, 0.5, ""),)),
    ],
)
def test_tables(shown):
    assert "<name>" in str(shown)
    assert "&lt;name&gt;" in shown._repr_html_()
    assert "<name>" not in shown._repr_html_()
    assert len({len(line.rstrip()) for line in str(shown).splitlines()[-2:]}) >= 1


def test_the_worst_check_is_the_status():
    ok, warn, fail = (Check("", status, "") for status in ("ok", "warn", "fail"))
    assert Installation((ok, ok)).status == "ok"
    assert Installation((ok, warn, ok)).status == "warn"
    assert Installation((warn, fail, ok)).status == "fail"


# -------------------------------------------------------------------------------------- doctor


@pytest.mark.parametrize(("status", "code"), [("healthy", 0), ("degraded", 1), ("critical", 2)])
def test_doctor(monkeypatch, capsys, status, code):
    checks = (Check("cupy", "warn", "[not] installed", "pip install it"),)
    monkeypatch.setattr(health, "health_check", lambda: Health(status, checks))
    assert cli.main(["doctor"]) == code
    said = capsys.readouterr().out
    assert said.startswith(f"robocache_cupy: {status}")
    assert "[not] installed" in said
    assert "pip install it" in said


def test_doctor_with_the_self_test(monkeypatch, capsys, two_cases):
    monkeypatch.setattr(health, "health_check", lambda: Health("healthy", ()))
    assert cli.main(["doctor", "--self-test"]) == 2
    assert "self-test: FAILED" in capsys.readouterr().out
    del two_cases["bad"]
    assert cli.main(["doctor", "--self-test"]) == 0
    assert "self-test: all right" in capsys.readouterr().out


def test_the_command_runs():
    done = subprocess.run(
        [sys.executable, "-m", "robocache_cupy", "doctor"],
        text=True, capture_output=True, timeout=300, check=False, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    assert "small ops on numba" in done.stdout
