"""Hit and false-alarm rate of every form tier over the labelled pages of `tests/metrics/corpus`.

Prints the Markdown table that docs/validity.md holds: `python -m benchmarks.validity_table`; `--misses` names the pages
on which a tier and the label disagree.
"""

from __future__ import annotations

import sys
from pathlib import Path

from harness.metrics import nu, registry
from harness.metrics.extract import extract
from harness.metrics.metric import Evidence
from harness.types import Task

CORPUS = Path(__file__).resolve().parents[1] / "tests" / "metrics" / "corpus"
LABELS = {"gross": "no page", "syntax": "broken syntax", "rules": "broken rules", "valid": "valid"}
TIERS = ("extracted", "parses", "lxml_clean", "well_formed", "conforming")


def corpus() -> list[tuple[str, str, str]]:
    """Return (label, name, text) of every page."""
    return [
        (label, path.stem, path.read_text(encoding="utf-8"))
        for label in LABELS
        for path in sorted((CORPUS / label).glob("*.html"))
    ]


def verdicts() -> dict[tuple[str, str], dict[str, float | None]]:
    """Return every tier's value by (label, name)."""
    pages = corpus()
    extracted = [extract(text, "eos") for _, _, text in pages]
    reports = nu.check_pages([page.html for page in extracted])
    found = {}
    for (label, name, text), page, report in zip(pages, extracted, reports, strict=True):
        evidence = Evidence(Task(id=name, prompt=""), text, page, nu=report if page.kind != "none" else None)
        scores = registry.score_page(evidence)
        found[label, name] = {tier: scores[tier].value for tier in TIERS}
    return found


def table(found: dict[tuple[str, str], dict[str, float | None]]) -> str:
    """The Markdown table: caught of each broken kind, false alarms on valid pages."""
    counts = {label: sum(1 for key in found if key[0] == label) for label in LABELS}
    heads = [f"{LABELS[label]} ({counts[label]})" for label in LABELS]
    lines = [
        f"| tier | caught: {heads[0]} | caught: {heads[1]} | caught: {heads[2]} | false alarms: {heads[3]} |",
        "|---|---|---|---|---|",
    ]
    for tier in TIERS:
        cells = []
        for label, count in counts.items():
            values = [row[tier] for key, row in found.items() if key[0] == label]
            if any(value is None for value in values):
                cells.append("not measured")
            else:
                caught = sum(value == 0 for value in values)
                cells.append(f"{caught} ({100 * caught / count:.0f} %)")
        lines.append(f"| `{tier}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    found = verdicts()
    print(table(found))
    if "--misses" in sys.argv:
        for (label, name), row in found.items():
            missed = [tier for tier in TIERS if (row[tier] == 0) == (label == "valid")]
            if missed:
                print(f"{label}/{name}: {', '.join(missed)}")


if __name__ == "__main__":
    main()
