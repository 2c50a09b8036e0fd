"""What the parsers say of a page and of its reference: found once, shared by all metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import TypeVar

from harness.metrics import parser_pool
from harness.metrics.extract import extract
from harness.metrics.facts import PageFacts
from harness.metrics.metric import Evidence
from harness.metrics.parser_pool import NotMeasured
from harness.metrics.wrap import bare
from harness.types import Message, Scope

T = TypeVar("T")


def page_facts(evidence: Evidence) -> PageFacts:
    """Return the facts of the evidence's page.

    Raises:
        NotMeasured: the page could not be parsed within the limits.
    """
    return _once(evidence, "facts", lambda: parser_pool.facts(evidence.page.html, evidence.task.scope))


def tree_errors(evidence: Evidence) -> list[Message]:
    """Return html5lib's tree construction errors of the page; a fragment is wrapped first.

    Raises:
        NotMeasured: the page could not be parsed within the limits.
    """

    def find() -> list[Message]:
        wrapped = bare(evidence.page.html, evidence.task.scope)
        depth = page_facts(evidence).depth
        found = parser_pool.tree_errors(wrapped.html, "missing-doctype" in evidence.task.ignore, depth)
        # What is found in the wrapper's end belongs to the fragment's last line.
        lines = evidence.page.html.count("\n") + 1
        if not wrapped.offset:
            return found
        return [replace(m, line=min(max((m.line or 1) - wrapped.offset, 1), lines)) for m in found]

    return _once(evidence, "tree_errors", find)


def reference_html(reference: str, scope: Scope) -> str:
    """The page inside a reference answer, cut out like a model's; the whole text where no page is in it."""
    page = extract(reference, None, scope)
    return page.html or reference


def reference_facts(reference: str, scope: Scope) -> PageFacts:
    """The facts of a reference's page.

    Raises:
        NotMeasured: the reference could not be parsed within the limits.
    """
    found = _reference_facts(reference, scope)
    if isinstance(found, NotMeasured):
        raise found
    return found


@lru_cache(maxsize=1024)
def _reference_facts(reference: str, scope: Scope) -> PageFacts | NotMeasured:
    # A reference that overruns is not tried again for every answer that is compared with it.
    try:
        return parser_pool.facts(reference_html(reference, scope), scope)
    except NotMeasured as reason:
        return reason


def _once(evidence: Evidence, name: str, find: Callable[[], T]) -> T:
    """What `find` returns or the reason it could not, kept with the evidence."""
    kept: dict[str, T | NotMeasured] = vars(evidence).setdefault("_parsed", {})
    if name not in kept:
        try:
            kept[name] = find()
        except NotMeasured as reason:
            kept[name] = reason
    value = kept[name]
    if isinstance(value, NotMeasured):
        raise value
    return value
