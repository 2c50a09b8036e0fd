"""Turns a run's files into what the page and the terminal show: words, table rows, counts. No statistics."""

from __future__ import annotations

from collections import Counter
from typing import get_args

from harness.report import changes, numbers
from harness.runs.model_name import family
from harness.runs.read import KINDS, Json, RunFiles, as_dict, as_list, number
from harness.safe_text import one_line
from harness.types import Outcome

OUTCOMES: tuple[str, ...] = get_args(Outcome)[::-1]
"""From `ok` to `unscored`."""
FUNNEL = ("extracted", "parses", "well_formed", "conforming")
_MOST_NAMED = 3
UNFINISHED = "This run is not finished, so what stands here is not its answer. Its command goes on where it was."
ARROWS = {"better": "▲", "worse": "▼", "open": "●"}


def verdict(run: RunFiles, suite: str = "") -> Json:
    """The comparison's verdict on the whole run, or on one suite: `{word, sentence, gains, notes}`, as it was written.

    Without one in the summary, the sentence says what the intervals of the primary metrics say, and the word is "".
    """
    if suite:
        found = as_dict(as_dict(run.suite(suite).get("verdicts")).get(run.pair(suite))) or as_dict(
            run.suite(suite).get("verdict")
        )
    else:
        found = as_dict(run.summary.get("verdict"))
        if not found and len(run.suites) == 1:
            return verdict(run, run.suites[0])
    sentence = one_line(found.get("sentence") or "")
    # what is missing stands first among the warnings: it bears on the sentence itself
    notes = [*as_list(found.get("warnings")), found.get("fewshot")]
    return {
        "word": one_line(found.get("word") or ""),
        "sentence": sentence or _plain_words(run, [suite] if suite else run.suites),
        "gains": one_line(found.get("gains") or ""),
        "notes": [one_line(note) for note in notes if isinstance(note, str) and note.strip()],
    }


def _plain_words(run: RunFiles, suites: list[str]) -> str:
    said = []
    for suite in suites:
        first, _, second = run.pair(suite).partition(":")
        differences = as_dict(as_dict(run.suite(suite).get("pairs")).get(run.pair(suite)))
        primary = [name for name in differences if run.metrics[name]["primary"]] or list(differences)
        ways: dict[str, list[str]] = {"better": [], "worse": [], "open": []}
        for name in primary:
            ways[numbers.direction(differences[name])].append(run.metrics[name]["label"])
        words = {"better": "better on", "worse": "worse on", "open": "not told apart on"}
        parts = [f"{word} {', '.join(ways[way])}" for way, word in words.items() if ways[way]]
        if parts:
            said.append(f"{second} against {first}, {suite_title(run, suite)}: {'; '.join(parts)}.")
    return one_line(" ".join(said) or "No two models were compared on the same tasks, so there is no verdict.")


def finished(run: RunFiles) -> bool:
    """Whether the run came to its end."""
    return bool(run.manifest.get("finished"))


def suite_title(run: RunFiles, suite: str) -> str:
    """The suite's title as its file names it, else its name."""
    return str(as_dict(as_dict(run.manifest.get("suites")).get(suite)).get("title") or suite)


def suite_notes(run: RunFiles, suite: str) -> list[str]:
    """Which rows these are, what their split measures, and which references no answer could reach, in words."""
    about = as_dict(as_dict(run.manifest.get("suites")).get(suite))
    shift, reach = as_dict(about.get("shift")), as_dict(about.get("reach"))
    notes = [f"Rows: {about['known_rows']}."] if about.get("known_rows") else []
    if about.get("split") not in (None, "default"):
        notes.append(f"Split: {about['split']}.")
    if shift.get("told_apart"):
        differs = "; ".join(str(part) for part in as_list(shift.get("differs_in")))
        area = ", ".join(f"{number(shift.get(key)) or 0:.2f}" for key in ("auc", "low", "high"))
        notes.append(
            "This measures transfer, not learning: training and held-out rows are of different kinds, told apart by "
            f"their prompts (AUC with 95 % interval: {area})."
            + (f" Held out against training: {differs}." * bool(differs))
        )
    beyond, limit = int(number(reach.get("out_of_reach")) or 0), int(number(reach.get("max_new_tokens")) or 0)
    if beyond:
        notes.append(
            f"{beyond} of {int(number(reach.get('references')) or 0)} references are out of reach: longer than the "
            f"{limit:,} new tokens of an answer, or than what the context leaves."
        )
    return [one_line(note, 900) for note in notes]


