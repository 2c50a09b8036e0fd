"""What a machine does to a run: a full disk, no permission, a clock that jumps back, a second process."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.generate.store import CompletionStore
from harness.runs.folder import RunFolder
from harness.runs.manifest import Manifest
from harness.runs.samples import SampleRecord
from harness.runs.summary import Summary
from harness.storage.atomic import disk_faults_named
from harness.types import Answer
from harness.vote import read_votes
from tests.conftest import ROOT
from tests.forked import Forked
from tests.pipeline.test_run import read, without_times
from tests.vote.test_vote import make_rows

NO_ROOM = r"No space left on device .*\(make room, then run the same command again: what is finished is kept\)"
KIB = 1024


@dataclass
class SmallDisk:
    """A tmpfs of its own size."""

    path: Path

    def resize(self, size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.path)], check=True)

    def fill(self, leave: int) -> None:
        """Fill it up to `leave` bytes."""
        room = shutil.disk_usage(self.path).free
        (self.path / "filler").write_bytes(b"x" * max(0, room - leave))

    def empty(self) -> None:
        (self.path / "filler").unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    place = tmp_path / "disk"
    place.mkdir()
    done = None
    if shutil.which("mount") and sys.platform == "linux":
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True, text=True
        )
    if done is None or done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip() if done else 'no mount'}")
    yield SmallDisk(place)
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def obeying_permissions() -> list[str]:
    """What goes before a command so that it may not write where the permissions say so; root may, unless told."""
    if os.name == "nt":
        pytest.skip("permissions are others there")
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere, and there is no setpriv to stop it")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"]


def launch_cli(
    workplace: Path, cache: Path, *arguments: str, prefix: Sequence[str] = (), python: Sequence[str] = ("-m", "harness")
) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HARNESS_CACHE": str(cache), "COLUMNS": "200"}
    return subprocess.Popen(
        [*prefix, sys.executable, *python, *arguments],
        cwd=workplace,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    said, error = process.communicate(timeout=600)
    return process.returncode, said, error


RUN = ("run", "--profile", "tiny", "--models", "base,tuned", "--limit", "2", "--name")


@pytest.fixture
def browser_there() -> None:
    from harness.render.browser import find_browser

    try:
        find_browser()
    except HarnessError as error:
        pytest.skip(str(error))


def results(folder: Path) -> list[Any]:
    return [without_times(read(folder, name)) for name in ("samples.jsonl", "summary.json")]


def test_the_store_of_completions_on_a_full_disk(small_disk: SmallDisk) -> None:
    store = CompletionStore({"weights": "a"}, small_disk.path)
    answers = {f"{number:032}": Answer("<p>" * 3000, "eos", 1, number, 0.5) for number in range(100)}
    kept = []
    with pytest.raises(HarnessError, match=NO_ROOM):
        for key, answer in answers.items():
            store.put(key, answer)
            kept.append(key)
    assert 0 < len(kept) < len(answers)
    lost = list(answers)[len(kept)]
    assert store.get(lost) is None  # what is not on the disk is not said to be there
    again = CompletionStore({"weights": "a"}, small_disk.path)
    assert {key: again.get(key) for key in kept} == {key: answers[key] for key in kept}
    small_disk.resize(4 * KIB * KIB)
    for key, answer in answers.items():
        if again.get(key) is None:
            again.put(key, answer)
    assert {key: CompletionStore({"weights": "a"}, small_disk.path).get(key) for key in answers} == answers


def test_a_run_folder_on_a_full_disk(small_disk: SmallDisk) -> None:
    rows = [
        SampleRecord(suite="s", task=f"t{number:02}", model="base", sample=0, page="x" * 9000, scores={})
        for number in range(40)
    ]
    kept = []
    with RunFolder("r", small_disk.path) as folder:
        folder.begin(Manifest(started="2026-01-01"), {"weights": "a"})
        folder.write("summary.json", Summary(models=("old",)))
        with pytest.raises(HarnessError, match=NO_ROOM):
            for row in rows:
                folder.append([row])
                kept.append(row)
        for write in (
            lambda: folder.write("summary.json", Summary(models=("x" * 9000,))),
            lambda: folder.write_lines("samples.jsonl", rows),
            lambda: folder.write_shot(b"picture" * 9000, "a.webp"),
        ):
            with pytest.raises(HarnessError, match=NO_ROOM):
                write()
        assert read(folder.path, "summary.json")["models"] == ["old"]
        assert {path.name for path in folder.path.iterdir()} <= {
            "summary.json", "manifest.json", "journal.jsonl", ".lock", "shots"
        }  # fmt: skip
    small_disk.resize(4 * KIB * KIB)
    with RunFolder("r", small_disk.path) as folder:
        _, found = folder.begin(Manifest(started="2026-01-02"), {"weights": "a"})
        assert found[: len(kept)] == kept
        folder.append(rows[len(found) :])
        assert folder.begin(Manifest(started="2026-01-02"), {"weights": "a"})[1] == rows


def test_what_libraries_write_to_a_full_disk_is_one_line(small_disk: SmallDisk) -> None:
    import torch
    from safetensors.torch import save_file

    weights = {"weight": torch.zeros(100_000)}
    with pytest.raises(HarnessError, match="cannot be written: " + NO_ROOM), disk_faults_named(small_disk.path):
        save_file(weights, small_disk.path / "one.safetensors")
    for file in small_disk.path.iterdir():
        file.unlink()
    with pytest.raises(HarnessError, match="cannot be written: " + NO_ROOM), disk_faults_named(small_disk.path):
        torch.save(weights, small_disk.path / "one.pt")
    with pytest.raises(RuntimeError, match="shape"), disk_faults_named(small_disk.path):
        weights["weight"].reshape(7, 7)  # another fault is not taken for that, however full the disk is


def written_run(folder: Path) -> Path:
    folder.mkdir(parents=True)
    scorers = {"conforming": {"scale": "binary", "kind": "form", "primary": True, "version": 1}}
    manifest = {"schema": 1, "run": folder.name, "scorers": scorers, "models": {"base": {}, "tuned": {}}}
    rows = [row | {"scores": {"conforming": row["scores"]["conforming"]}} for row in make_rows()]
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    tasks = [{"suite": "starter", "task": f"t{n}", "prompt": f"Write page {n}", "input": ""} for n in range(6)]
    (folder / "tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks), "utf-8")
    return folder


def test_votes_on_a_full_disk_and_on_one_that_is_read_only(small_disk: SmallDisk, tmp_path: Path) -> None:
    """The real command, spoken to as its page does."""
    run_dir = written_run(small_disk.path / "reports" / "r")
    environment = {"HARNESS_CACHE": str(tmp_path / "cache")}
    process = Forked(small_disk.path, environment, "vote", "r")
    found = re.search(r"http://\S+/", process.stdout.readline())
    assert found
    url = found[0]

    def ballot() -> str:
        with urllib.request.urlopen(url + "next", timeout=30) as answer:
            return str(json.load(answer)["id"])

    def vote(name: str) -> tuple[int, str]:
        sent = json.dumps({"id": name, "choice": "left"}).encode()
        request = urllib.request.Request(url + "vote", sent, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, ""
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    assert vote(ballot()) == (200, "")
    waiting = ballot()
    size = (run_dir / "votes.jsonl").stat().st_size
    (run_dir / "votes.jsonl").open("ab").write(b"\n" * (4 * KIB - size))  # to the end of its block
    small_disk.fill(leave=0)
    status, said = vote(waiting)
    assert status == 507
    assert re.search(r"votes\.jsonl cannot be written: " + NO_ROOM, said)
    assert ballot() == waiting
    small_disk.empty()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk.path)], check=True)
    status, said = vote(waiting)
    assert status == 507
    assert re.search(r"cannot be written: Read-only file system \(give write permission", said)
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk.path)], check=True)
    assert vote(waiting) == (200, "")
    assert len(read_votes(run_dir)) == 2
    small_disk.fill(leave=0)
    process.terminate()  # a shell may have the tests, and so this process, ignore SIGINT
    code, _, error = process.end()
    assert code == 1
    assert re.fullmatch(r"error: \S+agreement\.json cannot be written: " + NO_ROOM + "\n", error)
    small_disk.empty()
    assert len(read_votes(run_dir)) == 2
    small_disk.resize(KIB * KIB)
    assert Forked(small_disk.path, environment, "report", "r").end()[::2] == (0, "")
    assert read(run_dir, "agreement.json")["pairs"]["base:tuned"]["votes"] == 2
    # scores are frozen whole or not at all
    small_disk.fill(leave=0)
    (small_disk.path / "baselines" / "scores").mkdir(parents=True)
    code, _, error = Forked(small_disk.path, environment, "compare", "r", "--freeze").end()
    assert (code, error.count("\n")) == (1, 1)
    assert re.search(NO_ROOM, error)
    assert list((small_disk.path / "baselines" / "scores").iterdir()) == []


@pytest.mark.usefixtures("browser_there")
@pytest.mark.parametrize("forbidden", ["reports", "cache"])
def test_no_permission_is_one_line(tiny_workplace: Path, forbidden: str) -> None:
    folder = tiny_workplace / forbidden
    folder.mkdir(mode=0o555)
    as_anybody = bool(obeying_permissions())
    environment = {"HARNESS_CACHE": str(tiny_workplace / "cache")}
    code, _, error = Forked(tiny_workplace, environment, *RUN, "forbidden", as_anybody=as_anybody).end()
    assert (code, error.count("\n")) == (1, 1)
    assert re.match(r"error: .*Permission denied.*\((give write permission|set HARNESS_CACHE).+\)\n", error), error
    assert list(folder.iterdir()) == []


@pytest.mark.slow
@pytest.mark.usefixtures("browser_there")
def test_once_it_may_write_the_same_command_goes_on(tiny_workplace: Path, tmp_path: Path) -> None:
    prefix, cache = obeying_permissions(), tmp_path / "cache"
    (tiny_workplace / "reports").mkdir(mode=0o555)
    assert ended(launch_cli(tiny_workplace, cache, *RUN, "forbidden", prefix=prefix))[0] == 1
    (tiny_workplace / "reports").chmod(0o755)
    assert ended(launch_cli(tiny_workplace, cache, *RUN, "forbidden", prefix=prefix))[::2] == (0, "")
    rows = read(tiny_workplace / "reports" / "forbidden", "samples.jsonl")
    assert len(rows) == 2 * 8  # three models and five controls
    # a finished run whose files may no longer be written
    folder = tiny_workplace / "reports" / "forbidden"
    before = (folder / "samples.jsonl").read_bytes()
    folder.chmod(0o555)
    code, _, error = ended(launch_cli(tiny_workplace, cache, *RUN, "forbidden", prefix=prefix))
    folder.chmod(0o755)
    assert (code, error.count("\n")) == (1, 1)
    assert re.search(r"Permission denied \(give write permission", error)
    assert (folder / "samples.jsonl").read_bytes() == before


@pytest.mark.usefixtures("browser_there")
def test_a_second_run_of_the_same_name_is_refused(tiny_workplace: Path, tmp_path: Path) -> None:
    with RunFolder("same", tiny_workplace / "reports"):
        code, _, error = Forked(tiny_workplace, {"HARNESS_CACHE": str(tmp_path / "cache")}, *RUN, "same").end()
    assert (code, error) == (
        1, "error: another process works on the run same (wait for it, or give this one another --name)\n"
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("browser_there")
def test_two_runs_at_once_with_one_cache_end_alike(tiny_workplace: Path, tmp_path: Path) -> None:
    both = [launch_cli(tiny_workplace, tmp_path / "cache", *RUN, name) for name in ("one", "two")]
    said = [ended(process) for process in both]
    assert [(code, error) for code, _, error in said] == [(0, ""), (0, "")]
    one, two = (results(tiny_workplace / "reports" / name) for name in ("one", "two"))
    assert one == two
    records = [read(tiny_workplace / "reports" / name, "manifest.json")["models"]["tuned"] for name in ("one", "two")]
    assert records[0]["adapter_sha256"] == records[1]["adapter_sha256"]
    assert len(list((tmp_path / "cache" / "adapters").glob("*/training.json"))) == 1


FULL_AT = (0, 64 * KIB, 512 * KIB, 2048 * KIB)
MOST_ROOM = 64 * KIB * KIB


@pytest.mark.slow
@pytest.mark.usefixtures("browser_there")
@pytest.mark.parametrize("what", ["reports", "cache"])
def test_a_disk_that_fills_up_during_a_run(
    tiny_workplace: Path, tmp_path: Path, small_disk: SmallDisk, what: str
) -> None:
    """The disk grows a little after each failure: it fills up at one stage after the other."""
    reports, cache = tiny_workplace / "reports", tmp_path / "cache"
    assert ended(launch_cli(tiny_workplace, cache, *RUN, "quiet"))[::2] == (0, "")
    written = [path for path in (reports if what == "reports" else cache).rglob("*") if path.is_file()]
    pages = sum(path.stat().st_size for path in written if path.suffix == ".html")  # the report: most of a run's bytes
    rows = sum(path.stat().st_size for path in written) - pages
    wanted = results(reports / "quiet")
    if what == "reports":
        reports.rename(tmp_path / "done")
        reports.symlink_to(small_disk.path, target_is_directory=True)
    else:
        cache = small_disk.path
    stages = []
    sizes = [rows // 50, rows // 5, rows // 2, rows * 9 // 10, rows + pages // 2, 4 * (rows + pages)]
    for size in sizes:
        small_disk.resize(max(16 * KIB, size))
        code, said, error = ended(launch_cli(tiny_workplace, cache, *RUN, "full"))
        if code == 0:
            break
        assert (code, error.count("\n")) == (1, 1), error
        assert "No space left on device" in error
        assert "make room" in error
        stages.append(said.strip().splitlines()[-1])
        print(f"{size // KIB} KiB: in {stages[-1]}: {error}", flush=True)
    assert (code, error) == (0, "")
    assert len(set(stages)) >= (3 if what == "reports" else 1)  # checkpoints are most of what a cache holds
    assert results(reports / "full") == wanted


BACKWARDS = """
import datetime, itertools, sys, time
real, days = time.time, itertools.count()
time.time = lambda: real() - 3600 * next(days)
time.time_ns = lambda: int(time.time() * 1e9)
class Backwards(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.fromtimestamp(time.time(), tz)
import harness.pipeline.manifest, harness.pipeline.config, harness.pipeline.run
for module in (harness.pipeline.manifest, harness.pipeline.config, harness.pipeline.run):
    module.datetime = Backwards
from harness.cli import main
main()
"""


@pytest.mark.slow
@pytest.mark.usefixtures("browser_there")
def test_a_clock_that_jumps_back_changes_nothing(tiny_workplace: Path, tmp_path: Path) -> None:
    assert ended(launch_cli(tiny_workplace, tmp_path / "quiet", *RUN, "quiet"))[::2] == (0, "")
    backwards: Callable[[], subprocess.Popen[str]] = lambda: launch_cli(  # noqa: E731
        tiny_workplace, tmp_path / "cache", *RUN, "back", python=("-c", BACKWARDS)
    )
    first = backwards()
    threading.Timer(12, first.kill).start()
    first.communicate()
    assert ended(backwards())[::2] == (0, "")
    reports = tiny_workplace / "reports"
    assert results(reports / "back") == results(reports / "quiet")
    manifest = read(reports / "back", "manifest.json")
    assert manifest["finished"] < manifest["started"]
    assert "back" in (reports / "index.html").read_text("utf-8")
    assert all(row["timing"]["generate_s"] >= 0 for row in read(reports / "back", "samples.jsonl"))
