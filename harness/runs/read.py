"""Reads a run's files. The report knows nothing else of a run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, UsageError, did_you_mean
from harness.runs.model_name import family
from harness.runs.pairs import described, pairs_to_compare
from harness.runs.records import checked_rows, checked_scorers, checked_tasks
from harness.runs.schema import upgraded
from harness.types import CONTROL_NAMES, Row

Json = dict[str, Any]
_SHOT = re.compile(r"shots/[A-Za-z0-9_-][A-Za-z0-9._-]*\.(webp|png|jpg|jpeg|avif)")
_ORDER = ("base", "base-fewshot", "tuned")
KINDS = {
    "form": "Form",
    "content": "Content",
    "similarity": "Likeness to the reference",
    "render": "In the browser",
    "other": "Other",
}
"""Kinds of metrics with their titles, in the order in which they are shown."""


@dataclass(frozen=True)
class RunFiles:
    """What `reports/<run>/` holds, as it was written; nothing is recomputed."""

    directory: Path
    manifest: Json
    summary: Json
    tasks: list[Json]
    rows: list[Json]
    agreement: Json = field(default_factory=dict)

    @cached_property
    def name(self) -> str:
        """The run's name: from its manifest, else its folder's."""
        return str(self.manifest.get("run") or self.directory.name)

    @cached_property
    def suites(self) -> list[str]:
        """Names of the measured suites, in the order of the summary."""
        names = list(as_dict(self.summary.get("suites")))
        return names + sorted({str(task.get("suite")) for task in self.tasks} - set(names))

    @cached_property
    def models(self) -> list[str]:
        """Names of all models: base, few-shot base, tuned, then others as they come, controls last."""
        seen: dict[str, None] = dict.fromkeys(as_dict(self.manifest.get("models")))
        for row in self.rows:
            seen.setdefault(str(row.get("model")))
        for suite in self.suites:
            for models in as_dict(self.suite(suite).get("metrics")).values():
                seen.update(dict.fromkeys(as_dict(models)))
        names = list(seen)

        def place(name: str) -> tuple[int, int]:
            if name in _ORDER:
                return 0, _ORDER.index(name)
            if self.is_control(name):
                return 2, CONTROL_NAMES.index(name) if name in CONTROL_NAMES else len(CONTROL_NAMES)
            return 1, names.index(name)

        return sorted(names, key=place)

    @cached_property
    def metrics(self) -> dict[str, Json]:
        """`{metric: {label, kind, scale, primary, description, corpus}}`, by kind, else in the scorers' order."""
        known = {name: as_dict(facts) for name, facts in as_dict(self.manifest.get("scorers")).items()}
        for suite in self.suites:
            for name in as_dict(self.suite(suite).get("metrics")):
                known.setdefault(name, {})
            for metrics in as_dict(self.suite(suite).get("pairs")).values():
                known |= {name: {} for name in as_dict(metrics) if name not in known}
        primary = self.summary.get("primary")
        found: dict[str, Json] = {
            name: {
                "label": str(facts.get("label") or name),
                "kind": str(facts.get("kind")) if facts.get("kind") in KINDS else "other",
                "scale": str(facts.get("scale") or "percent"),
                # The comparison has the last word: it puts another metric in the place of one that no tool measured.
                "primary": name in primary if isinstance(primary, list) else bool(facts.get("primary")),
                "description": str(facts.get("description") or ""),
                "corpus": bool(facts.get("corpus")),
            }
            for name, facts in known.items()
        }
        return dict(sorted(found.items(), key=lambda item: list(KINDS).index(item[1]["kind"])))

    def is_control(self, model: str) -> bool:
        """Whether no model wrote these rows."""
        facts = as_dict(as_dict(self.manifest.get("models")).get(model))
        return facts.get("kind") == "control" or (not facts and model in CONTROL_NAMES)

    def suite(self, name: str) -> Json:
        """The summary of one suite, empty where there is none."""
        return as_dict(as_dict(self.summary.get("suites")).get(name))

    def pair(self, suite: str) -> str:
        """The pair that the suite's verdict speaks of, "base:tuned" where there is one; "" without any pair."""
        pairs = as_dict(self.suite(suite).get("pairs"))
        named = as_dict(self.summary.get("verdict")).get("pair")
        if isinstance(named, str) and named in pairs:
            return named
        return "base:tuned" if "base:tuned" in pairs else next(iter(pairs), "")


def as_dict(value: object) -> Json:
    """Return `value` if it is a mapping, else an empty one: absent parts of a file are left out of the report."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """Return `value` if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def number(value: object) -> float | None:
    """Return a finite number, or None."""
    if isinstance(value, bool | int | float) and value == value and abs(float(value)) != float("inf"):
        return float(value)
    return None


def shot_path(row: Json, view: str) -> str:
    """The picture of one row relative to the run's folder; "" for none and for any path that leaves `shots/`."""
    path = as_dict(row.get("shots")).get(view)
    return path if isinstance(path, str) and _SHOT.fullmatch(path) and ".." not in path else ""


def read_run(directory: Path) -> RunFiles:
    """Read a run's folder.

    Raises:
        UsageError: the folder or its manifest is not there.
        HarnessError: a file is damaged, named with its line.
    """
    if not (directory / "manifest.json").is_file():
        raise UsageError(
            f"{one_path(directory)} holds no run", "name a folder under reports/ that holds a manifest.json"
        )
    summary = directory / "summary.json"
    votes = directory / "agreement.json"
    return RunFiles(
        directory=directory,
        manifest=_json(directory / "manifest.json"),
        summary=_json(summary) if summary.is_file() else {},
        tasks=list(_lines(directory / "tasks.jsonl")),
        rows=list(_lines(directory / "samples.jsonl")),
        agreement=_json(votes) if votes.is_file() else {},
    )


