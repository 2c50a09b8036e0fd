from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from harness.pipeline.results import write_answer, write_rows
from harness.runs.folder import RunFolder
from harness.runs.read import load_run
from tests.compare.compare_data import make_rows
from tests.compare.conftest import write_run as write_run


def test_votes_of_before_stand_in_the_page_of_a_run_that_is_measured_again(write_run: Callable[..., Path]) -> None:
    run = load_run(write_run("r", make_rows(4)))
    vote = {"voter": "ann", "suite": "starter", "task": run.rows[0].task, "left": "base", "right": "tuned"}
    (run.path / "votes.jsonl").write_text(json.dumps(vote | {"chosen": "tuned"}) + "\n", "utf-8")
    tasks = list(run.tasks.values())
    with RunFolder("r", run.path.parent) as folder:
        write_answer(folder, run.manifest, tasks, write_rows(folder, run.manifest, tasks, run.rows))
    assert "People chose tuned over base in 100.0 % of 1 decided votes" in (run.path / "index.html").read_text("utf-8")
    assert json.loads((run.path / "agreement.json").read_text("utf-8"))["pairs"]["base:tuned"]["decided"] == 1
