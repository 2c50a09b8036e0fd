from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError, UsageError
from harness.runs.folder import RunFolder
from harness.runs.manifest import Manifest
from harness.runs.samples import SampleRecord
from harness.runs.summary import Summary

ROOT = Path(__file__).parents[2]


def row(task: str, model: str = "base", sample: int = 0) -> SampleRecord:
    return SampleRecord(suite="s", task=task, model=model, sample=sample, completion="<p>", scores={})


def manifest(started: str = "2026-01-01T00:00:00+00:00", **more: Any) -> Manifest:
    return Manifest(started=started, **more)


def begin(folder: RunFolder, weights: str, start: Manifest | None = None) -> list[SampleRecord]:
    return folder.begin(start or manifest(), {"weights": weights})[1]


def test_a_second_process_is_refused_and_the_lock_dies_with_its_holder(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from harness.runs.folder import RunFolder\n"
        "with RunFolder('mine', Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(HarnessError) as refused, RunFolder("mine", tmp_path):
            pass
        assert str(refused.value) == (
            "another process works on the run mine (wait for it, or give this one another --name)"
        )
        with RunFolder("other", tmp_path):
            pass
        holder.kill()
    with RunFolder("mine", tmp_path) as folder:
        assert folder.path == tmp_path / "mine"


def test_finished_rows_come_back_and_a_torn_one_does_not(tmp_path: Path) -> None:
    with RunFolder("r", tmp_path) as folder:
        assert begin(folder, "a") == []
        folder.append([row("one"), row("two")])
    with folder.journal.open("ab") as stream:
        stream.write(b'{"suite":"s","task":"th')
    with RunFolder("r", tmp_path) as folder:
        found = begin(folder, "a")
        assert [entry.key for entry in found] == [("s", "one", "base", 0), ("s", "two", "base", 0)]
        folder.append([row("three")])
    with RunFolder("r", tmp_path) as folder:
        assert [entry.task for entry in begin(folder, "a")] == ["one", "two", "three"]


def test_rows_that_something_else_decided_are_kept_apart(tmp_path: Path) -> None:
    for number, weights in enumerate(("a", "b", "a")):
        with RunFolder("r", tmp_path) as folder:
            assert begin(folder, weights) == []
            folder.append([row(f"task-{number}")])
    assert "task-0" in (tmp_path / "r" / "journal-1.jsonl").read_text()
    assert "task-1" in (tmp_path / "r" / "journal-2.jsonl").read_text()
    assert "task-2" in (tmp_path / "r" / "journal.jsonl").read_text()


def test_the_time_of_the_first_start_stays_when_the_clock_jumps_back(tmp_path: Path) -> None:
    with RunFolder("r", tmp_path) as folder:
        begin(folder, "a")
        folder.append([row("one")])
    with RunFolder("r", tmp_path) as folder:
        found = begin(folder, "a", manifest("1999-01-01T00:00:00+00:00"))
        assert [entry.task for entry in found] == ["one"]
        written = folder.read_manifest()
    assert written is not None
    assert written.started == "2026-01-01T00:00:00+00:00"


def test_files_older_than_what_they_follow_are_read_all_the_same(tmp_path: Path) -> None:
    with RunFolder("r", tmp_path) as folder:
        begin(folder, "a")
        folder.append([row("one")])
    os.utime(folder.journal, (0, 0))
    os.utime(folder.path / "manifest.json", (time.time() + 1e6, time.time() + 1e6))
    with RunFolder("r", tmp_path) as folder:
        assert len(begin(folder, "a")) == 1


def test_a_broken_manifest_does_not_stop_a_run(tmp_path: Path) -> None:
    with RunFolder("r", tmp_path):
        (tmp_path / "r" / "manifest.json").write_text('{"schema": 1, "star')
    with RunFolder("r", tmp_path) as folder:
        assert folder.read_manifest() is None
        begin(folder, "a")
        assert folder.read_manifest() is not None


@pytest.mark.parametrize("name", ["manifest.json", "index.html", "notes.txt", ".lock", "journal.jsonl"])
def test_a_folder_of_somebodys_own_is_refused_and_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / name).write_text('{"name": "a web application"}')
    with pytest.raises(UsageError, match=rf"r holds {name} and no run \(give the run another --name\)"):
        RunFolder("r", tmp_path).__enter__()
    assert {path.name: path.read_text() for path in (tmp_path / "r").iterdir()} == {
        name: '{"name": "a web application"}'
    }


