from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from syrupy.assertion import SnapshotAssertion

from harness.errors import HarnessError, UsageError
from harness.report import print_report, write_report
from harness.safe_text import one_line
from tests.conftest import CommandLine
from tests.report.synthetic import make_run


def printed(run: Path, *, encoding: str = "utf-8", width: int = 80, color: bool = False) -> str:
    target = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    print_report(run, Console(file=target, width=width, no_color=not color, force_terminal=color))
    target.flush()
    return str(target.buffer.getvalue().decode(encoding))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("reports") / "run", tasks=60, pictures=False)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252", "cp437"])
def test_snapshot(run: Path, encoding: str, snapshot: SnapshotAssertion) -> None:
    (run / "index.html").unlink(missing_ok=True)  # other tests write the report
    text = printed(run, encoding=encoding)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert text == snapshot


def test_the_first_line_is_the_verdict(run: Path) -> None:
    sentence = json.loads((run / "summary.json").read_text())["verdict"]["sentence"]
    assert printed(run, width=400).splitlines()[0] == sentence


def test_colour_only_where_it_is_wanted(run: Path) -> None:
    assert "\x1b[" not in printed(run)
    assert "\x1b[" in printed(run, color=True)


def test_all_models_show_where_there_is_room(run: Path) -> None:
    text = printed(run, width=160)
    assert "reference" in text and "shuffled" in text and "more model" not in text


def test_a_run_that_is_only_begun(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"run": "begun", "models": {}}')
    said = printed(tmp_path).splitlines()
    assert said[0].startswith("This run is not finished, so what stands here is not its answer.")
    assert "No two models were compared" in "\n".join(said)


def test_an_unfinished_run_says_so_in_the_terminal_as_on_its_page(tmp_path: Path) -> None:
    run = make_run(tmp_path / "half", tasks=6, pictures=False)
    assert "not finished" not in printed(run) + write_report(run).read_text()
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(manifest | {"finished": None}))
    assert printed(run).startswith("This run is not finished")
    assert ">This run is not finished" in write_report(run).read_text()
    (run / "manifest.json").write_text(json.dumps(manifest))
    (run / "summary.json").unlink()  # killed while it compared
    assert printed(run).startswith("This run is not finished")
    assert ">This run is not finished" in write_report(run).read_text()


@pytest.mark.parametrize("width", [0, 1, 24, 40, 60, 69])
def test_a_narrow_terminal_keeps_every_name_and_number(run: Path, width: int) -> None:
    text = printed(run, width=width)
    assert all(len(line) <= max(width, 40) for line in text.splitlines())
    labels = [facts["label"] for facts in json.loads((run / "manifest.json").read_text())["scorers"].values()]
    assert len(labels) > 10
    lines = text.splitlines()
    for label in labels:
        place = next(number for number, line in enumerate(lines) if line.strip(" ★") == label)
        assert re.fullmatch(r" +[\d.]+ → [\d.]+  [+−][\d.]+ [▲▼●]", lines[place + 1])
        assert re.fullmatch(r" +\([+−][\d.]+ to [+−][\d.]+\)", lines[place + 2])


@pytest.mark.parametrize("columns", ["0", "-3", "", " ", "x", "40", "1"])
def test_a_terminal_of_no_columns_gets_an_answer(
    run: Path, columns: str, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.report.plots.forest", lambda *_, **__: "")  # most of what a page takes
    monkeypatch.setenv("COLUMNS", columns)
    code, said, error = command_line("report", str(run))
    assert (code, error) == (0, "")
    assert "tuned beats base" in " ".join(said.split()) and f"written to {run}" in said


def test_no_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no run"):
        printed(tmp_path)


def test_a_damaged_file_is_named_with_its_line(run: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "samples.jsonl").write_text(
        json.dumps({"suite": "s", "task": "t", "model": "m", "sample": 0, "scores": {}}) + '\n{"a"\n'
    )
    with pytest.raises(HarnessError, match=r"samples\.jsonl is damaged at line 2"):
        printed(tmp_path)


def test_one_line_keeps_words_and_drops_controls() -> None:
    assert one_line("a\x1b[31m\n b\u202e\u200bc") == "a[31m bc"
    assert one_line("abcdefgh", 6) == "abc..."


def test_several_answers_show_pass_at_k(tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    models = ("base", "tuned", "reference")
    run = make_run(tmp_path / "several", tasks=24, pictures=False, samples=4, models=models, seed=11)
    text = printed(run)
    assert all(len(line) <= 80 for line in text.splitlines())
    shares = json.loads((run / "summary.json").read_text())["suites"]["html_starter"]["metrics"]["conforming"]
    wanted = [f"{100 * shares[model]['pass_at'][k]:.1f}" for model in ("base", "tuned") for k in "124"]
    part = text[text.index("Chance that one of k") :]
    assert next(line for line in part.splitlines() if "Conforming" in line).split()[3:] == wanted
    assert part.partition("Where ")[0] == snapshot


@pytest.mark.parametrize("encoding", ["cp437", "cp1252"])
def test_the_command_prints_to_an_old_console(run: Path, encoding: str) -> None:
    """The real program with the encoding of a Windows console: no traceback, nothing that the code page lacks."""
    command = [sys.executable, "-m", "harness", "report", str(run)]
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run(command, capture_output=True, env=environment, cwd=run.parent.parent, timeout=120)
    assert done.returncode == 0 and done.stderr == b""
    text = done.stdout.decode(encoding)
    assert text.startswith("tuned beats base") and "+69.2" in text and "\x1b" not in text
    assert "index.html" in text
