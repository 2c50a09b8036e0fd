"""The gallery's data: a light list that is there at once, and packed texts that are opened when someone looks."""

from __future__ import annotations

import base64
import json
import re
import zlib
from typing import Any

from harness.runs.read import Json, RunFiles, as_dict, as_list, number, shot_path
from harness.safe_text import one_line, script_json

CHUNK = 24
"""Tasks whose texts are packed together: one opening unpacks that many."""


def gallery(run: RunFiles, *, inline: bool) -> tuple[str, list[str], Json]:
    """Return the list as JSON for a script element, the packed texts (base64 of zlib), and the pictures if `inline`.

    The list holds names once and indices into them afterwards: 500 tasks of 5 models stay below a megabyte.
    """
    answering = {str(row.get("model")) for row in run.rows}
    # A family of trainings has numbers and no rows: its trainings stand in the gallery.
    metrics, models = list(run.metrics), [model for model in run.models if model in answering] or run.models
    places = {model: place for place, model in enumerate(models)}
    by_task: dict[tuple[str, str], list[Json]] = {}
    for row in run.rows:
        by_task.setdefault((str(row.get("suite")), str(row.get("task"))), []).append(row)
    known = {(str(task.get("suite")), str(task.get("task"))): task for task in run.tasks}
    keys = sorted(
        {**known, **by_task}, key=lambda key: (run.suites.index(key[0]) if key[0] in run.suites else 99, key[1])
    )
    whys: dict[str, int] = {}
    words: dict[str, int] = {}
    entries, packed, chunk = [], [], []
    pictures: Json = {}
    for place, key in enumerate(keys):
        task, rows = known.get(key, {}), by_task.get(key, [])
        entry: Json = {
            "s": key[0],
            "id": key[1],
            "p": one_line(task.get("prompt", ""), 400),
            "c": str(task.get("category") or ""),
            "d": str(task.get("difficulty") or ""),
            "r": [[] for _ in models],
        }
        for row in sorted(rows, key=lambda row: number(row.get("sample")) or 0):
            model = str(row.get("model"))
            if model in places:
                shots = [shot_path(row, view) for view in ("desktop", "phone")]
                entry["r"][places[model]].append(_light(row, metrics, shots, whys, words))
                if inline:
                    pictures |= {shot: data for shot in shots if shot and (data := _data_url(run, shot))}
        entries.append(entry)
        chunk.append(_texts(task, rows, places))
        if len(chunk) == CHUNK or place == len(keys) - 1:
            packed.append(_pack(chunk))
            chunk = []
    light = {
        "suites": [{"name": name, "title": _title(run, name), "pair": run.pair(name)} for name in run.suites],
        "models": [{"name": name, "control": run.is_control(name)} for name in models],
        "metrics": [
            {"name": name, **{k: facts[k] for k in ("label", "scale", "primary", "kind")}}
            for name, facts in run.metrics.items()
        ],
        "whys": list(whys),
        "words": list(words),
        "chunk": CHUNK,
        "tasks": entries,
    }
    return script_json(light), packed, pictures


def _light(row: Json, metrics: list[str], shots: list[str], whys: dict[str, int], words: dict[str, int]) -> list[Any]:
    """`[outcome, [score or null], desktop, phone, [failed checks], messages, sample]`; absent metrics are -1."""
    scores = as_dict(row.get("scores"))
    failed = [
        whys.setdefault(one_line(check.get("why") or "check", 300), len(whys))
        for check in as_list(row.get("checks"))
        if isinstance(check, dict) and not check.get("passed")
    ]
    return [
        words.setdefault(str(row.get("outcome") or "unscored"), len(words)),
        [_score(scores[name]) if name in scores else -1 for name in metrics],
        *shots,
        failed,
        len(as_list(row.get("messages"))),
        int(number(row.get("sample")) or 0),
    ]


def _score(value: object) -> float | int | None:
    found = number(value)
    if found is None:
        return None
    return int(found) if found == int(found) else round(found, 4)


def _texts(task: Json, rows: list[Json], places: dict[str, int]) -> Json:
    """What only an opened task needs: whole prompt, input, reference, and of every row the texts and findings."""
    kept = ("completion", "page", "extraction", "finish_reason", "notes", "messages", "checks", "render", "timing")
    answers = []
    for row in rows:
        if str(row.get("model")) in places:
            answer = {name: row[name] for name in kept if row.get(name) not in (None, "", [], {})}
            if answer.get("completion") == answer.get("page"):
                answer.pop("completion", None)
                answer["same"] = True
            answers.append({"m": places[str(row["model"])], "n": int(number(row.get("sample")) or 0), **answer})
    return {
        "prompt": str(task.get("prompt") or ""),
        "input": str(task.get("input") or ""),
        "reference": str(task.get("reference") or ""),
        "answers": answers,
    }


def _pack(chunk: list[Json]) -> str:
    text = json.dumps(chunk, ensure_ascii=True, separators=(",", ":"))
    text = re.sub(r"-?\bNaN\b|-?\bInfinity\b", "null", text) if "NaN" in text or "Infinity" in text else text
    return base64.b64encode(zlib.compress(text.encode("ascii"), 6)).decode("ascii")


def _title(run: RunFiles, suite: str) -> str:
    return one_line(as_dict(as_dict(run.manifest.get("suites")).get(suite)).get("title") or suite)


def _data_url(run: RunFiles, shot: str) -> str:
    path = run.directory / shot
    if not path.is_file():
        return ""
    kind = path.suffix.lstrip(".").replace("jpg", "jpeg")
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
