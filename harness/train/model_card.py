"""The model card of an adapter: what it is, and in its `model-index` what a run measured on held-out tasks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.model.profile_schema import Weights
from harness.storage.atomic import write_atomically

DECIMALS = 4


def base_on_the_hub(weights: Weights) -> str | None:
    """Return the name of the base model on the hub, or None where it came from a package or a folder."""
    return weights.hub.path if weights.hub else None


def write_card(
    folder: Path,
    model: str,
    base: str | None = None,
    manifest: Mapping[str, Any] | None = None,
    summary: Mapping[str, Any] | None = None,
) -> None:
    """Write `README.md` into an adapter's folder.

    Args:
        folder: The adapter's folder.
        model: The adapter's name in the run, `tuned` or `tuned#seed1`.
        base: The base model's name on the hub.
        manifest: The run's manifest; without it the card says that nothing was measured.
        summary: The run's summary. Trainings of one model share the numbers of their family.
    """
    from huggingface_hub import ModelCardData

    name = model.replace("#", "-").replace("/", "-")
    family, _, seed = model.partition("#seed")
    results = _results(family, manifest, summary) if manifest and summary else []
    data = ModelCardData(
        base_model=base,
        library_name="peft",
        pipeline_tag="text-generation",
        tags=["lora", "html"],
        model_name=name,
        eval_results=results or None,
        ignore_metadata_errors=False,
    )
    lines = [f"# {name}", "", "A LoRA adapter that writes HTML pages, in PEFT's format (safetensors).", ""]
    if manifest and summary:
        lines += _measured(family, seed, manifest, summary)
    else:
        lines += ["It was not measured yet: `python -m harness run` writes its held-out numbers here."]
    write_atomically(folder / "README.md", f"---\n{data.to_yaml()}\n---\n\n" + "\n".join(lines) + "\n")


def _results(model: str, manifest: Mapping[str, Any], summary: Mapping[str, Any]) -> list[Any]:
    """Return an EvalResult for each suite and metric that has a number for the model."""
    from huggingface_hub import EvalResult

    results = []
    for suite, measured in summary["suites"].items():
        facts = manifest["suites"][suite]
        for metric, by_model in measured["metrics"].items():
            estimate = by_model.get(model)
            if estimate is None or estimate["mean"] is None:
                continue
            results.append(
                EvalResult(
                    task_type="text-generation",
                    task_name="HTML pages from instructions",
                    dataset_type=suite,
                    dataset_name=str(facts["title"]),
                    dataset_split="held-out",
                    dataset_revision=str(facts["revision"]),
                    dataset_args={"split_hash": facts["split_hash"]},
                    metric_type=metric,
                    metric_name=manifest["scorers"][metric]["label"],
                    metric_value=round(estimate["mean"], DECIMALS),
                    metric_args={key: _rounded(estimate[key]) for key in ("low", "high", "n", "unscored")},
                )
            )
    return results


def _measured(model: str, seed: str, manifest: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    lines = [
        f"Measured on held-out tasks, with 95 % intervals, by run `{manifest['run']}` (harness {manifest['harness']}, "
        f"{str(manifest['finished'] or manifest['started'])[:10]})."
    ]
    if seed:
        lines.append(f"This is the training with seed {seed}; the numbers are over all trainings of that run.")
    for suite, measured in summary["suites"].items():
        primary = [metric for metric in summary["primary"] if metric in measured["metrics"]]
        others = [metric for metric in measured["metrics"] if metric not in primary]
        others = [metric for metric in others if manifest["scorers"][metric]["kind"] != "render"]
        pairs = {
            pair.partition(":")[0]: found for pair, found in measured["pairs"].items() if pair.endswith(f":{model}")
        }
        lines += ["", f"## {manifest['suites'][suite]['title']}: {measured['tasks']} tasks", ""]
        lines += ["| metric | this model |" + "".join(f" against {other} |" for other in pairs)]
        lines += ["|---|---|" + "---|" * len(pairs)]
        for metric in [*primary, *others]:
            own = measured["metrics"][metric].get(model)
            if own is None or own["mean"] is None:
                continue
            cells = [manifest["scorers"][metric]["label"], _interval(own["mean"], own)]
            cells += [_interval(_difference(pair, metric), pair.get(metric) or {}, "+") for pair in pairs.values()]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def _difference(pair: Mapping[str, Any], metric: str) -> float | None:
    value: float | None = (pair.get(metric) or {}).get("difference")
    return value


def _interval(value: float | None, bounds: Mapping[str, Any], sign: str = "") -> str:
    if value is None:
        return "not measured"
    low, high = bounds.get("low"), bounds.get("high")
    around = "" if low is None or high is None else f" [{low:.3g}, {high:.3g}]"
    return f"{value:{sign}.3g}{around}"


def _rounded(value: float | None) -> float | None:
    return round(value, DECIMALS) if isinstance(value, float) else value
