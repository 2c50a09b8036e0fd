"""Models write lone surrogates: what they wrote is kept as it is, by every type of a run's folder."""

from __future__ import annotations

import json
from pathlib import Path

from harness.runs.read import load_run
from harness.runs.samples import SampleRecord, TaskRecord
from tests.report.synthetic import make_run

LONE = "a\ud800b"


def test_a_record_keeps_them_in_every_text() -> None:
    content = {
        "schema": 2, "suite": "s", "task": LONE, "model": LONE, "sample": 0, "completion": LONE, "page": LONE,
        "scores": {LONE: 1.0}, "notes": {LONE: LONE}, "render": {"detail": LONE, "accessibility": [{LONE: [LONE]}]},
        "messages": [{"source": LONE, "text": LONE}], "checks": [{"why": LONE, "level": "must", "passed": True}],
    }  # fmt: skip
    record = SampleRecord.model_validate(content)
    again = json.loads(json.dumps(record.as_json()))
    assert {key: again[key] for key in content if key not in ("render", "messages", "checks")} == {
        key: value for key, value in content.items() if key not in ("render", "messages", "checks")
    }
    assert again["messages"][0]["text"] == again["checks"][0]["why"] == LONE
    assert again["render"]["accessibility"] == [{LONE: [LONE]}]
    assert SampleRecord.model_validate(again) == record
    assert TaskRecord(suite="s", task=LONE, prompt=LONE).as_json()["prompt"] == LONE


def test_a_run_with_them_is_read(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", tasks=3, pictures=False, models=("base", "tuned"))
    rows = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    for row in rows:
        row["completion"] = row["page"] = LONE
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert {record.completion for record in load_run(folder).rows} == {LONE}
