"""The bench runs and checks its results. Nothing here looks at a time."""

import contextlib
import csv
import json
import re
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from robocache_cupy import cli  # noqa: E402
from robocache_cupy.bench import (  # noqa: E402
    against,
    callgrind,
    measure,
    peers,
    profile,
    published,
    readme,
    scaling,
    statistic,
    table,
)
from robocache_cupy.bench import run as running  # noqa: E402
from robocache_cupy.bench.case import Case, Wrong  # noqa: E402
from robocache_cupy.bench.draw import Draw  # noqa: E402
from robocache_cupy.bench.on_time import touched  # noqa: E402
from robocache_cupy.bench.published import KINDS, PUBLISHED, select  # noqa: E402

TINY = measure.Effort(2, 3, 0.001, 2, 1 << 20, 0.0, 2, 3)
SMALL = {"B": 3, "S": 20, "T": 33, "D": 4, "N": 300, "A": 11, "C": 3, "H": 12, "V": 2, "G": 8,
         "K": 16, "W": 16}  # fmt: skip
FEW = "resample-3x20x16x4-f32-int64"


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(measure, "QUICK", TINY)


def small(case):
    """The same case with small sizes."""
    sizes = tuple(SMALL[axis] for axis in KINDS[case.kind].axes)
    if case.op == "windows":
        sizes = 3000, 11, 5
    return case._replace(sizes=sizes if case.sizes[0] != 1 else (1, *sizes[1:]), quick=False)


EVERY = list(dict.fromkeys(map(small, PUBLISHED)))


def command(*arguments):
    return cli.main(["bench", *map(str, arguments), "--device", "cpu", "--quick"])


def drawn(case, seed=0):
    return KINDS[case.kind].draw(case, Draw("cpu", seed))


def results_of(call, args, framework="torch"):
    chosen = peers.frameworks()[framework]
    return peers.tensors(chosen, call(*peers.converted(chosen, args)))


@pytest.mark.parametrize("case", EVERY, ids=lambda case: case.name)
def test_every_oracle_passes_ours_and_no_other_result(case):
    kind, args = KINDS[case.kind], drawn(case)
    results = results_of(kind.ours(case), args)
    kind.check(case, args, results, True)
    first = results[0]
    if first.dtype is torch.uint32:
        wrong = (first.view(torch.int32) ^ 1).view(torch.uint32)
    else:
        wrong = 1 - first if first.dtype is torch.uint8 else first + 1
    for exact in (True, False):
        with pytest.raises(Wrong):
            kind.check(case, args, [wrong, *results[1:]], exact)
    assert 0 < kind.floor(case, args) < 1 << 20


@pytest.mark.parametrize("name", ["torch", "numpy", "loop", "scipy", "pandas", "peract"])
def test_peers_are_right(name):
    assert peers.missing(name) is None
    asked = 0
    for case in EVERY:
        if not peers.offers(name, case):
            continue
        args = drawn(case)
        for call in peers.calls(name, case).values():
            results = results_of(call, args, peers.PEERS[name].framework)
            KINDS[case.kind].check(case, args, results, False)
            asked += 1
    assert asked > 0


@pytest.mark.parametrize(
    "kind", ["resample", "windows-time", "voxelize-mean", "farthest_point_sample"]
)
def test_jax_is_right(kind):
    pytest.importorskip("jax")
    (case, *_) = (case for case in EVERY if case.kind == kind)
    args, framework = drawn(case), peers.frameworks()["jax"]
    with framework.session():
        (call,) = peers.calls("jax", case).values()
        KINDS[kind].check(case, args, results_of(call, args, "jax"), False)


def test_a_result_that_was_not_written_is_wrong():
    case = Case("resample", (9, 40, 33, 20), "float32", "int64")
    args = drawn(case)
    (result,) = results_of(KINDS["resample"].ours(case), args)
    result[1, 7, 1] = float("nan")  # in a row and channel that the oracle does not compare
    with pytest.raises(Wrong, match="not written"):
        KINDS["resample"].check(case, args, [result], True)


