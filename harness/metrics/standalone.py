"""The similarity measures as `evaluate.Metric`s that work alone, without a run and without the network.

`metric.compute(predictions=[...], references=[...])` takes pages as text
and returns {name: value of the corpus, "scores": value of each pair, "notes": {index of a pair: why it has no value}}.
A pair that could not be measured has None, and the corpus' value is that of the others. They are the same functions
that a run uses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial

import datasets
import evaluate
from typing_extensions import override

from harness.metrics import parser_pool, similarity, visual
from harness.metrics.facts import PageFacts
from harness.metrics.metric import or_null
from harness.types import Rendering, Score

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class _Similarity(evaluate.Metric):  # type: ignore[misc]
    """Shared by all: one score per pair, and their mean or the corpus value."""

    measure: str
    corpus: Callable[[Sequence[float]], float] | None = None

    def __init__(self, **options: object) -> None:
        # In memory, so that nothing is written to disk and two of them never wait for each other's lock.
        super().__init__(**{"keep_in_memory": options.get("num_process", 1) == 1, **options})

    def _info(self) -> evaluate.MetricInfo:
        value = datasets.Value("string")
        return evaluate.MetricInfo(
            description=(self.__doc__ or "").strip(),
            citation="",
            inputs_description="predictions and references: one page each",
            features=datasets.Features({"predictions": value, "references": value}),
        )

    def add_batch(
        self, *, predictions: Sequence[str] | None = None, references: Sequence[str] | None = None, **more: object
    ) -> None:
        """Add pairs. A lone surrogate becomes U+FFFD, as parsers read it: `evaluate` can store text as UTF-8 only."""
        stored = {"predictions": predictions or (), "references": references or ()}
        super().add_batch(**{side: [_storable(text) for text in texts] for side, texts in stored.items()}, **more)

    def add(self, *, prediction: str | None = None, reference: str | None = None, **more: object) -> None:
        """Add one pair, as `add_batch` does."""
        super().add(prediction=_storable(prediction), reference=_storable(reference), **more)

    def _compute(self, *, predictions: list[str], references: list[str]) -> dict[str, object]:
        scores = [or_null(partial(self.pair, p, r)) for p, r in zip(predictions, references, strict=True)]
        values = [score.value for score in scores if score.value is not None]
        total: float | None = None
        if values and self.corpus is not None:
            columns = zip(*(score.counts for score in scores if score.counts is not None), strict=True)
            total = type(self).corpus([sum(column) for column in columns])  # type: ignore[misc]
        elif values:
            total = sum(values) / len(values)
        notes = {index: score.note for index, score in enumerate(scores) if score.value is None}
        return {self.measure: total, "scores": [score.value for score in scores], "notes": notes}

    def pair(self, prediction: str, reference: str) -> Score:
        """The score of one pair."""
        raise NotImplementedError


class Bleu(_Similarity):
    """Corpus BLEU of raw HTML (sacrebleu, 13a tokenizer), 0 to 100."""

    measure = "bleu"
    corpus = staticmethod(similarity.corpus_bleu)

    @override
    def pair(self, prediction: str, reference: str) -> Score:
        return similarity.bleu(prediction, reference)


class BleuDom(_Similarity):
    """Corpus BLEU over canonical DOM tokens, 0 to 100: quotes, attribute order and white space do not count."""

    measure = "bleu_dom"
    corpus = staticmethod(similarity.corpus_bleu)

    @override
    def pair(self, prediction: str, reference: str) -> Score:
        return similarity.bleu_tokens(_facts(prediction).dom_tokens, _facts(reference).dom_tokens)


class Chrf(_Similarity):
    """chrF2 of raw HTML (sacrebleu), mean over pairs, 0 to 100."""

    measure = "chrf"

    @override
    def pair(self, prediction: str, reference: str) -> Score:
        return similarity.chrf(prediction, reference)


class TreeBleuF1(_Similarity):
    """F1 over the sets of 1-height subtrees, mean over pairs, 0 to 100."""

    measure = "tree_bleu_f1"

    @override
    def pair(self, prediction: str, reference: str) -> Score:
        return similarity.tree_bleu_f1(_facts(prediction).families, _facts(reference).families)


class TextSimilarity(_Similarity):
    """Longest common sequence of visible words relative to both lengths, mean over pairs, 0 to 100."""

    measure = "text_similarity"

    @override
    def pair(self, prediction: str, reference: str) -> Score:
        return similarity.sequence_similarity(_facts(prediction).words, _facts(reference).words)


class TagSimilarity(_Similarity):
    """Longest common sequence of tags relative to both lengths, mean over pairs, 0 to 100."""

    measure = "tag_similarity"

    @override
    def pair(self, prediction: str, reference: str) -> Score:
        return similarity.sequence_similarity(_facts(prediction).tags, _facts(reference).tags)


class VisualSimilarity(_Similarity):
    """How alike two pages look at 1280 px, block by block, mean over pairs, 0 to 100.

    Args:
        render: Opens pages and returns what was seen, in their order: `harness.render.render_html`.
        options: Those of `evaluate.Metric`.
    """

    measure = "visual_similarity"

    def __init__(self, render: Callable[[Sequence[str]], Sequence[Rendering]], **options: object) -> None:
        super().__init__(**options)
        self._render = render

    def _compute(self, *, predictions: list[str], references: list[str]) -> dict[str, object]:
        """Render all pages, each distinct one once, then compare."""
        pages = list(dict.fromkeys((*predictions, *references)))
        self._renderings = dict(zip(pages, self._render(pages), strict=True))
        return super()._compute(predictions=predictions, references=references)

    @override
    def pair(self, prediction: str, reference: str) -> Score:
        return visual.visual_similarity(self._renderings[prediction], self._renderings[reference])


def _facts(html: str) -> PageFacts:
    facts: PageFacts = parser_pool.facts(html, "document")
    return facts


def _storable(text: object) -> object:
    return _LONE_SURROGATE.sub("\ufffd", text) if isinstance(text, str) else text
