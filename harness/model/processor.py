"""What this machine's processor can multiply in, by the flags that it gives of itself."""

from __future__ import annotations

import functools
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
FAST_BFLOAT16 = frozenset({"amx_bf16", "avx512_bf16"})
"""As Linux spells them: Intel's matrix units, vectors of Intel and AMD. ARM's `bf16` was measured by nobody here."""


@functools.cache
def has_bfloat16_products() -> bool:
    """Return whether products in bfloat16 are faster than those in float32; where nothing is known they are not."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    for line in lines:
        name, _, words = line.partition(":")
        if name.strip() == "flags":
            return not FAST_BFLOAT16.isdisjoint(words.split())
    return False
