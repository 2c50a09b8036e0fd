"""Writes a run for other programs: rows for analysis, tables for a paper, metadata for a model card."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UsageError, did_you_mean
from harness.report import attempts, changes, numbers, tables_latex, view
from harness.runs.manifest import TUNED
from harness.runs.model_name import family_of
from harness.runs.read import read_run
from harness.runs.run import Run
from harness.runs.samples import SampleRecord, TaskRecord
from harness.safe_text import markdown, one_line, spreadsheet
from harness.storage.outputs import GENERATOR, Mark, check_output, write_output

if TYPE_CHECKING:
    import pyarrow as pa

Cell = str | float | bool | None
"""What stands in one column of one row."""


def write(run_dir: Path, formats: Sequence[str], out: Path | None) -> list[Path]:
    """Write the exports of one run; see `harness.report.export`."""
    for name in formats:
        if name not in _FORMATS:
            raise UsageError(f"there is no export '{name}'", did_you_mean(name, _FORMATS))
    run = read_run(run_dir)
    folder = out or run_dir / "exports"
    chosen = {name: _FORMATS[name] for name in formats}
    for format in chosen.values():
        check_output(folder / format.file, format.mark)
    for format in chosen.values():
        write_output(folder / format.file, format.content(run), format.mark)
    return [folder / _FORMATS[name].file for name in formats]


def flat_rows(run: Run) -> list[dict[str, Cell]]:
    """All rows with one column a fact: task and answer, texts, outcome, `score_<metric>`, `note_<metric>`, timing.

    All rows have the same columns in the same order; what a row lacks is None.
    """
    metrics = list(dict.fromkeys([*run.metrics, *(name for row in run.rows for name in row.scores)]))
    return [_flat(row, run.tasks.get(row.of_task), metrics) for row in run.rows]


def _flat(row: SampleRecord, task: TaskRecord | None, metrics: Sequence[str]) -> dict[str, Cell]:
    timing = row.timing
    return {
        "suite": _text(row.suite),
        "task": _text(row.task),
        "model": _text(row.model),
        "sample": row.sample,
        "category": _text(task.category if task else None),
        "difficulty": _text(task.difficulty if task else None),
        "scope": _text(task.scope if task else None),
        "prompt": _text(task.prompt if task else None),
        "input": _text(task.input if task else None),
        "reference": _text(task.reference if task else None),
        "completion": _text(row.completion),
        "page": _text(row.page),
        "finish_reason": _text(row.finish_reason),
        "outcome": _text(row.outcome),
        "extraction": _text(row.extraction.kind),
        "truncated": row.extraction.truncated,
        **{f"score_{name}": row.scores.get(name) for name in metrics},
        **{f"note_{name}": _text(row.notes.get(name)) for name in metrics},
        "generate_s": timing.generate_s,
        "render_s": timing.render_s,
        "prompt_tokens": float(timing.prompt_tokens),
        "completion_tokens": float(timing.completion_tokens),
    }


def _text(value: str | None) -> str | None:
    """Text that UTF-8 can hold: a lone surrogate, which a model can emit, becomes a question mark."""
    return None if value is None else value.encode("utf-8", "replace").decode("utf-8")


def _csv(run: Run) -> bytes:
    rows = flat_rows(run)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["suite", "task", "model", "sample"])
    writer.writeheader()
    writer.writerows({name: spreadsheet(value) for name, value in row.items()} for row in rows)
    return text.getvalue().encode("utf-8-sig")  # Excel takes UTF-8 for the machine's code page without the mark


def _parquet(run: Run) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = flat_rows(run)
    names = list(rows[0]) if rows else ["suite", "task", "model", "sample"]

    def kind(name: str) -> pa.DataType:
        if name == "sample":
            return pa.int32()
        if name == "truncated":
            return pa.bool_()
        timing = ("generate_s", "render_s", "prompt_tokens", "completion_tokens")
        return pa.float64() if name.startswith("score_") or name in timing else pa.string()

    # The types are given, not guessed: a column that is null in one run keeps its type and runs can be put together.
    schema = pa.schema([(name, kind(name)) for name in names])
    content = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), content, compression="zstd")
    return content.getvalue()


def _is_our_parquet(path: Path) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.read_schema(path).names[:4]) == ["suite", "task", "model", "sample"]
    except (pa.ArrowInvalid, OSError):
        return False


def _markdown(run: Run) -> str:
    parts = [f"<!-- {GENERATOR} -->\n\n# {markdown(run.name)}"]
    parts += [f"**{view.UNFINISHED}**"] if not view.finished(run) else []
    for suite in run.suites:
        models, pair = view.suite_models(run, suite), run.pair(suite)
        heads = [markdown(model) for model in models]
        heads += [f"{markdown(pair.second)} {numbers.MINUS} {markdown(pair.first)}"] if pair else []
        lines = [
            f"## {markdown(view.suite_title(run, suite))}",
            "",
            f"**{markdown(view.verdict(run, suite).sentence)}**",
            "",
            f"{markdown(view.measured(run, suite))}; means with 95 % intervals; primary metrics in bold.",
            "",
            "| " + " | ".join(["Metric", *heads]) + " |",
            "| :-- " + "| --: " * len(heads) + "|",
        ]
        for group in view.table(run, suite):
            for row in group.rows:
                label = markdown(row.label)
                cells = [f"**{label}**" if row.primary else label]
                cells += [f"{cell.mean}{_brackets(cell.interval)}" for cell in row.cells]
                if pair:
                    change = row.change
                    cells.append(f"{change.arrow} {change.difference}{_brackets(change.interval)}" if change else "–")
                lines.append("| " + " | ".join(cells) + " |")
        power = changes.powers_line(run, suite)
        lines += ["", markdown(power)] if power else []
        parts.append("\n".join([*lines, *_markdown_attempts(run, suite)]))
    return _ended("\n\n".join(parts))


def _markdown_attempts(run: Run, suite: str) -> list[str]:
    """Lines of the table of pass@k; none where every task was answered once."""
    found = attempts.pass_at(run, suite)
    if not found:
        return []
    heads = [f"{markdown(model)} @{k}" for model in found.models for k in found.ks]
    lines = ["", "pass@k, percent: the chance that one of k answers passes.", ""]
    lines += ["| " + " | ".join(["Metric", *heads]) + " |", "| :-- " + "| --: " * len(heads) + "|"]
    for row in found.rows:
        label = markdown(row.label)
        cells = [f"**{label}**" if row.primary else label, *(value for values in row.cells for value in values)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _brackets(interval: str) -> str:
    return f" ({interval})" if interval else ""


def _model_card(run: Run) -> str:
    """Metadata of the hub's model cards (`model-index`), written by huggingface_hub itself."""
    from huggingface_hub import EvalResult, ModelCardData

    entries = run.manifest.models
    known = (name for name in run.models if name in entries and entries[name].kind == TUNED)
    tuned = next((family_of(name, entries[name].family) for name in known), "")  # numbers stand under the family's name
    tuned = tuned or next((pair.second for pair in map(run.pair, run.suites) if pair), "")
    results = []
    for suite in run.suites:
        about = view.about_suite(run, suite)
        for name, models in run.suite(suite).metrics.items():
            estimate = models.get(tuned)
            if estimate is None or estimate.mean is None:
                continue
            metric = run.metrics[name]
            interval = numbers.interval(estimate, metric.scale)
            config = f"95 % interval {interval}" if interval else None
            measured = [(name, metric.label, estimate.mean, config)]
            shares = ((k, share) for k, share in (estimate.pass_at or {}).items() if k != "1")
            measured += [(f"{name}_pass_at_{k}", f"{metric.label}, pass@{k}", share, None) for k, share in shares]
            results += [
                EvalResult(
                    task_type="text-generation",
                    dataset_type=one_line(suite),
                    dataset_name=one_line(view.suite_title(run, suite)),
                    dataset_split="held-out",
                    dataset_revision=one_line(about.revision) or None,
                    metric_type=one_line(kind),
                    metric_name=one_line(label),
                    metric_value=round(value * numbers.factor(metric.scale), 4),
                    metric_config=config,
                )
                for kind, label, value, config in measured
            ]
    if not results:
        raise UsageError("the run has no measured model for a model card", "export csv or parquet instead")
    card = ModelCardData(
        model_name=one_line(tuned), eval_results=results, language="en", pipeline_tag="text-generation", tags=["html"]
    )
    return _ended(f"---\n# {GENERATOR}\n{card.to_yaml()}\n---")


def _ended(text: str) -> str:
    return text.rstrip() + "\n"


@dataclass(frozen=True, slots=True)
class _Format:
    """An export: its file, what is in it, and what says that such a file came from here."""

    file: str
    content: Callable[[Run], str | bytes]
    mark: Mark


_FORMATS = {
    "csv": _Format("samples.csv", _csv, re.compile(rb"\A(?:\xef\xbb\xbf)?suite,task,model,sample\b")),
    "parquet": _Format("samples.parquet", _parquet, _is_our_parquet),
    "latex": _Format(
        "tables.tex",
        lambda run: _ended(tables_latex.tables(run)),
        re.compile(rb"\A% needs the packages? booktabs|\A% " + GENERATOR.encode()),
    ),
    "markdown": _Format("tables.md", _markdown, re.compile(rb"\A<!-- " + GENERATOR.encode() + rb" -->")),
    "model-card": _Format("model-card.md", _model_card, re.compile(rb"\A---\n# " + GENERATOR.encode() + rb"\n")),
}
