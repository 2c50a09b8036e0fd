"""`train` from the command line."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import CommandLine


def test_train_says_what_is_wrong_in_the_rows_and_where_the_adapter_lies(
    own_cache: Path, tiny_workplace: Path, command_line: CommandLine
) -> None:
    rows = tiny_workplace / "tasks" / "small" / "train.yaml"
    rows.write_text(rows.read_text() + "- {id: mute, category: odd, prompt: Say nothing about ships., reference: ''}\n")
    code, said, _ = command_line("train", "--profile", "tiny", "--out", "kept")
    assert code == 0
    words = " ".join(said.split())
    assert "1 training rows without an answer, left out: mute" in words
    assert "8 rows, 4 steps, loss" in words
    assert "adapter: kept" in words
    assert (tiny_workplace / "kept" / "adapter_model.safetensors").is_file()


def test_a_model_that_is_not_trained_is_refused(tiny_workplace: Path, command_line: CommandLine) -> None:
    code, _, complaint = command_line("train", "base", "--profile", "tiny")
    assert code == 2
    assert "'base' is not trained" in complaint
