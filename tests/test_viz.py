"""What people look at: pictures of streams and voxels, and logs and reports as tables."""

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import robocache_cupy as rc
from robocache_cupy import logs, viz

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def figures(require):
    try:
        import matplotlib
    except ImportError as e:
        require.skip("viz", str(e))
    import matplotlib.pyplot as plt

    with matplotlib.rc_context():
        plt.switch_backend("agg")
        yield plt
        plt.close("all")


def pixels(axis) -> np.ndarray:
    """The page as it is drawn, [H, W, 3]."""
    axis.figure.canvas.draw()
    return np.asarray(axis.figure.canvas.buffer_rgba())[..., :3]


def colors(pictured: np.ndarray) -> int:
    """How many pixels are in color."""
    return int((np.ptp(pictured.astype(int), axis=-1) > 40).sum())


# ------------------------------------------------------------------------------------------ streams


def example(columns=2, samples=21):
    """A stream with a hole, its targets beyond its end, and what becomes of it."""
    times = np.delete(np.arange(samples) / 10, range(8, 14))
    data = np.sin(times[:, None] * (1 + np.arange(columns)))
    targets = np.arange(0.05, 2.3, 0.1)
    made = rc.resample_trajectories(data, times, targets, max_gap=0.2, return_valid=True)
    return times, data, targets, made


def lines(axis, kind):
    """Those with or without a line, in the order of the columns."""
    return [x for x in axis.lines if (x.get_linestyle() == "None") == (kind == "samples")]


def test_an_alignment_shows_samples_and_rows_where_they_are():
    times, data, targets, made = example()
    axis = viz.plot_alignment(times, data, targets, made.values, made.valid)
    for column, (drawn, line) in enumerate(
        zip(lines(axis, "samples"), lines(axis, "aligned"), strict=True)
    ):
        np.testing.assert_allclose(drawn.get_xdata(), times - targets[0])
        np.testing.assert_array_equal(drawn.get_ydata(), data[:, column])
        np.testing.assert_allclose(line.get_xdata(), targets - targets[0])
        expected = np.where(made.valid, made.values[:, column], np.nan)
        np.testing.assert_array_equal(line.get_ydata(), expected)
        assert drawn.get_color() == line.get_color() == f"C{column}"
    assert not made.valid.all()
    assert axis.get_xlabel() == "seconds from the first target"


def test_what_is_not_valid_and_gaps_are_shaded():
    times, data, targets, made = example()
    axis = viz.plot_alignment(times, data, targets, made.values, made.valid)
    spans = [(p.get_x(), p.get_x() + p.get_width(), p.get_facecolor()[:2]) for p in axis.patches]
    bad = [s for s in spans if s[2][0] > 0.8 and s[2][1] < 0.3]
    assert len(bad) == 2  # the hole, and beyond the end
    (gap,) = [s for s in spans if s not in bad]
    np.testing.assert_allclose(gap[:2], [0.7 - 0.05, 1.4 - 0.05])
    said = [text.get_text() for text in axis.get_legend().get_texts()]
    assert said == ["sample", "aligned", "not valid", "gap of over 4 median steps"]


def test_a_whole_stream_has_no_shades():
    times = np.arange(10) / 10
    axis = viz.plot_alignment(times, times, times[1:-1], times[1:-1])
    assert not axis.patches
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["sample", "aligned"]


