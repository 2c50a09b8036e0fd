"""Where it got better and where worse, what so many tasks can show, and what people say. No statistics."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from harness.report import numbers
from harness.runs.read import Json, RunFiles, as_dict, as_list, number
from harness.safe_text import one_line

_EFFECTS = {"cohen_dz": "dz", "cohen_g": "g"}


def parts(run: RunFiles, suite: str) -> list[Json]:
    """Tasks of the suite's pair that flipped on its primary metrics, by category and by difficulty.

    `[{title, metrics: [label], rows: [{name, n, cells: [{gained, lost}]}]}]`; `gained` and `lost` are
    `{count, href}`, the link into the gallery, and a cell also holds the `change` of that part where the comparison
    gives one. Rows with most losses stand first.
    """
    flips = as_dict(as_dict(run.suite(suite).get("flips")).get(run.pair(suite)))
    inside = as_dict(as_dict(run.suite(suite).get("parts")).get(run.pair(suite)))
    metrics = [name for name, facts in run.metrics.items() if facts["primary"] and as_dict(flips.get(name))]
    tables = []
    for part in ("category", "difficulty"):
        counts = {name: as_dict(flips[name].get(f"by_{part}")) for name in metrics}
        rows: list[Json] = []
        for name in dict.fromkeys(name for by_name in counts.values() for name in by_name):
            cells = []
            for metric in metrics:
                scale, found = run.metrics[metric]["scale"], as_dict(counts[metric].get(name))
                difference = as_dict(as_dict(as_dict(inside.get(part)).get(name)).get(metric))
                cells.append(
                    {
                        "gained": _link(run, suite, {part: name}, metric, "better", found.get("gained")),
                        "lost": _link(run, suite, {part: name}, metric, "worse", found.get("lost")),
                        "difference": numbers.signed(difference["difference"], scale) if difference else "",
                        "interval": numbers.interval(difference, scale, sign=True),
                    }
                )
            tasks = max(int(number(as_dict(counts[metric].get(name)).get("n")) or 0) for metric in metrics)
            rows.append({"name": one_line(name, 40), "n": tasks, "cells": cells})
        if rows:
            rows.sort(key=lambda row: -sum(cell["lost"]["count"] for cell in row["cells"]))
            labels = [one_line(run.metrics[metric]["label"], 40) for metric in metrics]
            tables.append({"title": part.capitalize(), "metrics": labels, "rows": rows})
    return tables


def _link(run: RunFiles, suite: str, group: Mapping[str, str], metric: str, way: str, count: object) -> Json:
    first, _, second = run.pair(suite).partition(":")
    asked = {"change": way, "metric": metric, "sort": "gain" if way == "better" else "loss", **group}
    asked |= {"suite": suite} if len(run.suites) > 1 else {}
    asked |= {"from": first, "to": second} if run.pair(suite) != run.pair(run.suites[0]) else {}
    return {"count": int(number(count) or 0), "href": "#" + urlencode(asked, errors="replace")}


def powers(run: RunFiles, suite: str) -> list[Json]:
    """Of each primary metric of the suite's pair: effect size, smallest detectable difference, spread of trainings."""
    pair = as_dict(as_dict(run.suite(suite).get("pairs")).get(run.pair(suite)))
    found = []
    for name, facts in run.metrics.items():
        entry = as_dict(pair.get(name))
        if facts["primary"] and entry:
            spread = as_dict(entry.get("seeds"))
            found.append(
                {
                    "label": one_line(facts["label"], 40),
                    "n": int(number(entry.get("n")) or 0),
                    "effect": effect(entry.get("effect")),
                    "detectable": numbers.mean(entry.get("detectable"), facts["scale"]),
                    "trainings": [numbers.signed(value, facts["scale"]) for value in as_list(spread.get("values"))],
                    "sd": numbers.mean(spread.get("sd"), facts["scale"]),
                }
            )
    return found


def powers_line(run: RunFiles, suite: str) -> str:
    """The same as one line of text for the exports; empty without a pair."""
    said = [f"{row['label']} {row['detectable']} (effect size {row['effect']})" for row in powers(run, suite)]
    return f"Smallest difference found with 80 % power: {'; '.join(said)}." if said else ""


def effect(value: object) -> str:
    """An effect size with its name: "dz 0.62" (Cohen's, paired) or "g 0.45" (Cohen's, of flips)."""
    facts = as_dict(value)
    found = number(facts.get("value"))
    if found is None:
        return "–"
    name = _EFFECTS.get(str(facts.get("name")), one_line(facts.get("name") or "", 20))
    return f"{name} {found:.2f}".replace("-", numbers.MINUS).strip()


def votes(run: RunFiles) -> list[Json]:
    """What people said, by pair: win rate of the second model and each metric's agreement with the votes."""
    found = []
    for pair, given in as_dict(run.agreement.get("pairs")).items():
        first, _, second = pair.partition(":")
        facts = as_dict(given)
        metrics = as_dict(facts.get("metrics"))
        rows = [
            {
                "label": run.metrics[name]["label"],
                "primary": run.metrics[name]["primary"],
                "agreement": numbers.mean(as_dict(metrics[name]).get("agreement"), "share"),
                "interval": numbers.interval(as_dict(metrics[name]), "share"),
                "n": int(number(as_dict(metrics[name]).get("n")) or 0),
                "silent": int(number(as_dict(metrics[name]).get("silent")) or 0),
                "way": _beyond_half(as_dict(metrics[name])),
            }
            for name in run.metrics
            if name in metrics
        ]
        found.append(
            {
                "first": one_line(first, 40),
                "second": one_line(second, 40),
                **{key: int(number(facts.get(key)) or 0) for key in ("votes", "decided", "ties", "both_bad", "voters")},
                "rate": numbers.mean(facts.get("win_rate"), "share"),
                "interval": numbers.interval(facts, "share"),
                "way": _beyond_half(facts),
                "rows": rows,
            }
        )
    return found


def _beyond_half(facts: Json) -> str:
    """Which side of a coin's toss the interval of a share lies on, as `numbers.direction` says it."""
    low, high = number(facts.get("low")), number(facts.get("high"))
    return numbers.direction({"low": None if low is None else low - 0.5, "high": None if high is None else high - 0.5})


def votes_line(vote: Json) -> str:
    """One pair's votes in a sentence."""
    people = f"{vote['voters']} voter{'' if vote['voters'] == 1 else 's'}"
    aside = f"{vote['ties']} tie{'' if vote['ties'] == 1 else 's'}, {vote['both_bad']} both bad, {people}"
    if not vote["decided"]:
        return f"People did not decide between {vote['second']} and {vote['first']}: {aside}."
    rate = f"{vote['rate']} % of {vote['decided']} decided votes (95 % interval {vote['interval']})"
    return f"People chose {vote['second']} over {vote['first']} in {rate}; {aside}."
