"""The model card of an adapter: what it is, and in its `model-index` what a run measured on held-out tasks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.model.profile_schema import Weights
from harness.runs.manifest import Manifest
from harness.runs.record import Interval
from harness.runs.summary import Summary
from harness.storage.atomic import write_atomically

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

DECIMALS = 4


def base_on_the_hub(weights: Weights) -> str | None:
    """Return the name of the base model on the hub, or None where it came from a package or a folder."""
    return weights.hub.path if weights.hub else None


def write_card(
    folder: Path,
    model: str,
    base: str | None = None,
    manifest: Manifest | None = None,
    summary: Summary | None = None,
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


def _results(model: str, manifest: Manifest, summary: Summary) -> list[EvalResult]:
    """Return an EvalResult for each suite and metric that has a number for the model."""
    from huggingface_hub import EvalResult

    results = []
    for suite, measured in summary.suites.items():
        facts = manifest.suites[suite]
        for metric, by_model in measured.metrics.items():
            estimate = by_model.get(model)
            if estimate is None or estimate.mean is None:
                continue
            results.append(
                EvalResult(
                    task_type="text-generation",
                    task_name="HTML pages from instructions",
                    dataset_type=suite,
                    dataset_name=facts.title,
                    dataset_split="held-out",
                    dataset_revision=facts.revision,
                    dataset_args={"split_hash": facts.split_hash},
                    metric_type=metric,
                    metric_name=manifest.scorers[metric].label,
                    metric_value=round(estimate.mean, DECIMALS),
                    metric_args={
                        "low": _rounded(estimate.low),
                        "high": _rounded(estimate.high),
                        "n": estimate.n,
                        "unscored": estimate.unscored,
                    },
                )
            )
    return results


def _measured(model: str, seed: str, manifest: Manifest, summary: Summary) -> list[str]:
    lines = [
        f"Measured on held-out tasks, with 95 % intervals, by run `{manifest.run}` (harness {manifest.harness}, "
        f"{str(manifest.finished or manifest.started)[:10]})."
    ]
    if seed:
        lines.append(f"This is the training with seed {seed}; the numbers are over all trainings of that run.")
    for suite, measured in summary.suites.items():
        primary = [metric for metric in summary.primary or () if metric in measured.metrics]
        others = [metric for metric in measured.metrics if metric not in primary]
        others = [metric for metric in others if manifest.scorers[metric].kind != "render"]
        pairs = {pair.first: found for pair, found in measured.pairs.items() if pair.second == model}
        lines += ["", f"## {manifest.suites[suite].title}: {measured.tasks} tasks", ""]
        lines += ["| metric | this model |" + "".join(f" against {other} |" for other in pairs)]
        lines += ["|---|---|" + "---|" * len(pairs)]
        for metric in [*primary, *others]:
            own = measured.metrics[metric].get(model)
            if own is None or own.mean is None:
                continue
            cells = [manifest.scorers[metric].label, _interval(own.mean, own)]
            found = [pair.get(metric) for pair in pairs.values()]
            cells += [_interval(entry.difference, entry, "+") if entry else "not measured" for entry in found]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def _interval(value: float | None, bounds: Interval, sign: str = "") -> str:
    if value is None:
        return "not measured"
    low, high = bounds.low, bounds.high
    around = "" if low is None or high is None else f" [{low:.3g}, {high:.3g}]"
    return f"{value:{sign}.3g}{around}"


def _rounded(value: float | None) -> float | None:
    return round(value, DECIMALS) if isinstance(value, float) else value
