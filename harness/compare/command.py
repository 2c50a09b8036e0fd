"""What `compare` does, as plain functions that return exit codes."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.compare.gate import Check, gate_runs, read_rules
from harness.compare.runs import AcrossRuns, choose_model, compare_runs, freeze, split_reference
from harness.compare.verdict import points
from harness.compare.wording import in_points
from harness.compare.writers import WRITTEN, junit, markdown
from harness.errors import EXIT_DONE, EXIT_GATE, UsageError
from harness.runs.manifest import ScorerEntry
from harness.runs.pairs import Pair
from harness.runs.read import find_run, load_run
from harness.runs.run import Run
from harness.runs.summary import DifferenceEntry
from harness.storage.outputs import check_output, write_output

Say = Callable[[str], object]
_MOST_DIFFERENCES = 40


@dataclass(frozen=True)
class Asked:
    """What is asked of a comparison beside its lines."""

    gate_rules: str | None = None
    """None is no gate, "" the default rule, else rules as `harness.compare.gate.read_rules` takes them."""
    junit: Path | None = None
    """A file for the gate as JUnit XML."""
    markdown: Path | None = None
    """A file for the numbers as a table."""


@dataclass(frozen=True)
class RunPlaces:
    """Where runs and frozen scores are looked for."""

    reports: Path = Path("reports")
    frozen: Path = Path("baselines/scores")

    def find(self, name: str) -> Path:
        """Return what a run's name or path stands for.

        Raises:
            UsageError: there is none; the hint names the nearest.
        """
        return find_run(name, self.reports, self.frozen)

    def doubles(self, references: Sequence[str]) -> list[str]:
        """Return a line for each of `RUN[:MODEL]` that frozen scores are called by too, which are not those taken."""
        lines = []
        for name in dict.fromkeys(split_reference(reference)[0] for reference in references):
            found, frozen = self.find(name), self.frozen / f"{name}.json"
            if frozen.is_file() and found.resolve() != frozen.resolve():
                lines.append(f"{name} is {found}; for the frozen scores of that name write {frozen}")
        return lines


def run_compare_command(
    left: str,
    right: str | None = None,
    asked: Asked | None = None,
    *,
    places: RunPlaces | None = None,
    replicates: int = 10_000,
    say: Say = print,
) -> int:
    """Compare `RUN[:MODEL]` with `RUN[:MODEL]` (second minus first) and print it.

    `right` left out means: within the run `left`, the pair of its verdict (or the named model against base).
    Returns 0, or 100 where a rule of the gate does not hold.

    Raises:
        UsageError: a run, model or rule does not exist, or nothing can be compared.
        HarnessError: a file is damaged.
    """
    asked, places = asked or Asked(), places or RunPlaces()
    for file in filter(None, (asked.junit, asked.markdown)):
        check_output(file, WRITTEN)
    if asked.junit is not None and asked.markdown is not None and asked.junit.resolve() == asked.markdown.resolve():
        raise UsageError(f"{asked.junit} cannot hold both JUnit and Markdown", "name two files")
    rules = None if asked.gate_rules is None else read_rules(asked.gate_rules)
    first, second, models = _sides(left, right, places)
    result = compare_runs(first, models.first, second, models.second, replicates=replicates)
    checks = gate_runs(result, rules) if rules is not None else []
    scorers = second.manifest.scorers
    # files first: whoever reads what is printed may hang up at any line
    if asked.junit is not None:
        write_output(asked.junit, junit(checks), WRITTEN)
    if asked.markdown is not None:
        text = markdown(result.summary, scorers, result.pair, checks, result.manifest_differences)
        write_output(asked.markdown, text, WRITTEN)
    doubles = places.doubles([left] if right is None else [left, right])
    _say_all([*doubles, *describe(result, scorers, checks)], say)
    return EXIT_DONE if all(check.passed for check in checks) else EXIT_GATE


def _say_all(lines: Sequence[str], say: Say) -> None:
    """Say the lines; a reader that closes the pipe (`| head -1`) ends the saying and not the command."""
    try:
        for line in lines:
            say(line)
        sys.stdout.flush()
    except BrokenPipeError:
        # what is still buffered must not fail at exit either
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run_freeze_command(name: str, target: Path | None = None, *, places: RunPlaces | None = None) -> Path:
    """Write the scores of the run called `name` to `target` (baselines/scores/NAME.json); return the file."""
    places = places or RunPlaces()
    found = places.find(name)
    # by the name that it is called by from now on: a copied or renamed folder's manifest still has the old one
    own = found.stem if found.is_file() else found.name if found.is_symlink() else found.resolve().name
    return freeze(load_run(found), target or places.frozen / f"{own}.json")


def _sides(left: str, right: str | None, places: RunPlaces) -> tuple[Run, Run, Pair]:
    name, model = split_reference(left)
    first = load_run(places.find(name))
    if right is None:
        # the run's own pair, as its verdict has it; a model named is held against the first that it is compared with
        pair = next((pair for pair in first.pairs if model in ("", pair.second)), None)
        return first, first, pair or Pair(choose_model(first, "base"), choose_model(first, model))
    other, other_model = split_reference(right)
    path = places.find(other)
    second = first if path.resolve() == first.path.resolve() else load_run(path)
    return first, second, Pair(choose_model(first, model), choose_model(second, other_model))


_CONTENT = {
    "weights_sha256": "weights",
    "config_sha256": "config",
    "tokenizer_sha256": "tokenizer",
    "adapter_sha256": "adapter",
    "adapter_config_sha256": "adapter's config",
    "adapter_tokenizer_sha256": "adapter's tokenizer",
}
"""What a model is made of, as the manifest names it."""


def _another_of_that_name(result: AcrossRuns) -> list[str]:
    """Say where both sides name their model alike and it is not the same one; nothing where a side does not tell."""
    differing = {entry.key: entry for entry in result.manifest_differences}
    if "model.name" in differing:
        return []
    found = [differing.get(f"model.{key}") for key in _CONTENT]
    parts = [
        word
        for word, entry in zip(_CONTENT.values(), found, strict=True)
        if entry is not None and entry.left is not None and entry.right is not None
    ]
    name = result.models.first
    return [f"{name} is not the same model in both runs: other {', other '.join(parts)}"] if parts else []


def _in_another_dtype(result: AcrossRuns) -> list[str]:
    """Say where the two sides computed in different dtypes; nothing where a side does not tell."""
    found = [entry for entry in result.manifest_differences if entry.key == "model.dtype"]
    return [
        f"{result.pair.first} answered in {entry.left}, {result.pair.second} in {entry.right}"
        for entry in found
        if entry.left is not None and entry.right is not None
    ]


def describe(result: AcrossRuns, scorers: Mapping[str, ScorerEntry], checks: Sequence[Check] = ()) -> list[str]:
    """Return the comparison as lines of text: what differs first, then the verdict, the numbers and the gate."""
    lines = []
    if result.manifest_differences:
        lines.append("What differs between the runs:")
        for entry in result.manifest_differences[:_MOST_DIFFERENCES]:
            lines.append(f"  {entry.key}: {entry.left} → {entry.right}")
        more = len(result.manifest_differences) - _MOST_DIFFERENCES
        lines += [f"  and {more} more"] if more > 0 else []
        lines += [*_another_of_that_name(result), *_in_another_dtype(result)]
    lines += [f"Left out, {why}: {metric}" for metric, why in result.left_out_metrics.items()]
    if result.left_out_tasks:
        lines.append(
            f"Left out: {result.left_out_tasks} tasks that only one side answered, or with another prompt or reference"
        )
    if result.otherwise_checked:
        lines.append(f"Left out: what the checks said of {result.otherwise_checked} tasks, whose checks were others")
    verdict = result.summary.verdicts[result.pair]
    lines += [verdict.sentence, verdict.gains, *verdict.warnings]
    for suite, content in result.summary.suites.items():
        entries = content.pairs[result.pair]
        compared = max((entry.tasks or 0 for entry in entries.values() if entry.difference is not None), default=0)
        every = f"{content.tasks} tasks" if compared == content.tasks else f"{compared} of {content.tasks} tasks"
        if content.units is not None and content.units < content.tasks:
            every += f" in {content.units} groups of near-duplicates"
        lines.append(f"{suite}, {every} (points, means over the tasks that both have; ★ primary, p after Holm):")
        lines += [_line(m, entry, scorers[m], compared) for m, entry in entries.items() if entry.difference is not None]
    for check in checks:
        where = f" on {check.suite}" if check.suite else ""
        lines.append(f"{'held' if check.passed else 'FAILED'}: {check.rule}: {check.metric}{where}, {check.detail}")
    return ["".join(char if char.isprintable() else "�" for char in line) for line in lines]


def _line(metric: str, entry: DifferenceEntry, scorer: ScorerEntry, compared: int) -> str:
    by = points(scorer.scale)
    difference, interval, means, p = in_points(entry, by)
    tasks = entry.tasks or 0
    return (
        f"  {'★' if entry.primary else ' '} {metric:18} {means[0]:>4} → {means[1]:>4}  {difference:>6}"
        f"  ({interval})  p {p}{f'  {tasks} tasks' if tasks < compared else ''}"
    )
