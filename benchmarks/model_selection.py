"""Which questions to send to a strong model: the share of strong calls for 95 % of its accuracy.

On 14,042 MMLU questions, each answered by a weak model (Mixtral-8x7B-Instruct) and a strong one
(gpt-4-1106-preview): the public responses of RouteLLM. A router sorts the questions by what it
expects the strong model to gain over the weak one; the first ones go to the strong model. The
figure is the smallest share of strong calls with which the answers are right as often as 95 % of
what the strong model alone reaches; the area is the mean accuracy over all shares.

The headline is what production does. A fleet sees one answer to each task, so one of the two is
recorded as an example, as a worker does it (`fleet.models.examples_store`, at most so many as are
kept); `fleet.models.difficulty` trains on them, as `fleet models train` does; and the complexity
of each question is estimated from its payload as at a submission (`fleet.models.complexity`). A
model's score is quality x Q (0.5 + complexity) + ..., so from some complexity on the strong one is
chosen, and Q says which: sorting by complexity is what production does at one Q after the other.
Who answers: one of the two by lot; the weak one alone; the strong one alone; or the strong one the
longer half of the questions and the weak one the others, but one in ten by lot (a policy before).
Where the record cannot tell the models apart nothing is learned, production goes on as before, and
there is no share: null, and named in `nothing_learned_from`.

With both answers known, the same training gets an outcome of each model for every question. The
other rivals: a random order, longer prompts first, the mean gain of the question's subject in the
other folds (which has to be told the subject), and an oracle that knows the answers.

Five folds: each question is judged by a model that has learned from the other four; equal prompts
share a fold. All that is learned comes from those four. The prompt alone is given, not the subject.
"""

from __future__ import annotations

import csv
import gzip
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import numpy.typing as npt
import report

from fleet.errors import InvalidRequest
from fleet.models.complexity import DEFAULT_COMPLEXITY, Complexity
from fleet.models.difficulty import train_difficulty
from fleet.models.examples_store import MAX_EXAMPLES, Example
from fleet.models.rules.difficulty.model import DifficultyModel
from fleet.models.rules.difficulty.text_features import Sketch, sketch
from fleet.models.rules.difficulty.training import TaskOutcome, train
from fleet.policy.store import Policy, PolicyStore

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

FILE = Path("routellm_mmlu") / "responses.csv.gz"
FOLDS = 5
SHARES = np.linspace(0.0, 1.0, 21)
TYPICAL = range(480, 521)
KIND = "question"
QUALITIES = {("strong", KIND): 0.9, ("weak", KIND): 0.7}
"""The catalogue's: only which is the higher counts."""
BY_LOT = 0.1
"""The part of the questions that the policy before has asked a model by lot."""

Answering = Callable[[list[str], np.random.Generator], npt.NDArray[np.bool_]]
"""Which questions the strong model answers."""


