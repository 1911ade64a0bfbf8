"""The figures of a round, and how one side's compare with another's. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from report import Samples


def share_of_ideal(count: int, seconds: float, slots: int, took: float) -> float:
    """How near the time that waits took comes to the ideal, 0 to 1: every slot always waiting."""
    return count * seconds / slots / took


def to_each(samples: Samples, ours: str) -> dict[str, list[float]]:
    """Our figure to each other's, round by round: both saw the same machine."""
    return {
        name: [mine / other for mine, other in zip(samples[ours], theirs, strict=True)]
        for name, theirs in samples.items()
        if name != ours
    }


def keyed(prefix: str, figures: Mapping[str, float], suffix: str = "") -> dict[str, float]:
    """Figures by the names that they have in the last line."""
    return {f"{prefix}{key(name)}{suffix}": figure for name, figure in figures.items()}


def key(name: str) -> str:
    return name.lower().replace(",", "").replace(" ", "_")


def absent(wanted: bool, names: Sequence[str], problems: Mapping[str, str]) -> dict[str, str]:
    """Why a rival has no figures, by its name; empty where all of them have."""
    if not wanted:
        return dict.fromkeys(names, "not asked for; add --rivals")
    return {name: f"could not be installed: {problem}" for name, problem in problems.items()}
