"""Which questions to send to a strong model: the share of strong calls for 95 % of its accuracy.

On 14,042 MMLU questions, each answered by a weak model (Mixtral-8x7B-Instruct) and a strong one
(gpt-4-1106-preview): the public responses of RouteLLM. A router sorts the questions by what it
expects the strong model to gain over the weak one; the first ones go to the strong model. The
figure is the smallest share of strong calls with which the answers are right as often as 95 % of
what the strong model alone reaches; the area is the mean accuracy over all shares.

Fleet's router is `fleet.core.difficulty`, the code that estimates a task's complexity, fitted to
the rewards of the two models. It is given the prompt only, not the subject. Five folds: each
question is judged by a model that has learned from the other four; equal prompts share a fold.
All that is learned (rarity of words, lines, trees, shares) comes from those four. The rivals:
a random order, longer prompts first, the mean gain of the question's subject in the other folds
(which has to be told the subject), and an oracle that knows the answers.
"""

from __future__ import annotations

import csv
import gzip
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import numpy.typing as npt
import report

from fleet.core.difficulty.fitting import fit
from fleet.core.difficulty.model import DifficultyModel
from fleet.core.difficulty.text_features import Sketch, sketch

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

FILE = Path("routellm_mmlu") / "responses.csv.gz"
FOLDS = 5
SHARES = np.linspace(0.0, 1.0, 21)
TYPICAL = range(480, 521)
WEAK_AND_STRONG = np.array([-1.0, 1.0])


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
    return questions.weak.mean() + gained / len(order)


def share_at_95(questions: Questions, curve: Floats) -> float:
    """The smallest share of strong calls that reaches 95 % of the strong model's accuracy."""
    enough = curve >= 0.95 * questions.strong.mean() - 1e-12
    return float(enough.argmax() / (len(curve) - 1))


def area(curve: Floats) -> float:
    """The mean accuracy over all shares of strong calls."""
    return float(np.trapezoid(curve) / (len(curve) - 1))


def estimated(questions: Questions, sketches: list[Sketch], fold: Integers, seed: int) -> Floats:
    """Fleet's estimate of each question, by the model of the folds that it is not in."""
    estimates = np.empty(len(fold))
    for number in range(FOLDS):
        model = learned(questions, sketches, (fold != number).nonzero()[0], seed)
        for place in (fold == number).nonzero()[0]:
            estimates[place] = model.estimate(sketches[place])
    return estimates


def learned(
    questions: Questions, sketches: list[Sketch], places: Integers, seed: int
) -> DifficultyModel:
    """A model of these questions, as it is after being stored and read again."""
    rewards = np.column_stack((questions.weak, questions.strong))[places]
    fitted = fit(
        [sketches[place] for place in places],
        rewards,
        WEAK_AND_STRONG,
        np.ones(len(places)),
        np.random.default_rng(seed),
    )
    return DifficultyModel.from_bytes(fitted.model.to_bytes())


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
        "fleet": estimated(questions, sketches, fold, seed),
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
    model = learned(questions, sketches, np.arange(len(sketches)), 0)
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
    questions = read(path, every=3 if options.quick else 1)
    sketches = [sketch(prompt) for prompt in questions.prompts]
    repeated = len(questions.prompts) - len(set(questions.prompts))
    print(
        f"{len(questions.prompts)} questions, {repeated} of them the repetition of another; equal "
        f"ones share a fold. Right: weak {questions.weak.mean():.1%}, "
        f"strong {questions.strong.mean():.1%}."
    )
    found = [curves(questions, sketches, seed) for seed in range(1 if options.quick else 7)]
    shares = {
        f"{name}_share_at_95": [share_at_95(questions, each[name]) for each in found]
        for name in found[0]
    }
    shares["strong_share_at_95"] = shares.pop("fleet_share_at_95")
    areas = {f"{name}_area": [area(each[name]) for each in found] for name in found[0]}
    areas["area"] = areas.pop("fleet_area")
    times = {"estimate_us": estimate_samples(questions, sketches, 9 if options.quick else 31)}
    show_curves(found)
    report.show("share of strong calls for 95 % of the strong model's accuracy", shares)
    report.show("area: mean accuracy over all shares", areas)
    report.show("an estimate from a text of 480 to 520 characters, microseconds", times)
    report.finish({**report.medians(shares), **report.medians(areas), **report.medians(times)})


if __name__ == "__main__":
    main()
