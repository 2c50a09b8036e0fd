"""What the closed browser saw: whether the page renders, can be used by all, fits its window, and does what was asked.

A page that brings down its own renderer failed; what the harness could not measure (`unscored`) is null.
"""

from __future__ import annotations

from harness.metrics.metric import Evidence
from harness.metrics.parser_pool import NotMeasured
from harness.types import Rendering, Score

_ZERO = Score(0.0)
_RENDERED = frozenset({"ok", "blocked-resource"})
_NEVER_LOADED = frozenset({"crash", "timeout", "too-large", "navigated-away"})
_GRAVE = frozenset({"serious", "critical"})
_ROUNDING_PX = 1
_TITLE_RULES = frozenset({"document-title"})
_DOCUMENT_RULES = frozenset({"document-title", "html-has-lang", "landmark-one-main", "page-has-heading-one", "region"})


def renders(evidence: Evidence) -> Score:
    """1 for the outcomes ok and blocked-resource, 0 for the others."""
    rendering = _measured(evidence)
    return Score(float(rendering is not None and rendering.outcome in _RENDERED))


def accessible(evidence: Evidence) -> Score:
    """1 where axe-core finds no serious or critical violation; 0 for a blank page or one that never loaded.

    Minor and moderate findings are mostly advice (landmarks, one main heading) that few small pages follow. Rules about
    the document as a whole do not count for fragments, nor the title's where the suite ignores it.
    """
    rendering = _measured(evidence)
    if rendering is None or rendering.outcome in _NEVER_LOADED or rendering.outcome == "blank":
        return _ZERO
    if rendering.accessibility is None:
        raise NotMeasured("axe-core did not run")
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
    if rendering is None or rendering.outcome in _NEVER_LOADED or rendering.outcome == "blank":
        return _ZERO
    if not rendering.overflow:
        raise NotMeasured("the overflow was not measured")
    return Score(float(all(pixels <= _ROUNDING_PX for pixels in rendering.overflow.values())))


def checks_must(evidence: Evidence) -> Score | None:
    """The share of the task's `must` checks that held in the browser; absent where the task has none."""
    passed = _must_checks(evidence)
    return None if passed is None else Score(sum(passed) / len(passed))


def checks_all(evidence: Evidence) -> Score | None:
    """1 where every `must` check of the task held: the task is solved."""
    passed = _must_checks(evidence)
    return None if passed is None else Score(float(all(passed)))


def visual_similarity(evidence: Evidence) -> Score | None:
    """How alike the page and its reference look at 1280 px, block by block, 0 to 100."""
    if not evidence.task.reference:
        return None
    rendering = _measured(evidence)
    if rendering is None or rendering.outcome in _NEVER_LOADED:
        return _ZERO
    if rendering.blocks is None and rendering.outcome == "blank":
        return _ZERO
    if evidence.reference_rendering is None:
        raise NotMeasured("there is no rendering of the reference")
    from harness.metrics import visual

    return visual.visual_similarity(rendering, evidence.reference_rendering)


def _must_checks(evidence: Evidence) -> list[bool] | None:
    if not any(check.level == "must" for check in evidence.task.checks):
        return None
    rendering = _measured(evidence)
    if rendering is None or (rendering.checks is None and rendering.outcome in _NEVER_LOADED):
        return [False]
    passed = [result.passed for result in rendering.checks or () if result.level == "must"]
    if not passed:
        raise NotMeasured(rendering.checks_unmeasured or "the checks did not run")
    return passed


def _measured(evidence: Evidence) -> Rendering | None:
    """Return the rendering; None where there is no page, which is worth nothing.

    Raises:
        NotMeasured: the page was not rendered, or not measured.
    """
    rendering = evidence.rendering
    if rendering is None and evidence.page.found:
        raise NotMeasured(evidence.why_not or "the page was not rendered")
    if rendering is not None and rendering.outcome == "unscored":
        raise NotMeasured(rendering.detail or "the renderer could not measure the page")
    return rendering
