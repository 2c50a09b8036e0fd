from __future__ import annotations

import subprocess
import sys

import pytest

from harness.errors import UsageError
from harness.metrics import registry
from harness.metrics.extract import extract
from harness.metrics.metric import Evidence, Metric
from harness.types import Score, Task

ORDER = [
    "extracted",
    "parses",
    "well_formed",
    "conforming",
    "lxml_clean",
    "doctype",
    "titled",
    "closed",
    "bleu",
    "bleu_dom",
    "chrf",
    "tree_bleu_f1",
    "text_similarity",
    "tag_similarity",
    "visual_similarity",
    "renders",
    "accessible",
    "overflow_free",
    "checks_must",
    "checks_all",
]


def test_metrics_stand_in_the_order_of_tables() -> None:
    assert [m.name for m in registry.METRICS] == ORDER
    assert [m.name for m in registry.METRICS if m.primary] == ["conforming", "bleu_dom", "checks_must"]


def test_the_manifest_says_all_of_each_metric() -> None:
    manifest = registry.scorer_manifest()
    assert list(manifest) == ORDER
    keys = {"version", "label", "kind", "scale", "primary", "description", "corpus"}
    assert all(set(entry) == keys for entry in manifest.values())
    assert manifest["bleu"]["corpus"] is True


def test_a_misspelt_metric_is_told_the_right_name() -> None:
    with pytest.raises(UsageError, match="well_formed"):
        registry.metric("wellformed")


def test_a_failing_metric_is_a_named_null_and_costs_no_other_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(evidence: Evidence) -> Score:
        raise ZeroDivisionError("by design")

    broken = Metric("broken", "Broken", "form", "binary", fail, "fails")
    monkeypatch.setattr(registry, "METRICS", (broken, *registry.METRICS))
    scores = registry.score_page(Evidence(Task("t", "p"), "<p>x", extract("<p>x")))
    assert scores["broken"] == Score(None, "the metric failed: ZeroDivisionError: by design")
    assert scores["parses"].value == 1


def test_tool_versions_name_what_decides_a_score() -> None:
    versions = registry.tool_versions()
    assert {"lxml", "libxml2", "html5lib", "turbohtml", "nu", "sacrebleu_signature"} <= set(versions)
    assert versions["lxml"]


def test_importing_the_scorers_stays_cheap() -> None:
    heavy = "{'torch', 'transformers', 'evaluate', 'datasets', 'scipy', 'skimage', 'playwright'}"
    code = f"import sys, harness.metrics.registry; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
