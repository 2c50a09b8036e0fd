"""Answers of many architectures, greedy and sampled, are those of transformers' own `generate` on each prompt."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

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


def reference(folder: Path, prompts: list[list[int]], seeds: list[int] | None, monkeypatch: Any) -> list[list[int]]:
    """What `generate` of a model loaded anew writes; sampling takes its random numbers from the rows' seeds."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    draw = torch.multinomial
    settings: dict[str, Any] = {"do_sample": False}
    if seeds is not None:
        settings = {"do_sample": True, "temperature": TEMPERATURE, "top_k": 0, "top_p": 1.0}
    found = []
    for number, prompt in enumerate(prompts):
        generator = torch.Generator().manual_seed(seeds[number] if seeds else 0)

        def seeded(shares: torch.Tensor, num_samples: int, by: torch.Generator = generator) -> torch.Tensor:
            return draw(shares[0].double(), num_samples, generator=by)[None]

        ids = torch.tensor([prompt])
        with monkeypatch.context() as patch:
            patch.setattr(torch, "multinomial", seeded)
            out = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, **settings
            )
        found.append(out[0, len(prompt) :].tolist())
    return found


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_those_of_generate(
    own_cache: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
        expected = reference(folder, prompts, own, monkeypatch)
        assert said == [loaded.tokenizer.decode(tokens, skip_special_tokens=True) for tokens in expected]
    verdict = greedy.decoder()
    assert (verdict.kind if verdict.kind == "slots" else "padded" if verdict.padded else "single") == (
        architecture.decoder
    ), verdict


def test_the_documentation_lists_every_architecture() -> None:
    text = (ROOT / "docs" / "models.md").read_text()
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in re.findall(r"^\|.*\|$", text, re.M)]
    assert [row for row in rows if row in table()] == table()
    assert len(table()) >= 30
