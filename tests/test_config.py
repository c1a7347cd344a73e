"""Settings: how they are changed, who they hold for, and what they do to calls."""

import logging
import os
import re
import subprocess
import sys
import textwrap
import threading
import types

import numpy as np
import pytest

import robocache_cupy as rc
from robocache_cupy import config
from robocache_cupy._core import kernel, observe
from robocache_cupy._core.plan import Op

SRC, TGT = np.array([0, 10, 20]), np.array([12, 3])
PLAIN = Op.__call__


def call(**options):
    return rc.asof_index(SRC, TGT, **options)


@pytest.fixture(autouse=True)
def _everything_is_off():
    yield
    config.set_config(
        backend="auto", enable_profiling=False, numerical_checks=False, log_level="NOTSET"
    )
    assert Op.__call__ is PLAIN


@pytest.fixture
def nvtx(monkeypatch):
    """A stand-in for the package: it keeps the names of the ranges, with their depth."""
    made = types.ModuleType("nvtx")
    made.ranges, made.depth = [], 0

    class annotate:
        def __init__(self, message, domain):
            assert domain == "robocache_cupy"
            self.message = message

        def __enter__(self):
            made.ranges.append((self.message, made.depth))
            made.depth += 1

        def __exit__(self, *_):
            made.depth -= 1

    made.annotate = annotate
    monkeypatch.setitem(sys.modules, "nvtx", made)
    return made


def script(text: str, **environment: str) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)],
        env={**{k: v for k, v in os.environ.items() if not k.startswith("ROBOCACHE")},
             **environment},
        text=True, capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


# --------------------------------------------------------------------------------- how it is set


def test_defaults():
    assert rc.get_config() == ("auto", False, False, "NOTSET")
    with pytest.raises(AttributeError):
        rc.get_config().backend = "numba"


def test_set_config_holds_for_every_thread():
    assert config.set_config(backend="numba").backend == "numba"
    config.set_config(log_level="error")
    seen = []
    thread = threading.Thread(target=lambda: seen.append(rc.get_config()))
    thread.start()
    thread.join()
    assert seen == [("numba", False, False, "ERROR")]


def test_overrides_nest_and_end():
    config.set_config(log_level="ERROR")
    with config.override(backend="numba") as outer:
        assert outer == rc.get_config() == ("numba", False, False, "ERROR")
        with config.override(backend="auto", log_level=logging.INFO):
            assert rc.get_config() == ("auto", False, False, "INFO")
            config.set_config(numerical_checks=True)  # for the process, and so for here
            assert rc.get_config().numerical_checks
        assert rc.get_config() == ("numba", False, True, "ERROR")
    assert rc.get_config() == ("auto", False, True, "ERROR")


def test_an_override_ends_with_an_exception():
    with pytest.raises(KeyError), config.override(backend="numba"):
        raise KeyError
    assert rc.get_config().backend == "auto"
    assert Op.__call__ is PLAIN


def test_an_override_is_that_of_one_thread():
    entered, leave, seen = threading.Event(), threading.Event(), []

    def other():
        with config.override(backend="cuda"):
            entered.set()
            leave.wait(60)
            seen.append(rc.get_config().backend)

    thread = threading.Thread(target=other)
    thread.start()
    assert entered.wait(60)
    assert rc.get_config().backend == "auto"
    assert call().tolist() == [1, 0]  # on the CPU, GPU or no GPU
    with config.override(backend="numba"):
        leave.set()
        thread.join()
        assert rc.get_config().backend == "numba"
    assert seen == ["cuda"]


@pytest.mark.parametrize(
    "change", [config.set_config, lambda **x: config.override(**x).__enter__()]
)
@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        ({"backend": "gpu"}, ValueError, "backend is 'gpu', expected one of 'auto', 'cuda'"),
        ({"numerical_checks": 1}, TypeError, "numerical_checks is 1, expected True or False"),
        ({"enable_profiling": "on"}, TypeError, "enable_profiling is 'on', expected True or"),
        ({"log_level": "LOUD"}, ValueError, "log_level is 'LOUD', expected one of 'NOTSET'"),
        ({"log_level": 3}, ValueError, "log_level is 3, expected one of 'NOTSET'"),
    ],
)
def test_wrong_settings(change, wrong, error, said):
    with pytest.raises(error, match=said):
        change(**wrong)
    assert rc.get_config() == config.Config()


