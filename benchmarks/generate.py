"""Decoding speed on the CPU: ours against other ways of answering the same prompts with the same weights in one dtype.

    python -m venv --system-site-packages bench && bench/bin/pip install lm_eval xllamacpp   # two ways need them
    python benchmarks/generate.py [--tasks 112] [--batch 32] [--limit-s 540] [--dtype bfloat16] [--ways ours,plain,...]

Ways, each in a process of its own, one after another: `ours` (Generator.complete, as a run uses it), `ours_uncut` (the
same with `cut_loops` off), `plain` (transformers' `generate` in input order with the same batch and stop string),
`generate_batch` (transformers' continuous batching, which takes no stop string), `lm_eval` (lm-evaluation-harness's
`hf` model, `until: ["</html>"]`) and `llama_cpp` (llama.cpp's server inside this process, with the GGUF file itself:
its weights stay in 4 bits, so its texts may differ). All get the embedded profile's prompts of html_starter's held-out
tasks, a stratified part of them with `--tasks`, and its limit of new tokens. Timed is the answering alone, after a
first short answer that warms up.

Useful tokens, for all ways alike, are those up to `</html>`, the end token, the limit or a loop (docs/generation.md);
what a way decodes beyond is its own loss. Beside the time stands the processor's, which other work on the machine
disturbs less. Answers are compared with ours up to that stop: token for token where the
way gives tokens, else as text. A way that fails or runs out of `--limit-s` is named with its reason. Prints one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.types import Task

WAYS = ("ours", "ours_uncut", "plain", "generate_batch", "lm_eval", "llama_cpp")
OURS = ("ours", "ours_uncut")
STOP = "</html>"
LIMIT = 384
"""New tokens of an answer where the profile sets no limit."""
WARM_UP = 4
"""New tokens of the first answer, which is not timed."""


@dataclass(frozen=True)
class Asked:
    """What every way gets."""

    file: Any
    """The profile's file."""
    loaded: Any
    renderer: Any
    tasks: Sequence[Task]
    batch: int
    threads: int


@dataclass(frozen=True)
class Said:
    """Answers in the tasks' order; `tokens` where the way gives them."""

    texts: list[str]
    tokens: list[list[int]] | None = None


_TOLD = ("seconds", "cpu_seconds", "completions_per_minute", "useful_tokens_per_second")

