"""Two things of one name are refused in one line or told apart, never merged; profiles count field by field."""

from __future__ import annotations

import functools
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UsageError
from harness.generate.transformers.decoding import TransformersDecoding
from harness.generate.transformers.generator import Generator
from harness.model.profile_schema import ProfileFile
from harness.pipeline.config import RunConfig, resolve
from harness.pipeline.data_option import parse_data_options
from harness.pipeline.prepare import prepare
from harness.progress import ProgressReporter
from harness.types import CONTROL_NAMES
from tests.conftest import CommandLine, make_suite

TINY = RunConfig(profile="tiny", name="mine", models=("base",))


def make_adapter(folder: Path) -> str:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "some/base"}')
    (folder / "adapter_model.safetensors").write_bytes(b"tensors")
    return str(folder)


def refused(config: RunConfig) -> str:
    with pytest.raises(UsageError) as fault:
        resolve(config)
    assert "\n" not in str(fault.value)
    return str(fault.value)


@pytest.mark.parametrize("name", CONTROL_NAMES)
def test_an_adapters_folder_called_like_a_control_is_refused(tiny_workplace: Path, tmp_path: Path, name: str) -> None:
    for written in (name, name.upper()):
        folder = make_adapter(tmp_path / "elsewhere" / written)
        said = refused(replace(TINY, models=("base", folder)))
        assert f"a model is called '{written}', like the control '{name}'" in said
        shutil.rmtree(folder)
    (tiny_workplace / "baselines" / "tiny" / f"{name}.yaml").write_text("few_shot: 1\n")
    assert f"'{name}' is a control, and profile tiny has a model of that name" in refused(
        replace(TINY, models=("base", name))
    )


@pytest.mark.parametrize("name", ["base", "base-fewshot", "Base", "ｂａｓｅ"])
def test_an_adapters_folder_called_like_another_model_is_refused(
    tiny_workplace: Path, tmp_path: Path, name: str
) -> None:
    folder = make_adapter(tmp_path / "elsewhere" / name)
    assert f"'{name}'" in refused(replace(TINY, models=("base", "base-fewshot", folder)))


def test_an_adapters_folder_may_be_called_like_the_tuned_model_that_it_replaces(
    tiny_workplace: Path, tmp_path: Path
) -> None:
    folder = make_adapter(tmp_path / "elsewhere" / "tuned")
    specs = resolve(replace(TINY, models=("base", folder))).specs
    assert [(spec.name, spec.kind) for spec in specs if spec.kind == "tuned"] == [("tuned", "tuned")]
    assert "two models are called 'tuned'" in refused(replace(TINY, models=("base", "tuned", folder)))
    alone = make_adapter(tmp_path / "elsewhere" / "base")
    assert "a tuned model is called 'base', which is the base model of profile tiny" in refused(
        replace(TINY, models=("tuned", alone))
    )


@pytest.mark.parametrize("name", ["tuned#seed0", "a#b", "base:tuned", "line\nbreak", "x" * 101])
def test_names_with_what_stands_between_names_are_refused(tiny_workplace: Path, tmp_path: Path, name: str) -> None:
    folder = make_adapter(tmp_path / "elsewhere" / name)
    assert "a model cannot be called" in refused(replace(TINY, models=("base", folder)))


@pytest.mark.parametrize("name", ["v1.2", "my adapter", "größe", "step-100", "a@b"])
def test_other_names_are_fine(tiny_workplace: Path, tmp_path: Path, name: str) -> None:
    folder = make_adapter(tmp_path / "elsewhere" / name)
    assert name in [spec.name for spec in resolve(replace(TINY, models=("base", folder))).specs]


