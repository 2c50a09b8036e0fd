"""What stands between the products on a CPU against torch's own operations and their gradients."""

from __future__ import annotations

import torch
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from harness.train.torch_ops import GatedUnit, Rotary


def test_a_gated_unit_is_that_of_two_matrices() -> None:
    torch.manual_seed(0)
    both = torch.randn(3, 7, 10, requires_grad=True)
    gate, up = both.chunk(2, dim=-1)
    expected = torch.nn.functional.silu(gate) * up
    found = GatedUnit.apply(both)  # type: ignore[no-untyped-call]
    weights = torch.randn(3, 7, 5)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, both, weights), torch.autograd.grad(expected, both, weights), atol=1e-6, rtol=1e-5
    )


def test_heads_turn_as_transformers_turns_them() -> None:
    torch.manual_seed(0)
    tokens, queries, keys, size = 6, 4, 2, 8
    heads = torch.randn(tokens, queries + 2 * keys, size, requires_grad=True)
    angles = torch.rand(1, tokens, size // 2) * 6
    cos, sin = (torch.cat([part, part], -1) for part in (angles.cos(), angles.sin()))
    query, key, value = torch.split(heads.transpose(0, 1)[None], [queries, keys, keys], 1)
    turned = apply_rotary_pos_emb(query, key, cos, sin)
    expected = torch.cat([*turned, value], 1)[0].transpose(0, 1)
    halves = (part[0, :, None, : size // 2] for part in (cos, sin))
    found = Rotary.apply(heads, *halves, queries + keys)  # type: ignore[no-untyped-call]
    weights = torch.randn_like(heads)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, heads, weights), torch.autograd.grad(expected, heads, weights)
    )
