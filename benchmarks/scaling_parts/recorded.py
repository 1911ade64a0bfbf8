"""Recorded arrivals of language-model requests, from the shared data."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

import numpy as np

from fleet.scaling.rules.simulation import FloatArray, Trace
from fleet.simulation.rules.workload import lognormal

PREFILL_SECONDS, TOKEN_SECONDS = 0.0003, 0.020
STEP_SECONDS = 600.0
SERVEGEN_RATE = 3.0
SERVEGEN_MEAN, SERVEGEN_CV = 10.0, 1.0


def azure(path: Path, _seed: int, _days: float) -> Trace:
    """Every request of an Azure trace at its time.

    It runs 0.3 ms for each context token and 20 ms for each generated one.
    """
    with gzip.open(path, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    # Seven digits of a second are one more than Python reads.
    arrival = np.array([datetime.fromisoformat(r["TIMESTAMP"][:26]).timestamp() for r in rows])
    tokens = np.array([(float(r["ContextTokens"]), float(r["GeneratedTokens"])) for r in rows])
    order = np.argsort(arrival, kind="stable")
    service = tokens @ np.array([PREFILL_SECONDS, TOKEN_SECONDS])
    return Trace(arrival[order] - arrival.min(), service[order])


def servegen(path: Path, seed: int, days: float) -> Trace:
    """The clients of ServeGen's m-mid, scaled to 3 requests per second over the 14 days.

    The whole is 2.2 thousand million requests, some 1,100 a second. As ServeGen's own generator
    does for another total rate, each client's rate is divided by the same number, and its gaps keep
    their distribution and its shape. In each step of 600 s a client has a Poisson number of
    requests, with gaps drawn from its distribution and stretched to the step. So each request is
    simulated by itself, and the bursts of a client are as steep as in the data. What is lost is
    that more requests smooth each other. Requests run a log-normal time with a mean of 10 s.
    """
    rng = np.random.default_rng(seed)
    with gzip.open(path, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    start = np.array([float(row["second"]) for row in rows])
    rate = np.array([float(row["requests_per_second"]) for row in rows])
    shape = np.array([_shape(row) for row in rows])
    weibull = np.array([row["distribution"] == "Weibull" for row in rows])
    scale = SERVEGEN_RATE * (start.max() + STEP_SECONDS) / (rate.sum() * STEP_SECONDS)
    inside = start < days * 86_400.0
    start, shape, weibull = start[inside], shape[inside], weibull[inside]
    counts = rng.poisson(rate[inside] * scale * STEP_SECONDS)
    arrival = np.sort(within_steps(start, counts, shape, weibull, rng))
    arrival -= arrival[0]
    service = lognormal(SERVEGEN_MEAN, SERVEGEN_CV, len(arrival), rng)
    return Trace(arrival, service)


def _shape(row: Mapping[str, str]) -> float:
    """The shape of a client's gaps: the first parameter; 1, exponential, where there is none."""
    return float(row["parameter_1"] or 1.0) if row["distribution"] in ("Gamma", "Weibull") else 1.0


def within_steps(
    start: FloatArray,
    counts: np.ndarray,
    shape: FloatArray,
    weibull: np.ndarray,
    rng: np.random.Generator,
) -> FloatArray:
    """Arrival times: for each step its count of requests, from one more gaps that fill the step."""
    gaps_of = np.repeat(np.arange(len(counts)), counts + 1)
    gaps = np.where(
        weibull[gaps_of], rng.weibull(shape[gaps_of]), rng.gamma(shape[gaps_of])
    )
    gaps = np.maximum(gaps, 1e-100)
    ends = np.cumsum(counts + 1)
    shares = gaps / np.add.reduceat(gaps, ends - counts - 1)[gaps_of]
    # The shares of each step add up to 1, so the sum before a step is its number.
    places = (np.cumsum(shares) - gaps_of) * STEP_SECONDS + start[gaps_of]
    return np.delete(places, ends - 1)


TRACES: Mapping[str, tuple[str, Callable[[Path, int, float], Trace]]] = {
    "azure_code": ("azure_llm_2023_code.csv.gz", azure),
    "azure_conv": ("azure_llm_2023_conv.csv.gz", azure),
    "servegen": ("servegen_m_mid.csv.gz", servegen),
}
"""The file of each trace in the folder `traces`, and what reads it."""
