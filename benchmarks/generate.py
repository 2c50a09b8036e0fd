"""Decoding speed on the CPU: ours against other ways of answering the same prompts with the same weights in float32.

    python benchmarks/generate.py [--tasks 24] [--batch 8] [--limit-s 240] [--ways ours,plain,batch,lm_eval]

Ways, each in a process of its own, one after another: `ours` (Generator.complete, as a run uses it, loops cut), `plain`
(transformers' `generate` in input order with the same batch size and stop string), `batch` (transformers'
`generate_batch`), `lm_eval` (lm-evaluation-harness's `hf` model; `pip install lm_eval`). All get the embedded profile's
prompts of the first held-out tasks of html_starter and its limit of new tokens. Timed is the answering alone, after a
first short answer that warms up. Texts are compared up to the stop: `</html>`, the end token, the limit, or the place
where ours cut a loop. A way that fails or runs out of `--limit-s` is named with its reason. Prints one JSON object.
Useful tokens are those up to the same stop for all; what a way decodes beyond it is its own loss.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WAYS = ("ours", "plain", "batch", "lm_eval")
STOP = "</html>"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=24)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--limit-s", type=float, default=240)
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(arguments.child, arguments.tasks, arguments.batch)))
        return
    results: dict[str, dict[str, Any]] = {}
    for way in arguments.ways.split(","):
        results[way] = _in_own_process(way, arguments.tasks, arguments.batch, arguments.limit_s)
        print(way, results[way].get("seconds", results[way].get("failed")), file=sys.stderr, flush=True)
    print(json.dumps({"tasks": arguments.tasks, "batch": arguments.batch, "ways": _table(results)}, indent=1))


def _in_own_process(way: str, tasks: int, batch: int, limit_s: float) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", way, "--tasks", str(tasks), "--batch", str(batch)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {limit_s:.0f} s"}
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1][:200]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _table(results: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    ours = results.get("ours", {})
    table = {}
    for way, found in results.items():
        if "failed" in found:
            table[way] = found
            continue
        rate = len(found["texts"]) / found["seconds"] * 60
        row = {"seconds": round(found["seconds"], 1), "completions_per_minute": round(rate, 2)}
        row["useful_tokens_per_second"] = round(sum(found["useful_tokens"]) / found["seconds"], 1)
        if "texts" in ours:
            row["ours_is_times_as_fast"] = round(found["seconds"] / ours["seconds"], 2)
            row["same_text_up_to_the_stop"] = sum(
                _same(mine, theirs, reason)
                for mine, theirs, reason in zip(ours["texts"], found["texts"], ours["reasons"], strict=True)
            )
        if way == "ours":
            row["finish_reasons"] = {reason: found["reasons"].count(reason) for reason in sorted(set(found["reasons"]))}
        table[way] = row
    return table


def _same(ours: str, theirs: str, reason: str) -> bool:
    """Whether both are equal up to the stop. lm-eval leaves the stop string out, so it is left out of all.

    A loop may be cut between the tokens of one character, which then decodes as U+FFFD.
    """
    mine, other = ours.split(STOP)[0], theirs.split(STOP)[0]
    return other.startswith(mine.rstrip("\ufffd")) if reason == "loop" else mine == other


def measure(way: str, count: int, batch: int) -> dict[str, Any]:
    """Answer the first `count` held-out starter tasks in one way; return seconds, texts and tokens up to the stop."""
    from harness.generate.local import Generator
    from harness.generate.settings import GenerationSettings
    from harness.model.load import Precision, load_model
    from harness.model.prompt import PromptRenderer
    from harness.profile.load import load_profile
    from harness.suite.load import find_suite, load_suite
    from harness.suite.split import stratified

    file = load_profile("smollm2-135m").file
    loaded = load_model(file.weights, Precision("none", "float32", "cpu"))
    renderer = PromptRenderer(file.prompt, file.chat, loaded.tokenizer)
    tasks = stratified(load_suite(find_suite("html_starter")).held_out, count)
    answer: Callable[[int], list[str]]
    reasons: list[str] = []
    if way == "ours":
        settings = GenerationSettings(file.max_new_tokens, batch)
        generator = Generator("base", loaded, renderer, settings)
        loaded.model  # noqa: B018  # loaded here, not in the timed part
        warm = Generator("base", loaded, renderer, GenerationSettings(4, batch))

        def ours(limit: int) -> list[str]:
            chosen = warm if limit < file.max_new_tokens else generator
            completions = chosen.complete(tasks if chosen is generator else tasks[:1], fresh=True)
            reasons[:] = [done.finish_reason for done in completions]
            return [done.text for done in completions]

        answer = ours
    else:
        prompts = [renderer.text(task) for task in tasks]
        ids = [renderer.tokens(task) for task in tasks]
        if way == "plain":
            answer = _plain(loaded, ids, batch)
        elif way == "batch":
            answer = _batch(loaded, ids)
        else:
            answer = _lm_eval(loaded, prompts, batch)
    with tempfile.TemporaryDirectory() as store:
        weights, os.environ["HARNESS_CACHE"] = os.environ.get("HARNESS_CACHE"), store  # a store of its own
        answer(4)
        started = time.perf_counter()
        texts = answer(file.max_new_tokens)
        seconds = time.perf_counter() - started
        if weights is not None:
            os.environ["HARNESS_CACHE"] = weights
    ended = [text.split(STOP)[0] + (STOP if STOP in text else "") for text in texts]
    useful = [len(loaded.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in ended]
    return {"seconds": seconds, "texts": texts, "useful_tokens": useful, "reasons": reasons}


def _plain(loaded: Any, ids: list[list[int]], batch: int) -> Callable[[int], list[str]]:
    import torch

    model, tokenizer = loaded.model, loaded.tokenizer

    def answer(limit: int) -> list[str]:
        texts: list[str] = []
        for first in range(0, len(ids) if limit > 4 else 1, batch):
            part = ids[first : first + batch]
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
            texts += tokenizer.batch_decode(written[:, width:], skip_special_tokens=True)
        return texts

    return answer


def _batch(loaded: Any, ids: list[list[int]]) -> Callable[[int], list[str]]:
    from transformers import GenerationConfig

    model, tokenizer = loaded.model, loaded.tokenizer

    def answer(limit: int) -> list[str]:
        config = GenerationConfig(
            max_new_tokens=limit,
            do_sample=False,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        wanted = ids if limit > 4 else ids[:1]
        found = model.generate_batch(inputs=wanted, generation_config=config, progress_bar=False)
        if len(found) != len(wanted):
            raise RuntimeError(f"generate_batch answered {len(found)} of {len(wanted)} prompts")
        by_prompt = {tuple(one.prompt_ids): one.generated_tokens for one in found.values()}
        return [tokenizer.decode(by_prompt[tuple(row)], skip_special_tokens=True) for row in wanted]

    return answer


def _lm_eval(loaded: Any, prompts: list[str], batch: int) -> Callable[[int], list[str]]:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    peer = HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=batch, max_length=4096)

    def answer(limit: int) -> list[str]:
        settings = {"until": [STOP], "max_gen_toks": limit, "do_sample": False}
        asked = prompts if limit > 4 else prompts[:1]
        return list(
            peer.generate_until([Instance("generate_until", {}, (text, settings), n) for n, text in enumerate(asked)])
        )

    return answer


if __name__ == "__main__":
    main()
