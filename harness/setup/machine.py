"""One step after the other, each of which is done at most once; what fails does not keep the others from being done."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from harness.errors import HarnessError
from harness.metrics.nu import find_nu
from harness.metrics.nu_setup import setup as setup_nu
from harness.setup.browser import browser as found_browser
from harness.setup.browser import browser_file, install_browser
from harness.setup.embedded import embedded_gguf, embedded_model, fetch_embedded

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Step:
    """Something that the harness needs."""

    name: str
    look: Callable[[], str]
    """Says what is there; "" where it is missing."""
    fetch: Callable[[Say], str]
    """Fetches it and says what is there now, or raises HarnessError."""


def steps(*, browser: bool = True, checker: bool) -> list[Step]:
    """Return what is to be there, in the order in which it is fetched; with a browser, with the Nu Html Checker."""
    wanted = [Step("browser", found_browser, install_browser)] if browser else []
    if checker:
        wanted.append(Step("Nu Html Checker", lambda: str(find_nu() or ""), lambda _: setup_nu(None)[1]))
    gguf = embedded_gguf()
    if gguf is not None:
        wanted.append(Step("embedded model", lambda: embedded_model(gguf), lambda _: fetch_embedded(gguf)))
    return wanted


def found_files() -> list[str]:
    """Return the paths of browser and embedded model; none where one of the two is not there or has no path."""
    gguf = embedded_gguf()
    files = [browser_file(), *([embedded_model(gguf)] if gguf is not None else [])]
    return files if all(files) else []


def set_up(wanted: list[Step], say: Say, *, quiet: bool = False) -> None:
    """Take each step that has not been taken.

    Args:
        wanted: The steps.
        say: Called with a line for each step, and before what takes long.
        quiet: Say nothing of what is there already.

    Raises:
        HarnessError: something could not be had. The steps behind it have been taken all the same.
    """
    started = time.monotonic()
    faults: list[tuple[str, HarnessError]] = []
    fetched = False
    for step in wanted:
        there = step.look()
        if there:
            if not quiet:
                say(_line(step, there))
            continue
        begun = time.monotonic()
        fetched = True
        try:
            done = step.fetch(lambda line, name=step.name: say(f"{name}: {line}"))  # type: ignore[misc]
        except HarnessError as error:
            faults.append((step.name, error))
            continue
        say(f"{_line(step, done)} ({time.monotonic() - begun:.0f} s)")
    for name, fault in faults[:-1]:
        say(f"{name}: {fault}")
    if faults:
        name, fault = faults[-1]
        raise HarnessError(f"{name}: {fault.message}", fault.hint)
    if fetched or not quiet:
        say(f"ready after {time.monotonic() - started:.0f} s")


def _line(step: Step, words: str) -> str:
    return f"{step.name}: {words.removeprefix(step.name).lstrip(': ')}"
