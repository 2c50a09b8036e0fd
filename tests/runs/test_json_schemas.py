"""The schemas in docs/ are those of the types, and files that a run wrote long ago or today keep them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

NAMES = ("agreement", "manifest", "sample", "summary", "task", "vote")


def test_they_are_written_from_the_types(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "tools" / "json_schemas.py", tmp_path], check=True)
    written = {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()}
    there = {path.name: path.read_text("utf-8") for path in (ROOT / "docs").glob("*.schema.json")}
    assert written == there, "make schemas"
    assert sorted(written) == [f"{name}.schema.json" for name in NAMES]


@pytest.fixture
def check() -> Any:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed: pip install jsonschema")

    def errors(name: str, content: Any) -> list[str]:
        schema = json.loads((ROOT / "docs" / f"{name}.schema.json").read_text("utf-8"))
        jsonschema.Draft202012Validator.check_schema(schema)
        return [error.json_path for error in jsonschema.Draft202012Validator(schema).iter_errors(content)]

    return errors


def test_frozen_scores_keep_them(check: Any) -> None:
    from harness.runs.read import load_run

    run = load_run(ROOT / "baselines" / "scores" / "embedded.json")
    manifest = json.loads(json.dumps(run.manifest.as_json()))
    assert check("manifest", manifest) == []
    assert [check("sample", json.loads(json.dumps(row.as_json()))) for row in run.rows[:3]] == [[]] * 3
    manifest["scorers"]["bleu"]["scale"] = "grade"
    manifest["schema"] = 1
    assert check("manifest", manifest) == ["$.schema", "$.scorers.bleu.scale"]
