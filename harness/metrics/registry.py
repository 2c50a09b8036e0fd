"""All metrics, in the order of tables. A new metric is one function and one entry in `METRICS`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata

from harness.errors import UsageError, did_you_mean
from harness.metrics import form, parsed, rendered, similarity
from harness.metrics.extract import EXTRACTION_VERSION
from harness.metrics.facts import PageFacts
from harness.metrics.metric import Evidence, Metric, or_null
from harness.types import Message, Score


def _of_text(compare: Callable[[str, str], Score]) -> Callable[[Evidence], Score | None]:
    """A metric that compares the page's text with the reference's page."""

    def score(evidence: Evidence) -> Score | None:
        if not evidence.task.reference:
            return None
        reference = parsed.reference_html(evidence.task.reference, evidence.task.scope)
        return _nothing_is_zero(evidence, compare(evidence.page.html, reference))

    return score


def _of_facts(compare: Callable[[PageFacts, PageFacts], Score]) -> Callable[[Evidence], Score | None]:
    """A metric that compares what the parsers found in the page and in the reference."""

    def score(evidence: Evidence) -> Score | None:
        if not evidence.task.reference:
            return None
        reference = parsed.reference_facts(evidence.task.reference, evidence.task.scope)
        return _nothing_is_zero(evidence, compare(parsed.page_facts(evidence), reference))

    return score


def _nothing_is_zero(evidence: Evidence, score: Score) -> Score:
    """No page is worth nothing, also beside an empty reference; its counts still enter the corpus."""
    return Score(0.0, score.note, score.counts) if not evidence.page.found else score


METRICS: tuple[Metric, ...] = (
    Metric("extracted", "Page found", "form", "binary", form.extracted, "the completion holds a page", version=3),
    Metric(
        "parses",
        "Parses",
        "form",
        "binary",
        form.parses,
        "lxml finds an element the author wrote, and content",
        version=3,
    ),
    Metric(
        "well_formed",
        "Well-formed",
        "form",
        "binary",
        form.well_formed,
        "parses, and neither html5lib nor turbohtml reports a parse error",
        version=3,
    ),
    Metric(
        "conforming",
        "Conforming",
        "form",
        "binary",
        form.conforming,
        "the Nu Html Checker reports no error",
        primary=True,
        version=3,
    ),
    Metric("lxml_clean", "lxml clean", "form", "binary", form.lxml_clean, "libxml2's error log is empty", version=3),
    Metric("doctype", "Doctype", "form", "binary", form.doctype, "today's doctype comes first", version=3),
    Metric("titled", "Title", "form", "binary", form.titled, "the document has a title with text", version=3),
    Metric("closed", "Closed", "form", "binary", form.closed, "the page's end tag </html> is there", version=3),
    Metric(
        "bleu",
        "BLEU",
        "similarity",
        "percent",
        _of_text(similarity.bleu),
        "corpus BLEU of raw HTML (sacrebleu, 13a)",
        corpus=similarity.corpus_bleu,
        version=3,
    ),
    Metric(
        "bleu_dom",
        "DOM BLEU",
        "similarity",
        "percent",
        _of_facts(lambda page, reference: similarity.bleu_tokens(page.dom_tokens, reference.dom_tokens)),
        "corpus BLEU over canonical DOM tokens: quotes, attribute order and white space do not count",
        primary=True,
        corpus=similarity.corpus_bleu,
        version=3,
    ),
    Metric(
        "chrf", "chrF", "similarity", "percent", _of_text(similarity.chrf), "chrF2 of raw HTML, mean of rows", version=3
    ),
    Metric(
        "tree_bleu_f1",
        "Tree F1",
        "similarity",
        "percent",
        _of_facts(lambda page, reference: similarity.tree_bleu_f1(page.families, reference.families)),
        "F1 over parents with their children",
        version=3,
    ),
    Metric(
        "text_similarity",
        "Text",
        "similarity",
        "percent",
        _of_facts(lambda page, reference: similarity.sequence_similarity(page.words, reference.words)),
        "longest common sequence of visible words (of characters in scripts without spaces), relative to both lengths",
        version=3,
    ),
    Metric(
        "tag_similarity",
        "Tags",
        "similarity",
        "percent",
        _of_facts(lambda page, reference: similarity.sequence_similarity(page.tags, reference.tags)),
        "longest common sequence of tags, relative to both lengths",
        version=3,
    ),
    Metric(
        "visual_similarity",
        "Looks",
        "similarity",
        "percent",
        rendered.visual_similarity,
        "blocks of the page and its reference at 1280 px, matched: text, position, size, colour",
        version=4,
    ),
    Metric(
        "renders",
        "Renders",
        "render",
        "binary",
        rendered.renders,
        "the browser shows the page without its own fault",
        version=3,
    ),
    Metric(
        "accessible",
        "Accessible",
        "render",
        "binary",
        rendered.accessible,
        "axe-core: nothing serious or critical",
        version=3,
    ),
    Metric(
        "overflow_free",
        "Fits",
        "render",
        "binary",
        rendered.overflow_free,
        "no sideways scrolling at 1280 and 375 px",
        version=3,
    ),
    Metric(
        "checks_must",
        "Checks",
        "content",
        "share",
        rendered.checks_must,
        "share of what the prompt demands that holds in the browser",
        primary=True,
        version=3,
    ),
    Metric(
        "checks_all", "Solved", "content", "binary", rendered.checks_all, "all that the prompt demands holds", version=3
    ),
)


def metric(name: str) -> Metric:
    """Return the metric called `name`.

    Raises:
        UsageError: there is none.
    """
    for candidate in METRICS:
        if candidate.name == name:
            return candidate
    raise UsageError(f"there is no metric '{name}'", did_you_mean(name, [m.name for m in METRICS]))


def score_page(evidence: Evidence) -> dict[str, Score]:
    """Return every metric's score of one page, in the order of `METRICS`.

    A metric that does not apply to the task is absent. One that fails is null with the failure's name in its note,
    and the others are still there.
    """
    scores = {candidate.name: score_metric(candidate, evidence) for candidate in METRICS}
    return {name: score for name, score in scores.items() if score is not None}


def score_metric(metric: Metric, evidence: Evidence) -> Score | None:
    """Return one metric's score; a failure inside the metric is a null with a note, never an exception."""
    return or_null(lambda: metric.score(evidence))


def messages(evidence: Evidence) -> list[Message]:
    """Return all complaints of parsers and checkers about the page, CSS messages under the source `nu-css`."""
    return form.messages(evidence)


def tool_versions() -> dict[str, str | None]:
    """Return the versions of all that decides a score but the browser; None for what is not there."""
    import lxml.etree

    from harness.metrics import nu

    versions: dict[str, str | None] = {"libxml2": ".".join(map(str, lxml.etree.LIBXML_VERSION))}
    for package in ("lxml", "html5lib", "turbohtml", "sacrebleu", "rapidfuzz", "scikit-image", "regex"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    choice = nu.find_nu()
    versions["extraction"] = EXTRACTION_VERSION
    versions["nu"] = choice.version if choice else None
    return {**versions, **similarity.signatures()}


def scorer_manifest() -> dict[str, dict[str, str | int | bool]]:
    """Return what `manifest.json` says of each metric under `scorers`."""
    return {
        m.name: {
            "version": m.version,
            "label": m.label,
            "kind": m.kind,
            "scale": m.scale,
            "primary": m.primary,
            "description": m.description,
            "corpus": m.corpus is not None,
        }
        for m in METRICS
    }
