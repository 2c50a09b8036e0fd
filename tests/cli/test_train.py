"""`train` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from harness.errors import HarnessError
from harness.render.browser import find_browser
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


@pytest.mark.slow
def test_a_merged_model_is_measured_again_and_the_card_is_filled(
    own_cache: Path, tiny_workplace: Path, command_line: CommandLine
) -> None:
    try:
        find_browser()
    except HarnessError as error:
        pytest.skip(str(error))
    code, said, complaint = command_line(
        "train", "--profile", "tiny", "--quantization", "nf4", "--merge", "whole", "--out", "kept"
    )
    assert code == 0, complaint
    words = " ".join(said.split())
    assert "answers are those of base and adapter, to the letter" in words
    assert "bleu_dom:" in words
    record = json.loads((tiny_workplace / "whole" / "merged.json").read_text())
    assert (record["quantization"], record["dtype"], record["answers"]) == ("nf4", "bfloat16", 6)
    moved = record["moved"]["small"]["bleu_dom"]
    assert moved["low"] <= moved["difference"] <= moved["high"]
    manifest = json.loads((tiny_workplace / "reports" / record["run"] / "manifest.json").read_text())
    assert manifest["models"]["tuned"]["quantization"] == "nf4"
    assert manifest["models"]["whole"]["quantization"] == "none"
    assert json.loads((tiny_workplace / "whole" / "config.json").read_text()).get("quantization_config") is None
    command_line("train", "--profile", "tiny", "--quantization", "nf4", "--out", "again")
    card = ModelCard.load(tiny_workplace / "again" / "README.md")
    assert {found.dataset_type for found in card.data.eval_results} == {"small"}
    assert {"bleu_dom", "well_formed"} <= {found.metric_type for found in card.data.eval_results}

    (tiny_workplace / "taken").mkdir()
    (tiny_workplace / "taken" / "letter.txt").write_text("mine")
    code, _, complaint = command_line("train", "--profile", "tiny", "--quantization", "nf4", "--merge", "taken")
    assert code == 2
    assert "taken holds letter.txt, which the harness did not put there" in complaint
    assert (tiny_workplace / "taken" / "letter.txt").read_text() == "mine"
