"""A Llama whose layers are a few large matrix products, for decoding: made once from a loaded model, adapters beside.

Weights that are held in 4 bit are unpacked once into the dtype that computes, or stay packed and are unpacked within
each product: to the very values that a 4-bit layer computes with. Query, key and value stand in one matrix, gate and up
in another, and below each the adapters' A, so that one product gives W x and A x; B (A x) is added to it. Beside packed
weights A is a matrix of its own. Nothing is merged; several adapters are held at once, each row of a batch goes through
its own or none, and where no row has one A and B are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from harness.generate.llama import torch_ops as reference
from harness.generate.llama.adapters import NO_ADAPTER, AdapterRows, LoraStack
from harness.generate.llama.loaded_layers import (
    GROUPS,
    AdapterFactors,
    adapter_factors,
    base_layers,
    largest_matrix,
    plain_weight,
)
from harness.generate.llama.nf4 import joined, why_not_nf4
from harness.generate.llama.products import BlockProduct, PackedProduct, Product
from harness.generate.llama.prompt_batch import PromptBatch, SharedPrefix
from harness.generate.transformers.adapter_kinds import unwrapped

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer

Attention = Callable[[torch.Tensor, int], torch.Tensor]
"""Takes queries, (tokens, heads, head size), and a layer's number; returns (tokens, heads · head size)."""


@dataclass
class Layer:
    """One block."""

    products: dict[str, BlockProduct]
    norms: tuple[torch.Tensor, torch.Tensor]
    """Before attention and before the gate."""


@dataclass
class KVCache:
    """Keys and values of all layers. A row owns consecutive places, its slot; the first place is for padding."""

    keys: torch.Tensor
    """(layers, key heads, places, head size)."""
    values: torch.Tensor

    def copy_prefix(self, starts: torch.Tensor, prefix: SharedPrefix) -> None:
        """Copy a prefix to the beginning of slots, whose first places are `starts`."""
        targets = (starts[:, None] + torch.arange(prefix.length, device=starts.device)).flatten()
        for kept in (self.keys, self.values):
            stored = kept[:, :, prefix.place : prefix.place + prefix.length]
            kept[:, :, targets] = stored.repeat(1, 1, len(starts), 1)


@dataclass(frozen=True)
class Along:
    """What a step of rows has besides."""

    adapters: AdapterRows = NO_ADAPTER
    """Which adapter each row goes through, and each token of the prompts behind them."""
    prompts: PromptBatch | None = None
    """Those that enter in the same pass."""
    rehearsal: bool = False
    """Run every kernel that this takes, on as few layers as have them; the logits mean nothing."""


NOTHING = Along()


