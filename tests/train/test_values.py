"""Values of `train.sft` and `train.lora`: one line for each that trl, peft or torch choke on, and for no other."""

from __future__ import annotations

import pytest

from harness.errors import UsageError
from harness.storage.yaml import load_yaml
from harness.train.settings import check_names, check_targets

SFT = """\
learning_rate: fast             | learning_rate must be a number: got 'fast'
learning_rate: "2e-4"           | learning_rate must be a number: got '2e-4'
learning_rate: -1e-4            | learning_rate must not be negative
learning_rate: .nan             | learning_rate must be a number: got nan
learning_rate: 1e400            | learning_rate must be a number: got inf
learning_rate: null             | learning_rate must be a number: got None
learning_rate: [1e-4]           | learning_rate must be a number
per_device_train_batch_size: 0  | per_device_train_batch_size must be above 0
gradient_accumulation_steps: -1 | gradient_accumulation_steps must be above 0
max_length: "512"               | max_length must be a whole number or null: got '512'
max_length: 0                   | max_length must be above 0
max_steps: 1.5                  | max_steps must be a whole number
max_steps: true                 | max_steps must be a whole number: got True
num_train_epochs: 0             | num_train_epochs must be above 0
packing: 1                      | packing must be true or false
bf16: "yes"                     | bf16 must be true or false or null
optim: adamw_tooth              | optim must be one of its choices: got 'adamw_tooth' .did you mean 'adamw_torch'
lr_scheduler_type: cosin        | did you mean 'cosine'
save_strategy: no               | write "no"
eval_strategy: steps            | eval_strategy is not for the model file: got 'steps' .use `evaluation:`
do_eval: true                   | use `evaluation:`
load_best_model_at_end: true    | use `evaluation:`
push_to_hub: true               | --push REPO
eos_token: </s>                 | rows end with the tokenizer's own end token
chat_template_path: chat.jinja  | the prompt is the profile's
truncation_mode: keep_end       | rows that are too long are cut at their end
save_only_model: true           | a killed training could not go on
ignore_data_skip: true          | a killed training could not go on
warmup_steps: -3                | warmup_steps must not be negative
adam_beta1: 1.0                 | adam_beta1 must be from 0 to below 1
weight_decay: -0.1              | weight_decay must not be negative
logging_steps: 0                | logging_steps must be above 0
report_to: 5                    | report_to must be
logging_nan_inf_filter: true    | is set by the harness
"""
LORA = """\
r: four                         | r must be a whole number: got 'four'
r: 0                            | r must be above 0
r: 8.5                          | r must be a whole number
lora_alpha: 0                   | lora_alpha must be above 0
lora_dropout: 1.5               | lora_dropout must be from 0 to below 1
lora_dropout: "0.1"             | lora_dropout must be a number
target_modules: 3               | target_modules must be text or a list
target_modules: [1]             | target_modules must be text or a list
bias: everything                | bias must be one of none, all, lora_only
init_lora_weights: pissa_niter_x | init_lora_weights must be
modules_to_save: lm_head        | modules_to_save must be a list
eva_config: {a: 1}              | left out
inference_mode: true            | it would train nothing
layers_to_transform: [a]        | layers_to_transform must be
"""
FINE = (
    ("sft", "learning_rate: 2e-4"),
    ("sft", "max_steps: 1e3"),
    ("sft", "max_steps: -1"),
    ("sft", "warmup_steps: 0.1"),
    ("sft", "max_length: null"),
    ("sft", "lr_scheduler_type: cosine"),
    ("sft", "lr_scheduler_kwargs: {num_cycles: 0.5}"),
    ("sft", "eval_strategy: 'no'"),
    ("sft", "neftune_noise_alpha: 5"),
    ("sft", "optim: paged_adamw_8bit"),
    ("lora", "target_modules: all-linear"),
    ("lora", "target_modules: [q_proj, v_proj]"),
    ("lora", "lora_dropout: 0"),
    ("lora", "init_lora_weights: pissa_niter_4"),
    ("lora", "init_lora_weights: false"),
    ("lora", "bias: all"),
    ("lora", "use_rslora: true"),
    ("lora", "rank_pattern: {q_proj: 4}"),
)


def check(section: str, text: str) -> None:
    values = load_yaml(text)
    check_names(values if section == "sft" else {}, values if section == "lora" else {})


@pytest.mark.parametrize(
    ("section", "line"), [("sft", line) for line in SFT.splitlines()] + [("lora", line) for line in LORA.splitlines()]
)
def test_a_value_that_does_not_fit_is_one_line_with_its_field(section: str, line: str) -> None:
    text, _, message = (part.strip() for part in line.partition("|"))
    with pytest.raises(UsageError, match=message) as refused:
        check(section, text)
    assert str(refused.value).startswith(f"train.{section}.{text.partition(':')[0]} ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("section", "text"), FINE)
def test_what_the_libraries_take_passes(section: str, text: str) -> None:
    check(section, text)


MODULES = ("", "model", "model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.v_proj", "lm_head")


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"target_modules": ["q_proj", "v_prj"]}, r"no module 'v_prj' \(did you mean 'v_proj'\?\)"),
        ({"target_modules": ["proj"]}, "no module 'proj'"),
        ({"target_modules": "all-linar"}, r"did you mean 'all-linear'"),
        ({"target_modules": r".*\.(q|v)"}, "no module of the model matches"),
        ({"target_modules": "*["}, "is no pattern"),
        ({"modules_to_save": ["head"]}, "no module 'head'"),
    ],
)
def test_modules_that_the_model_lacks_are_refused(lora: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_targets(MODULES, lora)


@pytest.mark.parametrize(
    "lora",
    [
        {},
        {"target_modules": "all-linear"},
        {"target_modules": ["q_proj", "self_attn.v_proj", "model.layers.0.self_attn.q_proj"]},
        {"target_modules": r".*\.(q|v)_proj", "modules_to_save": ["lm_head"]},
    ],
)
def test_modules_that_are_there_pass(lora: dict[str, object]) -> None:
    check_targets(MODULES, lora)
