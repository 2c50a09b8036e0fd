from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.compare.compare_data import SCORERS, Row, make_tasks


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[..., Path]:
    """Write a run's files and return its folder."""

    def write(name: str, rows: Sequence[Row], **manifest: Any) -> Path:
        folder = tmp_path / "reports" / name
        folder.mkdir(parents=True)
        content = {
            "schema": 1,
            "run": name,
            "started": f"2026-01-01T00:00:00+00:00 {name}",
            "scorers": SCORERS,
            "models": {row["model"]: {"kind": row["model"], "batch_size": 8} for row in rows},
            "suites": {row["suite"]: {"title": row["suite"], "leakage": {"flagged": []}} for row in rows},
            **manifest,
        }
        (folder / "manifest.json").write_text(json.dumps(content), "utf-8")
        (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        tasks = make_tasks(rows).values()
        (folder / "tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks), "utf-8")
        return folder

    return write
