"""What several answers to each task are worth: pass@k, as the comparison computed it. No statistics."""

from __future__ import annotations

from harness.report import numbers
from harness.report.view import suite_models
from harness.runs.read import Json, RunFiles, as_dict
from harness.safe_text import one_line


def pass_at(run: RunFiles, suite: str) -> Json:
    """The chance that one of k answers passes, in percent: `{ks, models, rows: [{name, label, primary, cells}]}`.

    `ks` are the numbers of answers drawn, ascending; `cells` holds one list a model, one text a k, an en dash where
    fewer answers were measured. Empty where every task was answered once.
    """
    metrics = as_dict(run.suite(suite).get("metrics"))
    found = {
        (name, model): shares
        for name in run.metrics
        for model, estimate in as_dict(metrics.get(name)).items()
        if (shares := as_dict(as_dict(estimate).get("pass_at")))
    }
    if not found:
        return {}
    # Where an answer was not measured, a metric ends at an odd k of its own: the columns are those of the most answers.
    ks = max((sorted(int(k) for k in shares if k.isdecimal()) for shares in found.values()), key=lambda one: one[-1:])
    models = [model for model in suite_models(run, suite) if any(model == one for _, one in found)]
    return {
        "ks": ks,
        "models": models,
        "rows": [
            {
                "name": name,
                "label": one_line(facts["label"], 40),
                "primary": facts["primary"],
                "cells": [
                    [numbers.mean(found.get((name, model), {}).get(str(k)), facts["scale"]) for k in ks]
                    for model in models
                ],
            }
            for name, facts in run.metrics.items()
            if any(name == one for one, _ in found)
        ],
    }
