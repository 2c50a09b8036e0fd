"""Kills decoding with SIGKILL at random moments and looks at what is left: 20 times on the embedded model.

    python benchmarks/kill_decoding.py [--kills 20] [--tasks 16] [--new-tokens 48] [--seed 0]

One child answers the tasks without a disturbance: the expected result. Then children that share one store are killed
at random until the last one comes to its end; with kills left to give, the next round begins with an empty store.
Counted are answers that the store holds twice (decoded although they were finished) and results that differ from the
expected. Prints one JSON object; exits with 1 where anything was decoded twice or differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

LONGEST_S = 6.0
"""A child is killed between its first step of decoding and so many seconds later."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--tasks", type=int, default=16)
    parser.add_argument("--new-tokens", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        answer(arguments.child, arguments.tasks, arguments.new_tokens)
        return
    found = torment(arguments)
    print(json.dumps(found))
    sys.exit(1 if found["decoded_twice"] or found["rounds_that_differ"] else 0)


def torment(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return how often children were killed, and what came of it."""
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        expected, _ = _child(Path(folder) / "calm", arguments, None)
        kills = in_the_middle = rounds = differ = twice = 0
        while kills < arguments.kills:
            store = Path(folder) / f"round{rounds}"
            result = None
            while result is None:
                delay = chance.uniform(0.0, LONGEST_S) if kills < arguments.kills else None
                result, decoding = _child(store, arguments, delay)
                kills += result is None
                in_the_middle += result is None and decoding
            rounds += 1
            differ += result != expected
            keys = Counter(json.loads(line)["key"] for line in _whole_lines(store))
            twice += sum(count - 1 for count in keys.values())
    return {
        "kills": kills,
        "of_them_between_two_answers": in_the_middle,
        "rounds": rounds,
        "answers_a_round": arguments.tasks,
        "decoded_twice": twice,
        "rounds_that_differ": differ,
    }


def _child(store: Path, arguments: argparse.Namespace, delay: float | None) -> tuple[Any, bool]:
    """Return a child's result, None when it was killed first; and whether some answers were done and some not."""
    command = [sys.executable, __file__, "--child", str(store)]
    command += ["--tasks", str(arguments.tasks), "--new-tokens", str(arguments.new_tokens)]
    path = os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert process.stdout is not None
    process.stdout.readline()  # the weights are loaded, decoding begins
    if delay is not None:
        time.sleep(delay)
        process.kill()
    said = process.stdout.read()
    process.wait()
    last = said.strip().splitlines()[-1:]
    if last and last[0].startswith("["):
        return json.loads(last[0]), False
    if delay is None:
        raise RuntimeError(f"a child that nobody killed ended with {process.returncode}")
    return None, 0 < len(_whole_lines(store)) < arguments.tasks


def _whole_lines(store: Path) -> list[bytes]:
    """Return the answers on the disk; what follows the last newline is torn."""
    return [line for file in store.glob("completions/*.jsonl") for line in file.read_bytes().split(b"\n")[:-1] if line]


def answer(store: Path, count: int, new_tokens: int) -> None:
    """Answer tasks into `store`; print a line when decoding begins, and the result last."""
    from harness.generate.local import Generator
    from harness.generate.settings import GenerationSettings
    from harness.model.load import Precision, load_model
    from harness.model.prompt import PromptRenderer
    from harness.profile.load import load_profile
    from harness.suite.load import find_suite, load_suite

    file = load_profile("smollm2-135m").file
    loaded = load_model(file.weights, Precision("none", "float32", "cpu"))
    renderer = PromptRenderer(file.prompt, file.chat, loaded.tokenizer)
    tasks = load_suite(find_suite("html_starter")).held_out[:count]
    loaded.model  # noqa: B018  # loaded here, so that the kill falls into decoding
    os.environ["HARNESS_CACHE"] = str(store)
    print("ready", flush=True)
    generator = Generator("base", loaded, renderer, GenerationSettings(new_tokens, batch_size=4))
    print(json.dumps([[done.task, done.finish_reason, done.text] for done in generator.complete(tasks)]), flush=True)


if __name__ == "__main__":
    main()
