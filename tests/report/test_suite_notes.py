from __future__ import annotations

import json
from pathlib import Path

from harness.report import write_report
from harness.report.view import suite_notes
from harness.runs.read import read_run
from tests.report.synthetic import make_run

SHIFT = {
    "auc": 0.93,
    "low": 0.9,
    "high": 0.96,
    "told_apart": True,
    "differs_in": ["references are longer: median 1,340 characters against 260", "prompts say more often: <script>"],
}
REACH = {"max_new_tokens": 384, "out_of_reach": 88, "references": 136, "estimated": False}


def test_a_split_that_measures_transfer_and_references_out_of_reach_are_said_on_the_page(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", tasks=6, pictures=False)
    (suite,) = read_run(run).suites
    assert suite_notes(read_run(run), suite) == [], "runs of before say nothing"
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["suites"][suite] |= {"shift": SHIFT | {"told_apart": False}, "reach": REACH | {"out_of_reach": 0}}
    manifest["suites"][suite]["split"] = "default"
    (run / "manifest.json").write_text(json.dumps(manifest))
    assert suite_notes(read_run(run), suite) == []
    manifest["suites"][suite] |= {"shift": SHIFT, "reach": REACH, "split": "original", "known_rows": "6 other rows"}
    (run / "manifest.json").write_text(json.dumps(manifest))
    manifest["models"]["tuned"]["training"]["suite"] = "html_tables"
    (run / "manifest.json").write_text(json.dumps(manifest))
    page = write_report(run).read_text()
    assert f"tuned was trained on html_tables, measured on {suite}." in page
    assert "Split: original." in page
    assert "Rows: 6 other rows." in page
    assert "This measures transfer, not learning" in page
    assert "median 1,340 characters against 260; prompts say more often: &lt;script&gt;." in page
    assert "88 of 136 references are out of reach" in page