def test_the_folder_one_stands_in_has_a_name(
    tiny_workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_adapter(tiny_workplace / "here")
    for name in ("tasks", "baselines"):
        (tiny_workplace / "here" / name).symlink_to(tiny_workplace / name)
    monkeypatch.chdir(tiny_workplace / "here")
    assert "here" in [spec.name for spec in resolve(replace(TINY, models=("base", "."))).specs]


def test_an_adapter_that_is_not_there_is_said_before_any_work(tiny_workplace: Path) -> None:
    (tiny_workplace / "baselines" / "tiny" / "theirs.yaml").write_text("adapter: nowhere\n")
    assert "nowhere holds no adapter: adapter_config.json is missing" in refused(replace(TINY, models=("theirs",)))
    folder = Path(make_adapter(tiny_workplace / "broken"))
    (folder / "adapter_config.json").write_text("{")
    assert "adapter_config.json is not valid JSON" in refused(replace(TINY, models=("base", str(folder))))


def test_two_suites_in_folders_of_one_name_are_refused(tiny_workplace: Path, tmp_path: Path) -> None:
    make_suite(tmp_path / "a" / "pages", train=4, held_out=4)
    make_suite(tmp_path / "b" / "pages", train=3, held_out=3)
    make_suite(tmp_path / "b" / "Small", train=3, held_out=3)
    first, second, folded = (str(tmp_path / name) for name in ("a/pages", "b/pages", "b/Small"))
    assert re.search(
        "two suites are called 'pages': .*a/pages and .*b/pages", refused(replace(TINY, suites=(first, second)))
    )
    assert "two suites are called 'Small'" in refused(replace(TINY, suites=("small", folded)))
    twice = resolve(replace(TINY, suites=(first, f"{first}/", str(Path(first).parent / ".." / "a" / "pages"))))
    assert [part.suite.name for part in twice.measured] == ["pages"]
    # learnt from one, measured on the other
    assert "two suites are called 'pages'" in refused(
        replace(TINY, models=("tuned",), suites=(first,), train_on=second)
    )


def test_data_reach_the_suite_that_is_meant(tiny_workplace: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "small"
    make_suite(folder, train=4, held_out=4)
    rows = tmp_path / "rows.jsonl"
    words = ("bread", "rivers", "clouds", "poetry", "engines", "chess", "violins", "harbours", "lamps", "wolves")
    rows.write_text("".join(json.dumps({"prompt": f"All about {w}", "reference": f"<p>{w}"}) + "\n" for w in words))
    (part,) = resolve(replace(TINY, suites=(str(folder),), data={str(folder): rows})).measured
    assert len(part.suite.train) + len(part.suite.held_out) == len(words)
    # of the other suite of that name
    assert f"'small' is not used here (in use: {folder})" in refused(
        replace(TINY, suites=(str(folder),), data={"small": rows})
    )
    other = tmp_path / "other.jsonl"
    other.write_text(rows.read_text())
    with pytest.raises(UsageError, match="gives the suite 'small' two files"):
        parse_data_options([f"small={rows}", f"small={other}"])
    assert "two files" in refused(replace(TINY, data={"small": rows, "tasks/small": other}))


def test_a_folder_to_train_on_works_in_train_as_in_run(
    own_cache: Path, tiny_workplace: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    folder = tmp_path / "elsewhere" / "lessons"
    make_suite(folder, train=8, held_out=2)
    plan = resolve(replace(TINY, models=("base", "tuned"), train_on=str(folder)))
    assert [part.suite.name for part in plan.measured] == ["small"]
    assert {suite.name for suite in plan.learns_from.values()} == {"lessons"}
    tuned = tiny_workplace / "baselines" / "tiny" / "tuned.yaml"
    tuned.write_text(tuned.read_text().replace("max_steps: 4", "max_steps: 1"))
    code, said, complaint = command_line("train", "--profile", "tiny", "--train-on", str(folder))
    assert (code, complaint) == (0, "")
    assert "8 rows of lessons" in " ".join(said.split())


SILENT_FIELDS = {
    "title": "a name for people",
    "shape": "for `plan` alone",
    "batch_size": "changes the order of sums and nothing else",
    "suites": "each suite's answers are told apart by their prompts",
}


def test_every_field_of_a_profile_counts(
    own_cache: Path, tiny_workplace: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import yaml

    from harness.model import load

    monkeypatch.setattr(load, "load_tokenizer", functools.cache(load.load_tokenizer))  # slow, and not asked for here
    # which decoder writes is proved on loaded weights, and has tests of its own
    monkeypatch.setattr(TransformersDecoding, "identity", lambda self, model: {})
    shutil.copytree(tiny_folder, tmp_path / "other")
    (tmp_path / "other" / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}!")
    path = tiny_workplace / "baselines" / "tiny" / "profile.yaml"
    content = yaml.safe_load(path.read_text())
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    changes: dict[str, Any] = {
        "title": "Other",
        "weights": {"folder": str(tmp_path / "other")},
        "shape": dict.fromkeys((*sizes, "vocab_size"), 8),
        "prompt": "{{ prompt }}?",
        "chat": True,
        "quantization": "nf4",
        "dtype": "bfloat16",
        "max_new_tokens": 25,
        "batch_size": 3,
        "suites": ["html_starter"],
    }
    assert changes.keys() == ProfileFile.model_fields.keys()

    def identity() -> dict[str, Any]:
        (candidate,) = prepare(resolve(TINY, models_only=True), ProgressReporter())
        assert isinstance(candidate.generator, Generator)
        return candidate.generator.identity()

    before = identity()
    silent = set()
    for name, value in changes.items():
        path.write_text(yaml.safe_dump(content | {name: value}))
        if identity() == before:
            silent.add(name)
    assert silent == set(SILENT_FIELDS)
