from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.checks.parse import parse_check
from harness.pipeline.config import MeasuredSuite, RunConfig, resolve
from harness.pipeline.suite_records import task_records
from harness.runs.schema import JsonObject


def test_a_tasks_checks_are_told_apart_by_what_they_ask(tiny_workplace: Path) -> None:
    (part,) = resolve(RunConfig(profile="tiny", models=("base",))).measured
    task = part.tasks[0]

    def sha(*checks: JsonObject) -> str | None:
        asked = replace(task, checks=tuple(parse_check(check) for check in checks))
        return next(task_records([MeasuredSuite(part.suite, (asked,))])).checks_sha

    see: JsonObject = {"why": "a title", "level": "must", "see": {"role": "heading"}}
    one = sha(see)
    assert one
    assert sha(see | {"why": "otherwise said"}) == sha(see, see | {"level": "should"}) == one
    assert sha() is sha(see | {"level": "should"}) is None
    others = [see | {"see": {"role": "link"}}, see | {"steps": [{"see": {"role": "heading"}}]}]
    del others[1]["see"]
    assert len({one, sha(see, see), *map(sha, others)}) == 4
