"""The page scorers on any files: no model, no suite, no run.

Files are read, checked, rendered and told in small batches, so a folder of thousands needs no more memory than a few.
"""

from __future__ import annotations

import json as jsonlib
import os
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import EXIT_DONE, EXIT_FAILED, HarnessError
from harness.metrics import nu, registry
from harness.metrics.extract import extract
from harness.metrics.metric import Evidence, NuReport
from harness.types import Message, Page, Rendering, Score, Task

if TYPE_CHECKING:
    from harness.render import Renderer

MAX_BYTES = 20_000_000
_BATCH = 40
_SHOWN_MESSAGES = 8
_PAGE_SUFFIXES = frozenset({".html", ".htm", ".xhtml"})
_SNIFFED_BYTES = 8_000


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it was read: its text, or why there is none."""

    name: str
    text: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class PageAudit:
    """What is told of one file. Without `problem` the other fields hold."""

    file: str
    problem: str = ""
    outcome: str = "unscored"
    scores: Mapping[str, Score] | None = None
    messages: tuple[Message, ...] = ()

    @property
    def measured(self) -> bool:
        """Whether the file was read, and the browser could render it."""
        return not self.problem and self.outcome != "unscored"

    def as_json(self) -> str:
        """One line: `file`, and `error` or `outcome`, `scores`, `notes`, `messages` as in samples.jsonl."""
        if self.problem:
            return jsonlib.dumps({"file": self.file, "error": self.problem})
        scores = self.scores or {}
        return jsonlib.dumps(
            {
                "file": self.file,
                "outcome": self.outcome,
                "scores": {name: score.value for name, score in scores.items()},
                "notes": {name: score.note for name, score in scores.items() if score.note},
                "messages": [asdict(message) for message in self.messages],
            }
        )

    def as_text(self) -> str:
        """A few lines for people; what the file wrote cannot move the terminal's cursor."""
        if self.problem:
            return _plain(f"{self.file}: {self.problem}")
        lines = [f"{self.file}: {self.outcome}"]
        scores = self.scores or {}
        for word, wanted in (("holds", 1.0), ("fails", 0.0)):
            names = [registry.metric(name).label for name, score in scores.items() if score.value == wanted]
            if names:
                lines.append(f"  {word}: {', '.join(names)}")
        notes: dict[str, list[str]] = {}
        for name, score in scores.items():
            if score.value is None:
                notes.setdefault(score.note, []).append(registry.metric(name).label)
        lines += [f"  {score.note}" for score in scores.values() if score.note and score.value is not None]
        lines += [f"  not measured: {', '.join(names)} ({note})" for note, names in notes.items()]
        for message in self.messages[:_SHOWN_MESSAGES]:
            place = f"line {message.line}" if message.line is not None else "page"
            lines.append(f"  {place} [{message.source}] {message.text}")
        if len(self.messages) > _SHOWN_MESSAGES:
            lines.append(f"  … and {len(self.messages) - _SHOWN_MESSAGES} more")
        return "\n".join(_plain(line) for line in lines)


def audit_files(paths: Sequence[str | Path], out: Callable[[str], object], json: bool = False) -> int:
    """Measure every file, and every HTML file in every folder, and give `out` what is found as it is found.

    A file that is missing, unreadable, empty or no text gets a line that says so, and the others are still measured.
    Returns 0 when all were measured, else 1.
    """
    audited = complete = 0
    for page in audit(_files(paths)):
        out(page.as_json() if json else page.as_text())
        audited += 1
        complete += page.measured
    return EXIT_DONE if audited and audited == complete else EXIT_FAILED


