"""Scores of one page: form, similarity to a reference, and what the browser saw.

`registry` holds the metrics that a run computes. The similarity measures also work alone, as `evaluate.Metric`s that
load offline: `from harness.metrics import BleuDom; BleuDom().compute(predictions=[...], references=[...])`.
"""

from __future__ import annotations

_METRICS = ("Bleu", "BleuDom", "Chrf", "TreeBleuF1", "TextSimilarity", "TagSimilarity", "VisualSimilarity")
__all__ = [*_METRICS]


def __getattr__(name: str) -> object:
    # `evaluate` takes a second to import, so it is only when one of its metrics is asked for.
    if name in _METRICS:
        from harness.metrics import standalone

        return getattr(standalone, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
