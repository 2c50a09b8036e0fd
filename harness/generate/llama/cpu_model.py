"""A Llama decoded on a CPU: weights packed once for oneDNN's products, no token of padding, no copy of keys or values.

A step reads all weights for a few rows. Packed, they lie as the processor's vector units take them; the plain product
would rearrange them anew in every step. The packed copy is a second one: `plan_on_cpu` says where there is room for it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from harness.generate.llama import cpu_ops
from harness.generate.llama.adapters import AdapterRows
from harness.generate.llama.cpu_attention import CpuCache, attention_of, readings
from harness.generate.llama.model import NOTHING, Along, FusedLlama, KVCache, PackedProduct, Product
from harness.generate.llama.prompt_batch import PromptBatch


class CpuLlama(FusedLlama):
    """The weights of one model as decoding on a CPU takes them.

    Args:
        model: As of `FusedLlama`, on the CPU.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model, cpu_ops)
        self.enters_beside = False
        with torch.inference_mode(False):
            self._packed_head = cpu_ops.packed(self.head)

    def _product(self, block: Any, names: tuple[str, ...]) -> Product | PackedProduct:
        whole = super()._product(block, names)
        assert isinstance(whole, Product)
        return PackedProduct(cpu_ops.packed(whole.below), cpu_ops.packed_linear)

    def pool(self, places: int) -> CpuCache:
        """Return room for that many tokens."""
        plain = super().pool(places)
        return CpuCache(plain.keys, plain.values)

    def step(
        self,
        tokens: torch.Tensor,
        pool: KVCache,
        starts: torch.Tensor,
        positions: torch.Tensor,
        longest: int,
        along: Along = NOTHING,
    ) -> torch.Tensor:
        """Return the logits behind one new token of each row, and store its keys and values; as `FusedLlama`.

        Prompts enter by `prefill` alone: within a step they would wait for the same processor.
        """
        assert isinstance(pool, CpuCache)
        assert along.prompts is None
        attention = attention_of(pool, readings(pool, starts.tolist(), positions.tolist()))
        return self._logits(self._body(tokens, pool, (positions, starts + positions), longest, attention, along))

    def prefill(
        self, prompts: PromptBatch, pool: KVCache, longest: int, adapter: int = 0, rehearsal: bool = False
    ) -> torch.Tensor:
        """Return the logits behind each prompt, (prompts, vocabulary), and store keys and values; as `FusedLlama`."""
        assert isinstance(pool, CpuCache)
        shared = prompts.shared
        pool.note(prompts.first_places, shared)
        columns = max(prompts.lengths)
        mask = torch.ones(columns, shared + columns, dtype=torch.bool).tril(shared) if shared else None

        def attention(queries: torch.Tensor, number: int) -> torch.Tensor:
            keys, values = pool.keys[number], pool.values[number]
            done, first = [], 0
            for start, length in zip(prompts.first_places, prompts.lengths, strict=True):
                end = start + shared + length
                asked = queries[first : first + length]
                done.append(self._attended(asked, keys[:, start:end], values[:, start:end], mask))
                first += length
            return torch.cat(done)

        along = Along(AdapterRows(adapter), rehearsal=rehearsal)
        ends = self._body(prompts.tokens, pool, (prompts.positions, prompts.places), longest, attention, along)
        return self._logits((ends[0][prompts.last], ends[1][prompts.last]))

    def _attended(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Attend from a prompt's tokens, (tokens, heads, size), to keys, (key heads, places, size), up to themselves.

        The heads that share a key head stand side by side before one view of its keys.
        """
        tokens, group = len(queries), self.heads // self.narrow
        parts = queries.view(tokens, self.narrow, group, self.size).permute(1, 2, 0, 3)
        shape = (self.narrow, group, keys.shape[1], self.size)
        done = functional.scaled_dot_product_attention(
            parts,
            keys[:, None].expand(shape),
            values[:, None].expand(shape),
            attn_mask=None if mask is None else mask[:tokens, : keys.shape[1]],
            is_causal=mask is None,
        )
        return done.permute(2, 0, 1, 3).reshape(tokens, -1)

    def _logits(self, ends: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        normed = self.operations.add_norm(*ends, self.norm, self.epsilon)
        return cpu_ops.packed_linear(normed, self._packed_head)
