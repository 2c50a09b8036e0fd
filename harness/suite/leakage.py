"""Near-duplicates between tasks: by what they ask, and by the page that answers them.

Candidates come from MinHash with locality-sensitive hashing (datasketch); each is then confirmed by the exact Jaccard
similarity of its shingles, so that the result does not depend on the hashing's luck.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from functools import cache

from harness.metrics.parsed import reference_facts
from harness.metrics.parser_pool import NotMeasured
from harness.metrics.unspaced import has_unspaced, tokens
from harness.types import Task

PROMPT_NGRAM = 3
PROMPT_JACCARD = 0.5
"""Two prompts that share half of their word 3-grams ask for nearly the same."""

CHARACTER_JACCARD = 0.75
"""Two prompts in a script without spaces, by their character 3-grams: one character fills a smaller part of a request
than one word, so that requests of one form about different things share more."""

SAME_PROMPT_JACCARD = 0.95
ALIKE_OUTPUT_JACCARD = 0.25
"""Where such prompts have pages to compare, these decide too: from PROMPT_JACCARD on the pages must be this much alike,
from SAME_PROMPT_JACCARD on they need not."""

OUTPUT_NGRAM = 3
OUTPUT_JACCARD = 0.5
"""Two pages that share this much of their DOM 3-grams are nearly the same page."""

MIN_OUTPUT_SHINGLES = 4
"""Smaller pages (an empty skeleton) resemble one another by nature: they are told by their prompts alone."""

_PERMUTATIONS = 128
_SEED = 1
_CANDIDATE_SLACK = 0.15
"""The hashing looks for pairs somewhat less alike than wanted, so that it misses hardly any that are."""

_WORD = re.compile(r"\w+")
_SENTENCE_ENDS = re.compile(r"[\r\n]+|(?<=[.!?:;])\s+|(?<=[\u3002\uff01\uff1f\uff1a\uff1b])")
_FEWEST_WORDS = 3

Shingles = frozenset[Hashable]


def groups(tasks: Sequence[Task]) -> list[list[Task]]:
    """Return all tasks in groups of near-duplicates (most of one task), in the order of their first task.

    A split that keeps groups whole has no near-duplicate on both sides: a task is in a group if it resembles any other
    of that group.
    """
    parent = list(range(len(tasks)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for first, second in _pairs(tasks):
        low, high = sorted((root(first), root(second)))
        parent[high] = low
    grouped: dict[int, list[Task]] = {}
    for index, task in enumerate(tasks):
        grouped.setdefault(root(index), []).append(task)
    return list(grouped.values())


def first_of_group(tasks: Sequence[Task]) -> dict[str, str]:
    """Return for each task the id of the first task of its group: near-duplicates are one unit, not several."""
    return {task.id: group[0].id for group in groups(tasks) for task in group}


def flag(train: Sequence[Task], held_out: Sequence[Task]) -> dict[str, list[str]]:
    """Return, for each held-out task that resembles a training row, the ids of those rows in order."""
    tasks = [*train, *held_out]
    flagged: dict[str, list[str]] = {}
    for first, second in _pairs(tasks, boundary=len(train)):
        flagged.setdefault(tasks[second].id, []).append(tasks[first].id)
    return {task.id: sorted(flagged[task.id]) for task in held_out if task.id in flagged}


def prompt_shingles(task: Task) -> Shingles:
    """The 3-grams of the words that the task asks in, or of its characters where the script has no spaces.

    A shorter prompt is one shingle.
    """
    return _ngrams(prompt_tokens(task), PROMPT_NGRAM)


def prompt_tokens(task: Task) -> list[str]:
    """Return the words, in lower case, of what the task asks; characters where the script has no spaces."""
    return tokens(f"{task.prompt} {task.input}".lower(), _WORD.findall)


def output_shingles(task: Task) -> Shingles:
    """The DOM token 3-grams of the reference page; nothing for a page too small to tell, or too large to parse."""
    if not task.reference:
        return frozenset()
    try:
        dom_tokens = reference_facts(task.reference, task.scope).dom_tokens
    except NotMeasured:
        return frozenset()
    shingles = _ngrams(dom_tokens, OUTPUT_NGRAM)
    return shingles if len(shingles) >= MIN_OUTPUT_SHINGLES else frozenset()


def _pairs(tasks: Sequence[Task], boundary: int | None = None) -> Iterator[tuple[int, int]]:
    """Pairs of similar tasks (lower index first), each once; with `boundary` only pairs from both sides of it."""
    by_prompt = [prompt_shingles(task) for task in _without_shared_sentences(tasks)]
    by_output = [output_shingles(task) for task in tasks]
    found = set(_similar(by_output, OUTPUT_JACCARD))
    unspaced = [_mostly_unspaced(task) for task in tasks]
    for first, second in _similar(by_prompt, PROMPT_JACCARD):
        if not (unspaced[first] or unspaced[second]) or _alike_by_characters(
            _jaccard(by_prompt[first], by_prompt[second]), by_output[first], by_output[second]
        ):
            found.add((first, second))
    for first, second in sorted(found):
        if boundary is None or first < boundary <= second:
            yield first, second


def _without_shared_sentences(tasks: Sequence[Task]) -> Sequence[Task]:
    """Return the tasks without the sentences and lines, wherever they stand, that most of them have.

    These are a system turn, a template, or one instruction for all inputs, and say nothing about what is asked: with
    them, all would be near-duplicates. A task that would be left without three words is left as it is.
    """
    parted = [
        {
            sentence: tuple(tokens(sentence.lower(), _WORD.findall))
            for sentence in _SENTENCE_ENDS.split(f"{task.prompt}\n{task.input}")
        }
        for task in tasks
    ]
    counts = Counter(words for sentences in parted for words in set(sentences.values()))
    shared = {words for words, count in counts.items() if words and count >= 3 and 2 * count > len(tasks)}
    found = []
    for task, sentences in zip(tasks, parted, strict=True):
        own = {sentence: words for sentence, words in sentences.items() if words not in shared}
        changed = len(own) < len(sentences) and sum(map(len, own.values())) >= _FEWEST_WORDS
        found.append(replace(task, prompt="\n".join(own), input="") if changed else task)
    return found


def _mostly_unspaced(task: Task) -> bool:
    """Whether more characters of scripts without spaces than words of others say what the task asks."""
    if not has_unspaced(f"{task.prompt} {task.input}"):
        return False
    words = prompt_tokens(task)
    return 2 * sum(map(has_unspaced, words)) > len(words)


def _alike_by_characters(prompts: float, first: Shingles, second: Shingles) -> bool:
    """Whether two tasks are near-duplicates, given the similarity of their prompts' characters and their pages."""
    if not first or not second:
        return prompts >= CHARACTER_JACCARD
    return prompts >= SAME_PROMPT_JACCARD or _jaccard(first, second) >= ALIKE_OUTPUT_JACCARD


