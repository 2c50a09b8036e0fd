"""The norm's kernels against torch's own norm and autograd; on a GPU."""

from __future__ import annotations

import pytest
import torch

from harness.train import torch_ops


@pytest.mark.parametrize("where", ["torch", "triton"])
@pytest.mark.parametrize("width", [64, 4096, 100])
def test_a_norm_into_a_wider_matrix_and_back(where: str, width: int) -> None:
    if where == "triton" and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    device, dtype = ("cuda", torch.bfloat16) if where == "triton" else ("cpu", torch.float32)
    kernels = torch_ops
    if where == "triton":
        from harness.train import triton_norm

        kernels = triton_norm  # type: ignore[assignment]
    torch.manual_seed(0)
    inputs, gradient, beside = (torch.randn(33, width, device=device, dtype=dtype) for _ in range(3))
    weight = torch.rand(width, device=device, dtype=dtype) + 0.5
    wide = torch.full((33, width + 64), 7.0, device=device, dtype=dtype)
    scales = kernels.norm_forward(inputs, weight, 1e-5, wide[:, :width])
    reference = inputs.float().requires_grad_()
    expected = torch.nn.functional.rms_norm(reference, (width,), weight.float(), 1e-5)
    expected.backward(gradient.float())  # type: ignore[no-untyped-call]
    assert reference.grad is not None
    found = kernels.norm_backward(gradient, beside, inputs, weight, scales)
    for one, other in ((wide[:, :width], expected), (found, reference.grad + beside.float())):
        assert (one.float() - other).norm() < (1e-6 if where == "torch" else 4e-3) * other.norm()
    assert bool((wide[:, width:] == 7).all())
