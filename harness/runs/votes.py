"""What people say of a run: votes.jsonl, and what the votes say together, agreement.json."""

from __future__ import annotations

from harness.runs.pairs import PairName
from harness.runs.record import VERSION, Count, Interval, Number, Record, Text
from harness.runs.samples import TaskKey


class Vote(Record):
    """One vote of a person: which models stood left and right, and which was chosen (or `tie`, or `both-bad`)."""

    version: int = VERSION
    time: Text = ""
    voter: Text = ""
    suite: Text
    task: Text
    prompt_sha: Text = ""
    left: Text
    right: Text
    chosen: Text
    left_page: Text = ""
    """SHA-256 of the page that stood left; empty in votes from before it was written down."""
    right_page: Text = ""

    @property
    def of_task(self) -> TaskKey:
        """Suite and task."""
        return TaskKey(self.suite, self.task)


class MetricAgreement(Interval):
    """How often a metric is higher for the chosen page, of `n` votes on which it differs; on `silent` it does not."""

    n: Count = 0
    silent: Count = 0
    agreement: Number | None = None


class PairVotes(Interval):
    """The votes on one pair: the share of decided ones for the second model, None without any."""

    votes: Count = 0
    decided: Count = 0
    ties: Count = 0
    both_bad: Count = 0
    voters: Count = 0
    outdated: Count = 0
    """Votes on pages that the run no longer holds, which count for nothing else."""
    win_rate: Number | None = None
    metrics: dict[Text, MetricAgreement] = {}


class Agreement(Record):
    """agreement.json."""

    version: int = VERSION
    pairs: dict[PairName, PairVotes] = {}
