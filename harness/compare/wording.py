"""The verdict in words: one sentence, what was gained, and what must be known beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.compare.verdict import (
    BETTER,
    CONTENT_KINDS,
    MIN_TASKS,
    MIXED,
    NO_DIFFERENCE,
    SURE_TASKS,
    TOO_FEW,
    WORSE,
    Finding,
    Setting,
    word_of,
)
from harness.runs.manifest import BASE, FEW_SHOT, SuiteEntry
from harness.runs.pairs import Pair
from harness.runs.summary import DifferenceEntry, Verdict


def signed(value: float) -> str:
    """Return a number of points with its sign: one decimal below ten, none above."""
    text = plain(value)
    return text if text.startswith("−") or float(text) == 0 else "+" + text


def plain(value: float) -> str:
    """Return a number of points with a proper minus."""
    rounded = round(value, 1 if abs(value) < 9.95 else 0) + 0.0
    text = f"{rounded:.1f}".removesuffix(".0") if abs(value) < 9.95 else f"{rounded:.0f}"
    return text.replace("-", "−")


def span(low: float, high: float) -> str:
    """Return an interval in points; an end that only rounds to 0 says on which side of it it lies."""
    ends = []
    for value in (low, high):
        text = plain(value)
        ends.append(text if text != "0" or value == 0 else "above 0" if value > 0 else "below 0")
    return f"{ends[0]} to {ends[1]}"


def in_points(entry: DifferenceEntry, by: float) -> tuple[str, str, tuple[str, str], str]:
    """Return a measured difference, its interval, both means and its p in words; `by` turns its numbers into points."""
    assert entry.difference is not None and entry.low is not None and entry.high is not None
    first, second = entry.sides or (0.0, 0.0)
    p = entry.p_adjusted if entry.primary else entry.p
    means = plain(first * by), plain(second * by)
    return signed(entry.difference * by), span(entry.low * by, entry.high * by), means, f"{p:.3g}"


def joined(words: Sequence[str]) -> str:
    """Return "a", "a and b" or "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else list(words))


def tasks_of(finding: Finding) -> str:
    """Return on how many tasks a finding rests, in words."""
    tasks = finding.tasks or finding.n
    text = f"{tasks} task{'' if tasks == 1 else 's'}"
    if finding.asked > tasks:
        text = f"{tasks} of {finding.asked} tasks"
    return text if finding.n >= tasks else f"{text} in {finding.n} groups of near-duplicates"


def figures(word: str, findings: Sequence[Finding], setting: Setting) -> str:
    """Return what stands behind the headline and its colon: the numbers that it rests on."""
    worse_at = f" Worse at {', '.join(setting.worse_at)}." if setting.worse_at else ""
    if not findings:
        return f"no primary metric has a number on both sides.{worse_at}"
    several = len({finding.suite for finding in findings}) > 1
    shown = [f for f in findings if f.direction] if word in {BETTER, WORSE, MIXED} else list(findings)
    rest = [f for f in findings if f not in shown]
    text = _numbers(shown, several)
    if rest:
        text += f"; no difference shown in {_numbers(rest, several)}"
    text += f"; {_tasks(findings)}"
    if word in {NO_DIFFERENCE, TOO_FEW}:
        text += _reach(findings, several)
    return f"{text}.{worse_at}"


def headline(first: str, second: str, word: str, findings: Sequence[Finding], setting: Setting) -> str:
    """Return what was shown and no more: where one side only was gained or lost, which, alike in both directions."""
    if not findings:
        return f"Too few tasks to tell {second} from {first}"
    suites = list(dict.fromkeys(finding.suite for finding in findings))
    where = (f" on {suites[0]}" if len(suites) == 1 else "") + _transfer(suites, setting)
    if word == NO_DIFFERENCE:
        return f"No difference shown between {second} and {first}{where}"
    if word == TOO_FEW:
        return f"Too few tasks to tell {second} from {first}{where}"
    if word == MIXED:
        return f"{second} against {first}{where} is mixed"
    form = [f for f in findings if f.kind == "form"]
    content = [f for f in findings if f.kind in CONTENT_KINDS]
    words = word_of(form), word_of(content)
    if words == (word, word):
        return f"{second} beats {first}{where}" if word == BETTER else f"{second} is worse than {first}{where}"
    if words[0] == word:
        return f"{second} writes {word} formed pages than {first}{where}; their content {_as_clause(content)}"
    if words[1] == word:
        return f"{second} writes pages of {word} content than {first}{where}; their form {_as_clause(form)}"
    labels = joined([finding.label for finding in findings if finding.direction])
    return f"{second} is {word} than {first}{where} in {labels} only"


