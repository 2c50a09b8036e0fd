"""How the numbers came about: training, cost, and everything that decided them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.report import numbers
from harness.runs.manifest import CONTROL, Cost, Price, TrainingEntry
from harness.runs.record import Record
from harness.runs.run import Run
from harness.safe_text import one_line


@dataclass(frozen=True, slots=True)
class CostRow:
    """What one model's answers and training took."""

    model: str
    seconds: str
    tokens: str
    speed: str
    memory: str
    price: str
    training: str
    training_rows: str
    training_tokens: str


def costs(run: Run) -> list[CostRow]:
    """What each model's answers and training took, for those that a model wrote."""
    rows = []
    for model in run.models:
        entry = run.manifest.models.get(model)
        if entry is None or entry.kind == CONTROL or not (entry.cost or entry.training):
            continue
        cost, training = entry.cost or Cost(), entry.training or TrainingEntry()
        rows.append(
            CostRow(
                model=model,
                seconds=numbers.seconds(cost.seconds),
                tokens=numbers.count(cost.completion_tokens),
                speed=numbers.count(cost.tokens_per_second),
                memory=numbers.size(cost.peak_memory_bytes),
                price=_price(cost.price),
                training=numbers.seconds(training.seconds),
                training_rows=numbers.count(training.rows),
                training_tokens=numbers.count(training.tokens),
            )
        )
    return rows


def _price(price: Price | None) -> str:
    """An amount with its currency, as a server's model file gives it; "" where nothing is charged."""
    return "" if price is None else f"{price.amount:.4f} {one_line(price.currency, 8)}".strip()


@dataclass(frozen=True, slots=True)
class Training:
    """A training with a curve, and in words which step's weights were measured."""

    model: str
    entry: TrainingEntry
    note: str


def trainings(run: Run) -> list[Training]:
    """The trained models that have a curve."""
    entries = ((model, run.manifest.models[model].training) for model in run.models if model in run.manifest.models)
    return [Training(model, entry, _kept(entry)) for model, entry in entries if entry is not None and entry.curve]


def _kept(training: TrainingEntry) -> str:
    """Say which step's weights were measured, and by what they were chosen; "" without an evaluation."""
    evaluation = training.evaluation
    if evaluation is None:
        return ""
    metrics = evaluation.settings.get("metrics")
    named = ", ".join(map(str, metrics)) if isinstance(metrics, list) else ""
    stopped = "stopped early at step" if evaluation.stopped_early else "of"
    return one_line(
        f"Measured are the weights of step {evaluation.kept_step} {stopped} {training.steps}, those with the "
        f"highest task score (mean of {named}, each from 0 to 100) on {len(evaluation.development)} training rows "
        "that were kept out of the training.",
        400,
    )


def facts(run: Run) -> list[tuple[str, list[tuple[str, str]]]]:
    """What decided the numbers, as titled lists of name and value, for the page's last section."""
    manifest = run.manifest
    groups: list[tuple[str, list[tuple[str, object]]]] = [
        (
            "Run",
            [(key, getattr(manifest, key)) for key in ("run", "harness", "started", "finished", "command", "seeds")]
            + [(f"git {key}", value) for key, value in _said(manifest.git)],
        ),
        ("Profile", _said(manifest.profile)),
    ]
    for model, entry in manifest.models.items():
        content = entry.model_dump(exclude={"training", "cost"})
        kept = [(key, value) for key, value in content.items() if value not in (None, {}, [], ())]
        training = entry.training.model_dump(exclude={"curve"}, exclude_unset=True) if entry.training else None
        groups.append((f"Model {model}", kept + ([("training", training)] if training else [])))
    groups += [(f"Suite {suite}", _said(about)) for suite, about in manifest.suites.items()]
    groups += [
        ("Tools", list(manifest.tools.items())),
        ("Packages", list(manifest.packages.items())),
        ("Hardware", _said(manifest.hardware)),
    ]
    return [(one_line(title), [(key, _fact(value)) for key, value in items]) for title, items in groups if items]


def _said(record: Record) -> list[tuple[str, object]]:
    """What a record says, without what it leaves open."""
    return list(record.model_dump(exclude_unset=True).items())


def _fact(value: object) -> str:
    if value is None:
        return "not there"
    if isinstance(value, Mapping):
        return "; ".join(f"{one_line(key)} {_fact(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(_fact(item) for item in value) or "none"
    return one_line(value, 400)