def test_how_it_shows(capsys, monkeypatch):
    assert re.search(r"^backend +auto +ROBOCACHE_BACKEND$", str(rc.get_config()), re.M)
    assert "<td" in rc.get_config()._repr_html_()
    config.print_config()
    assert "ROBOCACHE_LOG_LEVEL" in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "rich", None)
    config.print_config()
    said = capsys.readouterr().out
    assert said == f"robocache_cupy: settings\n{rc.get_config()}\n"


# ---------------------------------------------------------------------------------- environment


def test_without_variables_nothing_is_imported():
    said = script(
        """
        import sys
        import robocache_cupy
        print([m for m in sys.modules if m.startswith("robocache_cupy.")
               and m.rpartition(".")[2] in ("config", "metrics", "health", "observe")])
        """
    ).stdout
    assert said == "[]\n"


def test_variables_are_read_at_import():
    done = script(
        """
        import sys
        import robocache_cupy as rc
        print(tuple(rc.get_config()), "cupy" in sys.modules, "numba" in sys.modules)
        """,
        ROBOCACHE_BACKEND="NUMBA",
        ROBOCACHE_PROFILING="0",
        ROBOCACHE_NUMERICAL_CHECKS="true",
        ROBOCACHE_LOG_LEVEL="info",
    )
    assert done.stdout == "('numba', False, True, 'INFO') False False\n"
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("ROBOCACHE_BACKEND", "gpu", "backend is 'gpu', expected one of"),
        ("ROBOCACHE_NUMERICAL_CHECKS", "maybe", "expected one of 1, true, on"),
        ("ROBOCACHE_LOG_LEVEL", "loud", "log_level is 'loud', expected one of"),
        ("ROBOCACHE_PROFILING", "1", "takes the package nvtx: pip install nvtx"),
    ],
)
def test_a_wrong_variable_is_one_warning(variable, value, said):
    done = script(
        """
        import sys
        sys.modules["nvtx"] = None
        import robocache_cupy as rc
        print(tuple(rc.get_config()))
        """,
        **{variable: value},
    )
    assert done.stdout == "('auto', False, False, 'NOTSET')\n"
    assert done.stderr.count("UserWarning") == 1
    assert f"{variable}={value} is left aside: " in done.stderr
    assert said in done.stderr


# ---------------------------------------------------------------------------------------- calls


def test_calls_are_free_while_all_is_off():
    for on in ({"backend": "numba"}, {"numerical_checks": True}):
        with config.override(**on):
            assert Op.__call__ is not PLAIN
            with config.override(backend="auto", numerical_checks=False):
                assert Op.__call__ is not PLAIN
        assert Op.__call__ is PLAIN
        config.set_config(**on)
        assert Op.__call__ is not PLAIN
        config.set_config(backend="auto", numerical_checks=False)
        assert Op.__call__ is PLAIN
    with config.override(log_level="DEBUG"):
        assert Op.__call__ is PLAIN


def test_the_backend_stands_in_for_auto(monkeypatch):
    seen = []

    def spy(op, arrays, options, scalars):
        seen.append(options[op.options.index("backend")])

    for chosen in ("auto", "numba", "cuda"):
        with config.override(backend=chosen, numerical_checks=False), monkeypatch.context() as m:
            m.setattr(observe, "_plain", spy)
            observe._observed(Op.all["asof_index"], (SRC, TGT), _options("auto"), None)
            observe._observed(Op.all["asof_index"], (SRC, TGT), _options("numba"), None)
    assert seen == ["auto", "numba", "numba", "numba", "cuda", "numba"]


def _options(backend):
    op = Op.all["asof_index"]
    values = {"direction": "backward", "allow_exact_matches": True, "backend": backend}
    return tuple(values[name] for name in op.options)


def why_no_cuda() -> str:
    try:
        kernel.check_cuda(0)
    except (ImportError, RuntimeError) as e:
        return str(e)
    return ""


