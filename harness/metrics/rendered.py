"""What the closed browser saw: whether the page renders, can be used by all, fits its window, and does what was asked.

A page that brings down its own renderer failed; what the harness could not measure (`unscored`) is null.
"""

from __future__ import annotations

from harness.metrics.metric import Evidence
from harness.types import Rendering, Score

_ZERO, _ONE = Score(0.0), Score(1.0)
_RENDERED = frozenset({"ok", "blocked-resource"})
_NEVER_LOADED = frozenset({"crash", "timeout", "too-large", "navigated-away"})
_GRAVE = frozenset({"serious", "critical"})
_ROUNDING_PX = 1
_TITLE_RULES = frozenset({"document-title"})
_DOCUMENT_RULES = frozenset({"document-title", "html-has-lang", "landmark-one-main", "page-has-heading-one", "region"})


def renders(evidence: Evidence) -> Score:
    """1 for the outcomes ok and blocked-resource, 0 for the others."""
    rendering = _measured(evidence)
    if not isinstance(rendering, Rendering):
        return rendering
    return Score(float(rendering.outcome in _RENDERED))


def accessible(evidence: Evidence) -> Score:
    """1 where axe-core finds no serious or critical violation; 0 for a blank page or one that never loaded.

    Minor and moderate findings are mostly advice (landmarks, one main heading) that few small pages follow. Rules about
    the document as a whole do not count for fragments, nor the title's where the suite ignores it.
    """
    rendering = _measured(evidence)
    if not isinstance(rendering, Rendering):
        return rendering
    if rendering.outcome in _NEVER_LOADED or rendering.outcome == "blank":
        return _ZERO
    if rendering.accessibility is None:
        return Score(None, "axe-core did not run")
    ignored = _DOCUMENT_RULES if evidence.task.scope == "fragment" else frozenset()
    if "missing-title" in evidence.task.ignore:
        ignored |= _TITLE_RULES
    grave = [
        violation
        for violation in rendering.accessibility
        if violation.get("impact") in _GRAVE and violation.get("id") not in ignored
    ]
    return Score(float(not grave))


def overflow_free(evidence: Evidence) -> Score:
    """1 where the page fits both windows (1280 and 375 CSS px) without scrolling sideways (1 px is rounding)."""
    rendering = _measured(evidence)
    if not isinstance(rendering, Rendering):
        return rendering
    if rendering.outcome in _NEVER_LOADED or rendering.outcome == "blank":
        return _ZERO
    if not rendering.overflow:
        return Score(None, "the overflow was not measured")
    return Score(float(all(pixels <= _ROUNDING_PX for pixels in rendering.overflow.values())))


def checks_must(evidence: Evidence) -> Score | None:
    """The share of the task's `must` checks that held in the browser; absent where the task has none."""
    passed = _must_checks(evidence)
    if passed is None or isinstance(passed, Score):
        return passed
    return Score(sum(passed) / len(passed))


def checks_all(evidence: Evidence) -> Score | None:
    """1 where every `must` check of the task held: the task is solved."""
    passed = _must_checks(evidence)
    if passed is None or isinstance(passed, Score):
        return passed
    return Score(float(all(passed)))


def visual_similarity(evidence: Evidence) -> Score | None:
    """How alike the page and its reference look at 1280 px, block by block, 0 to 100."""
    if not evidence.task.reference:
        return None
    rendering = _measured(evidence)
    if not isinstance(rendering, Rendering):
        return rendering
    if rendering.outcome in _NEVER_LOADED or (rendering.blocks is None and rendering.outcome == "blank"):
        return _ZERO
    if evidence.reference_rendering is None:
        return Score(None, "there is no rendering of the reference")
    from harness.metrics import visual

    return visual.visual_similarity(rendering, evidence.reference_rendering)


def _must_checks(evidence: Evidence) -> list[bool] | Score | None:
    if not any(check.level == "must" for check in evidence.task.checks):
        return None
    rendering = _measured(evidence)
    if not isinstance(rendering, Rendering):
        return rendering
    if rendering.checks is None:
        return _ZERO if rendering.outcome in _NEVER_LOADED else Score(None, "the checks did not run")
    passed = [result.passed for result in rendering.checks if result.level == "must"]
    return passed or Score(None, "the checks did not run")


def _measured(evidence: Evidence) -> Rendering | Score:
    """The rendering, or what its absence means: 0 where there was no page, null where nothing was measured."""
    rendering = evidence.rendering
    if rendering is None:
        if not evidence.page.found:
            return _ZERO
        return Score(None, evidence.why_not or "the page was not rendered")
    if rendering.outcome == "unscored":
        return Score(None, rendering.detail or "the renderer could not measure the page")
    return rendering
