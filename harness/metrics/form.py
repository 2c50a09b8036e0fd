"""Form: whether the completion holds a page, and whether that page is written by the rules of HTML.

extracted → parses → well_formed are cumulative tiers; conforming is the Nu Html Checker's word alone.
A completion without a page scores 0 in all of them.
"""

from __future__ import annotations

from harness.metrics import parsed
from harness.metrics.metric import Evidence
from harness.metrics.parser_pool import NotMeasured
from harness.types import Message, Score

_ZERO, _ONE = Score(0.0), Score(1.0)

_NU_IGNORABLE = {
    "missing-doctype": "without seeing a doctype first",
    "missing-title": "missing a required instance of child element \u201ctitle\u201d",
}
"""What Nu says of the faults that a suite may ignore."""


def extracted(evidence: Evidence) -> Score:
    """1 where the extractor found a page in the completion."""
    return _ONE if evidence.page.found else Score(0.0, evidence.page.note)


def parses(evidence: Evidence) -> Score:
    """1 where lxml finds an HTML element that the author wrote, and some content.

    A parser of HTML accepts any text, so "lxml raised nothing" says nothing: prose, an apology or a bare word give 0.
    """
    if not evidence.page.found:
        return _ZERO
    facts = parsed.page_facts(evidence)
    return _score(facts.elements > 0 and facts.content)


def well_formed(evidence: Evidence) -> Score:
    """1 where the page parses and neither turbohtml nor html5lib reports a parse error."""
    if parses(evidence).value == 0:
        return _ZERO
    if parsed.page_facts(evidence).errors:
        return _ZERO
    return _score(not parsed.tree_errors(evidence))


def conforming(evidence: Evidence) -> Score:
    """1 where the Nu Html Checker reports no error; CSS messages and what the suite ignores do not count."""
    if evidence.nu is not None and evidence.nu.silent:
        return Score(None, evidence.nu.silent)
    if evidence.nu is not None:
        return _score(not nu_errors(evidence))
    from harness.metrics import nu

    choice = nu.find_nu()
    if choice is None:
        return Score(None, evidence.why_not or f"the Nu Html Checker is not installed: {nu.INSTALL_HINT}")
    if not evidence.page.found:
        return _ZERO
    return Score(None, evidence.why_not or "the Nu Html Checker was not asked about this page")


def nu_errors(evidence: Evidence) -> list[Message]:
    """Nu's errors that count for this task."""
    if evidence.nu is None:
        return []
    ignored = [_NU_IGNORABLE[name] for name in evidence.task.ignore if name in _NU_IGNORABLE]
    return [error for error in evidence.nu.errors if not any(text in error.text for text in ignored)]


def lxml_clean(evidence: Evidence) -> Score:
    """1 where libxml2's error log is empty: what others report as "valid", kept to compare with them."""
    if not evidence.page.found:
        return _ZERO
    return _score(not parsed.page_facts(evidence).lxml_errors)


def doctype(evidence: Evidence) -> Score | None:
    """1 where the doctype of the present standard stands before any content; documents only."""
    if evidence.task.scope != "document":
        return None
    return _score(evidence.page.found and parsed.page_facts(evidence).doctype)


def titled(evidence: Evidence) -> Score | None:
    """1 where the document has a title with text; documents only."""
    if evidence.task.scope != "document":
        return None
    return _score(evidence.page.found and parsed.page_facts(evidence).title)


def closed(evidence: Evidence) -> Score | None:
    """1 where the page's own end tag `</html>` is there; documents only."""
    if evidence.task.scope != "document":
        return None
    return _score(evidence.page.found and parsed.page_facts(evidence).closed)


def messages(evidence: Evidence) -> list[Message]:
    """All complaints of parsers and checkers about the page; CSS messages under the source `nu-css`."""
    if not evidence.page.found:
        return []
    found: list[Message] = []
    try:
        facts = parsed.page_facts(evidence)
        found += [*facts.errors, *facts.lxml_errors]
        found += parsed.tree_errors(evidence)
    except NotMeasured as reason:
        found.append(Message("harness", str(reason)))
    found += nu_errors(evidence)
    if evidence.nu is not None:
        found += evidence.nu.css
    return found


def _score(holds: bool) -> Score:
    return _ONE if holds else _ZERO
