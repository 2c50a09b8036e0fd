"""What bounds a training on a GPU: the rate of matrix products, and the error of 16-bit attention."""

from __future__ import annotations

import time

import torch

from harness.train import packed_attention


def matmul_rate(device: str) -> float:
    """Return the median FLOP/s of a bf16 8192³ product (256³ on a CPU, where the figure means nothing)."""
    side = 8192 if device == "cuda" else 256
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    times = []
    for _ in range(30):
        _synchronise(device)
        started = time.perf_counter()
        left @ right
        _synchronise(device)
        times.append(time.perf_counter() - started)
    return 2 * side**3 / sorted(times)[len(times) // 2]


def _synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def attention_error(device: str) -> dict[str, float]:
    """Compare packed attention and its gradient with float32 attention of each row by itself: ‖difference‖ / ‖ref‖."""
    lengths = [5, 182, 400, 831, 1]
    total = sum(lengths)
    bounds = torch.tensor([0, *lengths], device=device).cumsum(0).to(torch.int32)
    parts = [torch.randn(1, 8, total, 128, device=device, dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]
    query, key, value = parts
    ours, _ = packed_attention.attend_packed(
        None, query, key, value, None, cu_seq_lens_q=bounds, max_length_q=max(lengths)
    )
    weight = torch.randn_like(ours)
    torch.autograd.backward((ours * weight).sum())
    plain = [part.detach().float().requires_grad_() for part in parts]
    rows = [
        torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
        for q, k, v in zip(*(torch.split(part, lengths, dim=2) for part in plain), strict=True)
    ]
    reference = torch.cat(rows, dim=1)
    torch.autograd.backward((reference * weight.float()).sum())

    def error(one: torch.Tensor, two: torch.Tensor) -> float:
        return float((one.float() - two).norm() / two.norm())

    gradients = (
        error(a.grad, b.grad) for a, b in zip(parts, plain, strict=True) if a.grad is not None and b.grad is not None
    )
    return {"output": error(ours, reference), "gradient": max(gradients)}
