"""What a run has to do is known before any weights are loaded: what is in the cache or in the journal is not ahead."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from harness.errors import HarnessError
from harness.generate.store import CompletionStore
from harness.generate.transformers.decoder_verdict import Verdict
from harness.generate.transformers.generator import Generator
from harness.pipeline.ahead import Work, work_ahead
from harness.pipeline.config import RunConfig, resolve
from harness.pipeline.prepare import plan_models, trained
from harness.progress import ProgressReporter
from harness.runs.schema import JsonObject
from harness.runs.shard import Shard
from harness.train.data import training_rows
from harness.types import Answer

LOCAL: JsonObject = {"name": "local"}


@pytest.fixture(autouse=True)
def _browser_there(tiny_workplace: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.render.browser import find_browser

    try:
        find_browser()
    except HarnessError as error:
        pytest.skip(str(error))


def quiet() -> ProgressReporter:
    return ProgressReporter(Console(file=io.StringIO()))


def ahead(request: RunConfig, executor: JsonObject = LOCAL, journal: Path = Path("journal.jsonl")) -> dict[str, Work]:
    plan = resolve(request)
    return {work.stage: work for work in work_ahead(plan, plan_models(plan, quiet()), journal, executor)}


def test_a_first_run_has_everything_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.model.load._load_base", lambda *args: pytest.fail("the model was loaded"))
    found = ahead(RunConfig(profile="tiny", limit=4))
    plan = resolve(RunConfig(profile="tiny", limit=4))
    tuned = plan_models(plan, quiet())[-1]
    assert tuned.job is not None
    rows, _ = training_rows(tuned.job.tasks, tuned.job.renderer, None)
    # 4 steps of 2 rows are once all of them
    assert found["training tuned on 8 rows of small"].units == sum(len(row.input_ids) for row in rows)
    answers = [found[f"{name} answers small"].units for name in ("base", "base-fewshot", "tuned")]
    assert answers == [4, 4, 4]
    assert found["checking and rendering small"].units == 4 * (3 + len(plan.controls))
    proofs = [stage for stage in found if "proves itself" in stage]
    # the few-shot model is the base, asked otherwise
    assert proofs == [
        f"the decoder of {name} proves itself against transformers' generate" for name in ("base", "tuned")
    ]
    assert "comparing and reporting" in found


def test_what_is_in_the_cache_or_the_journal_is_done() -> None:
    plan = resolve(RunConfig(profile="tiny", limit=4))
    models = trained(plan_models(plan, quiet()), quiet())
    base, *_, tuned = (model.on("small") for model in models)
    assert isinstance(base, Generator)
    assert isinstance(tuned, Generator)
    for generator, count in ((base, 4), (tuned, 1)):
        generator.decoder_found_by(lambda: Verdict("slots"))
        store = CompletionStore(generator.identity())
        for task in plan.measured[0].own[:count]:
            answer = Answer("I do not know", "eos")
            store.put(CompletionStore.key(generator.prompt(task), 0, 0), answer)
    found = ahead(RunConfig(profile="tiny", limit=4))
    assert found["training tuned on 8 rows of small"].units == 0
    assert found["base answers small"].units == 0
    assert found["base-fewshot answers small"].units == 4  # nobody knows yet which decoder writes for it
    assert found["tuned answers small"].units == pytest.approx(3)
    whole = found["checking and rendering small"].units
    assert whole == pytest.approx(4 * (3 + 5) - 0.9 * 5)  # five answers hold no page that would have to be rendered
    assert ahead(RunConfig(profile="tiny", limit=4, fresh=True))["base answers small"].units == 4

    journal = Path("journal.jsonl")
    journal.write_text('{"suite": "small"}\n' * 24)
    assert ahead(RunConfig(profile="tiny", limit=4))["checking and rendering small"].units == pytest.approx(whole / 4)


def test_a_shard_has_its_own_part_before_it() -> None:
    found = ahead(RunConfig(profile="tiny", limit=4, shard=Shard(1, 2)))
    assert found["base answers small"].units == 2
    assert found["checking and rendering small"].units == 2 * (3 + 5)
    assert "writing the rows" in found


def test_on_a_cluster_one_stage_answers_and_measures() -> None:
    executor: JsonObject = {"name": "ray", "models": {"workers": 2}}
    found = ahead(RunConfig(profile="tiny", models=("base",), limit=4), executor)
    assert "base answers small" not in found
    pages = found["checking and rendering small"]
    assert (pages.part, pages.units) == ("answers and pages", 4)
    other = ahead(RunConfig(profile="tiny", models=("base",), limit=4), executor | {"models": {"workers": 4}})
    assert other["checking and rendering small"].kinds != pages.kinds