Answer = Callable[[int, int], Said]
"""Answers the first tasks, so many of them, with so many new tokens at most."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=112)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--limit-s", type=float, default=540)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(arguments.child, arguments.tasks, arguments.batch, arguments.dtype)))
        return
    results: dict[str, dict[str, Any]] = {}
    for way in arguments.ways.split(","):
        results[way] = _in_own_process(way, arguments)
        print(way, json.dumps(_table(results)[way]), file=sys.stderr, flush=True)
    about = {
        "dtype": arguments.dtype,
        "tasks": arguments.tasks,
        "batch": arguments.batch,
        "cores": len(os.sched_getaffinity(0)),
    }
    print(json.dumps(about | {"ways": _table(results)}, indent=1))


def _in_own_process(way: str, arguments: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", way, "--dtype", arguments.dtype]
    command += ["--tasks", str(arguments.tasks), "--batch", str(arguments.batch)]
    limit_s = arguments.limit_s
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {limit_s:.0f} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1][:300]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _table(results: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    ours = next((results[way] for way in OURS if "seconds" in results.get(way, {})), None)
    table = {}
    for way, found in results.items():
        if "failed" in found:
            table[way] = found
            continue
        row = {name: found[name] for name in _TOLD}
        if ours:
            row["ours_is_times_as_fast"] = round(found["seconds"] / ours["seconds"], 2)
            row["ours_takes_so_many_times_less_processor"] = round(found["cpu_seconds"] / ours["cpu_seconds"], 2)
            pairs = list(zip(ours["answers"], found["answers"], strict=True))
            if all(theirs["tokens"] is not None for _, theirs in pairs):
                row["same_tokens_up_to_the_stop"] = sum(mine["tokens"] == theirs["tokens"] for mine, theirs in pairs)
            else:
                row["same_text_up_to_the_stop"] = sum(_same(mine, theirs) for mine, theirs in pairs)
        if found["answers"][0]["tokens"] is not None:
            reasons = [str(one["reason"]) for one in found["answers"]]
            row["ended_by"] = {reason: reasons.count(reason) for reason in sorted(set(reasons))}
        table[way] = row
    return table


def _same(mine: dict[str, Any], theirs: dict[str, Any]) -> bool:
    """Whether two texts are equal up to the stop. lm-eval and llama.cpp leave the stop string out: so it is for all.

    A loop may be cut between the tokens of one character, which then decodes as U+FFFD.
    """
    one, other = str(mine["text"]).split(STOP)[0], str(theirs["text"]).split(STOP)[0]
    return other.startswith(one.rstrip("\ufffd")) if mine["reason"] == "loop" else one == other


def measure(way: str, count: int, batch: int, dtype: str) -> dict[str, Any]:
    """Answer `count` held-out starter tasks in one way; return how fast, and the answers up to the stop."""
    from harness.generate.stopping import StopRule, end_tokens
    from harness.model.load import Precision, load_model
    from harness.model.profile import base_weights, load_profile
    from harness.model.prompt import PromptRenderer
    from harness.suite.load import find_suite, load_suite
    from harness.suite.split import stratified

    profile = load_profile("smollm2-135m")
    file = profile.file
    loaded = load_model(base_weights(profile), Precision("none", dtype, "cpu"))
    held_out = load_suite(find_suite("html_starter")).held_out
    tasks = list(held_out) if count >= len(held_out) else stratified(held_out, count)
    renderer = PromptRenderer(file.prompt, file.chat, loaded.tokenizer)
    loaded.model  # noqa: B018  # loaded here, not in the timed part
    asked = Asked(file, loaded, renderer, tasks, batch, len(os.sched_getaffinity(0)))
    answer = {
        "ours": lambda: _ours(asked, cut_loops=True),
        "ours_uncut": lambda: _ours(asked, cut_loops=False),
        "plain": lambda: _plain(asked),
        "generate_batch": lambda: _generate_batch(asked),
        "lm_eval": lambda: _lm_eval(asked),
        "llama_cpp": lambda: _llama_cpp(asked),
    }[way]()
    answer(1, WARM_UP)
    started, worked = time.perf_counter(), time.process_time()
    said = answer(len(tasks), file.max_new_tokens or LIMIT)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - worked

    tokenizer = loaded.tokenizer
    rule = StopRule(
        tokenizer, end_tokens(loaded.model, tokenizer), file.max_new_tokens or LIMIT, at_end_tag=True, cut_loops=True
    )
    answers: list[dict[str, Any]] = []
    for number, text in enumerate(said.texts):
        closed = text.split(STOP)[0] + (STOP if STOP in text else "")
        whole = said.tokens[number] if said.tokens else tokenizer(closed, add_special_tokens=False)["input_ids"]
        useful: list[int] = []
        reason = rule.extend(useful, whole) or "eos"
        answers.append(
            {"text": text, "useful": len(useful), "reason": reason, "tokens": useful if said.tokens else None}
        )
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "completions_per_minute": round(len(tasks) / seconds * 60, 2),
        "useful_tokens_per_second": round(sum(one["useful"] for one in answers) / seconds, 1),
        "answers": answers,
    }


def _ours(asked: Asked, *, cut_loops: bool) -> Answer:
    from harness.generate.llama.decoder import StreamDecoder
    from harness.generate.settings import GenerationSettings
    from harness.generate.transformers.generator import Generator

    written: dict[tuple[int, ...], list[int]] = {}
    real = StreamDecoder.decode

    def noted(self: Any, prompts: Any) -> Any:
        asked_by = {prompt.key: prompt.tokens for prompt in prompts}  # in an order of its own
        for row in real(self, prompts):
            written[asked_by[row.key]] = row.tokens
            yield row

    StreamDecoder.decode = noted  # type: ignore[method-assign]  # the answers' tokens, which no one else needs
    store = tempfile.TemporaryDirectory()
    settings = GenerationSettings((asked.file.max_new_tokens or LIMIT), asked.batch, cut_loops=cut_loops)
    generator = Generator("base", asked.loaded, asked.renderer, settings)

    def answer(count: int, limit: int) -> Said:
        os.environ["HARNESS_CACHE"] = store.name  # a store of its own
        limited = replace(generator, settings=replace(settings, max_new_tokens=limit))
        texts = [done.text for done in limited.complete(asked.tasks[:count], fresh=True)]
        return Said(texts, [written[generator.prompt(task)] for task in asked.tasks[:count]])

    return answer


def _plain(asked: Asked) -> Answer:
    import torch

    model, tokenizer = asked.loaded.model, asked.loaded.tokenizer
    ids = [asked.renderer.tokens(task) for task in asked.tasks]

    def answer(count: int, limit: int) -> Said:
        tokens: list[list[int]] = []
        for first in range(0, count, asked.batch):
            part = ids[first : min(count, first + asked.batch)]
            width = max(map(len, part))
            rows = torch.tensor([[tokenizer.pad_token_id] * (width - len(row)) + row for row in part])
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in part])
            written = model.generate(
                input_ids=rows,
                attention_mask=mask,
                max_new_tokens=limit,
                do_sample=False,
                stop_strings=[STOP],
                tokenizer=tokenizer,
                pad_token_id=tokenizer.pad_token_id,
            )
            tokens += written[:, width:].tolist()
        return Said(tokenizer.batch_decode(tokens, skip_special_tokens=True), tokens)

    return answer


def _generate_batch(asked: Asked) -> Answer:
    from transformers import ContinuousBatchingConfig, GenerationConfig

    model, tokenizer = asked.loaded.model, asked.loaded.tokenizer
    ids = [asked.renderer.tokens(task) for task in asked.tasks]
    longest = max(map(len, ids)) + (asked.file.max_new_tokens or LIMIT)
    page = 256
    # without these it sizes its cache by the memory of a GPU
    batching = ContinuousBatchingConfig(
        page_size=page,
        num_blocks=asked.batch * -(-longest // page),
        max_batch_tokens=max(512, longest),
        max_requests_per_batch=asked.batch,
    )

    def answer(count: int, limit: int) -> Said:
        config = GenerationConfig(
            max_new_tokens=limit,
            do_sample=False,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        found = model.generate_batch(
            inputs=ids[:count], generation_config=config, continuous_batching_config=batching, progress_bar=False
        )
        wrong = [one.error for one in found.values() if one.error]
        if wrong or len(found) != count:
            raise RuntimeError(f"generate_batch answered {len(found)} of {count} prompts {wrong[:1]}")
        tokens = [list(one.generated_tokens) for one in found.values()]
        return Said(tokenizer.batch_decode(tokens, skip_special_tokens=True), tokens)

    return answer


def _lm_eval(asked: Asked) -> Answer:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    texts = [asked.renderer.text(task) for task in asked.tasks]
    peer = HFLM(
        pretrained=asked.loaded.model, tokenizer=asked.loaded.tokenizer, batch_size=asked.batch, max_length=4096
    )

    def answer(count: int, limit: int) -> Said:
        settings = {"until": [STOP], "max_gen_toks": limit, "do_sample": False}
        requests = [Instance("generate_until", {}, (text, settings), n) for n, text in enumerate(texts[:count])]
        return Said(list(peer.generate_until(requests, disable_tqdm=True)))

    return answer


def _llama_cpp(asked: Asked) -> Answer:
    import xllamacpp

    from harness.model.weights import packaged_file

    ids = [asked.renderer.tokens(task) for task in asked.tasks]
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(packaged_file(asked.file.weights.gguf))
    parameters.n_parallel = asked.batch
    parameters.n_ctx = asked.batch * (max(map(len, ids)) + (asked.file.max_new_tokens or LIMIT) + 8)
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = asked.threads
    parameters.verbosity = -1
    server = xllamacpp.Server(parameters)

    def answer(count: int, limit: int) -> Said:
        def ask(row: list[int]) -> str:
            body = {"prompt": row, "max_tokens": limit, "temperature": 0, "stop": [STOP]}
            return str(server.handle_completions(body)["choices"][0]["text"])

        with ThreadPoolExecutor(asked.batch) as asking:
            return Said(list(asking.map(ask, ids[:count])))

    return answer


if __name__ == "__main__":
    main()
