"""How long answers may be: by the references of the suite, the model's own tokenizer and its context."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from harness.generate.openai.backend import ServedModel
from harness.model.reach import estimated_tokens
from harness.pipeline.config import RunConfig, resolve
from harness.pipeline.manifest import build_manifest, model_entry
from harness.pipeline.model_under_test import ModelUnderTest
from harness.pipeline.prepare import prepare
from harness.pipeline.suite_records import compare_parts, task_records
from harness.progress import ProgressReporter
from harness.suite.load import find_suite, load_suite
from harness.types import Task
from tests.conftest import make_suite

SERVER = "openai: {{url: http://localhost:9/v1, model: m{more}}}\n"


def prepared(request: RunConfig) -> tuple[dict[str, ModelUnderTest], str]:
    said = io.StringIO()
    candidates = prepare(resolve(request), ProgressReporter(Console(file=said, width=300)))
    return {candidate.generator.name: candidate for candidate in candidates}, said.getvalue()


def edit(folder: Path, old: str, new: str) -> None:
    text = folder.joinpath("profile.yaml").read_text()
    assert old in text
    folder.joinpath("profile.yaml").write_text(text.replace(old, new))


@pytest.fixture
def tiny_profile(tiny_workplace: Path, own_answers: Path) -> Path:
    folder = tiny_workplace / "baselines" / "tiny"
    edit(folder, "max_new_tokens: 24\n", "")
    return folder


def test_the_limit_follows_the_suite_and_is_part_of_what_decides_an_answer(
    tiny_workplace: Path, tiny_profile: Path
) -> None:
    make_suite(tiny_workplace / "tasks" / "other", train=4, held_out=2)
    rows = json.loads(json.dumps([{"id": "long", "prompt": "Say it", "reference": "<p>word</p>" * 90}]))
    (tiny_workplace / "tasks" / "other" / "held_out2.yaml").write_text(json.dumps(rows))
    file = tiny_workplace / "tasks" / "other" / "suite.yaml"
    file.write_text(file.read_text().replace("held_out.yaml", "held_out*.yaml"))
    found, said = prepared(RunConfig(profile="tiny", models=("base",), suites=("small", "other")))
    base = found["base"]
    tokenizer = base.generator.loaded.tokenizer  # type: ignore[attr-defined]
    for name in ("small", "other"):
        suite = load_suite(find_suite(name))
        lengths = [len(tokenizer(t.reference)["input_ids"]) for t in (*suite.train, *suite.held_out)]
        assert base.limits[name].max_new_tokens == math.ceil(1.25 * float(np.percentile(lengths, 99)))
        assert base.on(name).settings.max_new_tokens == base.limits[name].max_new_tokens  # type: ignore[attr-defined]
        assert f"{name}, base: answers have at most" in said
    assert base.limits["other"].max_new_tokens > base.limits["small"].max_new_tokens
    identities = [base.on(name).identity() for name in ("small", "other")]  # type: ignore[attr-defined]
    assert identities[0] != identities[1]
    _, entry = model_entry(base)
    assert (entry.generation or {})["max_new_tokens"] == {name: one.max_new_tokens for name, one in base.limits.items()}


def test_references_out_of_reach_are_counted_and_said(tiny_profile: Path) -> None:
    edit(tiny_profile, "batch_size: 2", "batch_size: 2\nmax_new_tokens: 30")
    found, said = prepared(RunConfig(profile="tiny", models=("base",)))
    reach = found["base"].limits["small"]
    assert (reach.max_new_tokens, reach.references) == (30, 6)
    assert reach.out_of_reach > 3
    assert f"{reach.out_of_reach} of 6 references are longer than that" in said


def test_what_the_context_leaves_counts(tiny_profile: Path, tiny_folder: Path, tmp_path: Path) -> None:
    short = tmp_path / "short-context"
    short.mkdir()
    for file in tiny_folder.iterdir():
        (short / file.name).symlink_to(file)
    (short / "config.json").unlink()
    config = json.loads((tiny_folder / "config.json").read_text())
    (short / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 40}))
    edit(tiny_profile, str(tiny_folder), str(short))
    found, _ = prepared(RunConfig(profile="tiny", models=("base",)))
    assert found["base"].limits["small"].out_of_reach == 6


def test_a_server_without_a_tokenizer_gets_an_estimate_or_what_its_file_says(tiny_profile: Path) -> None:
    (tiny_profile / "served.yaml").write_text(SERVER.format(more=""))
    (tiny_profile / "thinking.yaml").write_text(SERVER.format(more=", body: {max_tokens: 9000}"))
    found, said = prepared(RunConfig(profile="tiny", models=("served", "thinking")))
    suite = load_suite(find_suite("small"))
    lengths = [estimated_tokens(t.reference) for t in (*suite.train, *suite.held_out)]
    limit = math.ceil(1.25 * float(np.percentile(lengths, 99)))
    assert found["served"].limits["small"].max_new_tokens == limit
    assert "estimated: the model's tokenizer is not known here" in said
    served = found["served"].on("small")
    assert isinstance(served, ServedModel)
    assert served.request({"prompt": "x"}, 0)["max_tokens"] == limit
    assert served.identity()["settings"]["max_new_tokens"] == limit
    thinking = found["thinking"].on("small")
    assert isinstance(thinking, ServedModel)
    assert thinking.request({"prompt": "x"}, 0)["max_tokens"] == 9000
    assert found["thinking"].limits["small"].max_new_tokens == 9000


def test_answers_in_a_file_have_no_limit_of_ours(tiny_profile: Path) -> None:
    task = load_suite(find_suite("small")).held_out[0]
    (tiny_profile / "answers.jsonl").write_text(json.dumps({"task": task.id, "completion": "<p>x</p>"}) + "\n")
    (tiny_profile / "given.yaml").write_text("file: answers.jsonl\n")
    found, _ = prepared(RunConfig(profile="tiny", models=("given",)))
    assert found["given"].limits == {}
    assert found["given"].on("small") is found["given"].generator


def test_the_manifest_and_the_tasks_say_it(tiny_workplace: Path, tiny_profile: Path) -> None:
    request = RunConfig(profile="tiny", models=("base",), split=("default",))
    resolved = resolve(request)
    shifts = compare_parts(resolved, ProgressReporter(Console(file=io.StringIO())))
    assert shifts == {"small": None}, "fourteen rows are too few to tell"
    found, _ = prepared(request)
    manifest = build_manifest(resolved, [found["base"]], {}, {"small": None}, {"name": "local"})
    assert manifest.suites["small"].split == "default"
    assert manifest.arguments["split"] == ["default"]
    part = resolved.measured[0]
    first = part.tasks[0]
    twin = replace(first, id="twin", reference=first.reference.replace("<body>", '<body class="x">'))
    other = Task("lonely", "Quite another thing", reference="<p>x</p>")
    lines = list(task_records([replace(part, tasks=(first, other, twin))]))
    assert [line.group for line in lines] == [first.id, "lonely", first.id]


def test_the_rows_compared_are_those_that_are_learnt_from(tiny_workplace: Path, tiny_profile: Path) -> None:
    """Trained on one suite and measured on another is transfer, however that one is split."""
    words = ["bread", "river", "cloud", "poem", "engine", "chess", "violin", "harbour", "lamp", "wolf", "salt", "tower"]
    rows = [
        {
            "instruction": f"Thank {a} and {b} by e-mail for {c} on behalf of {d}",
            "output": f"<p>{a} {b} {c} {d} {n}</p>",
        }
        for n, (a, b, c, d) in enumerate(zip(words * 5, words[3:] * 7, words[5:] * 9, words[1:] * 6, strict=False))
    ]
    data = tiny_workplace / "mails.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tuned = (tiny_profile / "tuned.yaml").read_text()
    (tiny_profile / "tuned.yaml").write_text(tuned.replace("train:\n", "train:\n  suite: html_alpaca\n"))
    said = io.StringIO()
    reporter = ProgressReporter(Console(file=said, width=400))
    request = RunConfig(profile="tiny", models=("tuned",), suites=("html_starter",), data={"html_alpaca": data})
    shifts = compare_parts(resolve(request), reporter)
    assert shifts["html_starter"] is not None
    assert shifts["html_starter"].told_apart
    assert shifts["html_starter"].training == "html_alpaca"
    assert "html_starter, trained on html_alpaca: training and held-out rows are of different kinds" in said.getvalue()
    own = compare_parts(resolve(replace(request, models=("base",), data={})), reporter)
    assert own["html_starter"] is not None
    assert not own["html_starter"].told_apart
