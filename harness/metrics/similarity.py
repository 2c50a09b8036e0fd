"""How near a page is to its reference, 0 to 100. Secondary: many good pages answer a prompt, the reference is one.

Every function takes what it compares, not the evidence, so that it can be used alone (see `harness.metrics`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from harness.metrics.parser_pool import NotMeasured
from harness.types import OVERRAN, Score

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

MAX_CHARACTERS = 400_000
"""n-gram statistics of longer texts are not computed: a model's answer never comes near."""

_MAX_SEQUENCE_PRODUCT = 4e10
_BLEU_ORDER = 4


def bleu(prediction: str, reference: str) -> Score:
    """Sentence BLEU of raw HTML (sacrebleu, 13a), with the row's sufficient statistics for the corpus value.

    `counts` are (prediction length, reference length, matches of 1- to 4-grams, totals of 1- to 4-grams).
    Papineni et al. 2002; Post 2018 for the tokenizer and the signature.
    """
    return _bleu("13a", prediction, reference)


def bleu_tokens(prediction: Sequence[str], reference: Sequence[str]) -> Score:
    """Sentence BLEU over tokens without white space; `counts` as in `bleu`. Two empty sequences are the same: 100."""
    if not prediction and not reference:
        return Score(100.0, counts=(0.0,) * (2 + 2 * _BLEU_ORDER))
    return _bleu("none", " ".join(prediction), " ".join(reference))


def corpus_bleu(sums: Sequence[float]) -> float:
    """BLEU of a corpus from the column sums of its rows' counts: equal to sacrebleu's `corpus_score`.

    But where no page has four tokens: orders without n-grams are left out then, as in a row, and equal pages have 100.
    """
    from sacrebleu.metrics.bleu import BLEU

    numbers = [round(value) for value in sums]
    correct, total = numbers[2 : 2 + _BLEU_ORDER], numbers[2 + _BLEU_ORDER :]
    if not any(total):
        return 0.0
    score = BLEU.compute_bleu(
        correct=correct,
        total=total,
        sys_len=numbers[0],
        ref_len=numbers[1],
        smooth_method="exp",
        effective_order=True,
    )
    return min(100.0, float(score.score))  # rounding may carry equal pages past it


def chrf(prediction: str, reference: str) -> Score:
    """chrF2 (sacrebleu, character 6-grams) of raw HTML. Popović 2015."""
    _check_size(prediction, reference)
    return Score(float(_chrf(reference).corpus_score([prediction], None).score))


def tree_bleu_f1(prediction: frozenset[tuple[str, ...]], reference: frozenset[tuple[str, ...]]) -> Score:
    """F1 over the sets of 1-height subtrees (a parent with its children).

    TreeBLEU (Gui et al. 2024, WebCode2M) is the recall alone, which a page that contains everything maximises.
    """
    if not prediction and not reference:
        return Score(100.0)
    return Score(200.0 * len(prediction & reference) / (len(prediction) + len(reference)))


def sequence_similarity(prediction: Sequence[str], reference: Sequence[str]) -> Score:
    """2 · LCS / (length + length) of two token sequences (normalised Indel similarity, rapidfuzz)."""
    from rapidfuzz.distance import Indel

    if len(prediction) * len(reference) > _MAX_SEQUENCE_PRODUCT:
        raise NotMeasured(
            f"{OVERRAN}sequences of {len(prediction):,} and {len(reference):,} tokens are too long to compare"
        )
    return Score(100.0 * float(Indel.normalized_similarity(prediction, reference)))


def signatures() -> dict[str, str]:
    """sacrebleu's signatures of the corpus metrics as computed here."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    # `force` only silences a warning about input that looks tokenized.
    names = {"sacrebleu_signature": BLEU(), "sacrebleu_signature_dom": BLEU(tokenize="none", force=True)}
    found = {}
    for name, metric in (*names.items(), ("sacrebleu_signature_chrf", CHRF())):
        metric.num_refs = 1
        found[name] = str(metric.get_signature())
    return found


def _bleu(tokenize: str, prediction: str, reference: str) -> Score:
    _check_size(prediction, reference)
    score = _sentence_bleu(tokenize).sentence_score(prediction, [reference])
    counts = (score.sys_len, score.ref_len, *score.counts, *score.totals)
    return Score(min(100.0, float(score.score)), counts=tuple(float(value) for value in counts))


@cache
def _sentence_bleu(tokenize: str) -> BLEU:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(tokenize=tokenize, effective_order=True, force=True)


@lru_cache(maxsize=256)
def _chrf(reference: str) -> CHRF:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF(references=[[reference]])


def _check_size(*texts: str) -> None:
    longest = max(len(text) for text in texts)
    if longest > MAX_CHARACTERS:
        raise NotMeasured(f"{OVERRAN}a text has {longest:,} characters, more than {MAX_CHARACTERS:,}")
