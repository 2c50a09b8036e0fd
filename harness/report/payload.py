"""The gallery's data: a light list that is there at once, and packed texts that are opened when someone looks."""

from __future__ import annotations

import base64
import json
import re
import zlib

from pydantic import JsonValue

from harness.report.view import suite_title
from harness.runs.run import Run
from harness.runs.samples import SampleRecord, TaskKey, TaskRecord
from harness.runs.schema import JsonObject
from harness.safe_text import one_line, script_json

CHUNK = 24
"""Tasks whose texts are packed together: one opening unpacks that many."""


def gallery(run: Run, *, inline: bool) -> tuple[str, list[str], dict[str, str]]:
    """Return the list as JSON for a script element, the packed texts (base64 of zlib), and the pictures if `inline`.

    The list holds names once and indices into them afterwards: 500 tasks of 5 models stay below a megabyte.
    """
    answering = {row.model for row in run.rows}
    # A family of trainings has numbers and no rows: its trainings stand in the gallery.
    models = [model for model in run.models if model in answering] or run.models
    by_task: dict[TaskKey, list[SampleRecord]] = {}
    for row in run.rows:
        by_task.setdefault(row.of_task, []).append(row)
    order = {suite: place for place, suite in enumerate(run.suites)}
    keys = sorted({**run.tasks, **by_task}, key=lambda key: (order.get(key.suite, len(order)), key.task))
    light = _Light(list(run.metrics), {model: place for place, model in enumerate(models)})
    packed, chunk = [], []
    pictures: dict[str, str] = {}
    for place, key in enumerate(keys):
        task, rows = run.tasks.get(key) or TaskRecord(suite=key.suite, task=key.task), by_task.get(key, [])
        light.add(task, rows)
        if inline:
            shots = (shot_path(row, view) for row in rows for view in _VIEWS)
            pictures |= {shot: data for shot in shots if shot and (data := _data_url(run, shot))}
        chunk.append(_texts(task, rows, light.models))
        if len(chunk) == CHUNK or place == len(keys) - 1:
            packed.append(_pack(chunk))
            chunk = []
    content = {
        "suites": [
            {"name": name, "title": one_line(suite_title(run, name)), "pair": str(run.pair(name) or "")}
            for name in run.suites
        ],
        "models": [{"name": name, "control": run.manifest.is_control(name)} for name in models],
        "metrics": [
            {"name": name, "label": m.label, "scale": m.scale, "primary": m.primary, "kind": m.kind}
            for name, m in run.metrics.items()
        ],
        "whys": list(light.whys),
        "words": list(light.words),
        "chunk": CHUNK,
        "tasks": light.tasks,
    }
    return script_json(content), packed, pictures


class _Light:
    """The list that is there at once, in which a text that comes again is a number."""

    def __init__(self, metrics: list[str], models: dict[str, int]) -> None:
        self.metrics, self.models = metrics, models
        self.whys: dict[str, int] = {}
        self.words: dict[str, int] = {}
        self.tasks: list[JsonObject] = []

    def add(self, task: TaskRecord, rows: list[SampleRecord]) -> None:
        """Add a task with its answers, each in the list of its model."""
        answers: list[list[JsonValue]] = [[] for _ in self.models]
        for row in sorted(rows, key=lambda row: row.sample):
            if row.model in self.models:
                answers[self.models[row.model]].append(self._answer(row))
        self.tasks.append(
            {
                "s": task.suite,
                "id": task.task,
                "p": one_line(task.prompt, 400),
                "c": task.category or "",
                "d": task.difficulty or "",
                "r": [*answers],
            }
        )

    def _answer(self, row: SampleRecord) -> list[JsonValue]:
        """`[outcome, [score or null], desktop, phone, [failed checks], messages, sample]`; absent metrics are -1."""
        whys = [one_line(check.why or "check", 300) for check in row.checks if not check.passed]
        return [
            self.words.setdefault(row.outcome or "unscored", len(self.words)),
            [_score(row.scores[name]) if name in row.scores else -1 for name in self.metrics],
            *(shot_path(row, view) for view in _VIEWS),
            [self.whys.setdefault(why, len(self.whys)) for why in whys],
            len(row.messages),
            row.sample,
        ]


def _score(value: float | None) -> float | int | None:
    if value is None:
        return None
    return int(value) if value == int(value) else round(value, 4)


_SHOT = re.compile(r"shots/[A-Za-z0-9_-][A-Za-z0-9._-]*\.(webp|png|jpg|jpeg|avif)")
_VIEWS = ("desktop", "phone")


def shot_path(row: SampleRecord, view: str) -> str:
    """The picture of one row relative to the run's folder; "" for none and for any path that leaves `shots/`."""
    path = row.shots.get(view, "")
    return path if _SHOT.fullmatch(path) and ".." not in path else ""


_KEPT = {"completion", "page", "extraction", "finish_reason", "notes", "messages", "checks", "render", "timing"}


def _texts(task: TaskRecord, rows: list[SampleRecord], places: dict[str, int]) -> JsonObject:
    """What only an opened task needs: whole prompt, input, reference, and of every row the texts and findings."""
    answers: list[JsonValue] = []
    for row in rows:
        if row.model in places:
            content = row.model_dump(include=_KEPT)
            answer = {name: value for name, value in content.items() if value not in (None, "", [], {}, ())}
            if answer.get("completion") == answer.get("page"):
                answer.pop("completion", None)
                answer["same"] = True
            answers.append({"m": places[row.model], "n": row.sample, **answer})
    return {"prompt": task.prompt, "input": task.input, "reference": task.reference, "answers": answers}


def _pack(chunk: list[JsonObject]) -> str:
    text = json.dumps(chunk, ensure_ascii=True, separators=(",", ":"))
    text = re.sub(r"-?\bNaN\b|-?\bInfinity\b", "null", text) if "NaN" in text or "Infinity" in text else text
    return base64.b64encode(zlib.compress(text.encode("ascii"), 6)).decode("ascii")


def _data_url(run: Run, shot: str) -> str:
    path = run.path / shot
    if not path.is_file():
        return ""
    kind = path.suffix.lstrip(".").replace("jpg", "jpeg")
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
