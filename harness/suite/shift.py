"""Whether training and held-out rows are of one kind: a classifier two-sample test on the prompts, lengths, kinds.

Lopez-Paz and Oquab 2017, "Revisiting Classifier Two-Sample Tests": two samples come from one distribution if no
classifier tells their rows apart. Where one does, the held-out score measures transfer to other tasks, not learning.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import JsonValue

from harness.suite.kinds import kind_of
from harness.suite.leakage import groups, prompt_tokens
from harness.types import Task

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

TOLD_APART = 0.7
"""Parts are told apart where the whole 95 % interval of the AUC lies above this."""

FEWEST_GROUPS = 20
"""Groups of near-duplicates that each part must have: with fewer the interval is as wide as the scale."""

MOST_ROWS = 4000
"""Of a larger part, so many rows are compared, those with the least prompt hashes."""

_FOLDS = 5
_Z = 1.959964
_EDGE = 1e-9
_WORDS_SHOWN = 5
_SHARE_APART = 0.15
"""A kind is named where its share differs by this much, and by more than chance explains."""


@dataclass(frozen=True, slots=True)
class Shift:
    """How well training and held-out rows are told apart by what they ask."""

    auc: float
    """Cross-validated area under the ROC curve: 0.5 is chance, 1 is always."""
    low: float
    high: float
    told_apart: bool
    differs_in: tuple[str, ...]
    """In words; empty where they are not told apart."""

    def __str__(self) -> str:
        found = f"AUC {self.auc:.2f}, 95 % interval {self.low:.2f} to {self.high:.2f}"
        if not self.told_apart:
            return f"training and held-out rows are not told apart by their prompts ({found})"
        return (
            f"training and held-out rows are of different kinds, told apart by their prompts ({found}): this measures "
            f"transfer, not learning. Held out against training: {'; '.join(self.differs_in)}"
        )

    def as_dict(self) -> dict[str, JsonValue]:
        """Return what the manifest says."""
        return {
            "auc": round(self.auc, 4),
            "low": round(self.low, 4),
            "high": round(self.high, 4),
            "told_apart": self.told_apart,
            "differs_in": list(self.differs_in),
        }


def shift(train: Sequence[Task], held_out: Sequence[Task]) -> Shift | None:
    """Compare training with held-out rows; None where a part has too few of them.

    A logistic regression on TF-IDF weights of word 1- and 2-grams (of characters in scripts without spaces), cross-
    validated in stratified folds that keep near-duplicates together. The interval of the AUC is Newcombe's score
    interval for the Mann-Whitney statistic (2006, method 5) over groups. The same rows always give the same numbers.

    Args:
        train: The rows that models learn from.
        held_out: The rows that are measured.
    """
    parts = _part(train), _part(held_out)
    tasks = [task for part in parts for task in part]
    group_of = {task.id: number for number, group in enumerate(groups(tasks)) for task in group}
    counts = tuple(len({group_of[task.id] for task in part}) for part in parts)
    if min(counts) < FEWEST_GROUPS:
        return None
    is_held_out = [False] * len(parts[0]) + [True] * len(parts[1])
    documents = [_ngrams(task) for task in tasks]
    auc = _cross_validated_auc(documents, is_held_out, [group_of[task.id] for task in tasks])
    low, high = auc_interval(auc, *counts)
    told_apart = low > TOLD_APART
    differs_in = (*_lengths(*parts, *counts), *_kinds(*parts), *_words(documents, is_held_out)) if told_apart else ()
    return Shift(auc, low, high, told_apart, differs_in)


def _part(tasks: Sequence[Task]) -> list[Task]:
    return sorted(tasks, key=lambda task: (task.prompt_sha, task.id))[:MOST_ROWS]


def _ngrams(task: Task) -> list[str]:
    words = prompt_tokens(task)
    return [*words, *(f"{first} {second}" for first, second in itertools.pairwise(words))]


def _cross_validated_auc(documents: Sequence[list[str]], labels: Sequence[bool], grouped: Sequence[int]) -> float:
    """The AUC on the rows that were left out, averaged over the folds by their numbers of pairs."""
    import numpy as np
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold

    truth = np.asarray(labels)
    areas, weights = [], []
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0)
    for fitted, left_out in folds.split(truth, truth, np.asarray(grouped)):
        known, wanted = truth[fitted], truth[left_out]
        if known.all() or not known.any() or wanted.all() or not wanted.any():
            continue
        vectoriser, classifier = _classifier()
        classifier.fit(vectoriser.fit_transform([documents[i] for i in fitted]), known)
        values = classifier.decision_function(vectoriser.transform([documents[i] for i in left_out]))
        areas.append(float(roc_auc_score(wanted, values)))
        weights.append(int(wanted.sum()) * int((~wanted).sum()))
    return float(np.average(areas, weights=weights)) if areas else 0.5


def _classifier() -> tuple[TfidfVectorizer, LogisticRegression]:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    return (
        TfidfVectorizer(analyzer=list, min_df=2, sublinear_tf=True),
        LogisticRegression(class_weight="balanced", solver="liblinear", random_state=0),
    )


def auc_interval(auc: float, first: int, second: int) -> tuple[float, float]:
    """Return the 95 % score interval of an AUC found on samples of `first` and `second` independent units.

    Newcombe 2006, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic. Part 2",
    method 5: all values whose own variance (Hanley and McNeil 1982, with the mean of both sample sizes) is compatible
    with the one found. It holds at 0 and 1, where the variance of what was found is 0.
    """
    from scipy.optimize import brentq

    mean = (first + second) / 2 - 1

    def apart(value: float) -> float:
        spread = 1 + mean * ((1 - value) / (2 - value) + value / (1 + value))
        return abs(auc - value) - _Z * math.sqrt(value * (1 - value) * spread / (first * second))

    inside = min(max(auc, _EDGE), 1 - _EDGE)  # a root lies at 0 and at 1, where it says nothing
    low = 0.0 if auc <= _EDGE else float(brentq(apart, 0.0, inside))
    high = 1.0 if auc >= 1 - _EDGE else float(brentq(apart, inside, 1.0))
    return low, high


def _lengths(train: Sequence[Task], held_out: Sequence[Task], first: int, second: int) -> list[str]:
    """References and prompts that are mostly longer, or shorter, by the same measure as the prompts' classifier."""
    found = []
    for what, of in (("references", _reference), ("prompts", _question)):
        sizes = [[len(of(task)) for task in part if of(task)] for part in (train, held_out)]
        if not all(sizes):
            continue
        area = _area(sizes[1], sizes[0])
        low, high = auc_interval(area, first, second)
        if low > TOLD_APART or high < 1 - TOLD_APART:
            ours, theirs = (_quantiles(of_part) for of_part in (sizes[1], sizes[0]))
            word = "longer" if area > 0.5 else "shorter"
            found.append(
                f"{what} are {word}: median {ours[0]:,} characters against {theirs[0]:,}"
                f" (nine of ten up to {ours[1]:,} against {theirs[1]:,})"
            )
    return found


