"""The timing report says of stamps what a plain count of them says."""

import math
import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robocache_cupy import logs
from robocache_cupy.timing import timing_report

ENDS = np.iinfo(np.int64)
NAT = np.datetime64("NaT", "ns")


def naive(times):
    """A row of the report from int64 ns, with Python's integers; None is a missing stamp."""
    while times and times[-1] is None:
        times = times[:-1]
    known = [(t, i) for i, t in enumerate(times) if t is not None]
    falls = [i for (a, _), (b, i) in pairwise(known) if b < a]
    order = sorted(known, key=lambda pair: pair[0])
    steps = [(b - a, i) for (a, _), (b, i) in pairwise(order)]
    moves = [step for step, _ in steps if step]
    row = {
        "samples": len(times),
        "duration": (order[-1][0] - order[0][0]) / 1e9 if order else math.nan,
        "duplicates": len(steps) - len(moves),
        "backward_steps": len(falls),
        "first_backward_at": falls[0] if falls else -1,
        "nans": len(times) - len(known),
    }
    if not moves:
        nothing = dict.fromkeys(("rate", "jitter_p50", "jitter_p99", "longest_gap"), math.nan)
        return row | nothing | {"longest_gap_at": -1}
    median = float(np.median(np.array(moves, float)))
    off = [abs(step - median) / 1e6 for step in moves]
    return row | {
        "rate": 1e9 / median,
        "jitter_p50": np.percentile(off, 50),
        "jitter_p99": np.percentile(off, 99),
        "longest_gap": max(moves) / 1e6,
        "longest_gap_at": next(i for step, i in steps if step == max(moves)),
    }


def assert_row(report, row, expected):
    for field, value in expected.items():
        found = getattr(report, field)[row]
        np.testing.assert_allclose(found, value, rtol=1e-12, atol=1e-6, err_msg=field)


stamps = st.lists(st.none() | st.integers(-50, 50) | st.integers(ENDS.min + 1, ENDS.max))


@given(stamps)
def test_against_a_plain_count(times):
    given = np.array([ENDS.min if t is None else t for t in times], np.int64)
    report = timing_report(given.view("datetime64[ns]"))
    assert report.names == ("0",)
    assert_row(report, 0, naive(times))