@pytest.mark.parametrize("clock", published.CLOCKS)
@pytest.mark.parametrize("sizes", [(2, 9, 5, 3), (3, 4, 50, 1), (1, 1, 3, 2)])
def test_floor_counts_the_rows_that_targets_touch(sizes, clock):
    case = Case("resample", sizes, "float32", clock)
    args = drawn(case)
    src, tgt = args[1].numpy(), args[2].numpy()
    rows = set()
    B, S, T, D = sizes
    for b in range(B):
        for t in tgt[b]:
            if t in src[b]:
                rows.add((b, int(np.flatnonzero(src[b] == t)[0])))
            elif t < src[b, 0] or t > src[b, -1]:
                rows.add((b, 0 if t < src[b, 0] else S - 1))
            else:
                after = int(np.flatnonzero(src[b] > t)[0])
                rows |= {(b, after - 1), (b, after)}
    size = 8 if clock == "int64" else 4
    assert touched(*args[1:]) == len(rows)
    expected = 4 * D * (len(rows) + B * T) + size * B * (S + T)
    assert KINDS["resample"].floor(case, args) == expected


def test_names_say_what_the_cases_are():
    assert len({case.name for case in PUBLISHED}) == len(PUBLISHED)
    for case in PUBLISHED:
        assert select([case.name]) == [case]
    assert select([]) == list(PUBLISHED)
    assert select([], quick=True) == [case for case in PUBLISHED if case.quick]
    assert {case.op for case in select([], quick=True)} == set(published.OPS)
    for wrong in ("x", "", "resample-2x9x5-f32-int64", "resample-0x9x5x3-f32-int64",
                  "asof-1x2x3-f32-int64", "resample-2x9x5x3-f32-uniform"):  # fmt: skip
        with pytest.raises(ValueError, match=f"no op or case {wrong!r}: expected some of resample"):
            select([wrong])


def test_a_run_saves_what_it_prints(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    run, lines, page = (tmp_path / name for name in ("run.json", "run.csv", "run.html"))
    code = command(
        FEW, "voxelize-mean-2x300x8-f32-uniform", "--peers", "torch,numpy,fpsample", "--save", run,
        "--csv", lines, "--html", page, "--commit", "abc", "--seed", 7,
    )  # fmt: skip
    report = json.loads(run.read_text())
    assert code == 0
    assert (report["seed"], report["machine"]["commit"]) == (7, "abc")
    assert report["effort"] == TINY._asdict()
    assert [case["name"] for case in report["cases"]] == [FEW, "voxelize-mean-2x300x8-f32-uniform"]
    for case in report["cases"]:
        assert set(case["contenders"]) == {"ours", "torch", "numpy"}
        for one in case["contenders"].values():
            cold = one["cold"]
            assert cold["low"] <= cold["mean"] <= cold["high"]
            assert cold["samples"] >= TINY.seeds * 2
            assert one["share"] == pytest.approx(case["floor_us"] / cold["median"], rel=1e-3)
    assert report["cases"][0]["sizes"] == {"B": 3, "S": 20, "T": 16, "D": 4}
    printed = capsys.readouterr().out
    for text in (FEW, "copy ", "missing: fpsample", "torch eager", "geometric mean"):
        assert text in printed
    with lines.open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["case"], row["contender"], row["figure"]) for row in rows} == {
        (case["name"], name, figure)
        for case in report["cases"]
        for name in case["contenders"]
        for figure in ("cold", "warm")
    }
    text = page.read_text()
    assert text.count("<svg") >= 2
    assert FEW in text
    assert not re.search(r"(src|href)=[\"']?http", text)


def test_a_run_goes_on_where_it_was_cut_off(tmp_path, monkeypatch, capsys):
    path = tmp_path / "run.json"
    other = "resample-2x9x5x3-f32-int64"

    def interrupted(case, *rest):
        if case.name == other:
            raise KeyboardInterrupt
        return figures(case, *rest)

    figures = running.figures
    monkeypatch.setattr(running, "figures", interrupted)
    assert command(FEW, other, "--peers", "none", "--save", path) == 130
    told = capsys.readouterr()
    assert FEW in told.out
    assert "stopped: interrupted" in told.out
    assert "interrupted" in told.err
    assert [case["name"] for case in json.loads(path.read_text())["cases"]] == [FEW]
    monkeypatch.setattr(running, "figures", figures)
    assert command(FEW, other, "--peers", "none", "--save", path, "--resume") == 0
    report = json.loads(path.read_text())
    assert [case["name"] for case in report["cases"]] == [FEW, other]
    assert "stopped" not in report
    assert "[1/1]" in capsys.readouterr().err
    command(FEW, "--save", path, "--resume", "--commit", "other")
    assert "was made with commit" in capsys.readouterr().err


