"""One seed draws one text, whichever decoder writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.generate import sampling
from harness.generate.llama.decoder import StreamDecoder
from harness.generate.llama.model import FusedLlama
from harness.generate.transformers.continuous_batching import Decoder, Prompt
from harness.generate.transformers.decoder_check import STEPS, DecoderCheck
from harness.generate.transformers.reference import ReferenceDecoder
from harness.model.load import LoadedModel
from tests.conftest import load_fp32
from tests.generate.transformers.test_continuous_batching import some_prompts, stop_rule


def test_random_bits_are_those_that_splitmix64_is_known_for() -> None:
    """Of seed 1234567: the values by which its implementations are checked."""
    states = 1234567 + torch.arange(1, 6) * sampling._STEP
    known = (
        *(6457827717110365317, 3203168211198807973, 9817491932198370423),
        *(4593380528125082431, 16408922859458223821),
    )
    assert [int(bits) % 2**64 for bits in sampling._mixed(states)] == list(known)


def test_noise_is_gumbel_and_finite_at_either_end() -> None:
    noise = sampling._gumbel(torch.arange(1, 200_001) * sampling._STEP)
    assert abs(float(noise.mean()) - 0.5772157) < 0.012  # Euler's constant; four standard deviations of the mean
    assert abs(float(noise.var()) - 1.644934) < 0.05  # pi ** 2 / 6
    assert torch.isfinite(noise).all()


def test_draws_follow_the_softmax_and_depend_on_seed_and_position_alone() -> None:
    scores, count = torch.tensor([2.0, 1.0, 0.0, -1.0, -torch.inf]), 4000
    seeds, positions = torch.arange(count) * 7919 + 2**59, torch.full((count,), 12)
    once = sampling.drawn(scores.expand(count, 5), 0.5, seeds, positions)
    shares = torch.bincount(once, minlength=5) / count
    assert (shares - torch.softmax(scores / 0.5, 0)).abs().max() < 4 * (0.25 / count) ** 0.5
    assert torch.equal(sampling.drawn(scores.expand(3, 5), 0.5, seeds[5:8], positions[:3]), once[5:8])
    assert not torch.equal(sampling.drawn(scores.expand(count, 5), 0.5, seeds, positions + 1), once)


def made(kind: str, model: Any, stop: Any, rows: int, temperature: float, observe: Any = None) -> Any:
    if kind == "slots":
        return Decoder(model, stop, rows, temperature, observe)
    if kind == "generate":
        return ReferenceDecoder(model, stop, 1, temperature, observe=observe)
    return StreamDecoder(FusedLlama(model), stop, rows, temperature, observe)


def test_every_decoder_draws_the_same_text(shallow_folder: Path) -> None:
    loaded = load_fp32(shallow_folder)
    prompts = [
        Prompt(number, tuple(tokens), 2**59 + number, 13 - number)
        for number, tokens in enumerate(some_prompts(loaded, 4))
    ]
    said = {
        (kind, rows): {
            row.key: row.tokens for row in made(kind, loaded.model, stop_rule(loaded, 14), rows, 0.8).decode(prompts)
        }
        for kind, rows in (("generate", 1), ("slots", 2), ("fused", 1), ("fused", 3))
    }
    assert all(found == said["generate", 1] for found in said.values())
    greedy = {row.key: row.tokens for row in made("slots", loaded.model, stop_rule(loaded, 14), 5, 0).decode(prompts)}
    assert greedy != said["generate", 1]


@pytest.mark.parametrize("spoilt", ["", "seed", "position", "temperature"])
def test_a_decoder_that_draws_otherwise_is_found_out(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch, spoilt: str
) -> None:
    kept = sampling.drawn

    def other(scores: Any, temperature: float, seeds: Any, positions: Any) -> Any:
        return kept(
            scores,
            temperature * (1.2 if spoilt == "temperature" else 1),
            seeds + (spoilt == "seed"),
            positions + (spoilt == "position"),
        )

    monkeypatch.setattr("harness.generate.llama.torch_ops.drawn", other)
    prompts = tuple(Prompt(number, tuple(tokens)) for number, tokens in enumerate(some_prompts(tiny, 3)))
    check = DecoderCheck(tiny.model, tiny.tokenizer, prompts, STEPS, "float32")
    found = check.draws_differ(lambda *given: made("fused", *given))
    assert (found is None) if not spoilt else "drawn otherwise" in str(found)
