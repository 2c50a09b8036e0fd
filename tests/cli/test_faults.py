"""A user's mistake is one line on stderr with exit code 1 or 2, and never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.render.browser import find_browser
from tests.conftest import ROOT, CommandLine

TINY = ("--profile", "tiny")


def one_line(error: str) -> str:
    """What was said on stderr, which must be one line."""
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error
    return error.removeprefix("error: ").rstrip("\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--suites", "html_startr"], "there is no suite 'html_startr' (did you mean 'html_starter'?)"),
        (["--models", "base,tunde"], "profile tiny has no model 'tunde' (did you mean 'tuned'?)"),
        (["--models", "reference,empty"], "--models names only controls (name at least one model, such as base)"),
        (["--models", " , "], "--models is empty (name at least one, separated by commas)"),
        (["--profile", "tinny"], "there is no profile 'tinny' (did you mean 'tiny'?)"),
        (
            ["--quantization", "nf5"],
            "Invalid value for '--quantization': 'nf5' is not one of 'none', 'nf4'. (see harness run --help)",
        ),
        (["--data", "small"], "--data small is not SUITE=FILE (for example --data html_alpaca=rows.jsonl)"),
        (["--data", "small=rows.jsnol"], "there is no data file rows.jsnol (did you mean 'rows.jsonl'?)"),
        (["--data", "smal=rows.jsonl"], "there is no suite 'smal' (did you mean 'small'?)"),
        (
            ["--data", "html_starter=rows.jsonl"],
            "--data html_starter=rows.jsonl: the suite 'html_starter' is not used here (in use: small)",
        ),
        (["--data", "small=empty.jsonl"], "empty.jsonl holds no rows (a data file needs at least one row)"),
        (
            ["--data", "small=text.txt"],
            "text.txt is of no known format "
            "(use .yaml, .yml, .json, .jsonl, .ndjson, .csv, .tsv, .parquet, .arrow, .feather, or a folder of pairs)",
        ),
        (["--limit", "1"], "--limit must be at least 2 (a comparison needs more than one task)"),
        (["--temperature", "inf"], "--temperature inf is no temperature (0 is greedy; try 0.7)"),
        (["--samples", "2"], "--samples needs --temperature above 0 (greedy samples would all be equal: try 0.7)"),
        (["--name", "../x"], "'../x' cannot be the name of a run (use letters, digits, '.', '_' and '-')"),
    ],
)
def test_wrong_words(command_line: CommandLine, tiny_workplace: Path, arguments: list[str], said: str) -> None:
    (tiny_workplace / "rows.jsonl").write_text('{"prompt": "a", "reference": "b"}\n')
    (tiny_workplace / "empty.jsonl").write_text("\n")
    (tiny_workplace / "text.txt").write_text("x")
    profile = () if "--profile" in arguments else TINY
    code, _, error = command_line("run", *profile, *arguments)
    assert one_line(error) == said
    assert code == 2
    assert not (tiny_workplace / "reports").exists()


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("tasks/small/suite.yaml", "title: [\n", "tasks/small/suite.yaml, line 2 is not valid YAML"),
        ("tasks/small/held_out.yaml", "- prompt: a: b\n", "tasks/small/held_out.yaml, line 1 is not valid YAML"),
        ("tasks/small/held_out.yaml", "", "tasks/small/held_out.yaml holds no rows"),
        ("tasks/small/train.yaml", "- prompt: a\n", "tasks/small/train.yaml, task 1: there is no column 'reference'"),
        (
            "baselines/tiny/tuned.yaml",
            "train: {sft: {learning_rat: 1}}\n",
            "train.sft has no field 'learning_rat' (did you",
        ),
        (
            "baselines/tiny/tuned.yaml",
            "train: {lora: {lora_alhpa: 1}}\n",
            "train.lora has no field 'lora_alhpa' (did you",
        ),
        (
            "baselines/tiny/tuned.yaml",
            "trian: {}\n",
            "baselines/tiny/tuned.yaml: there is no key 'trian' (did you mean",
        ),
    ],
)
def test_wrong_files(command_line: CommandLine, tiny_workplace: Path, file: str, text: str, said: str) -> None:
    (tiny_workplace / file).write_text(text)
    code, _, error = command_line("run", *TINY)
    assert said in one_line(error)
    assert code == 2


def test_a_missing_column_of_real_data_names_what_there_is(command_line: CommandLine, tiny_workplace: Path) -> None:
    (tiny_workplace / "rows.jsonl").write_text(json.dumps({"question": "a", "output": "b"}) + "\n")
    code, _, error = command_line("run", *TINY, "--suites", "html_alpaca", "--data", "html_alpaca=rows.jsonl")
    assert one_line(error) == (
        "rows.jsonl, line 1: there is no column 'instruction' "
        "(it has question, output; name the columns under `columns:` in suite.yaml)"
    )
    assert code == 2


def test_no_browser(command_line: CommandLine, tiny_workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_BROWSER", "no-such-browser")
    find_browser.cache_clear()
    try:
        code, _, error = command_line("run", *TINY)
    finally:
        find_browser.cache_clear()
    assert one_line(error).startswith("HARNESS_BROWSER=no-such-browser is no program (install one with")
    assert code == 1


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A hub that nobody can reach, and no cache of it."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def test_no_hub_for_weights(command_line: CommandLine, workplace: Path, no_hub: None, tmp_path: Path) -> None:
    rows = [
        {"instruction": f"Page about {word}", "output": f"<p>{word}"} for word in ("bread", "rain", "chess", "salt")
    ]
    (workplace / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, _, error = command_line("run", "--profile", "llama-2-7b", "--data", "html_alpaca=rows.jsonl")
    said = one_line(error)
    assert said.startswith("the weights TinyPixel/Llama-2-7B-bf16-sharded could not be loaded from the hub: ")
    assert "use `--profile smollm2-135m`, or `--weights FOLDER` with weights on disk" in said
    assert code == 1


def outside(*arguments: str, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, as a user starts it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **more}
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_no_hub_for_a_suite(workplace: Path, tmp_path: Path) -> None:
    more = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    done = outside("run", "--profile", "smollm2-135m", "--suites", "html_alpaca", folder=workplace, **more)
    said = one_line(done.stderr)
    assert said.startswith("the data set ttbui/html_alpaca could not be loaded from the hub: ")
    assert said.endswith("(with a copy on disk: --data html_alpaca=FILE (JSONL, JSON, CSV or Parquet))")
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["generate", " "], "the prompt is empty"),
        (["generate", "A page", "--profile", "tiny", "--input", "none.html"], "there is no file none.html"),
        (
            ["generate", "A page", "--profile", "tiny", "--model", "base", "--data", "small=tasks/small/train.yaml"],
            "the suite 'small' is not used here (leave --data out)",
        ),
        (["generate", "A page", "--profile", "tiny", "--model", "bse"], "has no model 'bse' (did you mean 'base'?)"),
    ],
)
def test_generate_refuses_what_means_nothing(
    command_line: CommandLine, tiny_workplace: Path, arguments: list[str], said: str
) -> None:
    code, out, error = command_line(*arguments)
    assert said in error.splitlines()[-1]
    assert "Traceback" not in error
    assert (code, out) == (2, "")


@pytest.mark.parametrize("arguments", [["score", "small", "x.jsonl"], ["suites", "check", "small"], ["train"]])
def test_data_of_a_suite_that_is_not_used_are_refused(
    command_line: CommandLine, tiny_workplace: Path, arguments: list[str]
) -> None:
    (tiny_workplace / "x.jsonl").write_text("{}\n")
    profile = TINY if arguments == ["train"] else ()
    code, _, error = command_line(*arguments, *profile, "--data", "html_alpaca=x.jsonl")
    assert one_line(error) == ("--data html_alpaca=x.jsonl: the suite 'html_alpaca' is not used here (in use: small)")
    assert code == 2


def test_a_model_that_writes_no_page_is_told(command_line: CommandLine, tiny_workplace: Path) -> None:
    code, out, error = command_line("generate", "A page", "--profile", "tiny", "--model", "base")
    assert error.splitlines()[-1].startswith("error: the model wrote no page: ")
    assert (code, out) == (1, "")


def test_suites_are_listed_without_a_hub(command_line: CommandLine, tiny_workplace: Path, no_hub: None) -> None:
    code, out, _ = command_line("suites", "list")
    assert code == 0
    assert "html_alpaca" in out
    line = next(line for line in out.splitlines() if line.startswith("small"))
    assert line.split()[-2:] == ["8", "6"]


@pytest.mark.parametrize("command", ["list", "check"])
def test_a_copy_without_suites_says_so_in_an_empty_folder(
    command: str, command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("harness.storage.builtin._PACKAGE", tmp_path / "harness")
    code, _, error = command_line("suites", command)
    assert one_line(error) == "there are no suites (`html-harness suites new NAME` makes one)"
    assert code == 1


def test_a_cache_that_cannot_be_written_is_one_line(
    command_line: CommandLine, tiny_workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tiny_workplace / "file").touch()
    monkeypatch.setenv("HARNESS_CACHE", str(tiny_workplace / "file"))
    code, _, error = command_line("generate", "x", "--profile", "tiny", "--model", "base")
    assert "HARNESS_CACHE" in error.splitlines()[-1]
    assert "Traceback" not in error
    assert code == 1