@given(st.lists(st.none() | st.integers(-50, 50)))
def test_seconds_are_like_nanoseconds(times):
    seconds = timing_report(np.array([math.nan if t is None else t / 64 for t in times], float))
    ticks = [None if t is None else t * 10**9 // 64 for t in times]
    assert_row(seconds, 0, naive(ticks))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
def test_arrays_of_any_library(lib, dtype):
    unit = "s" if dtype.startswith("float") else "ms"
    times = np.array([[0, 10, 20, 50, 40], [7, 7, 8, 9, 10]]).astype(dtype)
    if unit == "s":
        times /= 1000
    report = timing_report(lib.array(times), time_unit=unit)
    np.testing.assert_allclose(report.rate, [100, 1000], rtol=1e-4)
    np.testing.assert_allclose(report.longest_gap, [20, 1], rtol=1e-3)
    np.testing.assert_array_equal(report.duplicates, [0, 1])
    np.testing.assert_array_equal(report.first_backward_at, [4, -1])


def test_whatever_speaks_dlpack():
    class Producer:
        def __init__(self, x):
            self.x = x

        def __dlpack__(self, **options):
            return self.x.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.x.__dlpack_device__()

    assert timing_report(Producer(np.arange(5) * 10**7)).rate == [100.0]


@pytest.mark.parametrize("unit", ["ns", "us", "ms", "s"])
def test_datetimes_bring_their_unit(unit):
    report = timing_report(np.array([0, 2, 4, 6], f"datetime64[{unit}]"))
    second = {"ns": 1e9, "us": 1e6, "ms": 1e3, "s": 1}[unit]
    assert report.rate == pytest.approx(second / 2)
    assert report.duration == pytest.approx(6 / second)


def test_lists_are_seconds_or_nanoseconds():
    assert timing_report([0.0, 0.5]).rate == [2.0]
    assert timing_report([0, 500_000_000]).rate == [2.0]
    assert timing_report([0, 5], time_unit="ms").rate == [200.0]


def test_rows_of_a_batch_and_packed_rows_are_the_same():
    rows = [[0, 10, 20], [], [5, 4, 4, 9]]
    padded = np.full((3, 4), 77, np.int64)
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = values
    batch = timing_report(padded, lengths=[3, 0, 4])
    packed = timing_report(np.concatenate(rows).astype(np.int64), offsets=[0, 3, 3, 7])
    for b, values in enumerate(rows):
        assert_row(batch, b, naive(values))
        assert_row(packed, b, naive(values))
    assert batch.names == packed.names == ("0", "1", "2")


def test_nan_tails_are_padding_and_others_are_counted():
    nan = math.nan
    report = timing_report([[0.0, nan, 0.25, 0.5, nan, nan], [nan] * 6, [0.0, 1, 2, 3, 4, np.inf]])
    np.testing.assert_array_equal(report.samples, [4, 0, 5])
    np.testing.assert_array_equal(report.nans, [1, 0, 0])
    np.testing.assert_array_equal(report.rate, [4, nan, 1])


def test_a_dict_names_its_rows():
    report = timing_report(
        {"a": [0.0, 0.1], "b": np.zeros((2, 3), np.int64), "c": np.array([0, NAT], "M8[ns]")}
    )
    assert report.names == ("a", "b[0]", "b[1]", "c")
    np.testing.assert_array_equal(report.samples, [2, 3, 3, 1])
    np.testing.assert_array_equal(report.duplicates, [0, 2, 2, 0])
    assert timing_report({}).names == ()


@pytest.mark.parametrize("dtype", ["i8", "M8[ns]"])
def test_the_smallest_integer_is_no_time(dtype):
    times = np.array([0, 10**9, -(2**63), 2 * 10**9, -(2**63)]).view(dtype)
    report = timing_report(times)
    assert report.samples == [4]
    assert report.nans == [1]
    assert report.duration == [2.0]
    assert report.backward_steps == [0]


def test_positions():
    report = timing_report([0.0, 1.0, 5.0, 4.0, 4.5, 4.25, 4.75])
    assert report.longest_gap_at == [3]  # 4.0 ends the gap after 1.0, though it was read later
    assert report.first_backward_at == [3]
    assert report.backward_steps == [2]


def test_the_table():
    report = timing_report({"a<b": [0.0, 0.5, 1.25, 1.0], "none": []})
    head, first, second = str(report).split("\n")
    assert len(head) == len(first) == len(second)
    assert re.split(r"\s{2,}", head.strip()) == [
        "samples", "duration s", "rate Hz", "jitter p50 ms", "p99 ms", "longest gap ms", "at",
        "duplicates", "backward", "first at", "NaN",
    ]  # fmt: skip
    assert first.split() == [
        "a<b", "4", "1.250", "2.00", "0.000", "245.000", "500.000", "1", "0", "1", "3", "0",
    ]  # fmt: skip
    assert second.split() == ["none", "0", *"------", "0", "0", "-", "0"]
    page = report._repr_html_()
    assert page.count("<tr>") == 3
    assert "a&lt;b</th><td>4</td><td>1.250</td><td>2.00</td>" in page
    assert repr(report) == str(report)


def test_a_data_frame():
    import pandas

    frame = pandas.DataFrame(timing_report({"a": [0.0, 0.5]})._asdict())
    assert frame.loc[0, "names"] == "a"
    assert frame.loc[0, "rate"] == 2.0


@pytest.mark.parametrize(
    ("times", "options", "error", "said"),
    [
        (np.zeros(3, "f2"), {}, TypeError, "times has dtype float16"),
        (np.zeros((1, 2, 3)), {}, ValueError, r"times has shape \(1, 2, 3\)"),
        (0.5, {}, ValueError, r"times has shape \(\)"),
        ("abc", {}, TypeError, "times is a str"),
        ({"cam": "abc"}, {}, TypeError, r"times\['cam'\] is a str"),
        ([[1.0], [1.0, 2.0]], {}, TypeError, "times has rows of different lengths"),
        ({"cam": [1.0]}, {"lengths": [1]}, ValueError, "lengths and offsets belong to one array"),
        ([1.0], {"lengths": [1], "offsets": [0, 1]}, ValueError, "give one of them"),
        ([1.0], {"lengths": [2]}, ValueError, "lengths reaches from 2 to 2, expected 0 to 1"),
        ([1.0], {"lengths": [1, 1]}, ValueError, r"lengths has shape \(2,\), expected \(1,\)"),
        ([1.0], {"offsets": [0, 2]}, ValueError, "offsets ends with 2, but times has 1 stamps"),
        ([[1.0]], {"offsets": [0, 1]}, ValueError, r"times has shape \(1, 1\), expected \[N\]"),
        ([1.0], {"time_unit": "h"}, ValueError, "time_unit is 'h'"),
    ],
)
def test_errors(times, options, error, said):
    with pytest.raises(error, match=said):
        timing_report(times, **options)


def test_int32_of_jax_may_have_been_int64():
    jax = pytest.importorskip("jax")
    times = jax.numpy.arange(3, dtype="int32")
    with pytest.raises(TypeError, match="times is an int32 array of JAX"):
        timing_report(times)
    assert timing_report(times, time_unit="ms").rate == [1000.0]


def test_like_the_table_of_a_log():
    streams = logs.open(logs.DEMO).streams
    report = timing_report({name: stream.times for name, stream in streams.items()})
    for row, stream in enumerate(streams.values()):
        clock = logs.timing(stream.times)
        assert_row(report, row, clock._asdict())
        assert_row(report, row, naive(stream.times.tolist()))