def test_the_backend_is_that_of_the_call(require):
    """Without a GPU the call says so, and with one it goes there and back."""
    why_not = why_no_cuda()
    assert not (why_not and "cupy_cuda" in require.names), why_not
    with config.override(backend="cuda"):
        if why_not:
            with pytest.raises((ImportError, RuntimeError)):
                call()
        else:
            assert call().tolist() == [1, 0]
        assert call(backend="numba").tolist() == [1, 0]


def test_options_that_cannot_be_hashed_pass():
    with config.override(backend="numba"):
        windows = rc.sample_windows(
            {"x": np.arange(3.0)[:, None]}, [0, 3], np.array([1]), delta_indices={"x": [-1, 0]}
        )
    assert windows["x"].tolist() == [[[0.0], [1.0]]]


def test_errors_are_those_of_the_op():
    with config.override(backend="numba"):
        for wrong in (None, "text", object()):
            with pytest.raises(TypeError, match="src"):
                rc.asof_index(wrong, TGT)
        with pytest.raises(ValueError, match="called 'numba'"):
            call(backend="pytorch")
        assert call().tolist() == [1, 0]


# ------------------------------------------------------------------------------------- profiling


def test_profiling_names_each_call_once(nvtx):
    with config.override(enable_profiling=True):
        call()
        rc.interp([0.5], [0.0, 1.0], [0.0, 4.0])  # lists: the op calls itself
        rc.slerp(np.eye(4)[:, ::-1], np.eye(4), 0.5)  # a dense copy: again
        with pytest.raises(ValueError, match="direction"):
            call(direction="sideways")
    call()
    assert nvtx.ranges == [("asof_index", 0), ("interp", 0), ("slerp", 0), ("asof_index", 0)]
    assert nvtx.depth == 0


def test_profiling_without_nvtx(monkeypatch):
    monkeypatch.setitem(sys.modules, "nvtx", None)
    with pytest.raises(ImportError, match="pip install nvtx"):
        config.set_config(enable_profiling=True)
    assert not rc.get_config().enable_profiling


def test_profiling_with_the_real_nvtx(require):
    try:
        import nvtx  # noqa: F401
    except ImportError as e:
        require.skip("nvtx", str(e))
    with config.override(enable_profiling=True):
        assert call().tolist() == [1, 0]


# ------------------------------------------------------------------------------ numerical checks


@pytest.fixture
def checked(monkeypatch):
    """Numerical checks whose other backend is the reference as well, through `spoil`."""

    class Checked:
        calls = 0

        @staticmethod
        def spoil(result):
            return result

    def other(op, arrays, options, scalars, backend):
        Checked.calls += 1
        at = op.options.index("backend")
        options = (*options[:at], "numba", *options[at + 1 :])
        return Checked.spoil(PLAIN(op, arrays, options, scalars))

    monkeypatch.setattr(observe, "_other", other)
    monkeypatch.setattr(observe, "_no_cuda", lambda: "")
    with config.override(numerical_checks=True):
        yield Checked


def test_equal_results_pass(checked):
    assert call().tolist() == [1, 0]
    data = np.array([[np.nan], [2.0], [-0.0]])
    result = rc.resample_trajectories(data, np.arange(3.0), np.arange(3.0))
    np.testing.assert_array_equal(result, data)
    assert checked.calls == 2


def test_a_mismatch_names_op_output_index_and_values(checked):
    def spoil(result):
        data, valid = result
        data[1:, 0] = 7.5
        return type(result)(data, valid)

    checked.spoil = spoil
    data, times = np.arange(6.0).reshape(3, 2), np.arange(3.0)
    with pytest.raises(config.MismatchError) as e:
        rc.resample_trajectories(data, times, times, return_valid=True)
    assert str(e.value) == (
        "resample_trajectories: values differs in 2 of 6 elements, first at index (1, 0): "
        f"{data[1, 0]!r} by numba, {np.float64(7.5)!r} by cuda"
    )


def test_a_mismatch_of_integers(checked):
    checked.spoil = lambda result: result + np.array([0, 1], np.int32)
    with pytest.raises(config.MismatchError, match=r"first at index \(1,\): .*0.* by numba, .*1"):
        call()
    checked.spoil = lambda result: result[:1]
    with pytest.raises(config.MismatchError, match=r"int32 \(2,\) by numba and int32 \(1,\)"):
        call()
    checked.spoil = lambda result: result.astype("int64")
    with pytest.raises(config.MismatchError, match="int64"):
        call()


