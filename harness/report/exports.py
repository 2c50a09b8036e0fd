"""Writes a run for other programs: rows for analysis, tables for a paper, metadata for a model card."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UsageError, did_you_mean
from harness.report import attempts, changes, numbers, tables_latex, view
from harness.runs.read import Json, RunFiles, as_dict, number, read_run
from harness.safe_text import markdown, one_line, spreadsheet
from harness.storage.outputs import GENERATOR, Mark, check_output, write_output


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


def flat_rows(run: RunFiles) -> list[Json]:
    """All rows with one column a fact: task and answer, texts, outcome, `score_<metric>`, `note_<metric>`, timing.

    All rows have the same columns in the same order; what a row lacks is None.
    """
    tasks = {(task.get("suite"), task.get("task")): task for task in run.tasks}
    metrics = list(dict.fromkeys([*run.metrics, *(name for row in run.rows for name in as_dict(row.get("scores")))]))
    rows = []
    for row in run.rows:
        task = tasks.get((row.get("suite"), row.get("task")), {})
        scores, notes = as_dict(row.get("scores")), as_dict(row.get("notes"))
        timing, extraction = as_dict(row.get("timing")), as_dict(row.get("extraction"))
        flat: Json = {name: _text(row.get(name)) for name in ("suite", "task", "model")}
        flat["sample"] = int(number(row.get("sample")) or 0)
        flat |= {
            name: _text(task.get(name)) for name in ("category", "difficulty", "scope", "prompt", "input", "reference")
        }
        flat |= {name: _text(row.get(name)) for name in ("completion", "page", "finish_reason", "outcome")}
        flat["extraction"] = _text(extraction.get("kind"))
        flat["truncated"] = bool(extraction["truncated"]) if "truncated" in extraction else None
        flat |= {f"score_{name}": number(scores.get(name)) for name in metrics}
        flat |= {f"note_{name}": _text(notes.get(name)) for name in metrics}
        flat |= {
            name: number(timing.get(name)) for name in ("generate_s", "render_s", "prompt_tokens", "completion_tokens")
        }
        rows.append(flat)
    return rows


def _text(value: object) -> str | None:
    """Text that UTF-8 can hold: a lone surrogate, which a model can emit, becomes a question mark."""
    return None if value is None else str(value).encode("utf-8", "replace").decode("utf-8")


def _csv(run: RunFiles) -> bytes:
    rows = flat_rows(run)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["suite", "task", "model", "sample"])
    writer.writeheader()
    writer.writerows({name: spreadsheet(value) for name, value in row.items()} for row in rows)
    return text.getvalue().encode("utf-8-sig")  # Excel takes UTF-8 for the machine's code page without the mark


def _parquet(run: RunFiles) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = flat_rows(run)
    names = list(rows[0]) if rows else ["suite", "task", "model", "sample"]

    def kind(name: str) -> Any:
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


def _markdown(run: RunFiles) -> str:
    parts = [f"<!-- {GENERATOR} -->\n\n# {markdown(run.name)}"]
    parts += [f"**{view.UNFINISHED}**"] if not view.finished(run) else []
    for suite in run.suites:
        models, pair = view.suite_models(run, suite), run.pair(suite)
        first, _, second = pair.partition(":")
        heads = [markdown(model) for model in models] + (
            [f"{markdown(second)} {numbers.MINUS} {markdown(first)}"] if pair else []
        )
        lines = [
            f"## {markdown(view.suite_title(run, suite))}",
            "",
            f"**{markdown(view.verdict(run, suite)['sentence'])}**",
            "",
            f"{markdown(view.measured(run, suite))}; means with 95 % intervals; primary metrics in bold.",
            "",
            "| " + " | ".join(["Metric", *heads]) + " |",
            "| :-- " + "| --: " * len(heads) + "|",
        ]
        for group in view.table(run, suite):
            for row in group["rows"]:
                label = markdown(row["label"])
                cells = [f"**{label}**" if row["primary"] else label]
                cells += [f"{cell['mean']}{_brackets(cell['interval'])}" for cell in row["cells"]]
                if pair:
                    change = row["change"]
                    cells.append(
                        f"{change['arrow']} {change['difference']}{_brackets(change['interval'])}" if change else "–"
                    )
                lines.append("| " + " | ".join(cells) + " |")
        power = changes.powers_line(run, suite)
        lines += ["", markdown(power)] if power else []
        parts.append("\n".join([*lines, *_markdown_attempts(run, suite)]))
    return _ended("\n\n".join(parts))


def _markdown_attempts(run: RunFiles, suite: str) -> list[str]:
    """Lines of the table of pass@k; none where every task was answered once."""
    found = attempts.pass_at(run, suite)
    if not found:
        return []
    heads = [f"{markdown(model)} @{k}" for model in found["models"] for k in found["ks"]]
    lines = ["", "pass@k, percent: the chance that one of k answers passes.", ""]
    lines += ["| " + " | ".join(["Metric", *heads]) + " |", "| :-- " + "| --: " * len(heads) + "|"]
    for row in found["rows"]:
        label = markdown(row["label"])
        cells = [f"**{label}**" if row["primary"] else label, *(value for values in row["cells"] for value in values)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _brackets(interval: str) -> str:
    return f" ({interval})" if interval else ""


def _model_card(run: RunFiles) -> str:
    """Metadata of the hub's model cards (`model-index`), written by huggingface_hub itself."""
    from huggingface_hub import EvalResult, ModelCardData

    tuned = next(
        (name for name in run.models if as_dict(as_dict(run.manifest.get("models")).get(name)).get("kind") == "tuned"),
        "",
    )
    tuned = tuned or next((run.pair(suite).partition(":")[2] for suite in run.suites if run.pair(suite)), "")
    results = []
    for suite in run.suites:
        about = as_dict(as_dict(run.manifest.get("suites")).get(suite))
        for name, models in as_dict(run.suite(suite).get("metrics")).items():
            estimate = as_dict(as_dict(models).get(tuned))
            mean = number(estimate.get("mean"))
            if mean is None or name not in run.metrics:
                continue
            facts = run.metrics[name]
            interval = numbers.interval(estimate, facts["scale"])
            measured = [(name, facts["label"], mean, f"95 % interval {interval}" if interval else None)]
            measured += [
                (f"{name}_pass_at_{k}", f"{facts['label']}, pass@{k}", share, None)
                for k, value in as_dict(estimate.get("pass_at")).items()
                if (share := number(value)) is not None and k != "1"
            ]
            results += [
                EvalResult(
                    task_type="text-generation",
                    dataset_type=one_line(suite),
                    dataset_name=one_line(view.suite_title(run, suite)),
                    dataset_split="held-out",
                    dataset_revision=one_line(about.get("revision") or "") or None,
                    metric_type=one_line(kind),
                    metric_name=one_line(label),
                    metric_value=round(value * numbers.factor(facts["scale"]), 4),
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
    content: Callable[[RunFiles], str | bytes]
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
