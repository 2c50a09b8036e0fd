"""The evaluation of a training: real answers to a development slice, and their scores."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.errors import UsageError
from harness.generate.settings import GenerationSettings
from harness.generate.transformers.generator import Generator
from harness.metrics.similarity import bleu_tokens, corpus_bleu
from harness.model.load import LoadedModel
from harness.model.profile_schema import DevEvaluation
from harness.model.prompt import PromptRenderer
from harness.pipeline.dev_evaluation import DevEvaluator, check_metrics, evaluation_metrics, set_up_evaluation
from harness.suite.load import find_suite, load_suite
from harness.train.evaluation import TASK_SCORE, as_measured
from harness.types import Answer
from tests.conftest import TINY_TUNED, CommandLine

EVALUATION = {"every": 2, "rows": 3, "max_new_tokens": 8, "patience": 9}


def generator(loaded: LoadedModel) -> Generator:
    return Generator("x", loaded, PromptRenderer("{{ prompt }}", False, loaded.tokenizer), GenerationSettings(16, 4))


def test_the_slice_is_out_of_the_rows_to_train_on(tiny_workplace: Path, tiny: LoadedModel) -> None:
    suite = load_suite(find_suite("small"))
    rest, evaluation = set_up_evaluation(DevEvaluation(**EVALUATION), suite, generator(tiny))
    assert len(evaluation.development) == 3
    assert {*rest, *evaluation.development} == set(suite.train)
    assert not {*evaluation.development} & {*rest, *suite.held_out}
    assert evaluation.identity["generation"]["max_new_tokens"] == 8
    with pytest.raises(UsageError, match=r"5 of small's 8 training rows cannot be kept out .*set fewer"):
        set_up_evaluation(DevEvaluation(every=2, rows=5), suite, generator(tiny))


def test_the_task_score_is_the_mean_of_the_metrics_from_0_to_100(
    tiny_workplace: Path, tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = load_suite(find_suite("small"))
    _, evaluation = set_up_evaluation(DevEvaluation(**EVALUATION), suite, generator(tiny))
    first, *others = evaluation.development
    answers = {first.id: first.reference} | {task.id: "<p>Hello<b></p>" for task in others}

    def decode(_: Generator, wanted: Any) -> Any:
        for place in reversed(wanted):
            yield place, Answer(answers[place[0]], "eos", 1, 1)

    monkeypatch.setattr(Generator, "decode", decode)
    assert isinstance(evaluation.evaluate, DevEvaluator)
    scores = evaluation.evaluate()
    assert scores["well_formed"] == pytest.approx(1 / 3)
    assert 0 < scores["bleu_dom"] < 100
    assert scores[TASK_SCORE] == pytest.approx((100 / 3 + scores["bleu_dom"]) / 2)
    # the corpus' BLEU, not a mean of sentences
    from harness.metrics.facts import page_facts

    pairs = [
        (page_facts(answers[t.id], "document"), page_facts(t.reference, "document")) for t in evaluation.development
    ]
    counts = [bleu_tokens(one.dom_tokens, two.dom_tokens).counts or () for one, two in pairs]
    assert scores["bleu_dom"] == pytest.approx(corpus_bleu([sum(column) for column in zip(*counts, strict=True)]))

    unmeasured = replace(evaluation.evaluate, metrics=(replace(evaluation.evaluate.metrics[0], score=lambda _: None),))
    assert unmeasured() == {}


def test_an_evaluation_is_what_measuring_the_same_weights_gives(
    own_cache: Path, tiny_workplace: Path, tiny: LoadedModel
) -> None:
    """Inside a training the model has dropout and recomputing on; an evaluation is to see it as a run does."""
    from peft import LoraConfig, get_peft_model

    suite = load_suite(find_suite("small"))
    own = generator(tiny)
    _, evaluation = set_up_evaluation(DevEvaluation(**EVALUATION, metrics=["extracted", "chrf", "bleu"]), suite, own)
    expected = {done.task: done.text for done in own.complete(evaluation.development)}
    tiny.model = get_peft_model(tiny.model, LoraConfig(r=4, lora_dropout=0.5, target_modules="all-linear"))
    tiny.model.activation_checkpointing_enable()
    tiny.model.enable_input_require_grads()
    tiny.model.train()
    tiny.model.config._attn_implementation = "eager"
    wanted = {(task.id, 0): (own.prompt(task), 0) for task in evaluation.development}
    with as_measured(tiny.model):
        assert not tiny.model.training
        answers = {place[0]: done.text for place, done in own.decode(wanted)}
        assert set(evaluation.evaluate()) == {"extracted", "chrf", "bleu", TASK_SCORE}
    assert answers == expected  # an adapter that has learnt nothing is the base
    assert tiny.model.training
    assert tiny.model.config._attn_implementation == "eager"
    loss = tiny.model(**tiny.tokenizer("A page", return_tensors="pt"), labels=None).logits.sum()
    loss.backward()  # nothing of the evaluation's inference mode is left on the weights


def test_metrics_that_cannot_be_measured_in_training_are_refused_with_a_suggestion(
    tiny_workplace: Path, command_line: CommandLine
) -> None:
    assert {"well_formed", "bleu_dom", "closed"} <= set(evaluation_metrics())
    for names, message in (
        (["well_fromed"], r"'well_fromed' is not known \(did you mean 'well_formed'\?\)"),
        (["renders"], r"'renders' needs more than the parsers"),
        (["conforming"], r"'conforming' needs more than the parsers"),
    ):
        with pytest.raises(UsageError, match=message):
            check_metrics(DevEvaluation(every=1, metrics=names))
    profile = tiny_workplace / "baselines" / "tiny"
    for wrong, message in (
        ({"every": 2, "patienc": 3}, "there is no key 'train.evaluation.patienc' (did you mean 'patience'?)"),
        (
            {"every": 2, "metrics": ["blue_dom"]},
            "train.evaluation.metrics: 'blue_dom' is not known (did you mean 'bleu_dom'",
        ),
        ({"rows": 2}, "train.evaluation.every: Field required"),
    ):
        tuned = yaml.safe_load(TINY_TUNED)
        tuned["train"]["evaluation"] = wrong
        (profile / "tuned.yaml").write_text(yaml.safe_dump(tuned))
        code, _, complaint = command_line("train", "--profile", "tiny")
        assert code == 2
        assert message in " ".join(complaint.split())


def test_keys_of_before_are_refused_with_their_new_names(tiny_workplace: Path, command_line: CommandLine) -> None:
    for old, value, message in (
        ("watch", EVALUATION, "tuned.yaml: train: the key 'watch' is now called 'evaluation' (write `evaluation`)"),
        ("fit", "card", "tuned.yaml: train: the key 'fit' is now called 'batch_plan' (write `batch_plan: auto`)"),
        ("fit", "as-written", "tuned.yaml: train: the key 'fit' is now called 'batch_plan' (write `batch_plan`)"),
    ):
        tuned = yaml.safe_load(TINY_TUNED)
        tuned["train"][old] = value
        (tiny_workplace / "baselines" / "tiny" / "tuned.yaml").write_text(yaml.safe_dump(tuned))
        code, _, complaint = command_line("train", "--profile", "tiny")
        assert code == 2
        assert message in " ".join(complaint.split())


def test_an_evaluated_training_from_the_command_line(
    own_cache: Path, tiny_workplace: Path, command_line: CommandLine
) -> None:
    tuned = yaml.safe_load(TINY_TUNED)
    tuned["train"]["evaluation"] = EVALUATION
    (tiny_workplace / "baselines" / "tiny" / "tuned.yaml").write_text(yaml.safe_dump(tuned))
    code, said, complaint = command_line("train", "--profile", "tiny", "--out", "kept")
    assert code == 0, complaint
    words = " ".join(said.split())
    assert "training tuned on 5 rows of small" in words
    assert "step 2: well_formed 0, bleu_dom" in words
    assert "kept step" in words
    record = json.loads((tiny_workplace / "kept" / "training.json").read_text())
    assert [point["step"] for point in record["curve"] if "scores" in point] == [2, 4]