def by_lot(prompts: list[str], rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    return rng.random(len(prompts)) < 0.5


def routed(prompts: list[str], rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    lengths = np.array([len(prompt) for prompt in prompts])
    lots = rng.random(len(prompts))
    return np.where(lots < BY_LOT, lots < BY_LOT / 2, lengths > np.median(lengths))


def weak_only(prompts: list[str], rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    return np.zeros(len(prompts), np.bool_)


def strong_only(prompts: list[str], rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    return np.ones(len(prompts), np.bool_)


class Questions(NamedTuple):
    """The questions, and whether each model was right (1 or 0)."""

    subjects: list[str]
    prompts: list[str]
    weak: Floats
    strong: Floats

    @property
    def gain(self) -> Floats:
        return self.strong - self.weak


def read(path: Path, every: int) -> Questions:
    """Every n-th question of the file."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))[::every]
    right = {
        name: np.array([row[name] == "True" for row in rows], np.float64)
        for name in ("weak_correct", "strong_correct")
    }
    return Questions(
        [row["subject"] for row in rows],
        [row["prompt"] for row in rows],
        right["weak_correct"],
        right["strong_correct"],
    )


def folds(prompts: list[str], seed: int) -> Integers:
    """A fold for each question; equal prompts get the same."""
    _, number = np.unique(np.array(prompts), return_inverse=True)
    return np.random.default_rng(seed).permutation(number.max() + 1)[number] % FOLDS


def accuracies(questions: Questions, expected_gain: Floats, seed: int) -> Floats:
    """The accuracy after each number of strong calls, none to all. Ties fall by chance."""
    ties = np.random.default_rng(seed).random(len(expected_gain))
    order = np.lexsort((ties, -expected_gain))
    gained = np.concatenate(((0.0,), questions.gain[order].cumsum()))
    return np.asarray(questions.weak.mean() + gained / len(order))


def share_at_95(questions: Questions, curve: Floats) -> float:
    """The smallest share of strong calls that reaches 95 % of the strong model's accuracy."""
    enough = curve >= 0.95 * questions.strong.mean() - 1e-12
    return float(enough.argmax() / (len(curve) - 1))


def area(curve: Floats) -> float:
    """The mean accuracy over all shares of strong calls."""
    return float(np.trapezoid(curve) / (len(curve) - 1))


class Examples:
    """The newest examples, as a fleet keeps them."""

    def __init__(self, examples: list[Example]) -> None:
        self.examples = examples[-MAX_EXAMPLES:]

    def read(self) -> list[Example]:
        return self.examples


class PolicyWith:
    """The policy that the training has changed."""

    def __init__(self, difficulty: bytes) -> None:
        self.policy = Policy(difficulty=difficulty)

    def read(self) -> Policy:
        return self.policy


class Produced(NamedTuple):
    """The complexities that production estimates, and why nothing was learned in some folds."""

    complexities: Floats
    refusals: list[str]


def produced(
    questions: Questions, sketches: list[bytes], fold: Integers, answering: Answering, seed: int
) -> Produced:
    """What production makes of each question after one answer to each of the other folds'."""
    rng = np.random.default_rng(seed)
    strong = answering(questions.prompts, rng)
    rewards = np.where(strong, questions.strong, questions.weak)
    order = rng.permutation(len(fold))
    found, refusals = np.full(len(fold), DEFAULT_COMPLEXITY), []
    for number in range(FOLDS):
        recorded = [
            Example(KIND, "strong" if strong[place] else "weak", rewards[place], sketches[place])
            for place in order
            if fold[place] != number
        ]
        saved: list[bytes] = []
        try:
            train_difficulty(Examples(recorded), QUALITIES, saved.append)
        except InvalidRequest as error:
            refusals.append(str(error))
            continue
        estimates = Complexity(cast(PolicyStore, PolicyWith(saved[0])))
        for place in (fold == number).nonzero()[0]:
            payload = json.dumps({"instruction": questions.prompts[place]})
            found[place] = estimates.estimate(payload)
    return Produced(found, refusals)


def production(
    questions: Questions, sketches: list[Sketch], seeds: Mapping[str, int]
) -> dict[str, list[Floats]]:
    """The curves of what production does, by who has answered, one for each seed in which anything
    was learned."""
    stored = [each.to_bytes() for each in sketches]
    ways: dict[str, Answering] = {
        "by_lot": by_lot,
        "weak_only": weak_only,
        "strong_only": strong_only,
        "routed": routed,
    }
    curves_of: dict[str, list[Floats]] = {}
    for name, answering in ways.items():
        curves_of[name] = []
        for seed in range(seeds[name]):
            fold = folds(questions.prompts, seed)
            made = produced(questions, stored, fold, answering, seed)
            if made.refusals:
                print(f"\n{name}: in {len(made.refusals)} of {FOLDS} folds: {made.refusals[0]}")
            if len(made.refusals) < FOLDS:
                curves_of[name].append(accuracies(questions, made.complexities, seed))
    return curves_of


def estimated(questions: Questions, sketches: list[Sketch], fold: Integers) -> Floats:
    """Fleet's estimate of each question, by the model of the folds that it is not in."""
    estimates = np.empty(len(fold))
    for number in range(FOLDS):
        model = learned(questions, sketches, (fold != number).nonzero()[0])
        for place in (fold == number).nonzero()[0]:
            estimates[place] = model.estimate(sketches[place])
    return estimates


def learned(questions: Questions, sketches: list[Sketch], places: Integers) -> DifficultyModel:
    """A model of both answers to these questions, as it is after being stored and read again."""
    rewards = {"weak": questions.weak, "strong": questions.strong}
    outcomes = [
        TaskOutcome(sketches[place], KIND, name, rewards[name][place], quality)
        for place in places
        for (name, _), quality in QUALITIES.items()
    ]
    return DifficultyModel.from_bytes(train(outcomes).model.to_bytes())


def by_subject(questions: Questions, fold: Integers) -> Floats:
    """The mean gain of each question's subject in the other folds."""
    gains: dict[tuple[str, int], list[float]] = defaultdict(list)
    for subject, number, gain in zip(questions.subjects, fold, questions.gain, strict=True):
        for other in range(FOLDS):
            if other != number:
                gains[subject, other].append(gain)
    return np.array(
        [statistics.fmean(gains[key]) for key in zip(questions.subjects, fold, strict=True)]
    )


def curves(questions: Questions, sketches: list[Sketch], seed: int) -> dict[str, Floats]:
    """The curve of each router with these folds."""
    fold = folds(questions.prompts, seed)
    routers = {
        "fleet": estimated(questions, sketches, fold),
        "subject": by_subject(questions, fold),
        "length": np.array([float(len(prompt)) for prompt in questions.prompts]),
        "random": np.zeros(len(fold)),
        "oracle": questions.gain,
    }
    return {name: accuracies(questions, gain, seed) for name, gain in routers.items()}


def show_curves(found: list[dict[str, Floats]]) -> None:
    """Print the accuracy at each twentieth of strong calls, the median over the seeds."""
    print("\naccuracy by share of strong calls, median over the seeds")
    print(f"{'share':>6}" + "".join(f"{name:>10}" for name in found[0]))
    for share in SHARES:
        middle = (
            statistics.median(
                float(curves_[name][round(share * (len(curves_[name]) - 1))]) for curves_ in found
            )
            for name in found[0]
        )
        print(f"{share:>6.0%}" + "".join(f"{each:>10.4f}" for each in middle))


def estimate_samples(questions: Questions, sketches: list[Sketch], rounds: int) -> list[float]:
    """Microseconds an estimate from a text of about 500 characters, reading included."""
    model = learned(questions, sketches, np.arange(len(sketches)))
    typical = [prompt for prompt in questions.prompts if len(prompt) in TYPICAL][:100]
    case = report.timed(lambda: [model.estimate(prompt) for prompt in typical], 1)
    samples = report.interleaved({"all": case}, rounds)["all"]
    return [each / len(typical) for each in samples]


def main() -> None:
    options = report.arguments(__doc__ or "", data=True)
    path = Path(options.data or "") / FILE
    if not options.data or not path.is_file():
        reason = f"no {FILE} in the folder; give it as --data FOLDER"
        print(f"skipped: {reason}")
        report.finish({"skipped": reason})
        return
    questions = read(path, every=5 if options.quick else 1)
    sketches = [sketch(prompt) for prompt in questions.prompts]
    repeated = len(questions.prompts) - len(set(questions.prompts))
    print(
        f"{len(questions.prompts)} questions, {repeated} of them the repetition of another; equal "
        f"ones share a fold. Right: weak {questions.weak.mean():.1%}, "
        f"strong {questions.strong.mean():.1%}."
    )
    quick = options.quick
    seeds = {"by_lot": 1 if quick else 5, "weak_only": 1, "strong_only": 1}
    made = production(questions, sketches, {**seeds, "routed": 0 if quick else 1})
    found = [curves(questions, sketches, seed) for seed in range(1 if quick else 5)]
    headline = {
        f"strong_share_{name}": [share_at_95(questions, each) for each in each_seed]
        for name, each_seed in made.items()
        if each_seed
    }
    shares = {
        f"{name}_share_at_95": [share_at_95(questions, each[name]) for each in found]
        for name in found[0]
    }
    shares["strong_share_at_95"] = shares.pop("fleet_share_at_95")
    areas = {f"{name}_area": [area(each[name]) for each in found] for name in found[0]}
    areas["area"] = areas.pop("fleet_area")
    areas["by_lot_area"] = [area(each) for each in made["by_lot"]]
    times = {"estimate_us": estimate_samples(questions, sketches, 9 if quick else 31)}
    show_curves(found)
    if headline:
        report.show("in production: share of strong calls for 95 % of the accuracy", headline)
    report.show("with both answers known, and rivals", shares)
    report.show("area: mean accuracy over all shares", areas)
    report.show("an estimate from a text of 480 to 520 characters, microseconds", times)
    told: dict[str, Any] = {f"strong_share_{name}": None for name in seeds}
    told["nothing_learned_from"] = [name for name in seeds if not made[name]]
    for samples in (headline, shares, areas, times):
        told |= report.medians(samples)
    report.finish(told)


if __name__ == "__main__":
    main()