def test_an_older_journal_is_never_replaced_by_another(tmp_path: Path) -> None:
    for weights in ("a", "b", "c"):
        with RunFolder("r", tmp_path) as folder:
            begin(folder, weights, manifest(run="r"))
            folder.append([row(weights)])
    (tmp_path / "r" / "journal-1.jsonl").unlink()  # one is left, and it is the second
    with RunFolder("r", tmp_path) as folder:
        begin(folder, "d", manifest(run="r"))
    kept = {path.name: json.loads(path.read_text())["task"] for path in (tmp_path / "r").glob("journal-*.jsonl")}
    assert kept == {"journal-1.jsonl": "c", "journal-2.jsonl": "b"}


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("a file where a folder should be")
    with (
        pytest.raises(HarnessError, match=r"cannot be written: .+ \(check the path\)"),
        RunFolder("r", tmp_path / "reports"),
    ):
        pass


def test_a_read_only_folder_is_one_line(tmp_path: Path) -> None:
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    reports = tmp_path / "reports"
    reports.mkdir(mode=0o555)
    with pytest.raises(HarnessError, match=r"cannot be written: Permission denied"), RunFolder("r", reports):
        pass


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with RunFolder("r", tmp_path) as folder:
        begin(folder, "a")
        folder.append([row("one")])
        folder.write("summary.json", Summary(models=("old",)))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            for write in (
                lambda: folder.append([row("two")]),
                lambda: folder.write("summary.json", Summary(models=("new",))),
                lambda: folder.write_lines("samples.jsonl", [row("one")]),
                lambda: folder.write_shot(b"picture", "a.webp"),
            ):
                with pytest.raises(HarnessError, match=r"cannot be written: No space left on device \(make room"):
                    write()
        assert json.loads((folder.path / "summary.json").read_text())["models"] == ["old"]
        assert not (folder.path / "samples.jsonl").exists()
        assert list((folder.path / "shots").iterdir()) == []
        assert folder.write_shot(b"picture", "a.webp") == "shots/a.webp"
    with RunFolder("r", tmp_path) as folder:
        assert begin(folder, "a")[0].task == "one"


def test_a_picture_is_written_once(tmp_path: Path) -> None:
    with RunFolder("r", tmp_path) as folder:
        folder.write_shot(b"picture", "a.webp")
        before = (folder.path / "shots" / "a.webp").stat().st_ino
        assert folder.write_shot(b"picture", "a.webp") == "shots/a.webp"
        assert (folder.path / "shots" / "a.webp").stat().st_ino == before


@pytest.mark.parametrize("sample", [0, 11])
def test_rows_are_ordered_by_number_not_by_its_letters(sample: int) -> None:
    assert row("a", sample=sample).key < row("a", sample=sample + 1).key
    assert row("a", sample=9).key < row("a", sample=10).key


def test_the_answer_of_other_rows_is_put_aside_with_them(tmp_path: Path) -> None:
    answer = ("index.html", "summary.json", "samples.jsonl", "tasks.jsonl", "agreement.json")
    with RunFolder("r", tmp_path) as folder:
        begin(folder, "a")
        folder.append([row("one")])
        for name in answer:
            (folder.path / name).write_text("of a")
    (folder.path / "votes.jsonl").write_text("of people")
    with RunFolder("r", tmp_path) as folder:
        begin(folder, "a")
        assert all((folder.path / name).is_file() for name in answer)
    with RunFolder("r", tmp_path) as folder:
        assert begin(folder, "a", manifest(arguments={"limit": 8})) == [row("one")]  # and is stopped here
    assert {path.name for path in folder.path.glob("*-1.*")} == {name.replace(".", "-1.") for name in answer}
    for name in answer:
        (folder.path / name.replace(".", "-1.")).rename(folder.path / name)
    with RunFolder("r", tmp_path) as folder:
        begin(folder, "b")
    names = {path.name for path in folder.path.iterdir()} - {".lock"}
    kept = {"index-1.html", "summary-1.json", "samples-1.jsonl", "tasks-1.jsonl", "agreement-1.json", "journal-1.jsonl"}
    assert names == {"manifest.json", "votes.jsonl"} | kept
    assert (folder.path / "samples-1.jsonl").read_text() == "of a"