def measured(run: RunFiles, suite: str) -> str:
    """How much was measured, in words: "68 tasks"; "1 task, 3 answers to each by every model"; "64 tasks, 25 compared".

    Answers that never came, and those that a task has more of than another, are not counted as given to each.
    """
    tasks: set[str] = set()
    answers: Counter[tuple[str, str]] = Counter()
    for row in run.rows:
        if row.get("suite") != suite:
            continue
        task, model = str(row.get("task")), str(row.get("model"))
        tasks.add(task)
        if not run.is_control(model) and any(score is not None for score in as_dict(row.get("scores")).values()):
            answers[task, model] += 1
    said = f"{len(tasks)} task{'' if len(tasks) == 1 else 's'}"
    fewest, most = min(answers.values(), default=1), max(answers.values(), default=1)
    if most > 1:
        said += f", {most if fewest == most else f'{fewest} to {most}'} answers to each"
        said += " by every model" if fewest == most else ""
    compared = _compared(run, suite)
    return said if compared is None or compared >= len(tasks) else f"{said}, {compared} compared"


def _compared(run: RunFiles, suite: str) -> int | None:
    """On how many tasks the suite's pair has a number on both sides, at least, over its primary metrics."""
    pair = as_dict(as_dict(run.suite(suite).get("pairs")).get(run.pair(suite)))
    primary = [as_dict(entry) for entry in pair.values() if as_dict(entry).get("primary")]
    found = [number(entry.get("tasks")) for entry in primary if as_dict(entry.get("missing")).get("asked")]
    known = [int(tasks) for tasks in found if tasks is not None]
    return min(known) if known else None


def unequal(run: RunFiles, suite: str) -> list[str]:
    """Where differences are over fewer tasks than a mean beside them: "15 tasks (Conforming)"."""
    pair_name = run.pair(suite)
    pair = as_dict(as_dict(run.suite(suite).get("pairs")).get(pair_name))
    metrics = as_dict(run.suite(suite).get("metrics"))
    labels: dict[int, list[str]] = {}
    for name, facts in run.metrics.items():
        entry, of = as_dict(pair.get(name)), as_dict(metrics.get(name))
        means = [number(as_dict(of.get(model)).get("n")) for model in pair_name.split(":")]
        n, tasks = number(entry.get("n")), number(entry.get("tasks"))
        if n and tasks and any(mean is not None and mean > n for mean in means):
            labels.setdefault(int(tasks), []).append(one_line(facts["label"], 24))
    return [
        f"{tasks} task{'' if tasks == 1 else 's'} "
        f"({', '.join(named) if len(named) <= _MOST_NAMED else f'{len(named)} metrics'})"
        for tasks, named in labels.items()
    ]


def table(run: RunFiles, suite: str) -> list[Json]:
    """Groups of metric rows: `{title, rows: [{name, label, cells: [{mean, interval, ...}], change}]}`."""
    summary = run.suite(suite)
    metrics = as_dict(summary.get("metrics"))
    pair = as_dict(as_dict(summary.get("pairs")).get(run.pair(suite)))
    models = suite_models(run, suite)
    groups: list[Json] = []
    for kind, title in KINDS.items():
        rows = []
        for name, facts in run.metrics.items():
            if facts["kind"] != kind or name not in metrics:
                continue
            cells = []
            for model in models:
                estimate = as_dict(as_dict(metrics[name]).get(model))
                cells.append(
                    {
                        "model": model,
                        "mean": numbers.mean(estimate.get("mean"), facts["scale"]),
                        "interval": numbers.interval(estimate, facts["scale"]),
                        "unscored": int(number(estimate.get("unscored")) or 0),
                        "n": int(number(estimate.get("n")) or 0),
                    }
                )
            rows.append({"name": name, **facts, "cells": cells, "change": change(pair.get(name), facts["scale"])})
        if rows:
            groups.append({"kind": kind, "title": title, "rows": rows})
    return groups


def change(difference: object, scale: str) -> Json | None:
    """One paired difference in words and signs; None where the pair has no such metric."""
    facts = as_dict(difference)
    if not facts:
        return None
    way = numbers.direction(facts)
    return {
        "way": way,
        "arrow": ARROWS[way],
        "difference": numbers.signed(facts.get("difference"), scale),
        "interval": numbers.interval(facts, scale, sign=True),
        "p": numbers.p_value(facts.get("p")),
        "p_adjusted": numbers.p_value(facts.get("p_adjusted")),
        "n": int(number(facts.get("n")) or 0),
        "dropped": int(number(facts.get("dropped")) or 0),
        "effect": changes.effect(facts.get("effect")),
        "detectable": numbers.mean(facts.get("detectable"), scale),
    }


def suite_models(run: RunFiles, suite: str) -> list[str]:
    """The models that the suite has a number or a row for; trainings of one model under their family's name."""
    known = {model for models in as_dict(run.suite(suite).get("metrics")).values() for model in as_dict(models)}
    written = {str(row.get("model")) for row in run.rows if row.get("suite") == suite}
    known |= {model for model in written if family(model) not in known}
    return [model for model in run.models if model in known]


