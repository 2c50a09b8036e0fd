"""The folder of a run: one process at a time, an append-only journal, whole files written at once."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from harness.errors import HarnessError, UsageError, cannot_write
from harness.runs.manifest import Manifest
from harness.runs.record import Record, parsed
from harness.runs.samples import SampleRecord
from harness.runs.schema import upgraded
from harness.storage.atomic import write_atomically
from harness.storage.cache import content_key
from harness.storage.json_file import read_object
from harness.storage.jsonl import append_lines, dump_lines, read_lines
from harness.storage.lock import try_lock

REPORTS_FOLDER = Path("reports")
MANIFEST_FILE = "manifest.json"
TASKS_FILE = "tasks.jsonl"
SAMPLES_FILE = "samples.jsonl"
SUMMARY_FILE = "summary.json"
VOTES_FILE = "votes.jsonl"
AGREEMENT_FILE = "agreement.json"
JOURNAL_FILE = "journal.jsonl"
PAGE_FILE = "index.html"
_ANSWER = (PAGE_FILE, SUMMARY_FILE, AGREEMENT_FILE, SAMPLES_FILE, TASKS_FILE)
"""What is written at a run's end."""
LOCK_FILE = ".lock"
LOCK_MARK = "html-harness\n"
"""Stands in the lock of each run: a folder without it, and without a run's manifest, is somebody's own."""


def is_run_folder(folder: Path) -> bool:
    """Return whether a folder holds a run: a manifest.json as the harness writes it, not one of a web application."""
    try:
        content = read_object(folder / MANIFEST_FILE)
    except UsageError:
        return False
    if "run" not in content:
        return False
    return isinstance(content.get("schema"), int) or ("schema" not in content and "models" in content)


def is_unfinished(folder: Path) -> bool:
    """Return whether a run was begun here and did not come to its end: stopped, or still at it."""
    if not _is_marked(folder):
        return False
    try:
        return not read_object(folder / MANIFEST_FILE).get("finished")
    except UsageError:  # stopped before its manifest was written
        return True


def _is_marked(folder: Path) -> bool:
    lock = folder / LOCK_FILE
    return lock.is_file() and lock.read_bytes() == LOCK_MARK.encode()


def check_run_folder(folder: Path) -> None:
    """Refuse a folder for a run that holds something else.

    Raises:
        UsageError: it is a file, or there are files in it and no run.
    """
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise UsageError(f"{folder} is there already and is no folder", "give the run another --name")
    held = [path.name for path in folder.iterdir()]
    # a broken manifest does not stop its own run
    if held and not _is_marked(folder) and not is_run_folder(folder):
        raise UsageError(f"{folder} holds {min(held)} and no run", "give the run another --name")


def _asked(manifest: Manifest) -> tuple[object, object]:
    """What an answer is to, beside what decides each of its rows: limits, and files of answers."""
    return manifest.arguments, {name: entry.file for name, entry in manifest.models.items()}


class RunFolder:
    """`reports/<run>/`, held by a lock while the run works on it."""

    def __init__(self, name: str, reports: Path = REPORTS_FOLDER) -> None:
        self.name = name
        self.path = reports / name
        self._lock: IO[str] | None = None

    def __enter__(self) -> RunFolder:
        check_run_folder(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / LOCK_FILE).open("a")
        except OSError as error:
            raise cannot_write(self.path, error) from error
        if not try_lock(self._lock):
            self._lock.close()
            raise HarnessError(
                f"another process works on the run {self.name}", "wait for it, or give this one another --name"
            )
        if not self._lock.tell():
            try:
                self._lock.write(LOCK_MARK)
                self._lock.flush()
            except OSError as error:
                raise cannot_write(self.path, error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock:
            self._lock.close()

    @property
    def journal(self) -> Path:
        """The append-only file of finished rows."""
        return self.path / JOURNAL_FILE

    def begin(self, manifest: Manifest, deciding: Mapping[str, object]) -> tuple[Manifest, list[SampleRecord]]:
        """Write the manifest; return it as it was written, and the rows that are already finished.

        Rows of a run with the same name whose numbers were decided by something else (other weights, scorers, tools or
        data) are not mixed in: their journal is kept beside the new one under a number. So is the answer of other rows
        or other arguments: left where it is, it would be read as that of the new manifest, should this run be stopped
        before it writes its own.
        """
        manifest = manifest.with_(deciding=content_key(deciding))
        before = self.read_manifest()
        if before is not None and before.deciding != manifest.deciding:
            self._put_aside(*_ANSWER, JOURNAL_FILE)
        elif before is not None:
            manifest = manifest.with_(started=before.started)
            if _asked(before) != _asked(manifest):
                self._put_aside(*_ANSWER)
        self.write(MANIFEST_FILE, manifest)
        journal = str(self.journal)
        return manifest, [
            parsed(SampleRecord, upgraded(row, self.journal), journal) for row in read_lines(self.journal)
        ]

    def _put_aside(self, *names: str) -> None:
        """Give these files a number that none of their kind has."""
        held = [path for name in names if (path := self.path / name).exists()]

        def numbered(number: int) -> list[Path]:
            return [path.with_name(f"{path.stem}-{number}{path.suffix}") for path in held]

        free = (kept for number in itertools.count(1) if not any(map(os.path.lexists, kept := numbered(number))))
        for path, aside in zip(held, next(free), strict=True):
            path.replace(aside)

    def append(self, rows: Sequence[SampleRecord]) -> None:
        """Append finished rows to the journal; they are on disk when this returns."""
        append_lines(self.journal, [row.as_json() for row in rows])

    def read_manifest(self) -> Manifest | None:
        """Return the manifest of this folder, or None where there is none that can be read.

        Raises:
            HarnessError: it is of a newer schema.
        """
        path = self.path / MANIFEST_FILE
        try:
            content = read_object(path)
        except UsageError:
            return None
        return parsed(Manifest, upgraded(content, path), str(path))

    def write(self, name: str, record: Record) -> None:
        """Write a JSON file whole or not at all."""
        self._write(name, json.dumps(record.as_json(), indent=1, ensure_ascii=True).encode() + b"\n")

    def write_lines(self, name: str, records: Sequence[Record]) -> None:
        """Write a JSON Lines file whole or not at all."""
        self._write(name, dump_lines([record.as_json() for record in records]))

    def write_shot(self, picture: bytes, name: str) -> str:
        """Write a screenshot under a name made of its content, once; return its path relative to the run."""
        if not (self.path / "shots" / name).exists():
            self._write(f"shots/{name}", picture)
        return f"shots/{name}"

    def _write(self, name: str, content: bytes) -> None:
        try:
            (self.path / name).parent.mkdir(exist_ok=True)
            write_atomically(self.path / name, content)
        except OSError as error:
            raise cannot_write(self.path / name, error) from error
