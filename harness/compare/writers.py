"""What a build server reads: JUnit XML of the gate's checks, and Markdown for a pull request."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

from harness import safe_text
from harness.compare.gate import Check
from harness.compare.runs import ManifestDifference
from harness.compare.verdict import points
from harness.compare.wording import in_points
from harness.runs.manifest import ScorerEntry
from harness.runs.pairs import Pair
from harness.runs.summary import DifferenceEntry, Summary
from harness.storage.outputs import GENERATOR

WRITTEN = re.compile(rf"<!-- {GENERATOR} -->".encode())
"""What both begin with, so that they may be written again and a file of somebody's own may not."""


def printable(text: object) -> str:
    """Return text on one line without control characters: names come from files that anybody can write."""
    return "".join(char if char.isprintable() else "�" for char in " ".join(str(text).split()))


def junit(checks: Sequence[Check], name: str = "compare") -> str:
    """Return the checks as JUnit XML: one test case for each, a failure where it did not hold."""
    failures = sum(not check.passed for check in checks)
    root = ElementTree.Element("testsuites", tests=str(len(checks)), failures=str(failures))
    suites: dict[str, ElementTree.Element] = {}
    for check in checks:
        label = printable(check.suite or name)
        if label not in suites:
            of_suite = [c for c in checks if printable(c.suite or name) == label]
            failed = sum(not c.passed for c in of_suite)
            suites[label] = ElementTree.SubElement(
                root, "testsuite", name=label, tests=str(len(of_suite)), failures=str(failed), errors="0", skipped="0"
            )
        title = f"{printable(check.metric)}: {printable(check.rule)}"
        case = ElementTree.SubElement(suites[label], "testcase", classname=f"{name}.{label}", name=title)
        if check.passed:
            ElementTree.SubElement(case, "system-out").text = printable(check.detail)
        else:
            ElementTree.SubElement(case, "failure", message=printable(check.detail), type="gate")
    ElementTree.indent(root)
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<!-- {GENERATOR} -->\n'
        + ElementTree.tostring(root, encoding="unicode")
        + "\n"
    )


def markdown(
    summary: Summary,
    scorers: Mapping[str, ScorerEntry],
    pair: Pair,
    checks: Sequence[Check] = (),
    differences: Sequence[ManifestDifference] = (),
) -> str:
    """Return the comparison for a pull request: verdict, gate, the table of differences, what else differs."""
    verdict = summary.verdicts[pair]
    lines = [f"<!-- {GENERATOR} -->", "", f"**{cell(verdict.sentence)}**", "", cell(verdict.gains), ""]
    lines += [f"> {cell(warning)}" for warning in verdict.warnings] + [""] * bool(verdict.warnings)
    for check in checks:
        mark = "✅" if check.passed else "❌"
        where = f" ({cell(check.suite)})" if check.suite else ""
        lines.append(f"- {mark} {cell(check.rule)}: {cell(check.metric)}{where}, {cell(check.detail)}")
    lines += [""] * bool(checks)
    for suite, content in summary.suites.items():
        lines += [
            f"### {cell(suite)}",
            "",
            f"| metric | {cell(pair.first)} | {cell(pair.second)} | difference | 95 % interval | p | tasks |",
        ]
        lines.append("|---|---:|---:|---:|---:|---:|---:|")
        for metric, entry in content.pairs.get(pair, {}).items():
            lines.append(_row(metric, scorers[metric], entry))
        lines.append("")
    lines.append("★ primary: the verdict rests on these, p after Holm. The others are exploratory and not corrected.")
    if differences:
        lines += [
            "",
            "<details><summary>What differs between the runs</summary>",
            "",
            "| key | left | right |",
            "|---|---|---|",
        ]
        lines += [f"| {cell(d.key)} | {cell(d.left)} | {cell(d.right)} |" for d in differences]
        lines += ["", "</details>"]
    return "\n".join(lines) + "\n"


def _row(metric: str, scorer: ScorerEntry, entry: DifferenceEntry) -> str:
    """Return one metric's line: both means and the difference over the same tasks."""
    label = cell(scorer.label or metric) + (" ★" if entry.primary else "")
    if entry.difference is None:
        return f"| {label} | – | – | – | – | – | 0 |"
    difference, interval, means, p = in_points(entry, points(scorer.scale))
    return f"| {label} | {means[0]} | {means[1]} | {difference} | {interval} | {p} | {entry.tasks} |"


def cell(value: object) -> str:
    """Return a value safe inside a Markdown table and as HTML: names and values come from files."""
    return safe_text.markdown(printable(value))
