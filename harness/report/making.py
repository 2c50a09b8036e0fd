"""How the numbers came about: training, cost, and everything that decided them."""

from __future__ import annotations

from typing import Any

from harness.report import numbers
from harness.runs.read import Json, RunFiles, as_dict, as_list, number
from harness.safe_text import one_line


def costs(run: RunFiles) -> list[Json]:
    """What each model's answers and training took, for those that a model wrote."""
    rows = []
    for model in run.models:
        facts = as_dict(as_dict(run.manifest.get("models")).get(model))
        cost, training = as_dict(facts.get("cost")), as_dict(facts.get("training"))
        if cost or training:
            rows.append(
                {
                    "model": model,
                    "seconds": numbers.seconds(cost.get("seconds")),
                    "tokens": numbers.count(cost.get("completion_tokens")),
                    "speed": numbers.count(cost.get("tokens_per_second")),
                    "memory": numbers.size(cost.get("peak_memory_bytes")),
                    "price": _price(as_dict(cost.get("price"))),
                    "training": numbers.seconds(training.get("seconds")) if training else "–",
                    "training_rows": numbers.count(training.get("rows")) if training else "–",
                    "training_tokens": numbers.count(training.get("tokens")) if training else "–",
                }
            )
    return rows


def _price(price: Json) -> str:
    """An amount with its currency, as a server's model file gives it; "" where nothing is charged."""
    amount = number(price.get("amount"))
    return "" if amount is None else f"{amount:.4f} {one_line(price.get('currency') or '', 8)}".strip()


def curves(run: RunFiles) -> list[Json]:
    """Training curves of the trained models: `{model, points: [{step, loss, scores}], kept, note}`."""
    found = []
    for model in run.models:
        training = as_dict(as_dict(as_dict(run.manifest.get("models")).get(model)).get("training"))
        points = [point for point in as_list(training.get("curve")) if isinstance(point, dict)]
        if points:
            watch = as_dict(training.get("watch"))
            found.append({"model": model, "points": points, "kept": watch.get("kept_step"), "note": _kept(training)})
    return found


def _kept(training: Json) -> str:
    """Say which step's weights were measured, and by what they were chosen; "" without an evaluation."""
    watch = as_dict(training.get("watch"))
    if not watch:
        return ""
    rows, metrics = as_list(watch.get("development")), as_list(as_dict(watch.get("settings")).get("metrics"))
    stopped = "stopped early at step" if watch.get("stopped_early") else "of"
    return one_line(
        f"Measured are the weights of step {watch.get('kept_step')} {stopped} {training.get('steps')}, those with the "
        f"highest task score (mean of {', '.join(map(str, metrics))}, each from 0 to 100) on {len(rows)} training rows "
        "that were kept out of the training.",
        400,
    )


def facts(run: RunFiles) -> list[tuple[str, list[tuple[str, Any]]]]:
    """What decided the numbers, as titled lists of name and value, for the page's last section."""
    manifest = run.manifest
    profile = as_dict(manifest.get("profile"))
    groups: list[tuple[str, list[tuple[str, Any]]]] = [
        (
            "Run",
            [(key, manifest.get(key)) for key in ("run", "harness", "started", "finished", "command", "seeds")]
            + [(f"git {key}", value) for key, value in as_dict(manifest.get("git")).items()],
        ),
        ("Profile", list(profile.items())),
    ]
    for model, about in as_dict(manifest.get("models")).items():
        kept = [(k, v) for k, v in as_dict(about).items() if k not in ("training", "cost") and v not in (None, {}, [])]
        training = {k: v for k, v in as_dict(as_dict(about).get("training")).items() if k != "curve"}
        groups.append((f"Model {model}", kept + ([("training", training)] if training else [])))
    groups += [
        (f"Suite {suite}", list(as_dict(about).items())) for suite, about in as_dict(manifest.get("suites")).items()
    ]
    groups += [
        (title, list(as_dict(manifest.get(title.lower())).items())) for title in ("Tools", "Packages", "Hardware")
    ]
    return [(one_line(title), items) for title, items in groups if items]
