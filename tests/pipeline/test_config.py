from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from harness.errors import UsageError
from harness.model.profile import weights_source
from harness.pipeline.config import RunConfig, resolve
from harness.runs.folder import RunFolder
from harness.runs.manifest import Manifest, ModelEntry
from harness.runs.pairs import pairs_to_compare
from harness.runs.shard import Shard
from harness.types import CONTROL_NAMES
from tests.generate.transformers.architectures import ARCHITECTURES, make

TINY = RunConfig(profile="tiny", name="mine")


def test_a_request_is_resolved_to_what_exists(tiny_workplace: Path) -> None:
    plan = resolve(TINY)
    assert [spec.name for spec in plan.specs] == ["base", "base-fewshot", "tuned"]
    assert plan.controls == CONTROL_NAMES
    (part,) = plan.measured
    assert (part.suite.name, len(part.tasks), len(part.suite.train)) == ("small", 6, 8)
    assert plan.learns_from == {"base-fewshot": part.suite, "tuned": part.suite}
    assert plan.run_name == "mine"


def test_a_tuned_model_is_never_measured_without_its_strongest_rival(tiny_workplace: Path) -> None:
    names = [spec.name for spec in resolve(replace(TINY, models=("base", "tuned"))).specs]
    assert names == ["base", "base-fewshot", "tuned"]
    assert [spec.name for spec in resolve(replace(TINY, models=("base",))).specs] == ["base"]


def test_a_limit_takes_a_fixed_part_and_full_takes_all(tiny_workplace: Path) -> None:
    file = tiny_workplace / "tasks" / "small" / "suite.yaml"
    file.write_text(file.read_text() + "default_held_out: 4\n")
    ids = {
        words: [task.id for task in resolve(config).measured[0].tasks]
        for words, config in (
            ("default", TINY),
            ("limit", replace(TINY, limit=2)),
            ("full", replace(TINY, full=True)),
        )
    }
    assert {words: len(found) for words, found in ids.items()} == {"default": 4, "limit": 2, "full": 6}
    assert set(ids["limit"]) <= set(ids["default"]) <= set(ids["full"])


def test_models_learn_from_what_is_measured_unless_told_otherwise(tiny_workplace: Path) -> None:
    plan = resolve(replace(TINY, suites=("html_starter", "small")))
    assert [part.suite.name for part in plan.measured] == ["html_starter", "small"]
    assert {suite.name for suite in plan.learns_from.values()} == {"html_starter"}
    plan = resolve(replace(TINY, suites=("html_starter",), train_on="small"))
    assert {model: suite.name for model, suite in plan.learns_from.items()} == {
        "base-fewshot": "small",
        "tuned": "small",
    }
    assert "base-fewshot and tuned from the training part of small (8 tasks)" in plan.what_is_learnt()
    assert plan.what_is_learnt().endswith("the held-out part of html_starter (64 tasks)")
    named = tiny_workplace / "baselines" / "tiny" / "tuned.yaml"
    named.write_text(named.read_text().replace("train:\n", "train:\n  suite: small\n"))
    plan = resolve(replace(TINY, suites=("html_starter",)))
    assert {suite.name for suite in plan.learns_from.values()} == {"small"}


def test_the_old_key_says_what_took_its_place(tiny_workplace: Path) -> None:
    profile = tiny_workplace / "baselines" / "tiny" / "profile.yaml"
    profile.write_text(profile.read_text() + "training_suite: small\n")
    with pytest.raises(UsageError, match="no key 'training_suite' any more") as refused:
        resolve(TINY)
    assert "--train-on SUITE" in str(refused.value.hint)


def test_the_default_name_follows_what_decides_and_nothing_else(tiny_workplace: Path) -> None:
    data = tiny_workplace / "rows.jsonl"
    words = ("bread", "rivers", "clouds", "poetry", "engines", "chess", "violins", "harbours", "lamps", "wolves")
    rows = [{"prompt": f"All about {word}", "reference": f"<p>{word}"} for word in words]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = RunConfig(profile="tiny", data={"small": data})
    name = resolve(config).run_name
    assert resolve(replace(config, fresh=True)).run_name == name
    copy = data.rename(tiny_workplace / "renamed.jsonl")
    assert resolve(replace(config, data={"small": copy})).run_name == name
    assert resolve(replace(config, data={"small": copy}, limit=2)).run_name != name
    copy.write_text(copy.read_text().replace("<p>wolves", "<p>wolf"))
    assert resolve(replace(config, data={"small": copy})).run_name != name