def read_overview(directory: Path) -> RunFiles:
    """Read a run's manifest and summary only: what the list of all runs needs. Raises as `read_run`."""
    summary = directory / "summary.json"
    return RunFiles(directory, _json(directory / "manifest.json"), _json(summary) if summary.is_file() else {}, [], [])


def one_path(path: Path) -> str:
    """A path as a user types it: relative to where he stands, if it lies below."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _json(path: Path) -> Json:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HarnessError(f"{one_path(path)} cannot be read: {error}", "run it again, finished work is kept") from None
    if not isinstance(value, dict):
        raise HarnessError(f"{one_path(path)} is not a JSON object", "run it again, finished work is kept")
    return upgraded(value, Path(one_path(path)))


def _lines(path: Path) -> Iterator[Json]:
    if not path.is_file():
        return
    # Only "\n" ends a row: str.splitlines would also cut at U+2028 inside a string.
    with path.open(encoding="utf-8", errors="surrogatepass", newline="\n") as lines:
        for count, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except ValueError:
                raise HarnessError(
                    f"{one_path(path)}, line {count}, is not JSON", "run it again, finished work is kept"
                ) from None
            if isinstance(value, dict):
                yield upgraded(value, Path(one_path(path)))


@dataclass(frozen=True)
class Run:
    """A run as its files tell it."""

    name: str
    path: Path
    manifest: Mapping[str, Any]
    rows: list[Row]
    tasks: dict[tuple[str, str], Mapping[str, Any]]

    @property
    def models(self) -> list[str]:
        """The models that answered, trainings of one model under one name."""
        return list(dict.fromkeys(family(row["model"]) for row in self.rows))

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The pairs of models that the run's verdicts speak of, the most important first."""
        known = self.manifest.get("models") or self.about_models
        return [pair for pair in pairs_to_compare(known) if {*pair} <= {*self.models}]

    @property
    def about_models(self) -> dict[str, dict[str, Any]]:
        """By the name under which a model is compared, its entry in the manifest, of several trainings the first's."""
        entries: dict[str, Mapping[str, Any]] = {}
        for name, entry in self.manifest.get("models", {}).items():
            entries.setdefault(str(entry.get("family") or family(name)), entry)
        return described(self.models, entries)


def load_run(path: Path) -> Run:
    """Read a run's folder, or a file of frozen scores (see `freeze`).

    Raises:
        UsageError: there is no run, or it has not finished.
        HarnessError: a file is torn or of a newer schema.
    """
    if path.is_file():
        frozen = upgraded(_object(path, path.read_text("utf-8")), path)
        manifest = frozen.get("manifest")
        if not isinstance(manifest, dict):
            raise HarnessError(f"{path} holds no frozen scores: it has no manifest", "freeze the run anew")
        scorers = checked_scorers(str(path), manifest)
        rows = checked_rows(_members(path, frozen, "rows"), scorers)
        tasks = checked_tasks(_members(path, frozen, "tasks"))
        return Run(str(manifest.get("run", path.stem)), path, manifest, rows, tasks)
    manifest_path, samples = path / "manifest.json", path / "samples.jsonl"
    if not manifest_path.is_file():
        raise UsageError(f"{path} is no run: it has no manifest.json", "name a folder that `run` wrote")
    if not samples.is_file():
        raise UsageError(
            f"the run {path.name} is not finished: it has no samples.jsonl", "call `run` again to finish it"
        )
    manifest = upgraded(_object(manifest_path, manifest_path.read_text("utf-8")), manifest_path)
    scorers = checked_scorers(str(manifest_path), manifest)
    tasks_path = path / "tasks.jsonl"
    tasks = checked_tasks(_numbered_lines(tasks_path)) if tasks_path.is_file() else {}
    return Run(
        str(manifest.get("run") or path.name), path, manifest, checked_rows(_numbered_lines(samples), scorers), tasks
    )


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
    known = [path.parent.name for path in reports.glob("*/manifest.json")] + [
        path.stem for path in frozen.glob("*.json")
    ]
    raise UsageError(f"there is no run '{name}'", did_you_mean(name, known))


def _is_run(path: Path) -> bool:
    return path.is_file() or (path / "manifest.json").is_file()


def _numbered_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each object of a JSON Lines file with the place where it stands."""
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield f"{path} line {number}", upgraded(_object(path, line, number), path)


def _members(path: Path, frozen: Mapping[str, Any], key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each object of a list in a file of frozen scores with the place where it stands."""
    members = frozen.get(key)
    if not isinstance(members, list):
        raise HarnessError(f"{path}: {key} is no list", "freeze the run anew")
    for number, member in enumerate(members, 1):
        if not isinstance(member, dict):
            raise HarnessError(f"{path} {key} {number}: no JSON object", "freeze the run anew")
        yield f"{path} {key} {number}", member


def _object(path: Path, text: str, line: int = 1) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise HarnessError(f"{path} is damaged at line {line}: {error}", "call `run` again to write it anew") from None
    if not isinstance(value, dict):
        raise HarnessError(f"{path} is damaged at line {line}: no JSON object")
    return value
