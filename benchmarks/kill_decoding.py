"""Kills decoding with SIGKILL at random moments and examines what is left: 20 times on the embedded model.

    python benchmarks/kill_decoding.py [--kills 20] [--tasks 40] [--new-tokens 32] [--weights FOLDER] [--seed 0]

One child answers the tasks without a disturbance: the expected result, and how long an answer takes. Then children
share one store. Each is killed after it has stored one to three more answers and a random part of a batch's time: in
the middle of decoding, with some answers finished and others under way. The last child of a round finds too little
left to be killed in and comes to its end; with kills left to give, the next round begins with an empty store.

Only kills with some answers finished and others not count as kills. Counted besides are finished answers that a later
child was about to decode again or that the store holds twice, and rounds whose result is not the expected one. Prints
one JSON object; exits with 1 where anything was decoded again or differs. Children are forked off a process that has
the libraries loaded (POSIX): each is one of its own, and only its start is quicker.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

MORE_ANSWERS = 3
"""A child stores one to so many answers before it is killed."""
BATCH = 4
POLL_S = 0.002
LIBRARIES = ["transformers.models.llama.modeling_llama", "transformers.generation.utils"]
CHILDREN = multiprocessing.get_context("forkserver")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--tasks", type=int, default=40)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--weights", type=Path, help="a folder with another model than the embedded one")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    CHILDREN.set_forkserver_preload(LIBRARIES)
    found = torment(arguments)
    print(json.dumps(found))
    sys.exit(1 if found["decoded_again"] or found["rounds_that_differ"] else 0)


def torment(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return how often children were killed, and what came of it."""
    chance = random.Random(arguments.seed)
    too_late = rounds = differ = again = 0
    moments: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        expected, span = Child(Path(folder) / "calm", arguments).result()
        between = span / arguments.tasks * BATCH
        while len(moments) < arguments.kills:
            store = Path(folder) / f"round{rounds}"
            while True:
                finished = set(_keys(store))
                child = Child(store, arguments)
                again += len(finished & child.wanted)
                goal = len(finished) + chance.randint(1, MORE_ANSWERS)
                if len(moments) == arguments.kills or goal > arguments.tasks - BATCH:
                    break
                if not child.killed_after(goal, chance.uniform(0.0, between)):
                    break  # faster than we looked: it came to its end
                stored = len(_keys(store))
                if stored < arguments.tasks:
                    moments.append(stored)
                else:
                    too_late += 1
            differ += child.result()[0] != expected
            again += sum(count - 1 for count in Counter(_keys(store)).values())
            rounds += 1
    return {
        "kills_in_the_middle": len(moments),
        "answers_stored_at_the_kills": moments,
        "kills_after_the_last_answer": too_late,
        "answers_a_round": arguments.tasks,
        "rounds": rounds,
        "decoded_again": again,
        "rounds_that_differ": differ,
    }


class Child:
    """A process that answers the tasks into a store; made when it is about to decode."""

    def __init__(self, store: Path, arguments: argparse.Namespace) -> None:
        self._said, tell = CHILDREN.Pipe(duplex=False)
        self.process = CHILDREN.Process(target=answer, args=(store, arguments, tell))
        self.process.start()
        tell.close()
        self.store = store
        self.wanted: set[str] = set(self._said.recv())
        """The store's keys of the answers it is about to decode."""

    def killed_after(self, count: int, delay: float) -> bool:
        """Kill it `delay` seconds after the store holds `count` answers; return False when it ended before."""
        while len(_keys(self.store)) < count and self.process.is_alive():
            time.sleep(POLL_S)
        time.sleep(delay)
        self.process.kill()
        self.process.join()
        return (self.process.exitcode or 0) < 0  # by the signal: a child that failed is found by `result`

    def result(self) -> tuple[list[list[str]], float]:
        """Wait for its end; return its answers and the seconds that it decoded."""
        found: tuple[list[list[str]], float] = self._said.recv()
        self.process.join()
        return found


def _keys(store: Path) -> list[str]:
    """Return the keys of the answers on the disk; what follows the last newline is torn."""
    lines = [line for file in store.glob("completions/*.jsonl") for line in file.read_bytes().split(b"\n")[:-1]]
    found = []
    for line in lines:
        try:
            found.append(json.loads(line)["key"])
        except ValueError:
            continue  # torn by an earlier kill, and closed by the child after it
    return found


def answer(store: Path, arguments: argparse.Namespace, tell: Connection) -> None:
    """Answer the tasks into the store; tell the keys of what is about to be decoded, and the result last."""
    from harness.generate.settings import GenerationSettings
    from harness.generate.store import CompletionStore
    from harness.generate.transformers.generator import Generator
    from harness.generate.transformers.strategy import TokenRequests
    from harness.model.load import Precision, load_model
    from harness.model.profile import load_profile
    from harness.model.profile_schema import Weights
    from harness.model.prompt import PromptRenderer
    from harness.suite.load import find_suite, load_suite

    class Telling(Generator):
        def decode(self, wanted: TokenRequests) -> Any:
            tell.send([CompletionStore.key(prompt, sample, seed) for (_, sample), (prompt, seed) in wanted.items()])
            return super().decode(wanted)

    file = load_profile("smollm2-135m").file
    weights = Weights(folder=str(arguments.weights)) if arguments.weights else file.weights
    assert weights is not None
    loaded = load_model(weights, Precision("none", "float32", "cpu"))
    chat = file.chat and loaded.tokenizer.chat_template is not None
    renderer = PromptRenderer(file.prompt, chat, loaded.tokenizer)
    tasks = load_suite(find_suite("html_starter")).held_out[: arguments.tasks]
    loaded.model  # noqa: B018  # loaded here, so that the kill falls into decoding
    store.mkdir(exist_ok=True)
    for kept in ("compiled", "proofs"):  # what decodes is made and proved once, not in each round
        (store.parent / kept).mkdir(exist_ok=True)
        if not (store / kept).exists():
            (store / kept).symlink_to(store.parent / kept, target_is_directory=True)
    os.environ["HARNESS_CACHE"] = str(store)
    generator = Telling("base", loaded, renderer, GenerationSettings(arguments.new_tokens, BATCH))
    started = time.monotonic()
    answers = [[done.task, done.finish_reason, done.text] for done in generator.complete(tasks)]
    tell.send((answers, time.monotonic() - started))


if __name__ == "__main__":
    main()