@pytest.mark.parametrize("clock", ["float64", "int64", "datetime64[ns]", "float32"])
def test_all_clocks_are_seconds(clock):
    scale = 1 if "float" in clock else 10**9
    times = (np.array([2, 3, 4, 5]) * scale).astype(clock)
    axis = viz.plot_alignment(times, np.arange(4.0), times[1:], np.arange(1.0, 4))
    np.testing.assert_array_equal(lines(axis, "aligned")[0].get_xdata(), [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(lines(axis, "samples")[0].get_xdata(), [-1.0, 0.0, 1.0, 2.0])


def test_integers_may_be_of_any_unit():
    times = np.array([0, 500, 1500])
    axis = viz.plot_alignment(times, times, times, times, time_unit="ms")
    np.testing.assert_array_equal(lines(axis, "aligned")[0].get_xdata(), [0.0, 0.5, 1.5])


def test_padding_is_left_out():
    times = np.array([0.0, 1, np.nan, np.nan])
    axis = viz.plot_alignment(times, np.arange(4.0), [0.5, np.nan], [0.5, 0.0])
    np.testing.assert_array_equal(lines(axis, "samples")[0].get_ydata(), [0.0, 1.0])
    np.testing.assert_array_equal(lines(axis, "aligned")[0].get_ydata(), [0.5])


def test_arrays_of_every_framework_are_drawn(lib):
    times, data, targets, made = example()
    given = [lib.array(x) for x in (times, data, targets, made.values, made.valid)]
    axis = viz.plot_alignment(*given)
    np.testing.assert_array_equal(lines(axis, "samples")[1].get_ydata(), data[:, 1])
    grid = lib.array(np.ones((2, 2, 1), bool))
    assert faces(viz.plot_voxels(grid)) == 4 + 2 + 2


def test_it_draws_on_the_axes_that_are_given(figures):
    times, data, targets, made = example()
    _, (one, other) = figures.subplots(2)
    assert viz.plot_alignment(times, data, targets, made.values, ax=other) is other
    assert not one.lines
    assert len(figures.get_fignums()) == 1


def test_columns_have_names_and_at_most_ten_are_drawn():
    times, data, targets, made = example(columns=12)
    names = [f"joint {i}" for i in range(12)]
    axis = viz.plot_alignment(times, data, targets, made.values, labels=names)
    assert len(axis.lines) == 2 * 10
    said = [text.get_text() for text in axis.get_legend().get_texts()]
    assert said[-10:] == names[:10]


def test_steps_are_drawn_as_steps():
    times, data, targets, made = example()
    axis = viz.plot_alignment(times, data, targets, made.values, steps=True)
    assert {line.get_drawstyle() for line in lines(axis, "aligned")} == {"steps-mid"}
    axis = viz.plot_alignment(times, data, targets, made.values)
    assert {line.get_drawstyle() for line in lines(axis, "aligned")} == {"default"}


def test_an_alignment_is_in_color():
    times, data, targets, made = example()
    assert colors(pixels(viz.plot_alignment(times, data, targets, made.values))) > 500


def test_streams_without_samples_or_targets():
    empty = np.zeros(0)
    axis = viz.plot_alignment(empty, np.zeros((0, 2)), [1.0, 2.0], np.zeros((2, 2)), [False, True])
    assert len(axis.lines) == 4
    assert len(viz.plot_alignment(empty, empty, empty, empty).lines) == 2


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"times": np.zeros((2, 15))}, r"times has shape \(2, 15\), expected one axis"),
        ({"samples": np.zeros((3, 2))}, r"samples has shape \(3, 2\), expected 15 rows"),
        ({"values": np.zeros((3, 2))}, r"values has shape \(3, 2\), expected 23 rows"),
        ({"values": np.zeros((23, 3))}, "samples have 2 columns and values 3"),
        ({"valid": [True]}, r"valid has shape \(1,\), expected \(23,\)"),
        ({"labels": ["x"]}, "labels are 1, expected one for each of 2 columns"),
    ],
)
def test_what_does_not_fit_is_named(changed, words):
    times, samples, targets, made = example()
    call = {"times": times, "samples": samples, "tgt_times": targets, "values": made.values}
    with pytest.raises(ValueError, match=words):
        viz.plot_alignment(**(call | changed))


# ------------------------------------------------------------------------------------------- voxels


def faces(axis) -> int:
    return sum(len(collection._faces) for collection in axis.collections)


def test_voxels_are_cubes_with_the_faces_that_are_seen():
    grid = np.zeros((3, 2, 2), np.uint8)
    grid[0, 0, 0] = 1
    assert faces(viz.plot_voxels(grid)) == 3
    grid[1, 0, 0] = 1
    assert faces(viz.plot_voxels(grid)) == 5
    grid[2, 1, 1] = 7
    assert faces(viz.plot_voxels(grid)) == 8


