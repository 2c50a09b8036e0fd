"""`--dtype`: decided once for a run, kept by its parts and repetitions, refused where another one is asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.compare.command import describe
from harness.compare.runs import compare_runs
from harness.errors import UsageError
from harness.model.load import Precision, why_slow
from harness.pipeline.config import RunConfig, resolve
from harness.pipeline.merge_shards import merge_shards
from harness.pipeline.run_dtype import in_the_runs_dtype
from harness.runs.read import load_run
from harness.runs.shard import Shard
from harness.types import ComputeDType
from tests.pipeline.test_run import do, read

TINY = RunConfig(profile="tiny", name="mine", limit=2)


def begin(reports: Path, folder: str, asked: str | None, dtype: str) -> None:
    """Write what a run has written that began with `--dtype asked`."""
    (reports / folder).mkdir(parents=True)
    manifest = {
        "run": folder,
        "schema": 1,
        "arguments": {} if asked is None else {"dtype": asked},
        "models": {"base": {"kind": "base", "dtype": dtype}, "empty": {"kind": "control"}},
    }
    (reports / folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("asked", "begun", "dtype", "kept"),
    [
        (None, None, "float32", None),
        (None, "bfloat16", "bfloat16", "bfloat16"),
        ("bfloat16", "bfloat16", "bfloat16", "bfloat16"),
        ("float32", None, "float32", "float32"),
    ],
)
@pytest.mark.parametrize("cut", [False, True])
def test_a_repetition_and_another_shard_keep_the_runs_dtype(
    tiny_workplace: Path,
    asked: ComputeDType | None,
    begun: str | None,
    dtype: str,
    kept: str | None,
    cut: bool,
) -> None:
    begin(tiny_workplace / "reports", "mine.shard-1-of-2" if cut else "mine", begun, dtype)
    plan = resolve(replace(TINY, dtype=asked, shard=Shard(2, 2) if cut else None))
    resumed = in_the_runs_dtype(plan, tiny_workplace / "reports")
    assert resumed.config.dtype == kept
    assert (resumed.notes != plan.notes) == (asked != kept)


@pytest.mark.parametrize("cut", [False, True])
def test_another_dtype_than_the_runs_is_refused(tiny_workplace: Path, cut: bool) -> None:
    begin(tiny_workplace / "reports", "mine.shard-1-of-2" if cut else "mine", None, "float32")
    plan = resolve(replace(TINY, dtype="bfloat16", shard=Shard(2, 2) if cut else None))
    with pytest.raises(UsageError, match="was begun in float32, not in bfloat16"):
        in_the_runs_dtype(plan, tiny_workplace / "reports")


def test_a_runs_default_name_changes_with_a_dtype_that_is_asked_for_alone(tiny_workplace: Path) -> None:
    config = replace(TINY, name=None)
    assert "dtype" not in config.cache_key_fields()
    assert resolve(config).run_name != resolve(replace(config, dtype="bfloat16")).run_name


def test_a_run_in_bfloat16_is_recorded_kept_and_told_apart(tiny_workplace: Path, own_answers: Path) -> None:
    wide, _ = do(replace(TINY, models=("base",)))
    config = replace(TINY, models=("base",), name="narrow")
    narrow, _ = do(replace(config, dtype="bfloat16"))
    manifest = read(narrow, "manifest.json")
    assert (manifest["arguments"]["dtype"], manifest["profile"]["dtype"]) == ("bfloat16", "bfloat16")
    assert manifest["models"]["base"]["dtype"] == "bfloat16"
    before = read(narrow, "samples.jsonl")

    _, said = do(config)  # again, without saying it
    assert "was begun with --dtype bfloat16" in said
    assert read(narrow, "manifest.json")["models"]["base"]["dtype"] == "bfloat16"
    assert read(narrow, "samples.jsonl") == before

    result = compare_runs(load_run(wide), "base", load_run(narrow), "base", replicates=99)
    lines = describe(result, load_run(narrow).manifest.scorers)
    assert "base@mine answered in float32, base@narrow in bfloat16" in lines


def test_shards_of_two_dtypes_are_not_one_run(tiny_workplace: Path, own_answers: Path) -> None:
    cut = replace(TINY, models=("base",), name="cut", limit=4)
    do(replace(cut, shard=Shard(1, 2)))
    with pytest.raises(UsageError, match=r"cut\.shard-1-of-2 was begun in float32, not in bfloat16"):
        do(replace(cut, shard=Shard(2, 2), dtype="bfloat16"))
    second, _ = do(replace(cut, shard=Shard(2, 2)))
    manifest = read(second, "manifest.json") | {"deciding": "other"}
    manifest["models"]["base"]["dtype"] = "bfloat16"
    (second / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UsageError, match=r"differ in dtype \(float32 against bfloat16\)"):
        merge_shards("cut")


@pytest.mark.parametrize(
    ("precision", "flags", "slow"),
    [
        (Precision("none", "float32", "cpu"), (False, False), False),
        (Precision("none", "bfloat16", "cuda"), (False, False), False),
        (Precision("none", "bfloat16", "cpu"), (True, False), False),
        (Precision("none", "bfloat16", "cpu"), (False, True), False),
        (Precision("none", "bfloat16", "cpu"), (False, False), True),
        (Precision("none", "float16", "cpu"), (True, True), True),
    ],
)
def test_a_dtype_that_is_slower_here_is_said(
    monkeypatch: pytest.MonkeyPatch, precision: Precision, flags: tuple[bool, bool], slow: bool
) -> None:
    monkeypatch.setattr("harness.model.load.has_bfloat16_products", lambda: any(flags))
    assert (why_slow(precision) is not None) == slow