def test_a_run_ends_in_time(capsys):
    assert command(FEW, "--peers", "none", "--minutes", 0) == 0
    assert f"stopped: after 0 minutes, before {FEW}" in capsys.readouterr().out


def test_a_wrong_result_of_ours_is_an_error(monkeypatch, capsys):
    kind = KINDS["resample"]
    twice = kind._replace(ours=lambda case: lambda *args: 2 * kind.ours(case)(*args))
    monkeypatch.setitem(KINDS, "resample", twice)
    assert command(FEW, "--peers", "torch") == 1
    printed = capsys.readouterr().out
    assert f"FAILED {FEW}: ours: wrong result: off by" in printed


@pytest.mark.parametrize("when", ["made", "called"])
def test_a_failing_peer_is_a_line(when, monkeypatch, capsys):
    def broken(*args):
        raise RuntimeError("no such device\nmore")

    made = broken if when == "made" else lambda case: broken
    monkeypatch.setattr(
        peers.importlib.import_module(f"{peers.__name__}.torch_time"), "resample", made
    )
    assert command(FEW, "--peers", "torch,numpy") == 0
    printed = capsys.readouterr().out
    assert f"FAILED {FEW}: torch: RuntimeError: no such device\n" in printed
    assert "NumPy" in printed


def test_what_is_not_there_is_told_in_a_line(tmp_path, capsys):
    torn = tmp_path / "torn.json"
    torn.write_text("{")
    for wrong, text in (
        (["nothing"], "no op or case 'nothing': expected some of resample, fuse, "),
        ([FEW, "--peers", "triton"], "no peer 'triton' on cpu: expected torch, compile, "),
        ([FEW, "--against", torn], f"{torn}: no saved run of the bench"),
        ([FEW, "--against", tmp_path / "no.json"], "no saved run of the bench"),
    ):
        assert command(*wrong) == 2
        told = capsys.readouterr().err
        assert text in told
        assert told.count("\n") == 1
    if not torch.cuda.is_available():
        assert cli.main(["bench", FEW, "--device", "cuda"]) == 2
        assert "no CUDA device here" in capsys.readouterr().err


def saved(times, rate=1e9, device="cpu"):
    """A run whose cases took these times, of a floor of 10 at that rate."""
    cases = [
        {"name": name, "op": "resample", "cold": True, "floor_us": 10 * 1e9 / rate,
         "floor_bytes": 10_000, "contenders": contenders}
        for name, contenders in times.items()
    ]  # fmt: skip
    return {
        "machine": {"device": device, "host": "a processor", "cores": 4, "gpu": "a GPU",
                    "driver": "1.2", "cuda": "13.0", "date": "2026-11-21T12:00:00+00:00",
                    "commit": "0123456789abcdef", "versions": {}},
        "effort": TINY._asdict(), "copy_bytes_per_s": rate, "empty_kernel_us": 2.0,
        "cache_bytes": 50_000_000, "peers": {"torch": {"title": "torch eager"}}, "cases": cases,
    }  # fmt: skip


def one(cold, p99=None, wall=None):
    figures = {"cold": {"median": cold, "p99": cold if p99 is None else p99}, "share": 10 / cold}
    return figures | ({} if wall is None else {"wall": {"median": wall}})


def test_a_case_may_not_get_slower():
    before = saved({"a": {"ours": one(20.0, 22.0)}, "b": {"ours": one(40.0)}})
    # The copy is twice as fast here, so half the times are what is expected.
    faster = {"a": {"ours": one(10.4, 12.0)}, "b": {"ours": one(20.0)}, "c": {"ours": one(9.0)}}
    assert against.slower(saved(faster, 2e9), before) == ([], 2)
    for a, found in ((one(10.6, 11.0), "p50"), (one(10.0, 12.2), "p99")):
        lines, _ = against.slower(saved({"a": {"ours": a}}, 2e9), before)
        assert [line[:6] for line in lines] == [f"a: {found}"]
    lines, _ = against.slower(saved({"a": {"ours": {"problem": "wrong result"}}}), before)
    assert lines == ["a: wrong result"]
    with pytest.raises(ValueError, match="on cuda, the baseline on cpu"):
        against.slower(saved({}, device="cuda"), before)