class FusedLlama:
    """The weights of one model as decoding takes them.

    Args:
        model: A LlamaForCausalLM of transformers, with or without PEFT around it, on its device; it stays as it is.
        operations: what `kernels_for` its device returns.
        packed: Let weights in NF4 stay packed, held once: `nf4.joined` says what happens to the model's own.
    """

    def __init__(self, model: PreTrainedModel, operations: ModuleType = reference, packed: bool = False) -> None:
        plain = unwrapped(model)
        config = plain.config
        self.operations, self.packed = operations, packed
        self.enters_beside = not packed
        """Whether it is faster to let prompts enter within a step of other rows than by themselves."""
        self.model_by_model = False
        """Whether one model's prompts enter before the next one's, so that its answers are known early."""
        self.dtype: torch.dtype = plain.get_input_embeddings().weight.dtype
        self.device: torch.device = plain.device
        self.heads: int = config.num_attention_heads
        self.narrow: int = config.num_key_value_heads
        self.size: int = plain.model.layers[0].self_attn.head_dim
        self.inner: int = config.intermediate_size
        self.epsilon: float = config.rms_norm_eps
        self.embedding = plain.get_input_embeddings().weight
        self.head = plain.get_output_embeddings().weight
        self.norm = plain.model.norm.weight
        with torch.inference_mode(False):  # a training goes on with weights that lie in what is made here
            self._room = torch.empty(largest_matrix(plain) if packed else 0, dtype=self.dtype, device=self.device)
            self.layers = [
                Layer(
                    {name: self._product(block, members) for name, members in GROUPS.items()},
                    (block.input_layernorm.weight, block.post_attention_layernorm.weight),
                )
                for block in plain.model.layers
            ]
        self.adapter_of: tuple[int, ...] = (0,)
        """The number of each model's adapter, 0 for none: of the models that decode together."""
        self._unlike = self.layers[:1]
        """Layers of which no two have the same products."""
        self._rotary = plain.model.rotary_emb
        self._angles = torch.empty(0), torch.empty(0)

    def adapt(self, model: PreTrainedModel) -> bool:
        """Take over the adapter that is on in `model`, or none; return whether there is one."""
        factors = self.factors(model)
        self.hold([factors])
        return factors is not None

    def factors(self, model: PreTrainedModel) -> AdapterFactors | None:
        """Return a copy of the factors of the adapter that is on in `model`, None without any."""
        return adapter_factors(model, self.dtype)

    def hold(self, models: Sequence[AdapterFactors | None]) -> None:
        """Put the adapters of models that decode together beside the weights, in place of those that were there.

        Args:
            models: Each model's factors, the same object for models with one adapter; None for the base itself.
        """
        adapters = list({id(factors): factors for factors in models if factors is not None}.values())
        numbers = {id(factors): number for number, factors in enumerate(adapters, 1)}
        self.adapter_of = tuple(0 if factors is None else numbers[id(factors)] for factors in models)
        added = self.operations.add_low_rank
        for number, layer in enumerate(self.layers):
            for name, product in layer.products.items():
                product.put_beside(LoraStack.of([factors[number][name] for factors in adapters], added))
        kinds = [tuple(product.lora and product.lora.ends for product in one.products.values()) for one in self.layers]
        self._unlike = [layer for number, layer in enumerate(self.layers) if kinds.index(kinds[number]) == number]

    def _product(self, block: LlamaDecoderLayer, names: tuple[str, ...]) -> BlockProduct:
        layers = base_layers(block, names)
        if self.packed and not any(why_not_nf4(layer) for layer in layers):
            return PackedProduct(joined(layers, self._room), self.operations.nf4_linear)
        weights = [plain_weight(layer, self.dtype) for layer in layers]
        whole = torch.cat(weights) if len(weights) > 1 else weights[0]
        return Product(whole, len(whole))

    def pool(self, places: int) -> KVCache:
        """Return room for that many tokens."""
        shape = (len(self.layers), self.narrow, places, self.size)
        zeros = torch.zeros(2, *shape, dtype=self.dtype, device=self.device)
        return KVCache(zeros[0], zeros[1])

    def angles(self, positions: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cosines and sines, (positions, head size / 2), as the model's own rotary embedding makes them."""
        if len(self._angles[0]) < positions:
            every = torch.arange(positions, device=self.device)[None]
            cosines, sines = self._rotary(self.embedding[:1, None], every)
            half = self.size // 2
            self._angles = cosines[0, :, :half].contiguous(), sines[0, :, :half].contiguous()
        return self._angles

    def step(
        self,
        tokens: torch.Tensor,
        pool: KVCache,
        starts: torch.Tensor,
        positions: torch.Tensor,
        longest: int,
        along: Along = NOTHING,
    ) -> torch.Tensor:
        """Return the logits behind one new token of each row, (rows, vocabulary), and store its keys and values.

        Prompts may enter in the same pass, which reads the weights once for both (Yu et al. 2022, Orca): the logits
        behind them follow.

        Args:
            tokens: (rows,) the new tokens.
            pool: Where keys and values are kept.
            starts: (rows,) the first place of each row's slot.
            positions: (rows,) of the new tokens in their rows.
            longest: No position reaches this.
            along: Adapters, and prompts that enter.
        """
        prompts = along.prompts
        count, places, every = len(tokens), starts + positions, positions
        if prompts is not None:
            tokens = torch.cat([tokens, prompts.tokens])
            places, every = torch.cat([places, prompts.places]), torch.cat([positions, prompts.positions])

        attention = of_rows = self._attention_of_rows(pool, starts, positions)
        if prompts is not None:
            of_prompts = self._attention_of_prompts(pool, prompts)

            def attention(queries: torch.Tensor, number: int) -> torch.Tensor:
                return torch.cat([of_rows(queries[:count], number), of_prompts(queries[count:], number)])

        ends = self._body(tokens, pool, (every, places), longest, attention, along)
        if prompts is not None:
            read = torch.cat([torch.arange(count, device=self.device), count + prompts.last])
            ends = ends[0][read], ends[1][read]
        return self._logits(ends)

    def prefill(
        self, prompts: PromptBatch, pool: KVCache, longest: int, adapter: int = 0, rehearsal: bool = False
    ) -> torch.Tensor:
        """Return the logits behind each prompt, (prompts, vocabulary), and store keys and values.

        Args:
            prompts: Tokens, and where they belong.
            pool: Where keys and values are kept.
            longest: No position reaches this.
            adapter: The one that all of them go through, 0 for none; `MIXED` where each has its own.
            rehearsal: As in `Along`.
        """
        attention = self._attention_of_prompts(pool, prompts)
        along, where = (
            Along(AdapterRows(adapter, prompts.adapters), rehearsal=rehearsal),
            (prompts.positions, prompts.places),
        )
        ends = self._body(prompts.tokens, pool, where, longest, attention, along)
        return self._logits((ends[0][prompts.last], ends[1][prompts.last]))

    def _attention_of_rows(self, pool: KVCache, starts: torch.Tensor, positions: torch.Tensor) -> Attention:
        """Return the attention of one new token of each row to all of its row."""

        def attention(queries: torch.Tensor, number: int) -> torch.Tensor:
            stored = pool.keys[number], pool.values[number]
            done: torch.Tensor = self.operations.attend(queries, *stored, starts, positions)
            return done

        return attention

    def _attention_of_prompts(self, pool: KVCache, prompts: PromptBatch) -> Attention:
        """Return the attention of prompts that enter to their own tokens."""

        def attention(queries: torch.Tensor, number: int) -> torch.Tensor:
            stored = pool.keys[number], pool.values[number]
            done: torch.Tensor = self.operations.attend_prompts(queries, *stored, prompts)
            return done

        return attention

    def _body(
        self,
        tokens: torch.Tensor,
        pool: KVCache,
        where: tuple[torch.Tensor, torch.Tensor],
        longest: int,
        attention: Attention,
        along: Along,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the last residual stream and what is still to be added to it.

        Args:
            tokens: (tokens,).
            pool: Where keys and values are kept.
            where: Positions in their rows, and places, each (tokens,).
            longest: No position reaches this.
            attention: Of all tokens.
            along: Adapters, and whether this is a rehearsal.
        """
        (positions, places), angles, rows = where, self.angles(longest), along.adapters
        run = self.operations
        residual = functional.embedding(tokens, self.embedding)
        delta: torch.Tensor | None = None
        for number, layer in enumerate(self._unlike if along.rehearsal else self.layers):
            normed = run.add_norm(residual, delta, layer.norms[0], self.epsilon)
            projected = layer.products["qkv"](normed, rows)
            stored = pool.keys[number], pool.values[number]
            queries = run.turn_and_store(projected, stored, angles, positions, places, self.heads)
            delta = layer.products["out"](attention(queries, number), rows)
            normed = run.add_norm(residual, delta, layer.norms[1], self.epsilon)
            delta = layer.products["down"](run.gate(layer.products["up"](normed, rows), self.inner), rows)
        assert delta is not None
        return residual, delta

    def _logits(self, ends: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        normed = self.operations.add_norm(*ends, self.norm, self.epsilon)
        return functional.linear(normed, self.head)
