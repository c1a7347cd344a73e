"""Windows are those of Diffusion Policy, goals lie ahead in the same episode."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robocache_cupy.episodes import relabel_goals, window_index


def windows_by_loop(lengths, seq_length, pad_before, pad_after):
    """The loop of Diffusion Policy's create_indices; an episode without samples has nothing."""
    pad_before = min(max(pad_before, 0), seq_length - 1)
    pad_after = min(max(pad_after, 0), seq_length - 1)
    rows, first = [], 0
    for length in lengths:
        for i in range(-pad_before, length - seq_length + pad_after + 1):
            lo, hi = max(i, 0), min(i + seq_length, length)
            rows.append([first + lo, first + hi, lo - i, seq_length - (i + seq_length - hi)])
        first += length
        if not length:
            rows = [row for row in rows if row[1] > row[0]]
    return np.array(rows, np.int64).reshape(-1, 4)


@given(
    st.lists(st.integers(0, 12), max_size=6),
    st.integers(1, 9),
    st.integers(-1, 10),
    st.integers(-1, 10),
)
def test_windows_are_those_of_the_loop(lengths, seq_length, pad_before, pad_after):
    expected = windows_by_loop(lengths, seq_length, pad_before, pad_after)
    found = window_index(lengths, seq_length, pad_before, pad_after)
    np.testing.assert_array_equal(found, expected, strict=True)


def test_windows_without_padding():
    np.testing.assert_array_equal(
        window_index([3, 1, 2], 2), [[0, 2, 0, 2], [1, 3, 0, 2], [4, 6, 0, 2]]
    )


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (([1.5], 2), TypeError, "episode_lengths has dtype float64"),
        (([[1]], 2), ValueError, r"episode_lengths has shape \(1, 1\)"),
        (([3, -1], 2), ValueError, "episode_lengths holds -1"),
        (([3], 0), ValueError, "seq_length is 0, expected 1 or more"),
        (([3], 2.0), TypeError, "seq_length is 2.0"),
        (([3], 2, None), TypeError, "pad_before is None"),
        (([3], 2, 0, True), TypeError, "pad_after is True"),
    ],
)
def test_window_errors(arguments, error, said):
    with pytest.raises(error, match=said):
        window_index(*arguments)


def test_arrays_of_any_library(lib):
    lengths = np.array([4, 0, 3], np.int64)
    np.testing.assert_array_equal(
        window_index(lib.array(lengths), 3, 1, 1), window_index([4, 0, 3], 3, 1, 1)
    )
    offsets = np.array([0, 4, 4, 7], np.int32)
    np.testing.assert_array_equal(
        relabel_goals(lib.array(offsets), 0), relabel_goals([0, 4, 4, 7], 0)
    )


@given(
    st.lists(st.integers(0, 9), max_size=6),
    st.none() | st.integers(1, 12),
    st.integers(0, 2**32),
)
def test_goals_lie_ahead_in_the_same_episode(lengths, furthest, seed):
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    goals = relabel_goals(offsets, seed, furthest)
    assert goals.dtype == np.int64
    assert len(goals) == sum(lengths)
    for lo, hi in pairwise(offsets):
        for i in range(lo, hi):
            reach = hi - 1 if furthest is None else min(hi - 1, i + furthest)
            assert min(i + 1, hi - 1) <= goals[i] <= reach
    np.testing.assert_array_equal(goals, relabel_goals(offsets, seed, furthest))


@pytest.mark.parametrize(("furthest", "choices"), [(None, 9), (4, 4), (1, 1), (100, 9)])
def test_goals_are_uniform(furthest, choices):
    episodes = 20_000
    goals = relabel_goals(np.arange(episodes + 1) * 10, 3, furthest)[::10]
    steps, counts = np.unique(goals - np.arange(episodes) * 10, return_counts=True)
    np.testing.assert_array_equal(steps, np.arange(1, choices + 1))
    chance = 1 / choices
    assert np.all(abs(counts - episodes * chance) <= 5 * (episodes * chance * (1 - chance)) ** 0.5)


def test_a_generator_goes_on_and_a_seed_does_not():
    rng = np.random.default_rng(5)
    first, second = relabel_goals([0, 50], rng), relabel_goals([0, 50], rng)
    np.testing.assert_array_equal(first, relabel_goals([0, 50], 5))
    assert np.any(first != second)
    assert np.any(first != relabel_goals([0, 50], 6))


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (([1, 3], 0), ValueError, "offsets begins with 1, expected 0"),
        (([0, 3, 2], 0), ValueError, r"offsets\[2\] is 2, expected no less than the 3"),
        (([-1, 3], 0), ValueError, "offsets begins with -1"),
        (([0.0, 3.0], 0), TypeError, "offsets has dtype float64"),
        ((3, 0), ValueError, r"offsets has shape \(\)"),
        (("03", 0), TypeError, "offsets is a str"),
        (([0, 3], 0, 0), ValueError, "max_goal_distance is 0, expected 1 or more"),
        (([0, 3], 0, 1.5), TypeError, "max_goal_distance is 1.5"),
    ],
)
def test_goal_errors(arguments, error, said):
    with pytest.raises(error, match=said):
        relabel_goals(*arguments)


@pytest.mark.parametrize("offsets", [[], [0], [0, 0]])
def test_no_samples_no_goals(offsets):
    np.testing.assert_array_equal(relabel_goals(offsets, 0), np.zeros(0, np.int64), strict=True)