def test_the_axes_are_the_grid_in_meters():
    lattice = rc.Grid((4, 5, 3), (0.5, 0.2, 0.1), (-1.0, 0.0, 2.0))
    axis = viz.plot_voxels(np.ones(lattice.grid_size), *lattice[1:])
    np.testing.assert_allclose(axis.get_xlim(), (-1, 1))
    np.testing.assert_allclose(axis.get_ylim(), (0, 1))
    np.testing.assert_allclose(axis.get_zlim(), (2, 2.3))
    assert [axis.get_xlabel(), axis.get_ylabel(), axis.get_zlabel()] == ["x (m)", "y (m)", "z (m)"]
    assert (axis.elev, axis.azim) == (32.0, -60.0)
    np.testing.assert_allclose(axis._box_aspect / axis._box_aspect[0], [1, 0.5, 0.15])


def test_colors_are_heights_or_values():
    grid = np.zeros((2, 2, 2))
    grid[0, 0, 0], grid[1, 1, 1] = 5.0, 1.0
    lowest, highest = (viz._colormap()(end) for end in (0.0, 1.0))

    def top_colors(axis):
        """Of the faces towards z, by their z."""
        (made,) = axis.collections
        tops = {}
        for face, color in zip(np.asarray(made._faces), made._facecolor3d, strict=True):
            if np.ptp(face[:, 2]) == 0:
                tops[float(face[0, 2])] = color
        return tops

    by_height = top_colors(viz.plot_voxels(grid))
    np.testing.assert_allclose(by_height[1.0], lowest, atol=0.02)
    np.testing.assert_allclose(by_height[2.0], highest, atol=0.02)
    axis = viz.plot_voxels(grid, color_by="value")
    by_value = top_colors(axis)
    np.testing.assert_allclose(by_value[1.0], highest, atol=0.02)
    np.testing.assert_allclose(by_value[2.0], lowest, atol=0.02)
    assert axis.figure.axes[1].get_ylabel() == "value"


def test_many_voxels_are_drawn_as_blocks(monkeypatch):
    monkeypatch.setattr(viz, "_MOST_CUBES", 100)
    axis = viz.plot_voxels(np.ones((8, 8, 8), bool), 0.5)
    assert faces(axis) == 3 * 16
    assert axis.figure.get_suptitle() == "512 voxels as blocks of 1 x 1 x 1 m"
    np.testing.assert_allclose(axis.get_xlim(), (0, 4))


def test_the_value_of_a_block_is_the_mean(monkeypatch):
    monkeypatch.setattr(viz, "_MOST_CUBES", 2)
    coords = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 1], [6, 0, 0]])
    cells, size, values = viz.merged(coords, np.ones(3), np.array([1.0, 2.0, 6.0, 5.0]))
    assert (cells.tolist(), size.tolist()) == ([[0, 0, 0], [3, 0, 0]], [2.0] * 3)
    np.testing.assert_array_equal(values, [3.0, 5.0])


def test_a_grid_with_nothing_in_it_is_an_empty_room():
    axis = viz.plot_voxels(np.zeros((3, 3, 3)), 0.1)
    assert not axis.collections
    np.testing.assert_allclose(axis.get_xlim(), (0, 0.3))
    pixels(axis)


def test_a_page_of_voxels_is_in_color_and_in_its_borders():
    axis = viz.plot_voxels(np.ones((4, 2, 1)), 0.5)
    page = pixels(axis)
    assert colors(page) > 10_000
    border = np.concatenate([page[:4].ravel(), page[-4:].ravel(), page[:, :4].ravel()])
    assert (border == 255).all()


def test_voxels_on_axes_that_are_given(figures):
    figure = figures.figure()
    given = figure.add_subplot(projection="3d")
    assert viz.plot_voxels(np.ones((2, 2, 2)), ax=given) is given
    assert figure.axes == [given]  # no color bar in a figure of another's
    with pytest.raises(TypeError, match="ax is flat, expected axes with projection='3d'"):
        viz.plot_voxels(np.ones((2, 2, 2)), ax=figure.add_subplot())


