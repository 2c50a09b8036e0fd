from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from harness.metrics import Bleu, BleuDom, Chrf, TagSimilarity, TextSimilarity, TreeBleuF1, similarity
from harness.metrics.extract import extract
from harness.metrics.facts import page_facts
from harness.metrics.metric import Evidence
from harness.metrics.registry import METRICS, metric, score_page
from harness.types import Task

PAGE = """<!DOCTYPE html>
<html><head><title>Shop</title><style>p { color : red }</style></head>
<body><div id="x" class="b a"><p style="color: red; width: 1px">Fresh bread every day of the week</p>
<ul><li>Rye</li><li>Spelt</li></ul><input disabled name="q"></div></body></html>"""
SAME_PAGE = """<!doctype HTML><title>Shop</title><STYLE>p{color:red}</STYLE>
<div class='a   b' id=x>   <p style='color:red;width:1px'>Fresh   bread
every day of the week<ul><li>Rye<li>Spelt</ul><input name=q disabled=""></div>"""
OTHER_PAGE = "<!DOCTYPE html><html><body><table><tr><td>Nothing alike</td></tr></table></body></html>"
DOM_MEASURES = (BleuDom, TreeBleuF1, TextSimilarity, TagSimilarity)


@pytest.mark.parametrize("measure", DOM_MEASURES)
def test_pages_that_are_equal_as_html_score_100_on_the_dom_measures(measure: type) -> None:
    result = measure().compute(predictions=[SAME_PAGE], references=[PAGE])
    assert result["scores"] == [pytest.approx(100)]


@pytest.mark.parametrize("measure", [Bleu, BleuDom, Chrf, TreeBleuF1, TextSimilarity, TagSimilarity])
def test_evaluate_metrics_work_alone_and_order_pages_rightly(measure: type) -> None:
    result = measure().compute(predictions=[PAGE, SAME_PAGE, OTHER_PAGE], references=[PAGE] * 3)
    same, equal, other = result["scores"]
    assert same == pytest.approx(100)
    assert 0 <= other < equal <= 100
    assert result[measure.measure] < 100


BYTES = st.binary(max_size=60)
TEXTS = st.one_of(st.text(max_size=60), BYTES.map(lambda data: data.decode("utf-8", "surrogateescape")))


@pytest.mark.parametrize("measure", [Bleu, BleuDom, Chrf, TreeBleuF1, TextSimilarity, TagSimilarity])
@settings(max_examples=25, deadline=None)
@given(pairs=st.lists(st.tuples(TEXTS, TEXTS), max_size=4))
def test_evaluate_metrics_take_any_text(measure: type, pairs: list[tuple[str, str]]) -> None:
    metric = measure()
    for prediction, reference in pairs[:1]:
        metric.add(prediction=prediction, reference=reference)
    metric.add_batch(predictions=[p for p, _ in pairs[1:]], references=[r for _, r in pairs[1:]])
    result = metric.compute()
    assert result["notes"] == {}
    assert len(result["scores"]) == len(pairs)
    assert all(0 <= score <= 100 for score in result["scores"])
    assert 0 <= result[measure.measure] <= 100 if pairs else result[measure.measure] is None


@pytest.mark.parametrize("measure", [Bleu, BleuDom, Chrf, TreeBleuF1, TextSimilarity, TagSimilarity])
def test_a_page_too_large_is_a_named_null_and_leaves_the_corpus_to_the_others(measure: type) -> None:
    result = measure().compute(predictions=[PAGE, "<p>word " * 300_000], references=[PAGE, PAGE])
    assert result["scores"] == [pytest.approx(100), None]
    assert result[measure.measure] == pytest.approx(100)
    assert list(result["notes"]) == [1]
    assert "characters, more than" in result["notes"][1]


def test_raw_bleu_does_not_see_what_dom_bleu_sees() -> None:
    broken_and_wrong = PAGE.replace("Fresh bread every day", "Stale cakes once a year").replace("</p>", "</span>", 1)
    raw = [similarity.bleu(page, PAGE).value or 0 for page in (SAME_PAGE, broken_and_wrong)]
    assert raw[0] < raw[1], "BLEU of raw HTML prefers the wrong page"
    dom = [
        similarity.bleu_tokens(page_facts(page, "document").dom_tokens, page_facts(PAGE, "document").dom_tokens).value
        for page in (SAME_PAGE, broken_and_wrong)
    ]
    assert (dom[0] or 0) > (dom[1] or 0)