@cache
def _bands(threshold: float) -> tuple[int, int]:
    """Return into how many bands of how many rows datasketch cuts sketches: it takes 1,300 integrals to find out."""
    from datasketch import MinHashLSH

    index = MinHashLSH(threshold=threshold, num_perm=_PERMUTATIONS)
    return index.b, index.r


def _similar(shingles: Sequence[Shingles], threshold: float) -> Iterator[tuple[int, int]]:
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(num_perm=_PERMUTATIONS, params=_bands(threshold - _CANDIDATE_SLACK))
    empty = MinHash(num_perm=_PERMUTATIONS, seed=_SEED)
    for position, own in enumerate(shingles):
        if not own:
            continue
        sketch = empty.copy()  # with the same permutations, which are not drawn anew
        sketch.update_batch([repr(shingle).encode("utf-8", "surrogatepass") for shingle in own])
        for other in index.query(sketch):
            if _jaccard(own, shingles[other]) >= threshold:
                yield other, position
        index.insert(position, sketch)


def _jaccard(first: Shingles, second: Shingles) -> float:
    return len(first & second) / len(first | second)


def _ngrams(tokens: Sequence[str], n: int) -> Shingles:
    if not tokens:
        return frozenset()
    return frozenset(tuple(tokens[i : i + n]) for i in range(max(1, len(tokens) - n + 1)))
