"""The bench runs and checks its results. Nothing here looks at a time."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from robocache_cupy.bench import cases, peers  # noqa: E402
from robocache_cupy.bench.__main__ import main  # noqa: E402
from robocache_cupy.bench.report import print_table  # noqa: E402


def draw(case):
    return cases.draw(case, "cpu", torch.Generator().manual_seed(0))


def test_quick_run_saves_what_it_prints(tmp_path, capsys):
    path = tmp_path / "run.json"
    arguments = ["resample", "--device", "cpu", "--quick", "--peers", "eager", "--save", str(path)]
    assert main([*arguments, "--cases", "3x20x16x4-f32"]) == 0
    report = json.loads(path.read_text())
    assert [case["name"] for case in report["cases"]] == [
        "3x20x16x4-f32-int64",
        "3x20x16x4-f32-float32",
    ]
    for case in report["cases"]:
        assert set(case["gpu"]) == {"ours", "eager"}
        assert all(one["error"] <= one["tolerance"] for one in case["gpu"].values())
        assert len(case["host"]["new_shape_samples"]) == report["effort"]["shapes"]
    printed = capsys.readouterr().out
    assert "int64 ns" in printed
    assert "float32 s" in printed
    assert "3x20x16x4-f32" in printed


def test_a_wrong_result_of_ours_is_an_error(monkeypatch, capsys):
    wrong = {"": lambda data, src, tgt: 2 * peers.rows()(data, src, tgt)}
    monkeypatch.setattr(peers, "ours", lambda case: wrong)
    arguments = ["resample", "--device", "cpu", "--quick", "--peers", "eager"]
    assert main([*arguments, "--cases", "3x20x16x4-f32-int64"]) == 1
    assert "FAILED 3x20x16x4-f32-int64: ours: wrong result" in capsys.readouterr().out


def test_a_failing_peer_is_left_out(monkeypatch, capsys):
    def broken(case):
        raise RuntimeError("no such device")

    monkeypatch.setitem(peers.PEERS, "triton", peers.Peer("Triton", broken))
    arguments = ["resample", "--device", "cpu", "--quick", "--peers", "eager,triton"]
    assert main([*arguments, "--cases", "2x9x5x3-f32-int64"]) == 0
    assert "triton: RuntimeError: no such device" in capsys.readouterr().out


def test_unknown_names_are_refused(capsys):
    for wrong in (["--cases", "7x7"], ["--cases", "0x1x1x1-f32"], ["--peers", "numpy"]):
        with pytest.raises(SystemExit):
            main(["resample", "--device", "cpu", *wrong])
    assert "no peer 'numpy'" in capsys.readouterr().err


@pytest.mark.parametrize("clock", cases.CLOCKS)
@pytest.mark.parametrize("sizes", [(2, 9, 5, 3), (3, 4, 50, 1), (1, 1, 3, 2)])
def test_floor_counts_the_rows_that_targets_touch(sizes, clock):
    case = cases.Case(*sizes, "float32", clock)
    inputs = draw(case)
    src, tgt = inputs.src.numpy(), inputs.tgt.numpy()
    touched = set()
    for b in range(case.B):
        for t in tgt[b]:
            if t in src[b]:
                touched.add((b, int(np.flatnonzero(src[b] == t)[0])))
            elif t < src[b, 0] or t > src[b, -1]:
                touched.add((b, 0 if t < src[b, 0] else case.S - 1))
            else:
                after = int(np.flatnonzero(src[b] > t)[0])
                touched |= {(b, after - 1), (b, after)}
    B, S, T, D = sizes
    size = 8 if clock == "int64" else 4
    expected = 4 * D * (len(touched) + B * T) + size * B * (S + T)
    assert cases.floor(case, inputs) == (len(touched), expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("clock", [*cases.CLOCKS, "float64"])
def test_check_passes_right_results_and_no_others(dtype, clock):
    case = cases.Case(5, 40, 33, 6, dtype, clock)
    inputs = draw(case)
    right = peers.rows()(*inputs)
    assert cases.check(case, inputs, right, 0).ok
    assert not cases.check(case, inputs, right[:, :, :5], 0).ok
    assert not cases.check(case, inputs, right.flip(1), 0).ok
    right[2, 7, 3] = float("nan")  # wherever it is
    assert not cases.check(case, inputs, right, 0).ok


def test_published_cases_are_what_their_names_say():
    assert len(cases.RESAMPLE) == 20
    for case in cases.RESAMPLE:
        assert cases.select(case.name) == [case]
    with pytest.raises(ValueError, match="no case 'x'"):
        cases.select("x")


def test_table_without_rich(monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "rich.table", None)
    print_table("title", ["case", "clock", "ours"], [["a", "int64 ns", "1.00"]])
    assert capsys.readouterr().out == "\ntitle\ncase  clock     ours\na     int64 ns  1.00\n"


def test_streams_are_timed(capsys):
    from robocache_cupy.bench import streams
    from robocache_cupy.bench.measure import QUICK

    assert streams.main([], QUICK._replace(replays=1, host_calls=2), scale=64) == 0
    printed = capsys.readouterr().out
    for name in ("fuse 3 streams", "windows by time", "slerp", "akima", "fuse_multimodal"):
        assert name in printed
    assert streams.main(["nothing"]) == 2


def test_ops_on_space_are_timed(capsys):
    from robocache_cupy.bench import space
    from robocache_cupy.bench.measure import QUICK

    assert space.main([], QUICK._replace(replays=1, host_calls=2), scale=8) == 0
    printed = capsys.readouterr().out
    for name in ("uint8", "bits", "count", "mean", "points", "farthest", "voxelize_point_cloud"):
        assert name in printed
    assert space.main(["nothing"]) == 2
