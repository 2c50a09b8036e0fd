"""`accelerate launch -m harness train` with two processes on the CPU: the same learning, one adapter, one voice."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from harness.errors import UsageError
from harness.processes import refuse_many
from harness.train.batch_layout import BatchPlan
from tests.conftest import ROOT, CommandLine

SFT = {
    "num_train_epochs": 2,
    "save_steps": 1,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "learning_rate": 1e-2,
    "max_grad_norm": 0.5,
    "gradient_checkpointing": False,
}
STEPS = 4  # seven rows, four a step, two epochs: the last step of each has three rows and a blank one

SAYING_WHAT_HAPPENS = """\
import os, signal, sys
import torch
from trl import SFTTrainer
from harness.cli import main

step = SFTTrainer.training_step

def training_step(self, model, inputs, num_items_in_batch=None):
    if os.environ["RANK"] == "1" and self.state.global_step == 2:
        if os.environ["FATE"] == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.args.per_device_train_batch_size > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
    return step(self, model, inputs, num_items_in_batch)

SFTTrainer.training_step = training_step
main()
"""


@dataclass(frozen=True)
class Ended:
    code: int
    said: str
    complaints: list[str]
    """What was printed after `error:`."""


def launch(folder: Path, cache: Path, *arguments: str, script: str | None = None, **environment: str) -> Ended:
    """Run `train` in two processes as a user starts them; `script` stands in for the module where it is given."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = ["-m", "harness"]
    if script is not None:
        (folder / "program.py").write_text(script)
        program = ["program.py"]
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--num_processes",
        "2", "--main_process_port", str(port), "--mixed_precision", "no", "--dynamo_backend", "no", *program, "train",
        "tuned", *arguments,
    ]  # fmt: skip
    own = {"HARNESS_CACHE": str(cache), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **own, **environment}, text=True, capture_output=True, timeout=500
    )
    lines = done.stderr.splitlines()
    return Ended(done.returncode, done.stdout, [line for line in lines if line.startswith("error:")])


def write_training(workplace: Path, **changes: Any) -> None:
    file = workplace / "baselines" / "tiny" / "tuned.yaml"
    training = {"rows": 7, "sft": {**SFT, **changes}, "lora": {"r": 4, "target_modules": "all-linear"}}
    file.write_text(yaml.safe_dump({"train": training}))


def record_of(cache: Path) -> dict[str, Any]:
    """The record of the one adapter in that cache."""
    (file,) = cache.glob("adapters/*/training.json")
    assert (file.parent / "adapter_model.safetensors").is_file()
    assert not (file.parent / "checkpoints").exists()
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def assert_the_same_learning(one: Path, two: Path) -> None:
    from safetensors.torch import load_file

    alone, shared = record_of(one), record_of(two)
    assert [point["step"] for point in shared["curve"]] == [point["step"] for point in alone["curve"]]
    losses = [point["loss"] for point in alone["curve"]]
    assert [point["loss"] for point in shared["curve"]] == pytest.approx(losses, rel=2e-4)
    assert losses[0] != pytest.approx(losses[-1], rel=1e-2)
    (left,), (right,) = (list(cache.glob("adapters/*/adapter_model.safetensors")) for cache in (one, two))
    for name, value in load_file(left).items():
        assert (load_file(right)[name] - value).norm() <= 0.02 * value.norm(), name


