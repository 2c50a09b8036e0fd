"""The tokenizer and chat template of a model's folder, and what of them an adapter brings along."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from harness.errors import HarnessError
from harness.model.checkpoint import one_line
from harness.model.prompt import PromptRenderer
from harness.storage.json_file import read_object

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "chat_template.jinja")
_PAGE = "<html><body>page</body></html>"


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a model's or adapter's folder, with a padding token.

    Raises:
        HarnessError: the folder holds none, or a broken one.
    """
    from transformers import AutoTokenizer

    what = f"the tokenizer in {folder} does not load"
    with one_line(what, "the folder needs the tokenizer's files, such as tokenizer.json: copy the base model's"):
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
        written = tokenizer(_PAGE, add_special_tokens=False)["input_ids"]
        if not set(written) - set(tokenizer.all_special_ids):  # made up where the folder has no tokenizer's files
            raise HarnessError(f"{folder} holds no tokenizer that can write HTML", "copy the base model's files to it")
        rows = read_object(folder / "config.json").get("vocab_size") if (folder / "config.json").is_file() else None
        if tokenizer.pad_token_id is None or (isinstance(rows, int) and tokenizer.pad_token_id >= rows):
            spare = tokenizer.unk_token or tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
            tokenizer.pad_token = spare
    return tokenizer


def check_known(tokens: Iterable[int], model: PreTrainedModel) -> None:
    """Refuse tokens that a model has no embeddings for.

    Raises:
        HarnessError: the tokenizer is of another model, or was given tokens that the model never learnt.
    """
    rows, largest = int(model.get_input_embeddings().weight.shape[0]), max(tokens, default=0)
    if largest >= rows:
        raise HarnessError(
            f"the tokenizer writes token {largest}, and the model knows those from 0 to {rows - 1}",
            "use the tokenizer's files of that very model",
        )


def renderer_for(renderer: PromptRenderer, adapter: Path | None) -> tuple[PromptRenderer, str]:
    """Return the renderer of an adapter's prompts: with the tokenizer and chat template that lie beside it, if others.

    The second value says in words what of them is used; empty where the base's are. A chat template of its own means
    that the adapter was trained with it, so prompts go through it whatever the profile says.

    Raises:
        HarnessError: the adapter's tokenizer is broken.
    """
    base = renderer.tokenizer
    if adapter is None or not any((adapter / name).is_file() for name in _FILES):
        return renderer, ""
    if not any((adapter / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        own = copy.deepcopy(base)  # a template alone
        own.chat_template = _template_in(adapter) or base.chat_template
    else:
        own = load_tokenizer(adapter)
        own.chat_template = own.chat_template or base.chat_template
    parts = []
    if own.get_vocab() != base.get_vocab():
        parts.append(f"tokenizer ({len(own)} tokens, the base's has {len(base)})")
    if own.chat_template != base.chat_template:
        parts.append("chat template")
    if own.eos_token_id != base.eos_token_id:
        parts.append(f"end token {own.eos_token}")
    read, written = (one(_PAGE, add_special_tokens=not renderer.chat)["input_ids"] for one in (own, base))
    if not parts and read != written:
        parts.append("tokenizer, which reads text otherwise than the base's")
    if not parts:
        return renderer, ""
    chat = renderer.chat or "chat template" in parts
    return replace(renderer, tokenizer=own, chat=chat), " and ".join(parts)


def _template_in(folder: Path) -> JsonValue:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    return read_object(folder / "tokenizer_config.json").get("chat_template")
