"""The one reader of a run's folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pydantic import JsonValue

from harness.errors import HarnessError, UsageError, did_you_mean
from harness.runs.folder import AGREEMENT_FILE, MANIFEST_FILE, SAMPLES_FILE, SUMMARY_FILE, TASKS_FILE, VOTES_FILE
from harness.runs.manifest import Manifest, ScorerEntry
from harness.runs.record import RecordT, parsed, unfit
from harness.runs.run import Run
from harness.runs.samples import RecordKey, SampleRecord, TaskKey, TaskRecord
from harness.runs.schema import JsonObject, upgraded
from harness.runs.summary import Summary
from harness.runs.votes import Agreement, Vote
from harness.storage.jsonl import read_lines

_HIGHEST = {"binary": 1.0, "share": 1.0, "percent": 100.0}
_SLACK = 1e-6
"""How far a score may lie outside its range: sacrebleu's 100 is 100.00000000000004."""
_BLEU_COUNTS = 10
"""Two lengths, and for each of four orders the matches and the n-grams."""
_AGAIN = "call `run` again to write it anew"
_FREEZE = "freeze the run anew"


def read_run(folder: Path) -> Run:
    """Read a run's folder; a run that is not finished may lack all files but its manifest.

    Raises:
        UsageError: the folder or its manifest is not there.
        HarnessError: a file is damaged or of a newer schema; names it, with the line.
    """
    manifest = read_manifest(folder)
    rows = _lines(folder / SAMPLES_FILE, SampleRecord)
    tasks = _lines(folder / TASKS_FILE, TaskRecord)
    return Run(
        path=folder,
        manifest=manifest,
        rows=checked_rows(rows, manifest.scorers),
        tasks={task.key: task for _, task in tasks},
        summary=_whole(folder / SUMMARY_FILE, Summary) if (folder / SUMMARY_FILE).is_file() else Summary(),
        agreement=_whole(folder / AGREEMENT_FILE, Agreement) if (folder / AGREEMENT_FILE).is_file() else Agreement(),
    )


def read_overview(folder: Path) -> Run:
    """Read a run's manifest and summary only: what the list of all runs needs. Raises as `read_run`."""
    summary = folder / SUMMARY_FILE
    return Run(folder, read_manifest(folder), summary=_whole(summary, Summary) if summary.is_file() else Summary())


def load_run(path: Path) -> Run:
    """Read a finished run's folder, or a file of frozen scores (see `harness.compare.runs.freeze`).

    Raises:
        UsageError: there is no run, or it has not finished.
        HarnessError: a file is torn or of a newer schema.
    """
    if path.is_file():
        return _frozen(path)
    manifest = read_manifest(path)
    if not (path / SAMPLES_FILE).is_file():
        raise UsageError(
            f"the run {path.name} is not finished: it has no {SAMPLES_FILE}", "call `run` again to finish it"
        )
    if not (path / TASKS_FILE).is_file():  # which tasks are near-duplicates: without it each would count by itself
        raise HarnessError(f"the run {path.name} lacks its {TASKS_FILE}", "copy the whole folder")
    tasks = {task.key: task for _, task in _lines(path / TASKS_FILE, TaskRecord)}
    return Run(path, manifest, checked_rows(_lines(path / SAMPLES_FILE, SampleRecord), manifest.scorers), tasks)


def read_manifest(folder: Path) -> Manifest:
    """Read a run's manifest. Raises as `read_run`."""
    if not (folder / MANIFEST_FILE).is_file():
        raise UsageError(
            f"{one_path(folder)} holds no run: it has no {MANIFEST_FILE}", "name a folder that `run` wrote"
        )
    return _whole(folder / MANIFEST_FILE, Manifest)


def read_votes(folder: Path) -> list[Vote]:
    """Return the votes of a run in the order they were given; torn lines are dropped, no file is no votes."""
    path = folder / VOTES_FILE
    kept = (vote for vote in read_lines(path) if {"suite", "task", "left", "right", "chosen"} <= vote.keys())
    return [parsed(Vote, upgraded(vote, path), one_path(path)) for vote in kept]


def find_run(name: str, reports: Path = Path("reports"), frozen: Path = Path("baselines/scores")) -> Path:
    """Return where the run called `name` lies: a path, a folder under `reports`, or a file of frozen scores.

    Raises:
        UsageError: there is none; names what is there.
    """
    candidates = [Path(name), reports / name, frozen / f"{name}.json"] if name else []
    # a folder that only happens to bear the name, as `docs` may, does not stand before a run
    for there in (_is_run, Path.exists):
        for candidate in candidates:
            if there(candidate):
                return candidate
    known = [path.parent.name for path in reports.glob(f"*/{MANIFEST_FILE}")] + [
        path.stem for path in frozen.glob("*.json")
    ]
    raise UsageError(f"there is no run '{name}'", did_you_mean(name, known))