def test_two_processes_learn_what_one_learns_and_save_one_adapter(
    own_cache: Path, tiny_workplace: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    write_training(tiny_workplace)
    code, _, complaint = command_line("train", "--profile", "tiny")
    assert code == 0, complaint
    ended = launch(tiny_workplace, tmp_path / "two", "--profile", "tiny", "--out", "kept")
    assert (ended.code, ended.complaints) == (0, [])
    assert ended.said.count("profile tiny:") == ended.said.count("adapter: kept") == 1
    assert "2 processes share each step" in ended.said
    assert_the_same_learning(own_cache, tmp_path / "two")
    record = record_of(tmp_path / "two")
    layout = record["layout"]
    assert (layout["processes"], layout["micro_batch"], layout["accumulation"]) == (2, 2, 1)
    assert record["steps"] == STEPS
    assert (tiny_workplace / "kept" / "adapter_model.safetensors").is_file()


@pytest.mark.slow
def test_two_processes_that_are_evaluated_keep_the_same_step(
    own_cache: Path, tiny_workplace: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    file = tiny_workplace / "baselines" / "tiny" / "tuned.yaml"
    evaluation = {
        "every": 1,
        "rows": 3,
        "max_new_tokens": 8,
        "metrics": ["chrf"],
    }  # all 0 so early: the first is kept
    file.write_text(
        yaml.safe_dump(
            {"train": {"evaluation": evaluation, "sft": SFT, "lora": {"r": 4, "target_modules": "all-linear"}}}
        )
    )
    code, _, complaint = command_line("train", "--profile", "tiny")
    assert code == 0, complaint
    ended = launch(tiny_workplace, tmp_path / "two", "--profile", "tiny", "--out", "kept")
    assert (ended.code, ended.complaints) == (0, [])
    assert ended.said.count("step 1: chrf 0, task_score 0: the best so far") == 1
    assert_the_same_learning(own_cache, tmp_path / "two")
    assert record_of(tmp_path / "two")["watch"] == {"kept_step": 1, "stopped_early": False}
    assert (tiny_workplace / "kept" / "last" / "adapter_model.safetensors").is_file()


@pytest.mark.slow
def test_memory_that_runs_out_in_one_process_makes_both_go_on_smaller(
    own_cache: Path, tiny_workplace: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    write_training(tiny_workplace)
    command_line("train", "--profile", "tiny")
    ended = launch(
        tiny_workplace, tmp_path / "two", "--profile", "tiny", script=SAYING_WHAT_HAPPENS, FATE="out of memory"
    )
    assert (ended.code, ended.complaints) == (0, [])
    assert ended.said.count("out of memory with micro-batch 2 × 1") == 1
    record = record_of(tmp_path / "two")
    assert (record["layout"]["micro_batch"], record["layout"]["accumulation"]) == (1, 2)
    assert_the_same_learning(own_cache, tmp_path / "two")


@pytest.mark.slow
def test_a_killed_process_ends_the_rest_with_one_line_and_the_training_goes_on(
    own_cache: Path, tiny_workplace: Path, tmp_path: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_training(tiny_workplace)
    command_line("train", "--profile", "tiny")
    for then in ("two", "one"):
        cache = tmp_path / f"then-{then}"
        ended = launch(tiny_workplace, cache, "--profile", "tiny", script=SAYING_WHAT_HAPPENS, FATE="killed")
        assert ended.code != 0
        assert len(ended.complaints) == 1
        assert "another of its processes died" in ended.complaints[0]
        assert list(cache.glob("adapters/*/checkpoints/checkpoint-2/complete"))
        assert not list(cache.glob("adapters/*/training.json"))
        if then == "two":
            assert launch(tiny_workplace, cache, "--profile", "tiny").code == 0
        else:
            monkeypatch.setenv("HARNESS_CACHE", str(cache))
            assert command_line("train", "--profile", "tiny")[0] == 0
        assert_the_same_learning(own_cache, cache)


@pytest.mark.slow
def test_packed_rows_over_a_4_bit_base_in_two_processes(
    own_cache: Path, tiny_workplace: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    write_training(tiny_workplace, packing=True, max_length=256, per_device_train_batch_size=1)
    code, _, complaint = command_line("train", "--profile", "tiny", "--quantization", "nf4")
    assert code == 0, complaint
    ended = launch(tiny_workplace, tmp_path / "two", "--profile", "tiny", "--quantization", "nf4")
    assert (ended.code, ended.complaints) == (0, [])
    assert_the_same_learning(own_cache, tmp_path / "two")


@pytest.mark.slow
def test_the_embedded_model_in_two_processes(
    own_cache: Path, workplace: Path, embedded_folder: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    file = workplace / "baselines" / "smollm2-135m" / "tuned.yaml"
    written = yaml.safe_load(file.read_text())
    written["train"] |= {"rows": 10}
    written["train"]["sft"] |= {"gradient_accumulation_steps": 4, "max_length": 256, "bf16": False}  # sums, exactly
    file.write_text(yaml.safe_dump(written))
    code, _, complaint = command_line("train", "--profile", "smollm2-135m")
    assert code == 0, complaint
    ended = launch(workplace, tmp_path / "two", "--profile", "smollm2-135m")
    assert (ended.code, ended.complaints) == (0, [])
    assert ended.said.count("10 rows, 3 steps") == 1
    alone, shared = record_of(own_cache), record_of(tmp_path / "two")
    losses = [point["loss"] for point in alone["curve"]]
    assert [point["loss"] for point in shared["curve"]] == pytest.approx(losses, rel=1e-3)


@pytest.mark.slow
def test_rows_that_cannot_be_shared_are_refused_by_one_voice(tiny_workplace: Path, tmp_path: Path) -> None:
    write_training(tiny_workplace, per_device_train_batch_size=1, gradient_accumulation_steps=3)
    ended = launch(tiny_workplace, tmp_path / "two", "--profile", "tiny")
    assert ended.code != 0
    assert len(ended.complaints) == 1
    assert "2 processes cannot share the 3 rows of a step evenly (start 1 or 3, or" in ended.complaints[0]


@pytest.mark.parametrize(
    ("written", "processes", "part"),
    [
        (BatchPlan(4, 1, False, True), 2, BatchPlan(2, 1, False, True)),
        (BatchPlan(1, 8, False), 2, BatchPlan(1, 4, False)),
        (BatchPlan(4, 2, True), 2, BatchPlan(4, 1, True)),
        (BatchPlan(6, 1, True), 2, BatchPlan(3, 1, True)),
        (BatchPlan(4, 3, True), 6, BatchPlan(2, 1, True)),
        (BatchPlan(5, 2, True), 1, BatchPlan(5, 2, True)),
    ],
)
def test_processes_share_the_rows_of_a_step(written: BatchPlan, processes: int, part: BatchPlan) -> None:
    assert written.shared(processes) == part
    assert part.effective_batch * processes == written.effective_batch


def test_a_step_that_cannot_be_shared_says_how_many_could() -> None:
    with pytest.raises(UsageError, match=r"3 processes cannot share the 4 rows .* \(start 1 or 2 or 4, or"):
        BatchPlan(4, 1, False).shared(3)


def test_what_is_done_once_is_refused_in_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_many("run")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(UsageError, match=r"run works in one process .*accelerate launch -m harness train"):
        refuse_many("run")


def test_a_sharded_base_packs_its_bytes_as_numbers_that_can_be_split(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.model.load import Precision, nf4_config

    precision = Precision("nf4", "bfloat16", "cuda")
    assert nf4_config(precision).bnb_4bit_quant_storage == torch.uint8
    for name, value in (("WORLD_SIZE", "2"), ("LOCAL_RANK", "0"), ("ACCELERATE_USE_FSDP", "true")):
        monkeypatch.setenv(name, value)
    assert nf4_config(precision).bnb_4bit_quant_storage == torch.bfloat16


def test_the_documented_configurations_are_accelerates(tmp_path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    found = [
        block
        for page in ("training.md", "scaling.md")
        for block in re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
        if "distributed_type" in block
    ]
    assert len(found) == 2
    for block in found:
        (tmp_path / "launch.yaml").write_text(block)
        assert load_config_from_file(str(tmp_path / "launch.yaml")).num_processes >= 2


def test_an_epoch_ends_with_blank_rows_in_the_order_of_one_process() -> None:
    from accelerate.data_loader import SeedableRandomSampler
    from datasets import Dataset

    from harness.train.ddp_trainer import InOrder, with_blanks

    columns = ({"input_ids": [5, 6, 7, n], "labels": [-100, 6, 7, n], "seq_lengths": [4]} for n in range(5))
    rows = Dataset.from_list(list(columns))
    filled = with_blanks(rows, 4)
    assert len(filled) == 8
    assert filled[7] == {"input_ids": [5, 6], "labels": [-100, -100], "seq_lengths": [2]}
    assert with_blanks(rows, 5) is rows
    ours, plain = InOrder(5, 3, seed=4), SeedableRandomSampler(range(5), data_seed=4)
    for epoch in (0, 1, 3):
        ours.set_epoch(epoch)
        plain.set_epoch(epoch)
        assert list(ours) == [*plain, 5, 6, 7]
