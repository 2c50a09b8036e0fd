"""Whole runs: training, answers, scores in a real browser, comparison and report."""

from __future__ import annotations

import copy
import io
import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from harness.errors import HarnessError
from harness.pipeline.config import RunConfig
from harness.pipeline.manifest import deciding_part
from harness.pipeline.run import run
from harness.progress import ProgressReporter
from harness.runs.folder import RunFolder
from harness.runs.manifest import Manifest
from harness.types import CONTROL_NAMES
from tests.conftest import TINY_TUNED, keep, make_suite
from tests.forked import Forked

MANIFEST_KEYS = {
    "schema", "run", "harness", "started", "finished", "command", "arguments", "profile", "models", "suites", "scorers",
    "tools", "packages", "hardware", "git", "seeds",
}  # fmt: skip
ROW_KEYS = {
    "schema", "suite", "task", "model", "sample", "prompt_sha", "completion", "page", "extraction", "finish_reason",
    "outcome", "scores", "notes", "counts", "messages", "checks", "render", "shots", "timing",
}  # fmt: skip
TASK_KEYS = {
    "suite", "task", "group", "prompt", "input", "reference", "category", "difficulty", "scope", "ignore", "prompt_sha",
}  # fmt: skip
TIMES = {"timing", "started", "finished", "cost", "seconds"}


@pytest.fixture(scope="session", autouse=True)
def _browser_there() -> None:
    from harness.render.browser import find_browser

    try:
        find_browser()
    except HarnessError as error:
        pytest.skip(str(error))


def do(request: RunConfig) -> tuple[Path, str]:
    """Run in this process; return the run's folder and what was said."""
    said = io.StringIO()
    folder = run(request, ProgressReporter(Console(file=said, width=200)))
    return folder, said.getvalue()


def read(folder: Path, name: str) -> Any:
    text = (folder / name).read_text()
    return [json.loads(line) for line in text.splitlines()] if name.endswith(".jsonl") else json.loads(text)


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(inner) for key, inner in value.items() if key not in TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def check_contract(folder: Path, models: set[str], tasks: int) -> None:
    """Check a finished run against docs/files.md."""
    manifest, summary = read(folder, "manifest.json"), read(folder, "summary.json")
    rows, lines = read(folder, "samples.jsonl"), read(folder, "tasks.jsonl")
    assert manifest.keys() >= MANIFEST_KEYS
    assert manifest["finished"] >= manifest["started"]
    assert {name for name, entry in manifest["models"].items() if entry["kind"] != "control"} == models
    assert all(row.keys() >= ROW_KEYS for row in rows)
    assert all(line.keys() >= TASK_KEYS for line in lines)
    assert len(lines) == tasks
    shown = {row["model"] for row in rows}
    assert shown == models | set(CONTROL_NAMES)
    assert len(rows) == len(shown) * tasks  # every completion stays in every denominator
    keys = [(row["suite"], row["task"], row["model"], row["sample"]) for row in rows]
    assert keys == sorted(keys)
    assert all(
        row["notes"].get(name) for row in rows for name, value in row["scores"].items() if value is None
    )  # null has a reason
    (suite,) = summary["suites"].values()
    for metric, by_model in suite["metrics"].items():
        assert metric in manifest["scorers"]
        for estimate in by_model.values():
            assert {"mean", "low", "high", "n", "unscored"} <= estimate.keys()
            assert estimate["n"] + estimate["unscored"] == tasks
    assert "base:tuned" in suite["pairs"]
    for pair in suite["pairs"].values():
        for difference in pair.values():
            assert {"difference", "low", "high", "p", "p_adjusted", "n", "dropped"} <= difference.keys()
    for row in rows:
        for shot in row["shots"].values():
            assert (folder / shot).is_file()
    assert "<html" in (folder / "index.html").read_text()[:200]
    assert folder.name in (folder.parent / "index.html").read_text()


