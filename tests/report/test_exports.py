from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.report import export
from harness.safe_text import markdown, spreadsheet
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
    with table.open(encoding="utf-8-sig", newline="") as file:
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
    assert tex.count(r"\begin{tabular}") == tex.count(r"\end{tabular}") == 2
    assert tex.count(r"\begin{table}") == 1


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
    assert "{Conforming (Nu)*} & " + " & ".join(f"${value}$" for value in found) in tex.read_text()
    assert r"\multicolumn{3}{c}{base} & \multicolumn{3}{c}{tuned}" in tex.read_text()
    results = {one.metric_type: one.metric_value for one in ModelCard(card.read_text()).data.eval_results}
    assert results["conforming_pass_at_4"] == pytest.approx(100 * shares["tuned"]["pass_at"]["4"], abs=1e-3)


def test_a_model_of_several_trainings_has_a_card(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    entry = manifest["models"].pop("tuned")
    manifest["models"] |= {f"tuned#seed{seed}": {**entry, "family": "tuned"} for seed in range(2)}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    (card,) = export(copy, ["model-card"], tmp_path / "out")
    (one,) = export(run, ["model-card"], tmp_path / "one")
    assert card.read_text() == one.read_text()


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


QUOTED = 'He said "no" *now* [1] \\ {x} 50% $5 #7 ^~ <b> & _a_ — “so” é ö ß דוגמה 页面 🎉 Ω ą ”'


@pytest.fixture(scope="module")
def awkward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight models and a suite with every sign that commands something in LaTeX, and letters that it lacks."""
    models = ("base", "tuned", 'the "best"', "*star", "[bracket]", "דוגמה", "a_b^c", "1.5")
    run = make_run(tmp_path_factory.mktemp("awkward") / "run", tasks=6, pictures=False, models=models, samples=2)
    manifest = json.loads((run / "manifest.json").read_text())
    for suite in manifest["suites"].values():
        suite["title"] = QUOTED
    for number, facts in enumerate(manifest["scorers"].values()):
        facts["label"] = ["[optional]", "*", '"quoted"', "דוגמה", "``''"][number % 5]
    (run / "manifest.json").write_text(json.dumps(manifest))
    return run


@pytest.mark.parametrize("engine", ["pdflatex", "xelatex", "lualatex", "tectonic"])
@pytest.mark.parametrize("encoding", ["", r"\usepackage[T1]{fontenc}"])
def test_latex_compiles_and_no_table_is_wider_than_the_text(
    awkward: Path, tmp_path: Path, engine: str, encoding: str
) -> None:
    if shutil.which(engine) is None:
        pytest.skip(f"there is no {engine}")
    export(awkward, ["latex"], tmp_path)
    packages = rf"\usepackage{{booktabs}}\usepackage{{graphicx}}{encoding}"
    listed = r"\documentclass{article}" + packages + r"\begin{document}\sloppy\listoftables\input{tables}\end{document}"
    (tmp_path / "paper.tex").write_text(listed)
    command = [engine, *(["-interaction=nonstopmode", "-halt-on-error"] if engine != "tectonic" else []), "paper.tex"]
    for _ in range(2):  # the list of tables is read the second time
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
        assert done.returncode == 0, done.stdout[-1500:]
    assert "Overfull" not in done.stdout
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000


def test_latex_has_no_line_that_is_taken_for_an_option(awkward: Path, tmp_path: Path) -> None:
    """Where there is no LaTeX to try: what stops it is a star or a bracket that begins a row, and bare letters."""
    (table,) = export(awkward, ["latex"], tmp_path)
    text = table.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) > 30 and not [line for line in rows if line.lstrip()[0] in "*["]
    assert r"\char34{}best\char34{}" in text and r"\harnesschar{ד}{05D3}" in text
    assert r"\textquotedbl" not in text
    assert max(line.count("&") for line in rows) <= 2 * 4  # four models beside each other, pass@1 and pass@2 of each


CELLS = {
    "=cmd|' /C calc'!A0": "'=cmd|' /C calc'!A0",
    "  =1+1": "'  =1+1",
    "\uff1d1+1": "'\uff1d1+1",
    "@SUM(1)": "'@SUM(1)",
    "\t=1": "'\t=1",
    "a\x00b\x1b[0m\ud800": "a\ufffdb\ufffd[0m\ufffd",
    "<p>3 - 2</p>\n": "<p>3 - 2</p>\n",
}


@pytest.mark.parametrize("text", CELLS)
def test_a_cell_is_the_text_it_is(text: str) -> None:
    assert spreadsheet(text) == CELLS[text]


@given(st.text(alphabet=st.characters(), max_size=60), st.sampled_from([1, 400, 5_000]))
def test_every_cell_fits_into_excel_and_none_is_a_formula(text: str, times: int) -> None:
    cell = str(spreadsheet(text * times))
    assert len(cell.encode("utf-16-le")) // 2 <= 32_767
    assert "\x00" not in cell and cell[:1] not in (*"=+-@\t\r\n", "\uff1d", "\uff0b")
    assert len(cell) >= min(len(text * times), 16_000)
    if "[cut here: " in cell and "[cut here: " not in text:
        assert f"[cut here: {len(text * times)} characters" in cell


def test_the_csv_opens_in_a_spreadsheet(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", tasks=3, pictures=False, models=("base", "tuned"))
    rows = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    rows[0] |= {"completion": "=1+1", "page": "é\x00" + "x" * 50_000}
    (run / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (table,) = export(run, ["csv"], tmp_path)
    assert table.read_bytes().startswith(b"\xef\xbb\xbfsuite,task,model,sample,")
    with table.open(encoding="utf-8-sig", newline="") as file:
        first = next(csv.DictReader(file))
    assert first["completion"] == "'=1+1"
    assert first["page"].startswith("é\ufffdx") and len(first["page"]) == 32_767
    assert first["page"].endswith("[cut here: 50002 characters, whole in samples.jsonl and in the Parquet export]")


LINKED = (
    "@octocat and @my-org/team, mail a@b.example, #12, my/repo#12, my/repo@0a1b2c3, GH-12, gh-12, ABC-123, "
    "https://x.example/a www.x.example ftp://y.example github.com/a/b 0a1b2c3d4e5f "
    "0123456789abcdef0123456789abcdef01234567 !12 %12 $12 &12 ~bug ^9 :tada: [a](b) <!-- x --> <b> `c` | *d* ![i](j)"
)


def test_markdown_mentions_nobody_and_links_nothing() -> None:
    """By the text that is left when the Markdown is resolved, as a forge looks at it, and by a parser that links."""
    from markdown_it import MarkdownIt

    text = markdown(LINKED)
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(f"| {text} |\n| --- |\n| {text} |")
    inline = [token for token in tokens if token.type == "inline"]
    assert len(inline) == 2
    for token in inline:
        assert {child.type for child in token.children or []} == {"text"}
        seen = token.content and "".join(child.content for child in token.children or [])
        assert seen.replace("\u200b", "") == LINKED
        for linked in (
            r"@[\w]",
            r"#\d",
            r"(?i)\b[a-z]+-\d",
            r"\b[0-9a-f]{7,40}\b",
            r"(?i)\b(https?|ftp)://",
            r"\bwww\.",
            r"\w\.[a-z]",
            r"[!%$&^~]\w",
            r":\w+:",
        ):
            assert re.search(linked, seen) is None, (linked, re.search(linked, seen))


def test_exports_leave_files_of_somebodys_own(run: Path, tmp_path: Path) -> None:
    names = {
        "csv": "samples.csv",
        "parquet": "samples.parquet",
        "latex": "tables.tex",
        "markdown": "tables.md",
        "model-card": "model-card.md",
    }
    for format, name in names.items():
        (tmp_path / name).write_text("somebody's")
        with pytest.raises(UsageError, match=f"{name} is there already and is not the harness' own"):
            export(
                run, ["csv", "parquet", "latex", "markdown", "model-card"][: list(names).index(format) + 1], tmp_path
            )
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "somebody's"}
        (tmp_path / name).unlink()
    first = export(run, list(names), tmp_path)
    assert export(run, list(names), tmp_path) == first


def test_an_unfinished_run_says_so_in_every_table(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", tasks=3, pictures=False, models=("base", "tuned"))
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(manifest | {"finished": None}))
    for path in export(run, ["latex", "markdown"], tmp_path):
        assert "This run is not finished" in path.read_text(encoding="utf-8")