@pytest.mark.parametrize(
    ("shown", "meant"),
    [
        ("<p>&lt;b&gt; bread &lt;/b&gt; &lt;i&gt; every &lt;/i&gt;</p>", "<p><b>bread</b><i>every</i></p>"),
        ("<p>@class=big bread</p>", '<p class="big">bread</p>'),
        ("<p>\\&lt;b&gt; bread</p>", "<p>&lt;b&gt; bread</p>"),
    ],
)
def test_tags_that_a_page_shows_as_text_are_no_tags(shown: str, meant: str) -> None:
    tokens = [page_facts(page, "document").dom_tokens for page in (shown, meant)]
    assert (similarity.bleu_tokens(*tokens).value or 0) < 90
    assert similarity.bleu_tokens(tokens[0], tokens[0]).value == 100


def test_a_declared_shadow_tree_is_seen_and_another_template_is_not() -> None:
    shadow = "<x-a><template shadowrootmode=open><p>bread</p><template>rye</template></template></x-a>"
    assert page_facts(shadow, "document").words == ("bread",)
    assert page_facts(shadow.replace(" shadowrootmode=open", ""), "document").words == ()


def pages(count: int) -> list[str]:
    choose = random.Random(7)
    words = ["bread", "day", "<p>", "</p>", "<b>", "</b>", "&amp;", "x=1", "1,000.5", "é", "\n"]
    return [" ".join(choose.choices(words, k=choose.randrange(0, 60))) for _ in range(count)]


@pytest.mark.parametrize("tokenize", ["13a", "none"])
def test_corpus_bleu_from_counts_equals_sacrebleus_own(tokenize: str) -> None:
    predictions, references = pages(40), pages(80)[40:]
    score = similarity.bleu if tokenize == "13a" else lambda p, r: similarity.bleu_tokens(p.split(), r.split())
    rows = [score(p, r).counts for p, r in zip(predictions, references, strict=True)]
    assert all(row is not None for row in rows)
    sums = [sum(column) for column in zip(*(row or () for row in rows), strict=True)]
    expected = BLEU(tokenize=tokenize, force=True).corpus_score(predictions, [references]).score
    assert similarity.corpus_bleu(sums) == pytest.approx(expected, abs=1e-9)


def test_corpus_bleu_of_nothing_is_zero() -> None:
    assert similarity.corpus_bleu([0, 12, 0, 0, 0, 0, 0, 0, 0, 0]) == 0


def test_chrf_is_sacrebleus() -> None:
    for prediction, reference in zip(pages(5), pages(10)[5:], strict=True):
        expected = CHRF().sentence_score(prediction, [reference]).score
        assert similarity.chrf(prediction, reference).value == pytest.approx(expected)


def test_tree_f1_is_not_won_by_a_page_that_contains_everything() -> None:
    reference = page_facts("<ul><li>a<li>b</ul>", "document").families
    everything = page_facts(
        "<ul><li>a<li>b</ul>"
        + "".join(f"<{a}><{b}>x</{b}></{a}>" for a in ("p", "div", "h1") for b in ("b", "i", "em")),
        "document",
    ).families
    assert (similarity.tree_bleu_f1(everything, reference).value or 0) < 50
    assert similarity.tree_bleu_f1(frozenset(), frozenset()).value == 100


def test_visible_text_leaves_out_what_nobody_sees() -> None:
    page = (
        "<title>T</title><style>s</style><p>one<script>x</script> <b>two</b></p><p hidden>no</p><template>no</template>"
    )
    assert page_facts(page, "document").words == ("one", "two")


def test_no_page_scores_zero_and_still_weighs_in_the_corpus() -> None:
    task = Task("t", "p", reference=PAGE)
    scores = score_page(Evidence(task, "no page", extract("no page")))
    similar = [m.name for m in METRICS if m.kind == "similarity"]
    assert {scores[name].value for name in similar} == {0.0}
    counts = scores["bleu_dom"].counts
    assert counts is not None
    assert counts[0] == 0
    assert counts[1] > 0


def test_the_reference_scores_100_even_if_it_comes_in_a_fence() -> None:
    answer = f"Here:\n```html\n{PAGE}\n```"
    scores = score_page(Evidence(Task("t", "p", reference=answer), answer, extract(answer)))
    for name in ("bleu", "bleu_dom", "chrf", "tree_bleu_f1", "text_similarity", "tag_similarity"):
        assert scores[name].value == pytest.approx(100), name


def test_without_a_reference_similarity_is_absent() -> None:
    scores = score_page(Evidence(Task("t", "p"), PAGE, extract(PAGE)))
    assert not {m.name for m in METRICS if m.kind == "similarity"} & set(scores)


def test_bleu_metrics_carry_their_corpus_function() -> None:
    assert metric("bleu").corpus is metric("bleu_dom").corpus is similarity.corpus_bleu
    assert similarity.signatures()["sacrebleu_signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp")