def one_path(path: Path) -> str:
    """A path as a user types it: relative to where he stands, if it lies below."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def checked_rows(rows: Iterable[tuple[str, SampleRecord]], scorers: Mapping[str, ScorerEntry]) -> list[SampleRecord]:
    """Return the rows, each given with the place it stands at ("FILE line 3").

    Raises:
        HarnessError: a score is out of its metric's range, counts differ in length, or a row stands there twice.
    """
    places: dict[RecordKey, str] = {}
    lengths = dict.fromkeys(("bleu", "bleu_dom"), _BLEU_COUNTS)
    found = []
    for place, row in rows:
        for metric, score in row.scores.items():
            if score is not None and metric in scorers:
                _check_score(place, metric, score, scorers[metric])
        for metric, numbers in row.counts.items():
            if numbers is not None and lengths.setdefault(metric, len(numbers)) != len(numbers):
                wanted = f"{lengths[metric]} numbers"
                raise unfit(place, f"counts.{metric}", list(numbers), wanted)
        if row.key in places:
            said = f"sample {row.sample} of {row.model} on task {row.task} stands at {places[row.key]} already"
            raise HarnessError(f"{place}: {said}", "take one of the two out")
        places[row.key] = place
        found.append(row)
    return found


def _check_score(place: str, metric: str, score: float, scorer: ScorerEntry) -> None:
    highest = _HIGHEST[scorer.scale]
    if not -_SLACK <= score <= highest + _SLACK:
        raise unfit(place, f"scores.{metric}", score, f"null or a number from 0 to {highest:g}")
    if scorer.scale == "binary" and score not in (0, 1):
        raise unfit(place, f"scores.{metric}", score, "null, 0 or 1")


def _is_run(path: Path) -> bool:
    return path.is_file() or (path / MANIFEST_FILE).is_file()


def _whole(path: Path, kind: type[RecordT]) -> RecordT:
    """Read a file that holds one object."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise HarnessError(f"{one_path(path)} cannot be read: {error}", _AGAIN) from None
    return parsed(kind, upgraded(_object(path, text), Path(one_path(path))), one_path(path))


def _lines(path: Path, kind: type[RecordT]) -> Iterator[tuple[str, RecordT]]:
    """Yield each object of a JSON Lines file with the place where it stands; none without the file."""
    if not path.is_file():
        return
    shown = one_path(path)
    # Only "\n" ends a row: str.splitlines would also cut at U+2028 inside a string.
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, 1):
            if line := _text(path, raw, number).strip():
                content = upgraded(_object(path, line, number), Path(shown))
                yield f"{shown} line {number}", parsed(kind, content, f"{shown} line {number}")


def _text(path: Path, raw: bytes, line: int) -> str:
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise HarnessError(f"{one_path(path)} is damaged at line {line}: {error}", _AGAIN) from None


def _frozen(path: Path) -> Run:
    frozen = upgraded(_object(path, _text(path, path.read_bytes(), 1)), path)
    content = frozen.get("manifest")
    if not isinstance(content, dict):
        raise HarnessError(f"{path} holds no frozen scores: it has no manifest", _FREEZE)
    manifest = parsed(Manifest, upgraded(content, path), str(path))
    rows = checked_rows(_members(path, frozen, "rows", SampleRecord), manifest.scorers)
    tasks: dict[TaskKey, TaskRecord] = {task.key: task for _, task in _members(path, frozen, "tasks", TaskRecord)}
    return Run(path, manifest, rows, tasks)


def _members(path: Path, frozen: JsonObject, key: str, kind: type[RecordT]) -> Iterator[tuple[str, RecordT]]:
    """Yield each object of a list in a file of frozen scores with the place where it stands."""
    members: JsonValue = frozen.get(key)
    if not isinstance(members, list):
        raise HarnessError(f"{path}: {key} is no list", _FREEZE)
    for number, member in enumerate(members, 1):
        if not isinstance(member, dict):
            raise HarnessError(f"{path} {key} {number}: no JSON object", _FREEZE)
        yield f"{path} {key} {number}", parsed(kind, upgraded(member, path), f"{path} {key} {number}")


def _object(path: Path, text: str, line: int = 1) -> JsonObject:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HarnessError(f"{one_path(path)} is damaged at line {line}: {error}", _AGAIN) from None
    if not isinstance(value, dict):
        raise HarnessError(f"{one_path(path)} is damaged at line {line}: no JSON object", _AGAIN)
    return value