def forest_rows(run: RunFiles, suite: str) -> list[Json]:
    """The paired differences to draw, in points of 100, in the order of the table."""
    pair = as_dict(as_dict(run.suite(suite).get("pairs")).get(run.pair(suite)))
    rows = []
    for group in table(run, suite):
        for row in group["rows"]:
            facts = as_dict(pair.get(row["name"]))
            difference = number(facts.get("difference"))
            if difference is None:
                continue
            scale = numbers.factor(row["scale"])
            low, high = number(facts.get("low")), number(facts.get("high"))
            rows.append(
                {
                    "label": one_line(row["label"], 34),
                    "group": group["title"],
                    "primary": row["primary"],
                    "difference": difference * scale,
                    "low": None if low is None else low * scale,
                    "high": None if high is None else high * scale,
                    "way": numbers.direction(facts),
                    "text": row["change"]["difference"],
                }
            )
    return rows


def funnel(run: RunFiles, suite: str) -> list[Json]:
    """Per model, how many answers are left after each tier of validity; the unmeasured are counted apart.

    Each tier counts only answers that passed all tiers before it, so that the steps can only fall.
    """
    result = []
    for model in suite_models(run, suite):
        rows = _rows(run, suite, model)
        tiers = [tier for tier in FUNNEL if any(tier in as_dict(row.get("scores")) for row in rows)]
        if not rows or not tiers:
            continue
        left, steps = rows, []
        for tier in tiers:
            unmeasured = sum(number(as_dict(row.get("scores")).get(tier)) is None for row in left)
            left = [row for row in left if number(as_dict(row.get("scores")).get(tier)) == 1]
            label = run.metrics.get(tier, {}).get("label", tier)
            steps.append(
                {
                    "tier": tier,
                    "label": label,
                    "count": len(left),
                    "share": len(left) / len(rows),
                    "unmeasured": unmeasured,
                }
            )
        result.append({"model": model, "rows": len(rows), "steps": steps})
    return result


def outcomes(run: RunFiles, suite: str) -> Json:
    """`{columns, rows: [{model, total, cells: [{outcome, count, share}]}]}`: only outcomes that occur, `ok` always."""
    counted: dict[str, Counter[str]] = {}
    given = as_dict(run.suite(suite).get("outcomes"))
    for model in suite_models(run, suite):
        rows = _rows(run, suite, model)
        if isinstance(given.get(model), dict):
            counted[model] = Counter({str(word): int(number(times) or 0) for word, times in given[model].items()})
        elif any(row.get("outcome") for row in rows):
            counted[model] = Counter(str(row.get("outcome") or "unscored") for row in rows)
    seen = {word for counter in counted.values() for word, times in counter.items() if times}
    columns = ["ok", *(word for word in OUTCOMES if word in seen and word != "ok"), *sorted(seen - set(OUTCOMES))]
    return {
        "columns": columns,
        "rows": [
            {
                "model": model,
                "total": counter.total(),
                "cells": [
                    {"outcome": word, "count": counter[word], "share": counter[word] / max(1, counter.total())}
                    for word in columns
                ],
            }
            for model, counter in counted.items()
        ],
    }


def regressions(run: RunFiles, suite: str, limit: int = 5) -> list[Json]:
    """The tasks on which the pair's second model lost most against its first, over the primary metrics both have.

    The loss is the mean over primary metrics of the difference of one task's means over its samples, in points of 100:
    an order for looking, no estimate.
    """
    first, _, second = run.pair(suite).partition(":")
    primary = [name for name, facts in run.metrics.items() if facts["primary"]] or list(run.metrics)
    scores: dict[str, dict[str, list[Json]]] = {}
    for row in run.rows:
        model = str(row.get("model"))
        named = model if model in (first, second) else family(model)
        if row.get("suite") == suite and named in (first, second):
            scores.setdefault(str(row.get("task")), {}).setdefault(named, []).append(as_dict(row.get("scores")))
    prompts = {str(task.get("task")): one_line(task.get("prompt", "")) for task in run.tasks}
    lost = []
    for task, by_model in scores.items():
        differences = {}
        for name in primary:
            before, after = (_mean(by_model.get(model, []), name) for model in (first, second))
            if before is not None and after is not None:
                differences[name] = (after - before) * numbers.factor(run.metrics[name]["scale"])
        if differences:
            total = sum(differences.values()) / len(differences)
            if total < 0:
                worst = min(differences, key=lambda name: differences[name])
                lost.append({"task": task, "loss": total, "worst": worst, "prompt": prompts.get(task, "")})
    return sorted(lost, key=lambda item: (item["loss"], item["task"]))[:limit]


def _mean(scores: list[Json], name: str) -> float | None:
    values = [found for score in scores if (found := number(score.get(name))) is not None]
    return sum(values) / len(values) if values else None


def _rows(run: RunFiles, suite: str, model: str) -> list[Json]:
    """The rows of a model, or of all trainings of a family."""
    return [
        row
        for row in run.rows
        if row.get("suite") == suite and model in (str(row.get("model")), family(str(row.get("model"))))
    ]
