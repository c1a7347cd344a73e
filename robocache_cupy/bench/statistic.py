"""What is told of the samples of one figure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

_STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365}  # 95 %

Figure = dict[str, float]


def summary(by_seed: Sequence[Sequence[float]]) -> Figure:
    """Median, mean, standard deviation and 99th percentile of all samples. `low` to `high` is the
    95 % interval of the mean: by Student's t over the means of the seeds where there are several,
    since samples of one seed have their inputs in common; else over the samples.

    >>> summary([[1.0, 2.0], [3.0, 4.0]])["median"]
    2.5
    """
    samples = sorted(x for seed in by_seed for x in seed)
    mean = statistics.fmean(samples)
    means = [statistics.fmean(seed) for seed in by_seed]
    if len(means) > 1:
        half = _STUDENT.get(len(means), 2.3) * statistics.stdev(means) / math.sqrt(len(means))
    else:
        spread = statistics.stdev(samples) if len(samples) > 1 else 0.0
        half = 1.96 * spread / math.sqrt(len(samples))
    figures = {
        "median": statistics.median(samples),
        "mean": mean,
        "std": statistics.stdev(samples) if len(samples) > 1 else 0.0,
        "low": mean - half,
        "high": mean + half,
        "p99": samples[min(len(samples) - 1, math.ceil(0.99 * len(samples)) - 1)],
        "samples": len(samples),
    }
    return {name: float(f"{x:.5g}") for name, x in figures.items()}


def geometric_mean(values: Sequence[float]) -> float | None:
    """
    >>> geometric_mean([1.0, 4.0])
    2.0
    """
    if not values:
        return None
    return math.exp(statistics.fmean(map(math.log, values)))
