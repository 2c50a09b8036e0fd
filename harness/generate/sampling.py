"""Draws that are the same whichever decoder makes them, in whatever batch: a row's own random numbers, by position.

A token is drawn by the Gumbel-max trick (Maddison, Tarlow & Minka 2014, section 2): the likeliest after noise is added
to each score. A token's noise is a function of the row's seed, the position and the token alone. Its random bits come
from SplitMix64 (Steele, Lea & Flood 2014, with Stafford's constants Mix13), whose n-th output is computed from its seed
and n: the row's generator gives each position a seed, whose generator gives each token 64 bits. That is arithmetic
modulo 2**64, the same on every device. The two logarithms are taken in float64, where devices differ in the last of 53
bits: for another token to be drawn, two would have to be that near each other, which float32's logits decide first.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from harness.errors import HarnessError


def _signed(bits: int) -> int:
    return bits - 2**64 if bits >= 2**63 else bits


_STEP = _signed(0x9E3779B97F4A7C15)
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)


def drawn(scores: torch.Tensor, temperature: float, seeds: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Return a token for each row of scores, (rows,), drawn with probabilities softmax(scores / temperature).

    Nothing waits for the GPU, so that a step can be captured.

    Args:
        scores: (rows, vocabulary).
        temperature: Above 0.
        seeds: (rows,) of int64.
        positions: (rows,) of int64: of the token in its row that the scores stand behind.
    """
    tokens = torch.arange(1, scores.shape[-1] + 1, device=scores.device) * _STEP
    starts = _mixed(seeds + (positions + 1) * _STEP)
    if scores.is_cuda:
        return (scores.double() / temperature + _gumbel(starts[:, None] + tokens)).argmax(-1)
    rows = zip(scores, starts, strict=True)  # one at a time stays in a core's cache
    return torch.stack([(row.double() / temperature + _gumbel(start + tokens)).argmax() for row, start in rows])


def check_finite(scores: torch.Tensor, chosen: torch.Tensor) -> None:
    """Refuse tokens that were chosen from scores which are no numbers: of a NaN each choice makes the likeliest.

    Args:
        scores: (rows, vocabulary).
        chosen: (rows,), the token of each row.

    Raises:
        HarnessError: a row's scores hold a NaN, or infinity is the largest.
    """
    if not bool(scores.gather(-1, chosen[:, None]).isfinite().all()):
        dtype = str(scores.dtype).rpartition(".")[2]
        raise HarnessError(
            f"the model's scores are not finite in {dtype}", "its weights are damaged, or need a wider dtype: --dtype"
        )


def drawn_by(scores: torch.Tensor, temperature: float, rows: Sequence[tuple[int, int]]) -> torch.Tensor:
    """As `drawn`, with seed and position of each row as numbers of the program."""
    seeds, positions = torch.tensor(rows, dtype=torch.long).to(scores.device).unbind(1)
    return drawn(scores, temperature, seeds, positions)


def _gumbel(states: torch.Tensor) -> torch.Tensor:
    """Return noise of the standard Gumbel distribution, float64, for states of SplitMix64; overwrites them."""
    uniform = _shifted(_mixed(states), 12).double().add_(0.5).mul_(2.0**-52)  # exact, and neither 0 nor 1
    return uniform.log_().neg_().log_().neg_()


def _mixed(states: torch.Tensor) -> torch.Tensor:
    """Return SplitMix64's outputs of its states; overwrites them."""
    states.bitwise_xor_(_shifted(states, 30)).mul_(_FIRST)
    states.bitwise_xor_(_shifted(states, 27)).mul_(_SECOND)
    return states.bitwise_xor_(_shifted(states, 31))


def _shifted(bits: torch.Tensor, count: int) -> torch.Tensor:
    """Shift right, zeros following."""
    return (bits >> count).bitwise_and_(2 ** (64 - count) - 1)
