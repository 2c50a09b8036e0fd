"""From a file as others have it to a report in two commands, with the numbers of the same rows in the plain form."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.suite.load import SuiteLocation, load_suite
from tests.conftest import SUBJECTS, CommandLine

ROWS = [
    (f"Show {asked}, in café style", f'<!DOCTYPE html><html lang="en"><head><title>{name}</title></head>{body}</html>')
    for name, asked, body in SUBJECTS[:6]
]


def plain(path: Path) -> None:
    path.write_text("".join(json.dumps({"prompt": asked, "reference": page}) + "\n" for asked, page in ROWS))


def conversations(path: Path) -> None:
    lines = []
    for asked, page in ROWS:
        turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": page}]
        lines.append(json.dumps({"messages": turns, "source": "somewhere"}) + "\n")
    path.write_text("".join(lines))


def semicolons(path: Path) -> None:
    stream = io.StringIO()
    csv.writer(stream, delimiter=";").writerows([("Frage", "Antwort", "Nr"), *((*row, 7) for row in ROWS)])
    path.write_bytes(b"\xef\xbb\xbf" + stream.getvalue().encode())


def nested(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"task": {"wording": asked, "n": 1}, "answer": {"page": {"html": page}}} for asked, page in ROWS]
    pq.write_table(pa.Table.from_pylist(rows), path)


SHAPES: dict[str, Callable[[Path], None]] = {
    "plain.jsonl": plain,
    "talks.jsonl": conversations,
    "table.csv": semicolons,
    "nested.parquet": nested,
}


def numbers(folder: Path) -> dict[str, Any]:
    """All numbers of a run."""
    summary = json.loads((folder / "summary.json").read_text())["suites"]["mine"]["metrics"]
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    rows = {(row["task"], row["model"]): (row["scores"], row["completion"], row["outcome"]) for row in samples}
    manifest = json.loads((folder / "manifest.json").read_text())["suites"]["mine"]
    return {"summary": summary, "rows": rows, "sizes": (manifest["train"], manifest["held_out"], manifest["ignore"])}


@pytest.mark.slow
def test_rows_of_other_shapes_get_the_numbers_of_the_plain_ones(
    workplace: Path, own_cache: Path, command_line: CommandLine
) -> None:
    from harness.render.browser import find_browser

    try:
        find_browser()
    except HarnessError as error:
        pytest.skip(str(error))
    found = {}
    for shape, write in SHAPES.items():
        write(workplace / shape)
        folder = workplace / f"of-{shape}"
        code, _, error = command_line("suites", "new", "mine", "--from", shape, "--to", folder.name)
        assert (code, error) == (0, ""), shape
        held_out = load_suite(SuiteLocation("mine", folder / "mine")).held_out
        answers = [{"task": task.id, "completion": f"<h1>{task.prompt}</h1>{task.reference}"} for task in held_out]
        answers[0]["completion"] = answers[0]["completion"].replace("</", "<//")
        (workplace / "ours.jsonl").write_text("".join(json.dumps(answer) + "\n" for answer in answers))
        code, _, error = command_line("score", f"{folder.name}/mine", "ours.jsonl", "--name", shape, "--limit", "2")
        assert (code, error) == (0, ""), shape
        assert (workplace / "reports" / shape / "index.html").is_file()
        found[shape] = numbers(workplace / "reports" / shape)
    first = found.pop("plain.jsonl")
    assert any(scores["chrf"] for scores, _, _ in first["rows"].values())
    for shape, other in found.items():
        assert other == first, shape
