"""A run cut into shards and put together again is the run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UsageError
from harness.pipeline.config import RunConfig
from harness.pipeline.merge_shards import merge_shards
from harness.runs.folder import RunFolder
from harness.runs.manifest import Manifest
from harness.runs.shard import Shard, parse_shard, shard_folders
from tests.pipeline.test_run import check_contract, do, read, without_times


@pytest.mark.parametrize("word", ["", "1", "0/2", "3/2", "1/0", "a/b", "1/2/3", "-1/2", "1.5/2"])
def test_a_shard_is_two_numbers_in_order(word: str) -> None:
    with pytest.raises(UsageError, match="1/4"):
        parse_shard(word)


def test_every_task_is_in_one_shard() -> None:
    tasks: Any = list(range(11))
    parts = [parse_shard(f"{number}/3").part(tasks) for number in (1, 2, 3)]
    assert sorted(task for part in parts for task in part) == tasks
    assert {len(part) for part in parts} == {3, 4}


def test_folders_of_other_runs_are_not_taken_for_shards(tmp_path: Path) -> None:
    for name in ("mine.shard-2-of-2", "mine.shard-1-of-2", "mine", "mine.shard-x", "not-mine.shard-1-of-2"):
        (tmp_path / name).mkdir()
    assert [(shard, folder.name) for shard, folder in shard_folders("mine", tmp_path).items()] == [
        (Shard(1, 2), "mine.shard-1-of-2"),
        (Shard(2, 2), "mine.shard-2-of-2"),
    ]
    assert merge_shards("other", tmp_path) is None


def test_shards_put_together_are_the_run(tiny_workplace: Path, own_answers: Path) -> None:
    request = RunConfig(profile="tiny", limit=5, name="whole")
    parts = []
    for number in (1, 2):
        part, said = do(RunConfig(profile="tiny", limit=5, name="cut", shard=Shard(number, 2)))
        assert "python -m harness report cut" in said
        assert not (part / "index.html").exists()
        parts.append(part)
        if number == 1:
            with pytest.raises(UsageError, match="lacks the shard 2/2"):
                merge_shards("cut")
    assert [len(read(part, "samples.jsonl")) for part in parts] == [3 * 8, 2 * 8]
    whole, _ = do(request)
    merged = merge_shards("cut")
    assert merged == whole.parent / "cut"
    check_contract(merged, {"base", "base-fewshot", "tuned"}, tasks=5)
    assert read(merged, "tasks.jsonl") == read(whole, "tasks.jsonl")
    for name in ("samples.jsonl", "summary.json"):
        assert without_times(read(merged, name)) == without_times(read(whole, name))
    costs = [read(part, "manifest.json")["models"]["base"]["cost"] for part in parts]
    cost = read(merged, "manifest.json")["models"]["base"]["cost"]
    assert cost["completion_tokens"] == sum(part["completion_tokens"] for part in costs)

    # again, by its path
    assert merge_shards(str(merged)) == merged

    # parts that do not belong together are refused
    doubled = (parts[0] / "samples.jsonl").read_text()
    (parts[1] / "samples.jsonl").write_text(doubled)
    with pytest.raises(UsageError, match=r"shard 2/2 holds task .* again"):
        merge_shards("cut")
    manifest = read(parts[1], "manifest.json")
    manifest["deciding"] = "other"
    manifest["models"]["tuned"]["adapter_sha256"] = "f" * 64
    (parts[1] / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UsageError, match="1/2 and 2/2 of cut differ in models"):
        merge_shards("cut")
    (parts[1] / "manifest.json").write_text(json.dumps(manifest | {"finished": None}))
    with pytest.raises(UsageError, match="shard 2/2 has not finished"):
        merge_shards("cut")
    shutil.copytree(parts[0], whole.parent / "cut.shard-3-of-3")
    with pytest.raises(UsageError, match="parts of 2 and of 3"):
        merge_shards("cut")


def test_old_shards_do_not_take_the_place_of_a_run_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "big.shard-1-of-1").mkdir()
    with RunFolder("big", tmp_path) as folder:
        folder.write("manifest.json", Manifest(run="big"))
    with pytest.raises(UsageError, match="big is a run of its own, and shards of a run big lie beside it"):
        merge_shards("big", tmp_path)
