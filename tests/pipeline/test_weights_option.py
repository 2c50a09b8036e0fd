"""`--weights FOLDER`: base, few-shot and tuned of any architecture, asked and taught as its own template writes."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from tokenizers.processors import TemplateProcessing

from harness.generate.transformers.generator import Generator
from harness.model.tokenizer import load_tokenizer
from harness.pipeline.config import RunConfig, resolve
from harness.pipeline.prepare import prepare
from harness.progress import ProgressReporter
from harness.train.data import IGNORED_LABEL, training_rows
from harness.types import Quantization
from tests.conftest import make_suite
from tests.generate.transformers.architectures import ARCHITECTURES, make

GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
QWEN = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% if m['role'] == 'user' %}"
    "[INST] {{ m['content'] }} [/INST]{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
LLAMA = (
    "{% for m in messages %}{{ bos_token if loop.first }}<|start|>{{ m['role'] }}<|end|>\n\n"
    "{{ m['content'] | trim }}<|eot|>{% endfor %}{% if add_generation_prompt %}<|start|>assistant<|end|>\n\n{% endif %}"
)
PHI = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)
OLMO = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}"
    "{{ eos_token if m['role'] == 'assistant' }}\n{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
TEMPLATES: dict[str, str | None] = {
    "Llama": LLAMA, "Qwen2, window": QWEN, "Qwen3": QWEN, "Gemma 2": GEMMA, "Gemma 3": GEMMA, "Mistral": MISTRAL,
    "Phi-3": PHI, "OLMo 2": OLMO, "GPT-NeoX": None, "GPT-2": None, "Falcon": None, "OPT": None,
}  # fmt: skip
"""Chat templates like the makers': some refuse a system turn, some bring one, some begin the text themselves."""
ALWAYS = {("Gemma 3", "none"), ("GPT-2", "none"), ("Qwen2, window", "nf4")}
TRIED = [
    pytest.param(name, held, marks=[] if (name, held) in ALWAYS else pytest.mark.slow)
    for name in TEMPLATES
    for held in ("none", "nf4")
]


def own_model(name: str, folder: Path) -> Path:
    """Write a tiny model whose tokenizer begins plain text with one token and has its makers' chat template."""
    usual = ARCHITECTURES[name]
    longer = dict.fromkeys(("n_positions",) if usual.kind == "gpt2" else ("max_position_embeddings",), 1024)
    make(replace(usual, more=usual.more | longer), folder)
    tokenizer = load_tokenizer(folder)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.chat_template = TEMPLATES[name]
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("name", "held"), TRIED)
def test_any_model_is_asked_tuned_and_answers(
    workplace: Path, own_cache: Path, tmp_path: Path, name: str, held: Quantization
) -> None:
    folder = own_model(name, tmp_path / "model")
    make_suite(workplace / "tasks" / "mine", train=8, held_out=2)
    plan = resolve(RunConfig(weights=(str(folder),), suites=("mine",), quantization=held))
    candidates = prepare(plan, ProgressReporter(Console(file=io.StringIO())))
    found = {candidate.generator.name: candidate for candidate in candidates}
    assert list(found) == ["base", "base-fewshot", "tuned"]
    training = found["tuned"].trained
    assert training is not None and training.rows == 8 and training.steps >= 1
    (part,) = plan.measured
    for candidate in candidates:
        generator = candidate.generator
        assert isinstance(generator, Generator)
        tokenizer, task = generator.loaded.tokenizer, part.tasks[0]
        turns = generator.renderer.turns(task, generator.examples)
        if tokenizer.chat_template:
            expected = tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
        else:
            expected = tokenizer(generator.renderer.text(task, generator.examples))["input_ids"]
        assert list(generator.prompt(task)) == expected
        assert expected.count(1) == expected[:1].count(1), "at most one begin token, and that in front"
        answers = generator.limited(8).complete(part.tasks)
        assert all(answer.completion_tokens and answer.finish_reason != "error" for answer in answers), answers
    tuned = found["tuned"].generator
    assert isinstance(tuned, Generator)
    for task, row in zip(part.suite.train, training_rows(part.suite.train, tuned.renderer, 1024)[0], strict=True):
        begin = len(tuned.prompt(task))
        assert (row.input_ids[:begin], set(row.labels[:begin])) == (list(tuned.prompt(task)), {IGNORED_LABEL})
