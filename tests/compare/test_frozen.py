"""The scores that lie frozen in the repository can be compared with."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.compare.runs import compare_runs
from harness.runs.pairs import Pair
from harness.runs.read import load_run
from tests.conftest import ROOT

FROZEN = sorted((ROOT / "baselines" / "scores").glob("*.json"))


@pytest.mark.parametrize("path", FROZEN, ids=[path.stem for path in FROZEN])
def test_frozen_scores_are_read_and_compared(path: Path) -> None:
    run = load_run(path)
    assert {"base", "tuned"} <= set(run.families)
    result = compare_runs(run, "base", run, "tuned", replicates=499)
    for content in result.summary.suites.values():
        assert content.pairs[Pair("base", "tuned")]["bleu_dom"].n == content.tasks
    assert result.summary.verdict is not None and result.summary.verdict.word
    assert path.stat().st_size < 2_000_000