def test_a_run_that_was_stopped_yesterday_goes_on_under_its_name(tiny_workplace: Path) -> None:
    unnamed = replace(TINY, name=None)
    today = resolve(unnamed).run_name
    yesterday = f"2020-01-01-{today[11:]}"
    with RunFolder(yesterday) as folder:
        assert resolve(unnamed).run_name == yesterday  # stopped in its training
        folder.write("manifest.json", Manifest(run=yesterday))
        assert resolve(unnamed).run_name == yesterday
        folder.write("manifest.json", Manifest(run=yesterday, finished="2020-01-01T00:00:00+00:00"))
    assert resolve(unnamed).run_name == today
    (folder.path / ".lock").unlink()
    (folder.path / "manifest.json").unlink()
    assert resolve(unnamed).run_name == today  # a folder of somebody's own


def test_shards_that_are_begun_on_two_days_are_of_one_run(tiny_workplace: Path) -> None:
    first, second, other = (replace(TINY, name=None, shard=Shard(*part)) for part in ((1, 2), (2, 2), (1, 3)))
    today = resolve(first).run_name
    yesterday = f"2020-01-01-{today[11:]}"
    with RunFolder(yesterday) as folder:
        assert resolve(first).run_name == yesterday  # stopped
        folder.write("manifest.json", Manifest(run=yesterday, finished="2020-01-01T00:00:00+00:00"))
    assert resolve(first).run_name == today  # once more
    assert resolve(second).run_name == yesterday.replace("1-of-2", "2-of-2")
    assert resolve(other).run_name[:10] == resolve(replace(first, shard=None)).run_name[:10] == today[:10]


def test_quantization_of_the_command_line_goes_before_the_profiles(tiny_workplace: Path) -> None:
    assert resolve(replace(TINY, quantization="nf4")).profile.file.quantization == "nf4"
    assert resolve(TINY).profile.file.quantization == "none"


def test_models_only_reads_no_suite_to_measure(tiny_workplace: Path) -> None:
    plan = resolve(replace(TINY, models=("tuned",)), models_only=True)
    assert plan.measured == ()
    assert [spec.name for spec in plan.specs] == ["tuned"]


def test_a_suite_with_an_empty_part_is_refused(tiny_workplace: Path) -> None:
    file = tiny_workplace / "tasks" / "small" / "suite.yaml"
    file.write_text("title: x\nfiles: {held_out: [held_out.yaml]}\n")
    with pytest.raises(UsageError, match="tuned cannot learn from small, which is held out as a whole"):
        resolve(TINY)