def test_a_run_its_repetition_and_a_fresh_one(
    tiny_workplace: Path, own_answers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = {"base", "base-fewshot", "tuned"}
    folder, said = do(RunConfig(profile="tiny", limit=4, name="first"))
    check_contract(folder, models, tasks=4)
    assert said.startswith("first run of this kind here: ")
    assert "profile tiny: chosen by --profile" in said
    manifest = read(folder, "manifest.json")
    assert manifest["models"]["tuned"]["training"]["steps"] == 4
    assert manifest["models"]["tuned"]["adapter_sha256"]
    for part in ("weights_sha256", "config_sha256", "tokenizer_sha256"):
        assert manifest["models"]["base"][part] == manifest["models"]["tuned"][part] is not None
    assert manifest["models"]["tuned"]["adapter_config_sha256"]
    assert manifest["models"]["base"]["adapter_sha256"] is None
    assert len(manifest["models"]["base-fewshot"]["examples"]) == 2
    assert len({entry["template_sha"] for name, entry in manifest["models"].items() if name in models}) == 1

    # what a run cost and how many rows it measured does not decide its rows; weights, data, scorers and tools do
    deciding = deciding_part(Manifest.model_validate(manifest))
    later = copy.deepcopy(manifest)
    later["models"]["base"] |= {"cost": None, "batch_size": 1}
    later["suites"]["small"]["measured"] = 6
    assert deciding_part(Manifest.model_validate(later | {"started": "2001", "git": {}})) == deciding
    metric = next(iter(manifest["scorers"]))
    for path, value in (
        (("models", "tuned", "adapter_sha256"), "f" * 64),
        (("models", "base", "template_sha"), "f" * 64),
        (("suites", "small", "split_hash"), "f" * 64),
        (("scorers", metric, "version"), 99),
        (("tools", "browser"), "other"),
    ):
        other = copy.deepcopy(manifest)
        place = other
        for key in path[:-1]:
            place = place[key]
        assert place[path[-1]] != value
        place[path[-1]] = value
        assert deciding_part(Manifest.model_validate(other)) != deciding, path

    # a second call finishes from the journal, and never loads the model
    journal, samples = (folder / "journal.jsonl").read_bytes(), (folder / "samples.jsonl").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("harness.model.load._load_base", lambda *args: pytest.fail("the model was loaded"))
        _, again = do(RunConfig(profile="tiny", limit=4, name="first"))
    assert (folder / "journal.jsonl").read_bytes() == journal
    assert (folder / "samples.jsonl").read_bytes() == samples
    first = again.splitlines()[0]
    assert " here: training and answers cached" in first
    assert "pages" not in first
    assert "from the journal" in again
    assert "from the cache" in again

    # a fresh run of another name says the same
    other, _ = do(RunConfig(profile="tiny", limit=4, name="second", fresh=True))
    assert without_times(read(other, "samples.jsonl")) == without_times(read(folder, "samples.jsonl"))
    assert without_times(read(other, "summary.json")) == without_times(read(folder, "summary.json"))

    # a journal torn in the middle loses that row alone
    (folder / "journal.jsonl").write_bytes(journal[: len(journal) * 2 // 3])
    do(RunConfig(profile="tiny", limit=4, name="first"))
    assert without_times(read(folder, "samples.jsonl")) == without_times(read(other, "samples.jsonl"))

    # other data under the same name are not mixed in
    kept = (folder / "journal.jsonl").read_bytes()
    held_out = tiny_workplace / "tasks" / "small" / "held_out.yaml"
    held_out.write_text(held_out.read_text().replace("Out of order", "Closed"))
    do(RunConfig(profile="tiny", limit=4, name="first"))
    assert (folder / "journal-1.jsonl").read_bytes() == kept
    check_contract(folder, models, tasks=4)


def test_a_row_a_model_was_trained_on_gets_no_score(tiny_workplace: Path, own_answers: Path) -> None:
    rows = (tiny_workplace / "tasks" / "small" / "held_out.yaml").read_text()
    (tiny_workplace / "tasks" / "small" / "train.yaml").write_text(rows.replace("id: ", "id: seen-"))
    folder, _ = do(RunConfig(profile="tiny", models=("base", "tuned"), limit=2, name="leak"))
    rows_of = {
        model: [row for row in read(folder, "samples.jsonl") if row["model"] == model] for model in ("base", "tuned")
    }
    assert {row["outcome"] for row in rows_of["tuned"]} == {"unscored"}
    assert {value for row in rows_of["tuned"] for value in row["scores"].values()} == {None}
    assert {note for row in rows_of["tuned"] for note in row["notes"].values()} == {"the model was trained on this row"}
    assert any(value is not None for row in rows_of["base"] for value in row["scores"].values())


def test_a_full_disk_in_the_middle_is_one_line_and_the_run_goes_on_later(
    tiny_workplace: Path, own_answers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = RunConfig(profile="tiny", models=("base", "tuned"), limit=2, name="full")
    append = RunFolder.append

    def full(self: RunFolder, rows: Any) -> None:
        append(self, rows[:1])
        raise HarnessError(f"{self.journal} cannot be written: No space left on device", "make room")

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "append", full)
        with pytest.raises(HarnessError, match="No space left"):
            do(request)
    journal = (tiny_workplace / "reports" / "full" / "journal.jsonl").read_bytes()
    folder, said = do(request)
    assert (folder / "journal.jsonl").read_bytes().startswith(journal)
    assert "1 more from the journal" in said
    check_contract(folder, {"base", "base-fewshot", "tuned"}, tasks=2)


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_run_killed_again_and_again_ends_like_one_that_was_not(
    tiny_workplace: Path, tmp_path: Path, own_answers: Path, cache_of_the_session: Path
) -> None:
    """SIGKILL in training, in generation and in scoring, each a random while after its first file is there."""
    arguments = ("run", "--profile", "tiny", "--models", "base,tuned", "--limit", "4", "--name", "killed")
    killed, reports = tmp_path / "killed-cache", tiny_workplace / "reports"
    killed.mkdir()
    keep(killed, cache_of_the_session)
    signs = (
        (killed, "adapters/*/checkpoints/checkpoint-1"),
        (killed, "completions/*.jsonl"),
        (reports, "killed/journal.jsonl"),
    )
    chance = random.Random()
    for place, sign in signs:
        process = Forked(tiny_workplace, {"HARNESS_CACHE": str(killed)}, *arguments)
        deadline = time.monotonic() + 300
        while not any(place.glob(sign)) and process.is_alive():
            assert time.monotonic() < deadline, f"{sign} never came"
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.3))
        process.kill()
        assert process.end()[0] in (-signal.SIGKILL, 0)
    code, _, complaints = Forked(tiny_workplace, {"HARNESS_CACHE": str(killed)}, *arguments).end()
    assert (code, complaints) == (0, "")

    quiet, _ = do(RunConfig(profile="tiny", models=("base", "tuned"), limit=4, name="quiet"))
    for name in ("samples.jsonl", "summary.json"):
        found = read(reports / "killed", name)
        assert without_times(found) == without_times(read(quiet, name))


@pytest.fixture
def embedded_workplace(workplace: Path, embedded_folder: Path, own_answers: Path) -> Path:
    """The embedded profile, with short answers and a training of two steps."""
    folder = workplace / "baselines" / "smollm2-135m"
    profile = (folder / "profile.yaml").read_text()
    changes: list[tuple[str, Callable[[str], str]]] = [
        ("batch_size: 32", lambda line: f"{line}\nmax_new_tokens: 24"),
        ("[html_starter]", lambda line: "[small]"),
    ]
    for line, change in changes:
        assert line in profile
        profile = profile.replace(line, change(line))
    (folder / "profile.yaml").write_text(profile)
    training = TINY_TUNED.replace("max_steps: 4", "max_steps: 2").replace("batch_size: 2", "batch_size: 1")
    (folder / "tuned.yaml").write_text(training)
    make_suite(workplace / "tasks" / "small", train=8, held_out=6)  # as others have it, whose renderings are kept
    return workplace


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_the_embedded_model_is_tuned_and_scored(
    embedded_workplace: Path, shallow_folder: Path, quantization: Any
) -> None:
    """In four bits with a few of its layers: thirty alike take long and show no more."""
    limit = 4
    if quantization == "nf4":
        limit = 2
        file = embedded_workplace / "baselines" / "smollm2-135m" / "profile.yaml"
        profile = yaml.safe_load(file.read_text())
        profile["weights"] = {"folder": str(shallow_folder)}
        profile["shape"]["num_hidden_layers"] = read(shallow_folder, "config.json")["num_hidden_layers"]
        file.write_text(yaml.safe_dump(profile))
    request = RunConfig(profile="smollm2-135m", quantization=quantization, limit=limit, name="real")
    folder, _ = do(request)
    check_contract(folder, {"base", "base-fewshot", "tuned"}, tasks=limit)
    manifest = read(folder, "manifest.json")
    assert manifest["profile"]["quantization"] == quantization
    assert {manifest["models"][name]["quantization"] for name in ("base", "base-fewshot", "tuned")} == {quantization}
    assert manifest["models"]["tuned"]["training"]["steps"] == 2
    report = (folder / "index.html").read_text()
    assert quantization in report or quantization == "none"
    rows = [row for row in read(folder, "samples.jsonl") if row["model"] in ("base", "base-fewshot", "tuned")]
    assert all(row["completion"] and row["finish_reason"] in ("stop", "eos", "length") for row in rows)


def test_a_checkpoint_of_llamas_shape_goes_the_way_of_llama_2(workplace: Path, tiny_folder: Path) -> None:
    """The profile llama-2-7b with all its settings, but small weights: NF4, no chat template, packed training."""
    folder = workplace / "baselines" / "llama-2-7b"
    profile = (folder / "profile.yaml").read_text()
    weights = "  hub:\n    path: TinyPixel/Llama-2-7B-bf16-sharded\n"
    assert weights in profile
    profile = profile.replace(weights, f"  folder: {tiny_folder}\n").replace(
        "max_new_tokens: 1024", "max_new_tokens: 16"
    )
    (folder / "profile.yaml").write_text(profile)
    tuned = (folder / "tuned.yaml").read_text()
    evaluation = "{every: 5, rows: 16, max_new_tokens: 512, patience: 3}"
    assert evaluation in tuned
    small = "{every: 1, rows: 2, max_new_tokens: 8, patience: 3}"  # ten rows in all
    (folder / "tuned.yaml").write_text(tuned.replace(evaluation, small))
    words = ("bread", "rivers", "clouds", "poetry", "engines", "chess", "violins", "harbours", "lamps", "wolves")
    rows = [{"instruction": f"Page of {word}", "input": "", "output": f"<p>{word} {word}</p>"} for word in words]
    (workplace / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"html_alpaca": workplace / "rows.jsonl"}
    run_folder, _ = do(RunConfig(profile="llama-2-7b", data=data, full=True, name="llama"))
    held_out = len(read(run_folder, "tasks.jsonl"))
    check_contract(run_folder, {"base", "base-fewshot", "tuned"}, tasks=held_out)
    manifest = read(run_folder, "manifest.json")
    assert manifest["profile"]["quantization"] == "nf4"
    assert manifest["suites"]["html_alpaca"]["train"] + held_out == len(words)
    assert manifest["models"]["tuned"]["training"]["rows"] == manifest["suites"]["html_alpaca"]["train"] - 2
    assert manifest["models"]["tuned"]["training"]["settings"]["sft"]["packing"] is True
