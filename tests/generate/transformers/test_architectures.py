"""Answers of many architectures, greedy and sampled, are those of transformers' own `generate` on each prompt."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from transformers import LogitsProcessor, LogitsProcessorList

from harness.generate.sampling import drawn_by
from harness.generate.settings import GenerationSettings
from harness.generate.transformers.generator import Generator
from harness.model.prompt import PromptRenderer
from harness.types import Task
from tests.conftest import ROOT, load_fp32
from tests.generate.transformers.architectures import ARCHITECTURES, make, table

NEW_TOKENS = 40
TEMPERATURE = 0.8
TASKS = [
    Task("short", "Salt."),
    Task("long", "Write a page about bread, rivers, clouds, poems, engines, chess and violins. " * 2),
    Task("middle", "A table of lamps and wolves with a list of links: " + "<td>one</td>" * 4),
]
NAMES = [
    pytest.param(name, marks=() if architecture.fast else pytest.mark.slow)
    for name, architecture in ARCHITECTURES.items()
]


class Noisy(LogitsProcessor):
    """Makes `generate` draw as decoders do: the likeliest token after each one's own noise at its position."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        token = drawn_by(scores, TEMPERATURE, [(self.seed, input_ids.shape[1] - 1)])
        return torch.full_like(scores, -torch.inf).scatter(1, token[:, None], 0.0)


def reference(folder: Path, prompts: list[list[int]], seeds: list[int] | None) -> list[list[int]]:
    """What `generate` of a model loaded anew writes; sampling takes its random numbers from the rows' seeds."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    for number, prompt in enumerate(prompts):
        ids = torch.tensor([prompt])
        noise = [] if seeds is None else [Noisy(seeds[number])]
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            logits_processor=LogitsProcessorList(noise),
        )
        found.append(out[0, len(prompt) :].tolist())
    return found


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_those_of_generate(own_cache: Path, name: str, tmp_path: Path) -> None:
    architecture = ARCHITECTURES[name]
    folder = make(architecture, tmp_path / "model")
    loaded = load_fp32(folder)
    renderer = PromptRenderer("{{ prompt }}", architecture.chat, loaded.tokenizer)
    settings = GenerationSettings(NEW_TOKENS, batch_size=3, cut_loops=False)
    greedy = Generator("base", loaded, renderer, settings)
    prompts = [list(greedy.prompt(task)) for task in TASKS]
    assert max(map(len, prompts)) > 64
    sampled = Generator(
        "base", loaded, renderer, GenerationSettings(NEW_TOKENS, batch_size=3, temperature=TEMPERATURE, cut_loops=False)
    )
    seeds = [sampled.settings.row_seed(task.id, 0) for task in TASKS]
    for generator, own in ((greedy, None), (sampled, seeds)):
        said = [done.text for done in generator.complete(TASKS)]
        expected = reference(folder, prompts, own)
        assert said == [loaded.tokenizer.decode(tokens, skip_special_tokens=True) for tokens in expected]
    verdict = greedy.decoder()
    assert ("slots" if verdict.kind in ("fused", "slots") else "padded" if verdict.padded else "single") == (
        architecture.decoder
    ), verdict


def test_the_documentation_lists_every_architecture() -> None:
    text = (ROOT / "docs" / "models.md").read_text()
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in re.findall(r"^\|.*\|$", text, re.M)]
    assert [row for row in rows if row in table()] == table()
    assert len(table()) >= 30
