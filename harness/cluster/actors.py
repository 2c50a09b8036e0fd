"""How many workers of which kind a run has, and what each may take of a node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, TypedDict

from harness.errors import UsageError, did_you_mean

ExecutorName = Literal["local", "ray"]


class RayNode(TypedDict):
    """What is read of a node, as `ray.nodes()` lists it."""

    Alive: bool
    Resources: dict[str, float]


@dataclass(frozen=True, slots=True)
class Actors:
    """The words of `--actors`; None is decided by what the cluster has."""

    models: int | None = None
    """Workers that hold the models."""
    gpus: float | None = None
    """GPUs of each, possibly a fraction; 1 where the cluster has any, else 0."""
    cpus: float | None = None
    """CPUs of each."""
    scorers: int | None = None
    """Workers that check and render."""
    browsers: int | None = None
    """Browsers of each, one CPU apiece but the first, which the scorer's own work shares."""


@dataclass(frozen=True, slots=True)
class WorkerCounts:
    """The same, decided."""

    models: int
    gpus: float
    cpus: float
    scorers: int
    browsers: int

    @property
    def scorer_cpus(self) -> float:
        """CPUs that a scorer is given: one browser less, for a page waits for its frames half of the time."""
        return max(1, self.browsers - 1)


def parse_actors(words: str) -> Actors:
    """Parse `--actors models=4,gpus=0.5,scorers=16`.

    Raises:
        UsageError: a word is unknown, or its number is none.
    """
    from pydantic import TypeAdapter

    known = {entry.name: (int if "int" in str(entry.type) else float) for entry in fields(Actors)}
    found: dict[str, float] = {}
    for word in filter(None, (part.strip() for part in words.split(","))):
        name, equals, value = word.partition("=")
        if name not in known:
            raise UsageError(f"--actors has no '{name}'", did_you_mean(name, known))
        try:
            found[name] = known[name](value)
        except ValueError:
            found[name] = -1
        least = 0 if name in ("gpus", "cpus") else 1
        if not equals or not least <= found[name] < float("inf"):
            raise UsageError(f"--actors {word} is no number", "for example --actors models=4,gpus=0.5,scorers=16")
    return TypeAdapter(Actors).validate_python(found)


def plan_workers(actors: Actors, nodes: Sequence[RayNode]) -> WorkerCounts:
    """Decide what is left open, from the nodes as `ray.nodes()` lists them.

    Models take every GPU; without any, one worker and half of the CPUs on each node. Scorers of three browsers share
    the CPUs that are left.
    """
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    cpus = [int(found.get("CPU", 0)) for found in resources]
    gpus = [float(found.get("GPU", 0.0)) for found in resources]
    per_model = actors.gpus if actors.gpus is not None else float(sum(gpus) > 0)
    if actors.models is not None:
        per_node = [-(-actors.models // max(1, len(resources)))] * len(resources)
    elif per_model:
        per_node = [int(count / per_model + 1e-9) for count in gpus]
    else:
        per_node = [int(count > 0) for count in cpus]
    fewest = min((count for count in cpus if count), default=1)
    model_cpus = actors.cpus if actors.cpus is not None else 1.0 if per_model else float(max(1, fewest // 2))
    free = [count - number * model_cpus for count, number in zip(cpus, per_node, strict=True)]
    browsers = actors.browsers or min(3, int(min((left for left in free if left >= 1), default=1)) + 1)
    scorers = sum(int(left // max(1, browsers - 1)) for left in free if left > 0)
    return WorkerCounts(
        actors.models or max(1, sum(per_node)), per_model, model_cpus, actors.scorers or max(1, scorers), browsers
    )
