"""The HTML inside a completion: cut out by fixed rules, never repaired.

`harness.answer` reads the completion and tells its page from thoughts, prose, mentions and scripts. HTML that is all of
the completion is `raw`; a Markdown code block `fenced`; HTML to be cut free of something else `wrapped`; a component of
a framework or a server's template is `other`, which is no page; no HTML is `none`.
"""

from __future__ import annotations

from harness.answer import find_page
from harness.types import Page, Scope

EXTRACTION_VERSION = "3"
"""Raised whenever the same completion could give another page, and so another number in any metric."""
_UNFINISHED = frozenset({"length", "loop", "error"})


def extract(completion: str, finish_reason: str | None = None, scope: Scope = "document") -> Page:
    """Return the page inside `completion`, as the model wrote it but for white space around it.

    `finish_reason` says how the completion ended: one that was cut off is never cut further at its end, and its page
    counts as truncated unless it is visibly complete. The same arguments always give the same page.
    """
    unfinished = finish_reason in _UNFINISHED
    found = find_page(completion, fragment=scope == "fragment", cut=unfinished)
    unfinished = unfinished and not found.ended
    if found.code:
        return Page("", "other", truncated=unfinished, note=f"{found.code} code, not a page")
    if not found.html:
        return Page("", "none", truncated=unfinished)
    # a code block that never closes was broken off, however the completion ended
    truncated = not found.complete and (unfinished or found.kind == "fenced")
    return Page(found.html, found.kind, truncated=truncated)
