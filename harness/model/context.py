"""How long a sequence may be, as a model's config says it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PretrainedConfig

CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx", "max_sequence_length")
"""What configs call the longest sequence; without any of them (recurrent models, some ALiBi) there is no end to it."""


def context_length(config: PretrainedConfig) -> int | None:
    """Return the longest sequence in tokens that a model was made for; None where its config names none.

    Rotary positions that are scaled by the row's own length have no end: what such a config names is where it begins.
    YaRN (Peng et al. 2023) makes the context `factor` times the one before it, which is what some configs name.
    """
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    rotary = getattr(text, "rope_parameters", None) or {}
    if "'dynamic'" in str(rotary):
        return None
    stretched = 0
    if rotary.get("rope_type") == "yarn":
        stretched = int((rotary.get("factor") or 1) * (rotary.get("original_max_position_embeddings") or 0))
    for name in CONTEXT_NAMES:
        length = getattr(text, name, None)
        if isinstance(length, int) and not isinstance(length, bool) and length > 0:
            return max(length, stretched)
    return None


def folder_context(folder: Path) -> int | None:
    """Return the longest sequence, in tokens, that the model in a folder was made for; None where it does not say."""
    from transformers import AutoConfig

    try:
        return context_length(AutoConfig.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True))
    except (OSError, ValueError, KeyError):  # loading the model says what is wrong with it
        return None