def test_only_rotations_have_slack(checked):
    quaternions = np.array([[0, 0, 0, 1.0], [0, 0, 1, 0]], np.float32)
    times = np.arange(2.0)

    def turned(step):
        checked.spoil = lambda x: x + np.float32(step)
        return rc.slerp(quaternions[0], quaternions[1], 0.25)

    eps = float(np.finfo(np.float32).eps)
    assert turned(4 * eps).shape == (4,)
    with pytest.raises(config.MismatchError, match="slerp"):
        turned(16 * eps)

    checked.spoil = lambda x: x + np.float32(4 * eps)
    rc.interpolate_quaternions(quaternions, times, times)
    rc.fuse_multimodal({"q": rc.Stream(quaternions, times, rotation="quat_xyzw")}, tgt_times=times)
    with pytest.raises(config.MismatchError, match="resample_trajectories"):
        rc.resample_trajectories(quaternions, times, times)
    with pytest.raises(config.MismatchError, match="fuse_multimodal"):
        rc.fuse_multimodal({"q": (quaternions, times)}, tgt_times=times)


def test_what_differs():
    nan, tiny = np.nan, np.float32(1e-40)
    a = np.array([1.0, nan, 0.0, tiny, 2.0, np.inf], np.float32)
    b = np.array([1.0, nan, -0.0, 0.0, nan, -np.inf], np.float32)
    assert observe._differ(a, b, 0).tolist() == [False] * 4 + [True] * 2
    assert observe._differ(a, b, 8).tolist() == [False] * 4 + [True] * 2
    wide = np.array([1e-40])
    assert observe._differ(wide, 0 * wide, 0).tolist() == [True]  # only float32 is flushed
    dates = np.array(["NaT", "2020-01-01"], "datetime64[ns]")
    assert observe._differ(dates, dates[::-1], 0).tolist() == [True, True]
    assert not observe._differ(dates, dates, 0).any()
    large = np.array([2**62, 2**62 + 1])
    assert observe._differ(large, large[::-1], 0).all()


def test_arguments_that_the_call_overwrites(checked):
    """The other backend sees them as they were."""
    quaternions = np.array([[0, 0, 0, 1.0], [0, 0, 0, -1]])
    result = rc.unwrap_quaternions(quaternions, out=quaternions)
    assert result is quaternions
    assert result.tolist() == [[0, 0, 0, 1], [0, 0, 0, 1]]
    assert checked.calls == 1


def test_what_is_not_compared(checked):
    points = np.zeros((1, 2, 3), np.float32)
    rc.voxelize_point_cloud(points, (1, 1, 1), 1.0, reduce="count", deterministic=False)
    rc.asof_index(SRC.astype("datetime64[ns]"), TGT.astype("datetime64[ns]"))
    assert checked.calls == 0
    call(backend="numba")
    assert checked.calls == 1


def test_lists_and_other_frameworks_are_compared(checked):
    torch = pytest.importorskip("torch")
    rc.interp([0.5], [0.0, 1.0], [0.0, 4.0])
    data = torch.arange(6.0).reshape(3, 2)
    times = torch.arange(3.0)
    rc.resample_trajectories(data, times, times)
    assert checked.calls == 2
    checked.spoil = lambda x: x + 1
    with pytest.raises(config.MismatchError):
        rc.resample_trajectories(data, times, times)


def test_jax_is_compared_outside_of_jit(checked):
    jax = pytest.importorskip("jax")
    x = jax.numpy.arange(3, dtype="float32")
    rc.asof_index(x, x)
    assert checked.calls == 1
    jax.jit(rc.asof_index)(x, x).block_until_ready()
    assert checked.calls == 1


def test_without_a_gpu_the_log_says_once_that_nothing_is_compared(monkeypatch, caplog):
    def none(device):
        raise RuntimeError("CuPy finds no usable CUDA device")

    observe._no_cuda.cache_clear()
    monkeypatch.setattr(kernel, "check_cuda", none)
    with config.override(numerical_checks=True), caplog.at_level("WARNING"):
        assert call().tolist() == [1, 0]
        assert call().tolist() == [1, 0]
    observe._no_cuda.cache_clear()
    (record,) = caplog.records
    assert record.name == "robocache_cupy"
    assert "compares nothing" in record.getMessage()
    assert "no usable CUDA device" in record.getMessage()