def _transfer(suites: Sequence[str], setting: Setting) -> str:
    apart = {suite: setting.transfer[suite] for suite in suites if suite in setting.transfer}
    if not apart:
        return ""
    if len(suites) == 1:
        (words,) = apart.values()
        return f" (a measure of transfer{_differing(words)})"
    return f" ({joined(list(apart))} measure{'s' if len(apart) == 1 else ''} transfer)"


def _differing(words: Sequence[str]) -> str:
    """Return in what the held-out tasks differ, short enough for a headline: the rest stands in the warnings."""
    short = [word.partition(":")[0].strip() for word in words[:2]]
    if not short:
        return ""
    if any(" " in word for word in short):
        return f", held-out tasks against training tasks, {joined(short)}"
    return f", as held-out and training tasks differ in {joined(short)}"


def _as_clause(findings: Sequence[Finding]) -> str:
    if not findings:
        return "was not measured"
    return {NO_DIFFERENCE: "is not shown to differ", TOO_FEW: "was measured on too few tasks to tell"}[
        word_of(findings)
    ]


def _numbers(findings: Sequence[Finding], with_suite: bool) -> str:
    words = [
        f"{f.label} {signed(f.difference)} points (95 % interval {span(f.low, f.high)}"
        + (", not held in the worst case for missing answers)" if f.shown and not f.holds else ")")
        for f in findings
    ]
    return ", ".join(f"{f.suite}: {said}" if with_suite else said for f, said in zip(findings, words, strict=True))


def _tasks(findings: Sequence[Finding]) -> str:
    by_suite: dict[str, list[str]] = {}
    for finding in findings:
        by_suite.setdefault(finding.suite, [])
        said = tasks_of(finding)
        by_suite[finding.suite] += [] if said in by_suite[finding.suite] else [said]
    if len(by_suite) == 1:
        return " or ".join(next(iter(by_suite.values())))
    return ", ".join(f"{suite} {' or '.join(said)}" for suite, said in by_suite.items())


def _reach(findings: Sequence[Finding], with_suite: bool) -> str:
    """Say which differences would have been found, each metric's own: those of one say nothing of another."""
    if max(finding.n for finding in findings) < MIN_TASKS:
        return f", and nothing is claimed below {MIN_TASKS}"
    known = [f for f in findings if f.detectable is not None and f.n >= MIN_TASKS]
    if not known:
        return ", too few for any difference to be found reliably"
    sizes = [plain(f.detectable or 0.0) for f in known]
    said = f"{sizes[0]} points or more"
    if len(known) < len(findings) or len(set(sizes)) > 1:
        places = [f"{f.label} on {f.suite}" if with_suite else f.label for f in known]
        said = joined([f"{size} in {place}" for size, place in zip([said, *sizes[1:]], places, strict=True)])
    return f", which 4 times of 5 find a difference of {said}"


def gains(second: str, form: Sequence[Finding], content: Sequence[Finding]) -> str:
    """Say whether the pages are better formed, better in content, or both."""
    if not form or not content:
        missing = "form" if not form else "content"
        return f"No primary metric of {missing} was measured, so gains of form and content cannot be told apart."
    of_form, of_content = word_of(form), word_of(content)
    if of_form == BETTER and of_content == BETTER:
        return f"{second} gains in form and in content."
    if of_form == BETTER:
        return f"{second} gains in form only: its content is {_gained(of_content)}."
    if of_content == BETTER:
        return f"{second} gains in content only: its form is {_gained(of_form)}."
    return f"No gain shown: form is {_gained(of_form)}, content is {_gained(of_content)}."


