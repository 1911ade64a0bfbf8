"""Plots as PNG files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import InvalidRequest, extra_missing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 110


def check_plot(path: Path | None) -> None:
    """Check that a plot can be written there, before the time is spent.

    Raises `InvalidRequest` where the folder does not exist, `InvalidConfig` without matplotlib.
    """
    if path is None:
        return
    if not path.absolute().parent.is_dir():
        raise InvalidRequest(f"--plot {path}: its folder does not exist; make it, or name another")
    _figure_class()


def new_figure(wide: float, high: float) -> Figure:
    """An empty matplotlib figure of so many inches. Raises `InvalidConfig` without matplotlib."""
    return _figure_class()(figsize=(wide, high), dpi=DOTS_PER_INCH, layout="constrained")


def _figure_class() -> type[Figure]:
    # Only who wants a plot pays for matplotlib. The Figure class keeps no global state.
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise extra_missing("a plot", "plots") from error
    return Figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure. Raises `InvalidRequest` where the file cannot be written."""
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise InvalidRequest(f"--plot {path}: {error.strerror}; name a file to write") from error