@pytest.mark.parametrize(("factor", "code"), [(1e-3, 1), (1e3, 0)])
def test_the_guard_is_an_exit_code(tmp_path, capsys, factor, code):
    run, baseline = tmp_path / "run.json", tmp_path / "baseline.json"
    assert command(FEW, "--peers", "none", "--save", run) == 0
    report = json.loads(run.read_text())
    cold = report["cases"][0]["contenders"]["ours"]["cold"]
    cold |= {name: cold[name] * factor for name in ("median", "p99")}
    baseline.write_text(json.dumps(report))
    assert command(FEW, "--peers", "none", "--against", baseline) == code
    printed = capsys.readouterr().out
    assert (f"SLOWER {FEW}: p50" in printed) == bool(code)
    assert "1 cases compared" in printed


def test_the_interval_is_over_seeds():
    figures = statistic.summary([[1.0, 1.0], [3.0, 3.0]])
    assert (figures["mean"], figures["median"], figures["p99"]) == (2.0, 2.0, 3.0)
    assert figures["high"] == pytest.approx(2 + 12.706 * np.sqrt(2) / np.sqrt(2), rel=1e-4)
    alone = statistic.summary([[1.0, 2.0, 3.0]])
    assert alone["high"] - alone["mean"] == pytest.approx(1.96 / np.sqrt(3), rel=1e-4)
    assert statistic.summary([[*range(1, 201)]])["p99"] == 198