def _gained(word: str) -> str:
    return {NO_DIFFERENCE: "not shown to differ", TOO_FEW: "measured on too few tasks to tell"}.get(word, word)


def warnings(first: str, second: str, findings: Sequence[Finding], setting: Setting) -> list[str]:
    """Return the lines beneath the verdict, the gravest first: what is missing, what it measures, how sure it is."""
    out = [*missing_lines(first, second, findings, setting.unmeasured), *setting.caveats]
    fewest = min((finding.n for finding in findings), default=0)
    if findings and fewest < SURE_TASKS:
        out.append(f"Only {fewest} tasks: below {SURE_TASKS} the intervals are less sure than 95 % says.")
    if setting.tuned_trainings == 1:
        out.append("One training: the numbers speak of this adapter, not of fine-tuning.")
    return out


def missing_lines(first: str, second: str, findings: Sequence[Finding], unmeasured: Sequence[str]) -> list[str]:
    """Return what lacks a number, where that differs between the models, is much, or takes a claim away."""
    out = []
    lacking = [f for f in findings if f.notable or (f.shown and not f.holds)]
    several = len({finding.suite for finding in findings}) > 1
    for f in lacking:
        text = (
            f"Missing: {f.suite + ', ' if several else ''}{f.label} lacks numbers on {f.lacking[0]} of {f.asked} tasks "
            f"of {first} and on {f.lacking[1]} of {second}."
        )
        if f.bounds is not None:
            text += (
                f" Whatever they hold, the difference over all {f.asked} lies between {signed(f.bounds[0])} "
                f"and {signed(f.bounds[1])} points"
            )
            text += ": it is not called better or worse." if f.shown and not f.holds else "."
        out.append(text)
    if unmeasured:
        out.append(f"Not measured: {joined(list(unmeasured))}, on which the verdict was to rest.")
    return out


def caveats_of_suites(suites: Mapping[str, SuiteEntry]) -> list[str]:
    """Return what the manifest says of the measured suites: that they measure transfer, or are out of reach."""
    out = []
    for name, suite in suites.items():
        shift, reach = suite.shift, suite.reach
        if shift is not None and shift.told_apart:
            text = f"{name} measures transfer, not learning: a classifier tells its held-out tasks from the training"
            if shift.auc is not None and shift.low is not None and shift.high is not None:
                text += f" tasks (AUC {shift.auc:.2f}, 95 % interval {shift.low:.2f} to {shift.high:.2f})"
            else:
                text += " tasks"
            words = "; ".join(shift.differs_in)
            out.append(text + (f"; held out against training, {words}." if words else "."))
        if reach is not None and reach.out_of_reach:
            out.append(
                f"{reach.out_of_reach} of {_known(reach.references)} references of {name} are longer than the "
                f"{_known(reach.max_new_tokens)} new tokens that an answer may have: no answer can match them."
            )
    return out


def _known(count: int | None) -> str:
    return "?" if count is None else str(count)


def against_fewshot(verdicts: Mapping[Pair, Verdict], second: str, kinds: Mapping[str, str]) -> str | None:
    """Return the sentence that holds `second` against the base model with examples in its prompt; None without it."""

    def against(kind: str) -> tuple[str, Verdict] | None:
        names = (model for model, of_kind in kinds.items() if of_kind == kind)
        return next(((name, verdicts[Pair(name, second)]) for name in names if Pair(name, second) in verdicts), None)

    shot, plain_base = against(FEW_SHOT), against(BASE)
    if shot is None:
        return None
    name, said = shot
    text = f"Against {name}, which a user gets without training: {said.sentence}"
    if plain_base is not None and plain_base[1].word == BETTER and said.word != BETTER:
        text += " So the gain over base is not shown to be more than examples in the prompt give."
    return text
