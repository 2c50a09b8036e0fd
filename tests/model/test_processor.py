"""What a processor says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.model import processor


@pytest.mark.parametrize(
    ("text", "fast"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16 amx_bf16\n", True),
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_vnni\nbugs\t\t: amx_bf16\n", False),
        ("Features\t: fp asimd bf16 i8mm\n", False),
        ("", False),
        (None, False),
    ],
)
def test_fast_products_in_bfloat16_follow_from_the_flags(
    text: str | None, fast: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cpuinfo"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(processor, "CPUINFO", file)
    assert processor.has_bfloat16_products.__wrapped__() is fast