@pytest.mark.parametrize("name", ["", ".hidden", "a b", "a/b", "..", "x" * 101, "a\n"])
def test_a_name_that_is_no_folder_is_refused(tiny_workplace: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a run"):
        resolve(replace(TINY, name=name))


def test_rows_that_are_all_alike_cannot_be_split(tiny_workplace: Path, tmp_path: Path) -> None:
    suite = tiny_workplace / "tasks" / "alike"
    suite.mkdir()
    (suite / "suite.yaml").write_text(
        "title: x\nfiles: {rows: [rows.csv]}\ncolumns: {prompt: prompt, reference: reference}\n"
    )
    (suite / "rows.csv").write_text(
        "prompt,reference\n"
        + "Write a page that says hello to the world,<p>hello\n" * 1
        + "Write a page that says hello to the world!,<p>hello\n"
    )
    with pytest.raises(UsageError, match="near-duplicates of one another"):
        resolve(replace(TINY, suites=("alike",), models=("base",)))


def test_a_split_is_named_for_all_suites_or_for_one(tiny_workplace: Path) -> None:
    rows = tiny_workplace / "rows.jsonl"
    words = ("bread", "rivers", "clouds", "poetry", "engines", "chess", "violins", "harbours", "lamps", "wolves")
    rows.write_text("".join(json.dumps({"instruction": f"All about {w}", "output": f"<p>{w}"}) + "\n" for w in words))
    file = tiny_workplace / "tasks" / "html_alpaca" / "suite.yaml"
    assert "of_rows: 636, train_rows: 500" in file.read_text()
    file.write_text(file.read_text().replace("of_rows: 636, train_rows: 500", "of_rows: 10, train_rows: 7"))
    config = replace(TINY, suites=("small", "html_alpaca"), models=("base",), data={"html_alpaca": rows})
    default = {part.suite.name: part.suite for part in resolve(config).measured}
    for words_of_option in (("original",), ("html_alpaca=original",), ("default", "html_alpaca=original")):
        found = {part.suite.name: part.suite for part in resolve(replace(config, split=words_of_option)).measured}
        assert (found["html_alpaca"].split, found["small"].split) == ("original", "default")
        assert [len(part) for part in (found["html_alpaca"].train, found["html_alpaca"].held_out)] == [7, 3]
        assert found["html_alpaca"].split_hash != default["html_alpaca"].split_hash
    unnamed = replace(config, name=None)
    assert resolve(unnamed).run_name != resolve(replace(unnamed, split=("original",))).run_name


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("orginal", r"there is no split 'orginal' of small or html_alpaca \(did you mean 'original'\?\)"),
        ("small=original", r"there is no split 'original' of small \(there is default\)"),
        ("html_alpca=original", r"no suite 'html_alpca' is used here \(did you mean 'html_alpaca'\?\)"),
        ("html_alpaca=", r"there is no split '' of html_alpaca"),
    ],
)
def test_a_misspelt_split_is_refused_before_any_data_is_read(tiny_workplace: Path, word: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve(replace(TINY, suites=("small", "html_alpaca"), models=("base",), split=(word,)))


def test_several_weights_give_one_table_each_with_its_own_rivals(workplace: Path, tmp_path: Path) -> None:
    folders = [str(make(ARCHITECTURES[kind], tmp_path / name)) for kind, name in (("Llama", "A"), ("GPT-2", "B"))]
    plan = resolve(RunConfig(weights=tuple(folders)))
    assert [spec.name for spec in plan.specs] == [
        "A/base", "A/base-fewshot", "A/tuned", "B/base", "B/base-fewshot", "B/tuned",
    ]  # fmt: skip
    assert {suite.name for suite in plan.learns_from.values()} == {"html_starter"}
    models = {spec.name: ModelEntry(kind=spec.kind, weights=weights_source(spec)) for spec in plan.specs}
    tuned = [pair for pair in pairs_to_compare(models) if pair.second.endswith("/tuned")]
    assert tuned == [
        ("A/base", "A/tuned"), ("A/base-fewshot", "A/tuned"), ("B/base", "B/tuned"), ("B/base-fewshot", "B/tuned"),
    ]  # fmt: skip
    (alone,) = (spec.name for spec in resolve(RunConfig(weights=(folders[1],), models=("base",))).specs)
    assert alone == "base"
    with pytest.raises(UsageError, match="two of --weights are called 'a'"):
        resolve(RunConfig(weights=(folders[0], str(make(ARCHITECTURES["OPT"], tmp_path / "other" / "a")))))


def test_rows_of_html_alpacas_shape_are_learnt_from_and_measured_without_another_word(
    workplace: Path, tmp_path: Path
) -> None:
    random = Random(7)
    words = ["".join(random.choices("aeiou", k=1) + random.choices("bdfgklmnprst", k=4)) for _ in range(3000)]
    rows = [
        {
            "instruction": f"Make {' '.join(random.choices(words, k=9))}",
            "input": "<p>Old</p>" if number % 5 == 0 else "",
            "output": f"<h1>{' '.join(random.choices(words, k=6))}</h1>",
        }
        for number in range(636)
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = RunConfig(profile="smollm2-135m", suites=("html_alpaca",), data={"html_alpaca": file}, full=True)
    plan = resolve(config)
    (part,) = plan.measured
    assert plan.learns_from == {"base-fewshot": part.suite, "tuned": part.suite}
    assert len(part.suite.train) + len(part.tasks) == 636 and len(part.tasks) > 100
    assert "learning: base-fewshot and tuned from the training part of html_alpaca (" in plan.what_is_learnt()
    assert not {task.prompt_sha for task in part.suite.train} & {task.prompt_sha for task in part.tasks}
    (part,) = resolve(replace(config, split=("original",))).measured
    assert [task.prompt for task in part.suite.train] == [row["instruction"] for row in rows[:500]]
    assert [task.prompt for task in part.tasks] == [row["instruction"] for row in rows[500:]]
    assert "636 other rows" in part.suite.known_rows or part.suite.known_rows.startswith("other")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (RunConfig(profile="tiny", limit=4, full=True), "--limit and --full both say"),
        (RunConfig(profile="tiny", models=("base",), seeds=2), "--seeds is for models that are fine-tuned"),
        (RunConfig(profile="tiny", models=("base",), train_on="none"), "--train-on says what is learnt from"),
        (RunConfig(profile="tiny", samples=2, temperature=float("nan")), "--temperature nan is no temperature"),
        (
            RunConfig(profile="tiny", name="big.shard-1-of-2"),
            r"what a shard's folder is called \(name the run alone and add",
        ),
    ],
)
def test_words_of_which_one_would_be_lost_are_refused(tiny_workplace: Path, asked: RunConfig, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve(asked)
