"""Plots as PNG files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fleet.errors import InvalidRequest

DOTS_PER_INCH = 110


def check_plot(path: Path | None) -> None:
    """Raise `InvalidRequest` where a plot could not be written, before the time is spent."""
    if path and not path.absolute().parent.is_dir():
        raise InvalidRequest(f"--plot {path}: its folder does not exist; make it, or name another")


def new_figure(wide: float, high: float) -> Any:
    """An empty matplotlib figure of so many inches."""
    # Only who wants a plot pays for matplotlib. The Figure class keeps no global state.
    from matplotlib.figure import Figure

    return Figure(figsize=(wide, high), dpi=DOTS_PER_INCH, layout="constrained")


def save(figure: Any, path: Path) -> None:
    """Write a figure. Raises `InvalidRequest` where the file cannot be written."""
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise InvalidRequest(f"--plot {path}: {error.strerror}; name a file to write") from error