def _reference(task: Task) -> str:
    return task.reference


def _question(task: Task) -> str:
    return f"{task.prompt} {task.input}".strip()


def _area(first: Sequence[int], second: Sequence[int]) -> float:
    """The chance that a value of `first` is above one of `second`, ties as a half: Mann-Whitney's U / (m n)."""
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(first, second).statistic) / (len(first) * len(second))


def _quantiles(sizes: Sequence[int]) -> tuple[int, int]:
    ordered = sorted(sizes)
    return ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, math.ceil(0.9 * len(ordered)) - 1)]


def _kinds(train: Sequence[Task], held_out: Sequence[Task]) -> list[str]:
    """Kinds of page whose share differs, the most different first."""
    from scipy.stats import fisher_exact

    counted = [Counter(map(kind_of, part)) for part in (train, held_out)]
    sizes = len(train), len(held_out)
    found = []
    for kind in sorted(counted[0] | counted[1]):
        have = counted[0][kind], counted[1][kind]
        shares = have[0] / sizes[0], have[1] / sizes[1]
        p = fisher_exact([[have[0], sizes[0] - have[0]], [have[1], sizes[1] - have[1]]]).pvalue
        if abs(shares[1] - shares[0]) >= _SHARE_APART and p < 0.01:
            found.append((-abs(shares[1] - shares[0]), kind, shares))
    return [
        f"{100 * ours:.0f} % are of kind {kind} against {100 * theirs:.0f} %"
        for _, kind, (theirs, ours) in sorted(found)
    ]


def _words(documents: Sequence[list[str]], labels: Sequence[bool]) -> list[str]:
    """The words that speak most for a held-out row, and most for a training row."""
    vectoriser, classifier = _classifier()
    classifier.fit(vectoriser.fit_transform(documents), list(labels))
    weighed = sorted(
        zip(classifier.coef_[0], vectoriser.get_feature_names_out(), strict=True), key=lambda pair: pair[1]
    )
    words = [(float(weight), str(word)) for weight, word in weighed if " " not in word]
    said = []
    for sign, how in ((1, "more"), (-1, "less")):
        most = sorted(words, key=lambda pair: -sign * pair[0])[:_WORDS_SHOWN]
        if top := [word for weight, word in most if sign * weight > 0]:
            said.append(f"prompts say {how} often: {', '.join(top)}")
    return said