def test_the_cuda_kernels_are_compared_on_the_host(monkeypatch, require):
    try:
        import host_cuda
    except Exception as e:
        require.skip("cuda_on_host", str(e))

    def other(op, arrays, options, scalars, backend):
        op.cache.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kernel.Kernel, "on_host", host_cuda.on_host)
            at = op.options.index("backend")
            result = PLAIN(op, arrays, (*options[:at], "auto", *options[at + 1 :]), scalars)
        op.cache.clear()
        return result

    monkeypatch.setattr(observe, "_other", other)
    monkeypatch.setattr(observe, "_no_cuda", lambda: "")
    with config.override(numerical_checks=True):
        assert call().tolist() == [1, 0]


def test_the_gpu_is_compared(require):
    if why_not := why_no_cuda():
        require.skip("cupy_cuda", why_not)
    import cupy

    observe._no_cuda.cache_clear()
    with config.override(numerical_checks=True):
        assert call().tolist() == [1, 0]
        on_gpu = rc.asof_index(cupy.asarray(SRC), cupy.asarray(TGT))
        assert isinstance(on_gpu, cupy.ndarray)
        original = observe._other
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(observe, "_other", lambda *x: original(*x) + 1)
            with pytest.raises(config.MismatchError, match=r"by cuda, .* by numba"):
                rc.asof_index(cupy.asarray(SRC), cupy.asarray(TGT))


# --------------------------------------------------------------------------------------- logging

LOG = """
    import logging, sys
    import numpy as np
    {before}
    import robocache_cupy as rc
    rc.asof_index(np.array([0, 10]), np.array([3]))
    assert logging.getLogger().handlers == [] or {before!r}
"""


def test_logging_is_silent():
    done = script(LOG.format(before=""))
    assert done.stderr == done.stdout == ""


def test_the_log_level_of_the_environment_writes_to_stderr():
    done = script(LOG.format(before=""), ROBOCACHE_LOG_LEVEL="DEBUG")
    assert re.search(
        r"robocache_cupy DEBUG: planned asof_index of int64 \(2,\), int64 \(1,\) in \d+ us",
        done.stderr,
    )
    kernel = "asof.asof_index<long long, 8, 0>"
    assert re.search(rf"DEBUG: compiled {kernel} for numba in \d", done.stderr)
    assert done.stdout == ""


def test_an_application_that_logs_gets_each_record_once():
    before = "logging.basicConfig(level=logging.DEBUG, format='mine %(message)s')"
    plain = script(LOG.format(before=before)).stderr
    assert plain.count("planned asof_index") == 1
    asked = script(LOG.format(before=before), ROBOCACHE_LOG_LEVEL="DEBUG").stderr
    assert asked.count("mine planned asof_index") == asked.count("planned asof_index") == 1
    quiet = script(LOG.format(before=before), ROBOCACHE_LOG_LEVEL="ERROR").stderr
    assert "planned" not in quiet


def test_the_log_level_of_a_block_is_that_of_its_thread(caplog):
    logger = logging.getLogger("robocache_cupy")
    entered, leave = threading.Event(), threading.Event()

    def other():
        with config.override(log_level="DEBUG"):
            entered.set()
            leave.wait(60)
            logger.debug("for the other thread")

    thread = threading.Thread(target=other)
    thread.start()
    assert entered.wait(60)
    logger.info("for nobody: the application wants warnings")
    with config.override(log_level="INFO"):
        logger.debug("not for this thread")
        logger.info("for this one")
    leave.set()
    thread.join()
    assert caplog.messages == ["for this one", "for the other thread"]
    assert logger.level == logging.NOTSET
    assert [type(x) for x in logger.handlers] == [logging.NullHandler]


def test_crossing_over_is_logged(caplog, require):
    if why_not := why_no_cuda():
        require.skip("cupy_cuda", why_not)
    with caplog.at_level("DEBUG", "robocache_cupy"):
        call(backend="cuda")
    assert "asof_index crosses over to cuda" in caplog.messages