def test_grids_that_are_none():
    with pytest.raises(ValueError, match=r"grid has shape \(1, 2, 2, 2\), expected \[X, Y, Z\]"):
        viz.plot_voxels(np.ones((1, 2, 2, 2)))
    with pytest.raises(ValueError, match="color_by is 'count', expected 'height' or 'value'"):
        viz.plot_voxels(np.ones((2, 2, 2)), color_by="count")


def test_without_matplotlib_it_says_what_to_install():
    code = """
import sys
sys.modules["matplotlib"] = None
from robocache_cupy import viz
for call in (lambda: viz.plot_alignment([0.0], [0.0], [0.0], [0.0]),
             lambda: viz.plot_voxels([[[1.0]]])):
    try:
        call()
    except ImportError as e:
        print(e)
"""
    said = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, text=True, capture_output=True,
        check=True, timeout=120,
    ).stdout  # fmt: skip
    assert said.splitlines() == ["matplotlib is missing: pip install 'robocache-cupy[viz]'"] * 2


# ------------------------------------------------------------------------------------------- tables


class Table(HTMLParser):
    """The cells of the rows of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.inside = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += data


def columns(text: str) -> list[list[str]]:
    """The cells of an aligned table, which are two or more spaces apart."""
    return [[cell for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]


def test_a_log_is_a_table_of_its_streams():
    log = logs.open(logs.DEMO)
    title, *lines = repr(log).splitlines()
    assert title == f"{logs.DEMO} (HDF5)"
    head, *rows = Table(log._repr_html_()).rows
    assert [row[0] for row in rows] == list(log.streams)
    assert len(lines) == 1 + len(rows)
    for line, row in zip(lines, [head, *rows], strict=True):
        assert [cell.strip() for cell in columns(line)[0]] == row
    pose = dict(zip(head, rows[list(log.streams).index("ee_pose")], strict=True))
    assert pose["shape"] == "7"
    assert pose["samples"] == "374"
    assert pose["Hz"] == f"{logs.timing(log.streams['ee_pose'].times).rate:.2f}"
    depth = dict(zip(head, rows[list(log.streams).index("agent_depth")], strict=True))
    assert (depth["shape"], depth["latency ms"], depth["unit"]) == ("120x160", "35", "mm")


def test_a_stream_is_a_row_of_that_table():
    stream = logs.open(logs.DEMO).streams["wrench"]
    head, row = repr(stream).splitlines()
    assert head.split()[0] == "stream"
    assert row.split()[:3] == ["wrench", "vector", "float32"]
    assert len(Table(stream._repr_html_()).rows) == 2


def test_streams_without_two_stamps_are_shown():
    none = logs.Stream("none", np.zeros(0, np.int64), np.zeros((0, 3)))
    nat = logs.Stream("nat", np.array([np.iinfo(np.int64).min]), np.zeros(1))
    for stream in (none, nat):
        (row,) = Table(stream._repr_html_()).rows[1:]
        assert row[5:8] == ["-", "-", "-"]
    assert Table(none._repr_html_()).rows[1][3] == "3"
    log = logs.Log(Path("<run>.csv"), "text", {"<a>": none}, skipped={"image": "of no numbers"})
    assert repr(log).startswith("<run>.csv (text, 1 left out: see .skipped)\n")
    assert log._repr_html_().startswith("<p>&lt;run&gt;.csv")


def test_a_report_is_the_same_table_in_both_forms():
    report = rc.timing_report({"<camera>": np.arange(5) / 30, "arm": np.arange(9) / 100})
    lines, rows = repr(report).splitlines(), Table(report._repr_html_()).rows
    assert len(lines) == len(rows) == 3
    assert rows[1][0] == "<camera>"
    for line, row in zip(lines, rows, strict=True):
        assert line.split() == " ".join(row).split()
