"""The benchmarks that read this repository's files find them."""

from __future__ import annotations

from benchmarks import render, score, validity_table


def test_the_scorers_benchmark_makes_pages_of_the_corpus() -> None:
    made = score.pages(None)
    assert len(set(made)) == score.PAGES
    assert all(score.CHARACTERS <= len(page) < 3 * score.CHARACTERS for page in made)


def test_the_table_of_tiers_has_pages_of_every_label() -> None:
    assert {label for label, _, _ in validity_table.corpus()} == set(validity_table.LABELS)


def test_the_renderers_benchmark_takes_as_many_references_as_are_asked_for() -> None:
    assert len(render.references(100)) == 100
