"""Draws the distributions of the timings."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fleet.text import plain_label
from workers.performance_tester.models import Timing

INCHES_WIDE, INCHES_PER_VARIANT, INCHES_AROUND = 8.0, 0.9, 1.2
DOTS_PER_INCH = 110
LOGARITHMIC_FROM = 8.0  # a ratio of the slowest to the fastest median that squeezes the others


def plot_png_base64(
    timings: Sequence[Timing], samples: Sequence[ArrayLike], confidence: float
) -> str:
    """A PNG of every value of every variant, as boxes with points; base64 text.

    Empty if matplotlib is not installed: the figures are useful without a plot.
    `samples` are in seconds per call, in the order of `timings`.
    """
    # Imported on use, for workers that never draw. The Figure class, unlike pyplot, has no global
    # state, so threads may draw at the same time.
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return ""

    height = INCHES_AROUND + INCHES_PER_VARIANT * len(timings)
    figure = Figure(figsize=(INCHES_WIDE, height), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    _draw_values(axes, timings, [np.asarray(table, dtype=float).ravel() for table in samples])
    _scale(axes, timings)
    axes.set_xlabel(f"time per call; bar under a box: {confidence:.0%} interval of the median")
    image = BytesIO()
    figure.savefig(image, format="png")
    return base64.b64encode(image.getvalue()).decode("ascii")


def _draw_values(axes: Any, timings: Sequence[Timing], values: list[Any]) -> None:
    """The first variant on top; each with its box, its points and its median's interval."""
    places = range(len(timings), 0, -1)
    median = {"color": "black", "linewidth": 2}
    axes.boxplot(
        values,
        positions=places,
        orientation="horizontal",
        widths=0.5,
        showfliers=False,
        medianprops=median,
    )
    jitter = np.random.default_rng(0)
    for place, points, timing in zip(places, values, timings, strict=True):
        heights = place + jitter.uniform(-0.18, 0.18, size=points.size)
        axes.plot(points, heights, "o", markersize=3, alpha=0.45)
        bounds = [timing.median_low, timing.median_high]
        axes.plot(bounds, [place - 0.36] * 2, "|-", color="black", linewidth=2)
    axes.set_yticks(places, [_label(timing) for timing in timings])
    axes.set_ylim(0.4, len(timings) + 0.5)


def _scale(axes: Any, timings: Sequence[Timing]) -> None:
    from matplotlib.ticker import EngFormatter, NullFormatter

    medians = [timing.median for timing in timings]
    if max(medians) > LOGARITHMIC_FROM * min(medians):
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(EngFormatter(unit="s"))
    axes.grid(axis="x", alpha=0.3)


def _label(timing: Timing) -> str:
    from matplotlib.ticker import EngFormatter

    three_digits = float(f"{timing.median:.3g}")
    return f"{plain_label(timing.name)}\n{EngFormatter(unit='s')(three_digits)}"
