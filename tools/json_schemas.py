"""Writes docs/*.schema.json from the types of a run's files.

Usage: python tools/json_schemas.py [FOLDER]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from harness.runs.record import Record  # noqa: E402

Record.model_config["use_attribute_docstrings"] = True  # reads the source of each type: time that only schemas need

from harness.runs.manifest import Manifest  # noqa: E402
from harness.runs.samples import SampleRecord, TaskRecord  # noqa: E402
from harness.runs.summary import Summary  # noqa: E402
from harness.runs.votes import Agreement, Vote  # noqa: E402

FILES: dict[str, tuple[type[Record], str]] = {
    "manifest": (Manifest, "manifest.json"),
    "sample": (SampleRecord, "a line of samples.jsonl and of journal.jsonl"),
    "task": (TaskRecord, "a line of tasks.jsonl"),
    "summary": (Summary, "summary.json"),
    "vote": (Vote, "a line of votes.jsonl"),
    "agreement": (Agreement, "agreement.json"),
}


def write_schemas(folder: Path) -> None:
    """Write a JSON schema for each file of a run."""
    for name, (record, title) in FILES.items():
        schema = record.model_json_schema() | {"title": title}
        content = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
        (folder / f"{name}.schema.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs")