def audit(files: Iterator[_File]) -> Iterator[PageAudit]:
    """Yield one audit per file, in order."""
    nu.warm()
    with ExitStack() as stack, ThreadPoolExecutor(1) as side:
        renderer, why_not = _renderer(stack)
        while batch := list(islice(files, _BATCH)):
            readable = [file for file in batch if not file.problem]
            pages = [extract(file.text) for file in readable]
            present = [page.html for page in pages if page.found]
            # Nu's JVM and the browser do not wait for one another.
            checking = side.submit(nu.check_pages, present)
            renderings = iter(_render(renderer, present))
            reports = iter(checking.result())
            audits = iter(
                [_audit(file, page, renderings, reports, why_not) for file, page in zip(readable, pages, strict=True)]
            )
            for file in batch:
                yield PageAudit(file.name, file.problem) if file.problem else next(audits)


def _audit(
    file: _File,
    page: Page,
    renderings: Iterator[Rendering | None],
    reports: Iterator[NuReport | None],
    why_not: str,
) -> PageAudit:
    there = page.found
    rendering = next(renderings) if there else None
    evidence = Evidence(
        task=Task(id="file", prompt=""),
        completion=file.text,
        page=page,
        rendering=rendering,
        nu=next(reports) if there else None,
        why_not=why_not if rendering is None else "",
    )
    scores = registry.score_page(evidence)
    if not there:
        scores["extracted"] = Score(0.0, "there is no HTML in this file")
    elif page.kind != "raw":
        scores["extracted"] = Score(1.0, "only the HTML within the file's other text was measured")
    # Without a page the browser would show nothing; without a browser nothing is known.
    outcome = rendering.outcome if rendering is not None else ("unscored" if there else "blank")
    return PageAudit(file.name, "", outcome, scores, tuple(registry.messages(evidence)))


def _renderer(stack: ExitStack) -> tuple[Renderer | None, str]:
    from harness.render import Renderer

    try:
        return stack.enter_context(Renderer()), ""  # with pictures, as in a run: a drawing has no text
    except HarnessError as error:
        return None, str(error)


def _render(renderer: Renderer | None, pages: Sequence[str]) -> list[Rendering | None]:
    if renderer is None or not pages:
        return [None] * len(pages)
    from harness.render import RenderRequest

    try:
        found = renderer.render(RenderRequest(str(index), html) for index, html in enumerate(pages))
    except HarnessError as error:
        return [Rendering("unscored", detail=str(error))] * len(pages)
    return [found.get(str(index)) for index in range(len(pages))]


def _files(paths: Sequence[str | Path]) -> Iterator[_File]:
    for given in paths:
        path = Path(given)
        if not path.is_dir():
            yield _read(path)
            continue
        locked: list[OSError] = []
        inside = _pages_in(path, locked.append)
        yield from map(_read, inside)
        for error in locked:
            yield _File(str(Path(error.filename)), problem=f"cannot be read: {error.strerror}")
        if not inside and not locked:
            yield _File(str(path), problem="no .html or .htm file in this folder")


def _pages_in(folder: Path, on_error: Callable[[OSError], None]) -> list[Path]:
    return sorted(
        Path(place, name)
        for place, _, names in os.walk(folder, onerror=on_error)
        for name in names
        if Path(name).suffix.lower() in _PAGE_SUFFIXES
    )


def _read(path: Path) -> _File:
    name = str(path)
    try:
        if not path.exists():
            return _File(name, problem="there is no such file")
        if not path.is_file():
            return _File(name, problem="not a file")
        if path.stat().st_size > MAX_BYTES:
            return _File(name, problem=f"larger than {MAX_BYTES // 1_000_000} MB, not measured")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return _File(name, problem=f"cannot be read: {reason}")
    text = _decode(data)
    if text is None:
        return _File(name, problem="not a text file")
    return _File(name, text) if text.strip() else _File(name, problem="the file is empty")


def _decode(data: bytes) -> str | None:
    """The text as a browser would decode the file; None for binary data."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    if b"\0" in data[:_SNIFFED_BYTES]:
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        import turbohtml

        try:
            return data.decode(turbohtml.parse(data[:_SNIFFED_BYTES]).encoding or "cp1252", "replace")
        except LookupError:
            return data.decode("cp1252", "replace")


def _plain(text: str) -> str:
    """`text` without control and formatting characters, which a hostile page could aim at the terminal."""
    return "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c not in "\n\t" else c for c in text)
