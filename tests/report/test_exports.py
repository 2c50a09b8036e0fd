from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UsageError
from harness.report import export
from tests.report.synthetic import make_run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("reports") / "run", tasks=24, pictures=False)


def test_csv_and_parquet_hold_every_row_and_load_with_datasets(run: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    table, parquet = export(run, ["csv", "parquet"], tmp_path)
    rows = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    loaded = load_dataset("parquet", data_files=str(parquet), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(loaded) == len(rows)
    for row, read in zip(rows, loaded, strict=True):
        assert (read["task"], read["model"], read["completion"]) == (row["task"], row["model"], row["completion"])
        assert {name: read[f"score_{name}"] for name in row["scores"]} == row["scores"]
    with table.open(encoding="utf-8", newline="") as file:
        cells = list(csv.DictReader(file))
    assert [cell["completion"] for cell in cells] == [row["completion"] for row in rows]
    empty = [cell["score_accessible"] == "" for cell in cells]
    assert empty == [row["scores"]["accessible"] is None for row in rows] and any(empty)


def test_tables_hold_the_summary_numbers(run: Path, tmp_path: Path) -> None:
    tex, text = (path.read_text() for path in export(run, ["latex", "markdown"], tmp_path))
    suite = json.loads((run / "summary.json").read_text())["suites"]["html_starter"]
    for metric, scale in (("bleu_dom", 1), ("conforming", 100)):
        mean = f"{suite['metrics'][metric]['tuned']['mean'] * scale:.1f}"
        difference = f"{suite['pairs']['base:tuned'][metric]['difference'] * scale:+.1f}"
        assert f"${mean} [" in tex and f"${difference} [" in tex
        assert f"| {mean} (" in text and difference in text
    assert tex.count(r"\begin{tabular}") == tex.count(r"\end{tabular}") == 1


def test_model_card_is_read_by_the_hub_library(run: Path, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    (path,) = export(run, ["model-card"], tmp_path)
    data: Any = ModelCard(path.read_text()).data
    results = data.eval_results
    values = {result.metric_type: result.metric_value for result in results}
    suite = json.loads((run / "summary.json").read_text())["suites"]["html_starter"]
    assert values["bleu_dom"] == pytest.approx(suite["metrics"]["bleu_dom"]["tuned"]["mean"], abs=1e-3)
    assert values["conforming"] == pytest.approx(100 * suite["metrics"]["conforming"]["tuned"]["mean"], abs=1e-3)


def test_pass_at_k_is_in_the_tables_and_on_the_card(tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    run = make_run(tmp_path / "several", tasks=12, pictures=False, models=("base", "tuned"), samples=4)
    tex, text, card = export(run, ["latex", "markdown", "model-card"], tmp_path / "out")
    shares = json.loads((run / "summary.json").read_text())["suites"]["html_starter"]["metrics"]["conforming"]
    found = [f"{100 * shares[model]['pass_at'][k]:.1f}" for model in ("base", "tuned") for k in "124"]
    assert f"| **Conforming \\(Nu\\)** | {' | '.join(found)} |" in text.read_text()
    assert "Conforming (Nu)* & " + " & ".join(f"${value}$" for value in found) in tex.read_text()
    assert r"\multicolumn{3}{c}{base} & \multicolumn{3}{c}{tuned}" in tex.read_text()
    results = {one.metric_type: one.metric_value for one in ModelCard(card.read_text()).data.eval_results}
    assert results["conforming_pass_at_4"] == pytest.approx(100 * shares["tuned"]["pass_at"]["4"], abs=1e-3)


def test_an_unknown_format_says_what_to_type(run: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'parquet'"):
        export(run, ["parket"])


def test_the_schema_describes_the_summary(run: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed: pip install jsonschema")
    schema = json.loads((ROOT / "docs/summary.schema.json").read_text())
    check = jsonschema.Draft202012Validator(schema)
    jsonschema.Draft202012Validator.check_schema(schema)
    summary = json.loads((run / "summary.json").read_text())
    assert [error.message for error in check.iter_errors(summary)] == []
    del summary["suites"]["html_starter"]["metrics"]["bleu_dom"]["tuned"]["low"]
    summary["suites"]["html_starter"]["pairs"]["base:tuned"]["bleu"]["p"] = 2
    assert len(list(check.iter_errors(summary))) == 2
