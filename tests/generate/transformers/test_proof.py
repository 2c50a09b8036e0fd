"""A decoder that differs from `generate` is found out, and `generate` answers in its place."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.errors import HarnessError
from harness.generate.llama.decoder import StreamDecoder
from harness.generate.llama.model import FusedLlama
from harness.generate.settings import GenerationSettings
from harness.generate.stopping import StopRule
from harness.generate.store import CompletionStore
from harness.generate.transformers import proof, twin, twin_checks
from harness.generate.transformers.continuous_batching import Decoder, Prompt
from harness.generate.transformers.generator import Generator
from harness.generate.transformers.proof import check_causal, prove
from harness.generate.transformers.reference import ReferenceDecoder, makers_processors
from harness.model.context import context_length
from harness.model.load import LoadedModel, Precision
from harness.model.prompt import PromptRenderer
from harness.types import Task
from tests.conftest import load_fp32
from tests.generate.transformers.architectures import ARCHITECTURES, Architecture, make
from tests.model.kinds import write_base

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
TASKS = [Task("short", "Salt."), Task("long", "Write a page about bread, rivers, clouds, poems and engines. " * 3)]


def generator(loaded: LoadedModel, **more: Any) -> Generator:
    renderer = PromptRenderer("{{ prompt }}", False, loaded.tokenizer)
    settings = GenerationSettings(24, batch_size=2, cut_loops=False)
    return replace(Generator("base", loaded, renderer, settings), **more)


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., LoadedModel]:
    def load(architecture: Architecture | str = "Llama", **more: Any) -> LoadedModel:
        wanted = ARCHITECTURES[architecture] if isinstance(architecture, str) else architecture
        return load_fp32(make(replace(wanted, more=wanted.more | more), tmp_path / "model"))

    return load


@dataclass
class Scaled:
    """A decoder whose logits are so many times too large: greedy answers are right, sampled ones are not."""

    inner: Decoder

    def decode(self, prompts: Sequence[Prompt]) -> Any:
        return self.inner.decode(prompts)


def scaled(model: Any, stop: StopRule, rows: int, temperature: float, observe: Any) -> Any:
    def wider(keys: Sequence[int], logits: torch.Tensor) -> None:
        observe(keys, logits * 1.05)

    return Decoder(model, stop, rows, temperature, observe and wider)


def colder(model: Any, stop: StopRule, rows: int, temperature: float, observe: Any) -> Any:
    return Decoder(model, stop, rows, temperature / 2, observe)


def breaks(model: Any, stop: StopRule, rows: int, temperature: float, observe: Any) -> Any:
    raise KeyError("rotary_emb")


@pytest.mark.parametrize(
    ("making", "why"),
    [(scaled, "logits differ"), (colder, "drawn otherwise than from its scores"), (breaks, "KeyError: 'rotary_emb'")],
)
def test_a_wrong_decoder_is_found_out(own_cache: Path, made: Callable[..., LoadedModel], making: Any, why: str) -> None:
    loaded = made()
    verdict = prove(loaded.model, loaded.tokenizer, {"slots": making}, "float32")
    assert (verdict.kind, verdict.padded) == ("generate", True)
    assert why in verdict.why
    line = verdict.line("base")
    assert line is not None and line.startswith("base is decoded by transformers' generate, in padded batches: slots:")


def test_the_next_decoder_answers_where_the_first_does_not_hold(
    own_cache: Path, made: Callable[..., LoadedModel]
) -> None:
    loaded = made()
    verdict = prove(loaded.model, loaded.tokenizer, {"fused": breaks, "slots": Decoder}, "float32")
    assert verdict.kind == "slots"
    assert "fused: it does not run: KeyError" in verdict.why


def fused(model: Any, stop: StopRule, rows: int, temperature: float, observe: Any) -> Any:
    return StreamDecoder(FusedLlama(model), stop, rows, temperature, observe)


def test_the_fused_decoder_proves_itself_in_the_same_way(own_cache: Path, tiny: LoadedModel) -> None:
    verdict = prove(tiny.model, tiny.tokenizer, {"fused": fused}, "float32")
    assert verdict.kind == "fused"
    assert {name: row["tokens"] for name, row in verdict.evidence.items()} == {"fused: weights": 0, "fused: twin": 0}


def test_short_prompts_alone_would_not_show_a_window(own_cache: Path, made: Callable[..., LoadedModel]) -> None:
    loaded = made("Mistral", sliding_window=400)
    verdict = prove(loaded.model, loaded.tokenizer, {"slots": Decoder}, "float32")
    assert verdict.evidence["slots: weights"]["logits"] < 1e-5
    assert verdict.evidence["slots: twin"]["logits"] > 0.1
    assert verdict.why.startswith("slots: on a small twin logits differ")


def test_what_was_proved_costs_nothing_the_next_time(
    own_cache: Path, made: Callable[..., LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = made()
    first = generator(loaded).complete(TASKS)
    anew = load_fp32(loaded.weights.folder)
    monkeypatch.setattr(proof, "prove", lambda *a, **k: pytest.fail("proved again"))
    assert generator(anew).complete(TASKS) == first
    assert anew._model is None
    assert generator(anew).manifest().decoder == {"kind": "fused"}


def test_the_same_config_with_other_weights_needs_no_new_twin(
    own_cache: Path, made: Callable[..., LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = made()
    generator(loaded).decoder()
    loaded.weights = replace(loaded.weights, sha256="f" * 64)
    monkeypatch.setattr(twin_checks, "small_twin", lambda *a, **k: pytest.fail("made again"))
    assert generator(loaded).decoder().kind == "fused"


def test_another_config_beside_the_same_weights_is_proved_anew(
    own_cache: Path, made: Callable[..., LoadedModel]
) -> None:
    loaded = made("Mistral", sliding_window=None)
    assert generator(loaded).decoder().kind == "slots"
    before = generator(loaded).identity()
    path = loaded.weights.folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sliding_window": 24}))
    other = generator(load_fp32(loaded.weights.folder))
    assert other.decoder().kind == "generate"
    assert other.identity() != before


def test_which_decoder_writes_is_in_the_key(own_cache: Path, made: Callable[..., LoadedModel]) -> None:
    one = generator(made())
    verdict = one.decoder()
    seen = {
        CompletionStore(one.knowing(other).identity()).path.name
        for other in (
            verdict,
            replace(verdict, kind="slots"),
            replace(verdict, kind="generate"),
            replace(verdict, kind="generate", padded=True),
        )
    }
    assert len(seen) == 3  # in float32 on a CPU ours write the same
    assert one.knowing(replace(verdict, why="another time", evidence={})).identity() == one.identity()


def test_rows_at_once_decide_in_16_bit_alone(own_cache: Path, made: Callable[..., LoadedModel]) -> None:
    loaded = made()
    wider = replace(generator(loaded).settings, batch_size=3)
    assert generator(loaded).identity() == generator(loaded, settings=wider).identity()
    half = LoadedModel(loaded.tokenizer, loaded.weights, Precision("none", "bfloat16", "cpu"))
    assert generator(half).decoder().kind == "fused"
    assert generator(half).identity() != generator(half, settings=wider).identity()


@pytest.mark.parametrize(
    "setting",
    [
        {"repetition_penalty": 1.3},
        {"no_repeat_ngram_size": 3},
        {"suppress_tokens": [7, 8]},
        {"min_new_tokens": 9},
        {"bad_words_ids": [[11]]},
    ],
)
def test_what_the_makers_let_generate_do_is_done(
    own_cache: Path, made: Callable[..., LoadedModel], setting: dict[str, Any]
) -> None:
    from transformers import AutoModelForCausalLM

    loaded = made()
    path = loaded.weights.folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | setting))
    loaded = load_fp32(loaded.weights.folder)
    asked = generator(loaded)
    said = asked.complete(TASKS)
    model = AutoModelForCausalLM.from_pretrained(loaded.weights.folder).eval()
    for task, done in zip(TASKS, said, strict=True):
        ids = torch.tensor([asked.prompt(task)])
        out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24)
        assert done.text == loaded.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
    assert next(iter(setting)) in asked.decoder().why


@pytest.mark.parametrize(
    ("setting", "padded"),
    [
        ({"min_length": 60}, False),
        ({"stop_strings": ["a", "e"]}, True),
        ({"exponential_decay_length_penalty": [5, 1.2]}, True),
        ({"assistant_early_exit": 1}, None),
    ],
)
def test_what_ends_answers_does_so_in_each_row_of_a_batch(
    own_cache: Path, tmp_path: Path, setting: dict[str, Any], padded: bool | None
) -> None:
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM

    folder = write_base(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"][2] *= 3  # the end token is often likely
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | setting))
    loaded = load_fp32(folder)
    tasks = [Task(str(n), ("Salt, bread and rivers "[: 3 + n] * (1 + n)) + "x") for n in range(8)]
    asked = replace(generator(loaded), settings=GenerationSettings(40, batch_size=4, cut_loops=False))
    said = asked.complete(tasks)
    verdict = asked.decoder()
    assert (verdict.kind, verdict.padded) == (("generate", padded) if padded is not None else ("slots", False))
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    model.generation_config.assistant_early_exit = None
    more = {"tokenizer": loaded.tokenizer} if "stop_strings" in setting else {}
    for task, done in zip(tasks, said, strict=True):
        ids = torch.tensor([asked.prompt(task)])
        how = {"attention_mask": torch.ones_like(ids), "do_sample": False, "max_new_tokens": 40, **more}
        written = model.generate(input_ids=ids, **how)[0, ids.shape[1] :].tolist()
        ended = written[-1] == 2 or len(written) < 40
        assert done.text == loaded.tokenizer.decode(written, skip_special_tokens=True)
        assert (done.finish_reason, done.completion_tokens) == (
            ("eos" if ended else "length"),
            len(written) - (written[-1] == 2),
        )


@pytest.mark.parametrize("bias", [False, True], ids=["fused", "slots"])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_scores_that_are_no_numbers_choose_no_token(
    own_cache: Path, tmp_path: Path, bias: bool, temperature: float
) -> None:
    loaded = load_fp32(write_base(tmp_path / "model", attention_bias=bias))
    settings = GenerationSettings(6, batch_size=2, temperature=temperature)
    asked = replace(generator(loaded), settings=settings)
    assert asked.decoder().kind == ("slots" if bias else "fused")
    with torch.no_grad():
        loaded.model.get_input_embeddings().weight[loaded.tokenizer("Z")["input_ids"][0]] = float("nan")
    loaded.fused = None
    assert len(asked.complete([Task("a", "ok")])) == 1
    with pytest.raises(HarnessError, match="the model's scores are not finite in float32"):
        asked.complete([Task("b", "a Z b")])


def test_a_model_without_numbers_proves_nothing(own_cache: Path, made: Callable[..., LoadedModel]) -> None:
    loaded = made()
    with torch.no_grad():
        loaded.model.get_output_embeddings().weight.fill_(float("nan"))
    with pytest.raises(HarnessError, match="the model's scores are not finite in float32"):
        generator(loaded).decoder()


def test_what_only_narrows_sampling_is_the_harness_own_to_set() -> None:
    from transformers import GenerationConfig

    assert makers_processors(GenerationConfig(do_sample=True, temperature=0.6, top_k=20, top_p=0.8)) == []
    assert makers_processors(GenerationConfig(repetition_penalty=1.0, min_length=0, guidance_scale=1)) == []
    assert makers_processors(GenerationConfig(repetition_penalty=1.1)) == ["repetition_penalty=1.1"]


def adapters() -> dict[str, Any]:
    from peft import LoraConfig, PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig

    causal = {"task_type": "CAUSAL_LM"}
    return {
        "prompt tuning": PromptTuningConfig(num_virtual_tokens=5, **causal),
        "prefix tuning": PrefixTuningConfig(num_virtual_tokens=5, **causal),
        "p-tuning": PromptEncoderConfig(num_virtual_tokens=5, encoder_hidden_size=16, **causal),
        "LoRA": LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, **causal),
    }


@pytest.mark.parametrize("name", ["prompt tuning", "p-tuning", "LoRA"])
def test_an_adapter_beside_the_layers_is_answered_by_peft(
    own_cache: Path, made: Callable[..., LoadedModel], tmp_path: Path, name: str
) -> None:
    from peft import PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    loaded = made()
    base = generator(loaded)
    before = base.complete(TASKS)
    torch.manual_seed(4)
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(loaded.weights.folder), adapters()[name])
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.5)
    folder = tmp_path / "adapter"
    adapted.save_pretrained(folder)
    tuned = generator(loaded, name="tuned", adapter_folder=folder, adapter_sha256="a" * 64)
    said = tuned.complete(TASKS)
    again = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(loaded.weights.folder), folder).eval()
    for task, done in zip(TASKS, said, strict=True):
        ids = torch.tensor([tuned.prompt(task)])
        out = again.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24)
        assert done.text == loaded.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
    with torch.no_grad():
        ids = torch.tensor([tuned.prompt(TASKS[0])])
        called = int(again(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1].argmax())
    generated = again.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=1)
    if called == int(generated[0, -1]):
        assert [done.text for done in said] != [done.text for done in before]
    else:  # an installed PEFT whose generate leaves the adapter out
        assert "scores its first token otherwise" in tuned.decoder().why
    assert tuned.decoder().kind == ("fused" if name == "LoRA" else "generate")
    assert [done.text for done in base.complete(TASKS, fresh=True)] == [done.text for done in before]


def test_virtual_tokens_take_places_of_the_context(
    own_cache: Path, made: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    from peft import get_peft_model

    loaded = made("Llama", max_position_embeddings=64)
    get_peft_model(load_fp32(loaded.weights.folder).model, adapters()["prompt tuning"]).save_pretrained(
        tmp_path / "adapter"
    )
    tuned = generator(loaded, adapter_folder=tmp_path / "adapter", adapter_sha256="a" * 64)
    room = Task("fits", "<td>" * 15)
    count = len(tuned.prompt(room))
    (done,) = tuned.complete([room])
    assert done.completion_tokens <= 64 - 5 - count
    assert done.finish_reason in ("length", "eos")


@pytest.mark.parametrize(
    ("kind", "sizes", "why"),
    [
        ("bert", {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}, "masked language models"),
        (
            "bart",
            {
                "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4,
                "decoder_attention_heads": 4,
            },
            "encoder-decoder",
        ),
    ],
)  # fmt: skip
def test_models_that_write_nothing_by_themselves_are_refused(
    made: Callable[..., LoadedModel], kind: str, sizes: dict[str, Any], why: str
) -> None:
    loaded = made(Architecture(kind, "", "", sizes, sizes={}))
    config = json.loads((loaded.weights.folder / "config.json").read_text()) | (
        {"is_encoder_decoder": True} if kind == "bart" else {}
    )
    with pytest.raises(HarnessError, match=why):
        check_causal(loaded.model, loaded.tokenizer, config)


def test_where_generate_fails_one_line_says_so(made: Callable[..., LoadedModel]) -> None:
    loaded = made()
    loaded.model.prepare_inputs_for_generation = breaks
    with pytest.raises(HarnessError, match="transformers' own generate fails on this LlamaForCausalLM"):
        prove(loaded.model, loaded.tokenizer, {"slots": Decoder}, "float32")


def test_another_decoder_after_memory_ran_out_has_a_key_of_its_own(
    own_cache: Path, made: Callable[..., LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = made()
    planned = generator(loaded).knowing(replace(generator(loaded).decoder(), kind="fused"))

    class Greedy:
        def decode(self, prompts: Any) -> Any:
            raise torch.OutOfMemoryError

    from harness.generate.transformers import decoder_factory

    real = decoder_factory.make_decoder
    monkeypatch.setattr(
        decoder_factory,
        "make_decoder",
        lambda verdict, *rest: Greedy() if verdict.kind == "fused" else real(verdict, *rest),
    )
    said = planned.complete(TASKS)
    assert all("decoded by slots, not by fused" in done.note for done in said)
    assert [done.text for done in said] == [done.text for done in generator(loaded).complete(TASKS)]
    store = CompletionStore(planned.identity())
    assert all(store.get(store.key(planned.prompt(task), 0, 0)) is None for task in TASKS)
    assert all(store.get(store.key_by(store.key(planned.prompt(task), 0, 0), "slots")) for task in TASKS)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"max_position_embeddings": 77}, 77),
        ({"n_positions": 12}, 12),
        ({"max_seq_len": 9}, 9),
        ({"max_position_embeddings": None}, None),
        ({"max_position_embeddings": -1}, None),
        ({}, None),
        ({"max_position_embeddings": 64, "rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, None),
        ({"max_position_embeddings": 64, "rope_parameters": YARN}, 256),
        ({"max_position_embeddings": 256, "rope_parameters": YARN}, 256),
        ({"max_position_embeddings": 80, "rope_parameters": YARN | {"factor": None}}, 80),
    ],
)
def test_the_context_by_its_many_names(config: dict[str, Any], expected: int | None) -> None:
    assert context_length(SimpleNamespace(**config)) == expected


def test_a_twin_keeps_every_kind_of_layer_and_passes_its_lengths() -> None:
    assert twin.layers_kept(["s", "s", "s", "f", "s"], 5, False) == [0, 3]
    assert twin.layers_kept(["s"] * 5, 5, False) == [0, 1]
    assert twin.layers_kept(None, 30, True) == list(range(8))
    assert max(twin_checks._LENGTHS) > twin.WINDOW
    assert max(twin_checks._LENGTHS) > twin.ORIGINAL_LENGTH > min(twin_checks._LENGTHS) + 1
    assert min(twin_checks._LENGTHS) + twin_checks._STEPS > twin.WINDOW


def test_rows_of_a_padded_batch_end_each_at_its_own_place(made: Callable[..., LoadedModel]) -> None:
    loaded = made("GPT-2")
    prompts = [Prompt(n, tuple(loaded.tokenizer(t.prompt)["input_ids"]), limit=4 + 5 * n) for n, t in enumerate(TASKS)]
    rule = StopRule(loaded.tokenizer, frozenset({2}), 12, at_end_tag=True, cut_loops=False)
    alone = {row.key: row for row in ReferenceDecoder(loaded.model, rule).decode(prompts)}
    together = {row.key: row for row in ReferenceDecoder(loaded.model, rule, 2).decode(prompts)}
    assert {k: (r.tokens, r.finish_reason) for k, r in alone.items()} == {
        k: (r.tokens, r.finish_reason) for k, r in together.items()
    }
    assert [len(alone[n].tokens) for n in (0, 1)] == [4, 9]