def test_the_table_of_the_readme_shows_losses():
    report = saved(
        {
            "case-a": {"ours": one(20.04, wall=30.0), "torch": one(19.9, wall=90.0)},
            "case-b": {"ours": one(12.0, wall=50.0), "torch": {"problem": "out of memory"}},
        },
        device="cuda",
    )
    text = readme.markdown(report)
    for part in ("a GPU, driver 1.2, 2026-11-21, commit 0123456789ab", "**0.993x**", "3.00x",
                 "| `case-a` | 20.1 | 49.9 % |", "case-b: torch: out of memory"):  # fmt: skip
        assert part in text
    whole = readme.filled(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n", report)
    assert whole == f"before\n{readme.BEGIN}\n{text}{readme.END}\nafter\n"
    assert readme.filled(whole, report) == whole


def test_the_readme_has_the_table_of_the_saved_run():
    text = readme.README.read_text()
    path = readme.RESULTS / "h200.json"
    if path.exists():
        assert readme.filled(text, json.loads(path.read_text())) == text
    else:
        assert "No run on a GPU has been saved" in text.partition(readme.BEGIN)[2]


def test_a_readme_without_marks_is_left_alone(tmp_path, capsys):
    path, run = tmp_path / "README.md", tmp_path / "run.json"
    path.write_text("nothing")
    run.write_text(json.dumps(saved({})))
    assert readme.main([str(run)], path) == 2
    assert path.read_text() == "nothing"
    path.write_text(f"{readme.BEGIN}{readme.END}")
    assert readme.main([str(run)], path) == 0
    assert "commit 0123456789ab" in path.read_text()


def test_growth_reaches_more_than_32_bits_and_fits_the_memory():
    lines = scaling.lines("cuda")
    assert {line.axis for line in lines} == set("BSTDNG")
    free = 130 * 2**30
    fitting = [case for line in lines for case in scaling.fitting(line, free)]
    assert max(map(scaling.elements_of, fitting)) > scaling.LARGE
    assert all(5 * scaling.bytes_of(case) < free for case in fitting)
    assert len(scaling.fitting(lines[0], 2**30)) < len(scaling.fitting(lines[0], free))


def test_growth_is_measured(monkeypatch, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    base = Case("voxelize-uint8", (2, 300, 8), "float32", "uniform")
    monkeypatch.setattr(scaling, "lines", lambda device: [scaling.Line(base, "N", (100, 400))])
    run, page = tmp_path / "run.json", tmp_path / "page.html"
    name = "voxelize-uint8-1x100x4-f32-uniform"
    assert command(name, "--scaling", "--peers", "torch", "--save", run, "--html", page) == 0
    (line,) = json.loads(run.read_text())["scaling"]
    assert [case["sizes"]["N"] for case in line["cases"]] == [100, 400]
    assert "voxelize: growth with N" in page.read_text()
    assert "N of voxelize" in capsys.readouterr().out


class OnTheHost(measure.Cuda):
    """The clock of GPUs, its device and graphs replaced by calls."""

    def __init__(self):
        self.torch, self.cache = torch, 1000
        self.captured = []

    def synchronize(self):
        pass

    def _events(self, fn, count):
        for _ in range(count):
            fn()
        return [3.0] * count

    def _capture(self, fn, sets, calls, framework):
        outputs = [fn(*args) for args in sets]
        self.captured.append(calls)

        class Graph:
            def replay(self):
                for args, output in zip(sets, outputs, strict=True):
                    output.copy_(fn(*args))

        return Graph(), outputs


def test_a_graph_is_looked_at_after_its_memory_was_poisoned():
    device, looked = OnTheHost(), {}
    sets = [(torch.full((2,), float(i)),) for i in range(3)]
    samples, how = device.timed(
        lambda x: x + 1, sets, TINY, peers.frameworks()["torch"],
        lambda i, output: looked.setdefault(i, output.tolist()),
    )  # fmt: skip
    assert looked == {0: [1.0, 1.0], 2: [3.0, 3.0]}
    assert device.captured == [12]  # ten calls or more, each set as often as the others
    assert (how, samples[0]) == ("graph", 3.0 / 12)
    outputs = [torch.ones(2), torch.ones(2, dtype=torch.int32), torch.ones(2, dtype=torch.bool)]
    device._poison(outputs, peers.frameworks()["torch"])
    assert not any(torch.equal(x, torch.zeros_like(x)) for x in outputs)
    assert outputs[0].isnan().all()


def test_calls_that_read_back_are_timed_without_a_graph():
    device = OnTheHost()
    _, how = device.timed(
        peers.syncs(lambda x: x + 1), [(torch.ones(2),)], TINY, peers.frameworks()["torch"]
    )
    assert device.captured == []
    assert how.startswith("events around calls")


def test_small_calls_of_jax_are_timed_several_in_a_program(monkeypatch):
    jax = pytest.importorskip("jax")
    monkeypatch.setattr(OnTheHost, "_estimate", lambda *args: 10.0)  # however busy this machine is
    framework = peers.frameworks()["jax"]
    sets = [(jax.numpy.full(2, float(i)),) for i in range(3)]
    with framework.session():
        _, how = OnTheHost().timed(framework.jit(lambda x: x + 1), sets, TINY, framework)
    assert "programs of 3 calls" in how


def test_of_several_forms_the_fastest_is_taken(monkeypatch):
    def forms(case):
        return {"slow": lambda *args: linear(*args), "fast": lambda *args: linear(*args)}

    from robocache_cupy.bench.peers import torch_time

    linear = torch_time.linear
    monkeypatch.setattr(torch_time, "resample", forms)
    device = measure.Cpu()
    ticks = iter(range(1000))
    monkeypatch.setattr(device, "timed", lambda *args: ([1000.0 - next(ticks)], "fake"))
    case = Case("resample", (2, 9, 5, 3), "float32", "int64")
    kind = KINDS["resample"]
    sets = running.drawn(case, kind, Draw("cpu", 0), device)
    chosen = running._chosen("torch", case, kind, sets, device, TINY, contextlib.ExitStack())
    assert chosen.form == "fast"


def test_sets_exceed_the_cache_where_there_is_room(monkeypatch):
    device = measure.Cpu()
    case = Case("resample", (2, 9, 5, 3), "float32", "int64")
    for cache, free, number in ((1000, 1 << 30, 4), (1000, 100, 2), (1 << 30, 1 << 30, 16)):
        device.cache = cache
        monkeypatch.setattr(device, "free_bytes", lambda free=free: free)
        sets = running.drawn(case, KINDS["resample"], Draw("cpu", 0), device)
        assert len(sets.arguments) == number
        assert sets.cold(device) == (number == 4)


NCU = """==PROF== Connected to process 1
"ID","Process ID","Kernel Name","gpu__time_duration.sum","dram__throughput.avg.pct_of_peak_sustained_elapsed","sm__warps_active.avg.pct_of_peak_sustained_active","launch__registers_per_thread","smsp__average_warps_issue_stalled_wait_per_issue_active.ratio","smsp__average_warps_issue_stalled_long_scoreboard_per_issue_active.ratio"
"","","","ns","%","%","register/thread","inst","inst"
"0","1","linear<float, long>(const float *)","11,200","80.25","92.1","32","1.5","12.25"
"1","1","other(int)","900","","10","16","2.5","n/a"
"""  # noqa: E501


def test_kernels_are_read_from_nsight_compute():
    assert profile.kernels(NCU) == [
        ["linear<float, long>", "11.20", "80.2", "92.1", "32", "long scoreboard", "12.25"],
        ["other", "0.90", "nan", "10.0", "16", "wait", "2.50"],
    ]
    assert profile.kernels("==ERROR== ERR_NVGPUCTRPERM") == []


def test_profilers_that_are_missing_are_named(monkeypatch, capsys):
    monkeypatch.setattr(profile, "_gpu", lambda: False)
    assert profile.main(["resample"]) == 0
    monkeypatch.setattr(profile, "_gpu", lambda: True)
    monkeypatch.setattr(profile, "_tool", lambda name: None)
    assert profile.main(["resample"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "no CUDA device here: nothing to profile",
        "no table of kernels: Nsight Compute (ncu) is not installed",
        "no trace: Nsight Systems (nsys) is not installed",
    ]
    assert profile.main(["nothing"]) == 2


def test_a_profiler_that_fails_is_a_line(monkeypatch, tmp_path, capsys):
    script = tmp_path / "ncu"
    script.write_text("#!/bin/sh\necho '==ERROR== ERR_NVGPUCTRPERM: no permission'\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(profile, "_gpu", lambda: True)
    monkeypatch.setattr(profile, "_tool", lambda name: str(script) if name == "ncu" else None)
    assert profile.main([FEW]) == 1
    assert f"FAILED {FEW}: ==ERROR== ERR_NVGPUCTRPERM" in capsys.readouterr().out


def test_more_instructions_are_an_error(monkeypatch, tmp_path, capsys):
    path = tmp_path / "baseline.json"
    monkeypatch.setattr(callgrind, "BASELINE", path)
    monkeypatch.setattr(callgrind.shutil, "which", lambda name: name)
    monkeypatch.setattr(callgrind, "count", lambda: {"asof": 1000, "fuse": 2000})
    assert callgrind.main([]) == 0
    assert "skipped: the baseline is of None" in capsys.readouterr().out
    assert callgrind.main(["--update"]) == 0
    assert callgrind.main([]) == 0
    monkeypatch.setattr(callgrind, "count", lambda: {"asof": 1060, "fuse": 1900})
    assert callgrind.main([]) == 1
    assert "asof: 1060 instructions, 1.060 times the baseline: MORE" in capsys.readouterr().out
    monkeypatch.setattr(callgrind.shutil, "which", lambda name: None)
    assert callgrind.main([]) == 0
    assert "skipped: valgrind is not installed" in capsys.readouterr().out


def test_the_counted_calls_are_those_of_the_baseline():
    for call in callgrind.calls().values():
        call()
    stored = json.loads(callgrind.BASELINE.read_text())["instructions"]
    assert set(stored) == set(callgrind.calls())


def test_table_without_rich(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rich.table", None)
    table.print_table("title", ["case", "clock", "ours"], [["a", "int64 ns", "1.00"]])
    assert capsys.readouterr().out == "\ntitle\ncase  clock     ours\na     int64 ns  1.00\n"


def test_host_cost_of_calls_is_told(capsys):
    from robocache_cupy.bench.host import host

    lines = host(measure.Cpu(), TINY, 0)
    assert [x for x in lines if "problem" in x] == []
    assert {x["framework"] for x in lines} == {"torch", "numpy", "jax"}
    assert {"x + x", "resample", "resample, new shapes"} <= {x["call"] for x in lines}
    table.print_table(*table.host({"host": lines}))
    assert "resample, new shapes" in capsys.readouterr().out
