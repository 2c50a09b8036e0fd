"""Model folders that are broken, or of a kind that does not run here: the right answer or one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.errors import HarnessError, UsageError
from harness.model.load import LoadedModel, Precision, load_model
from harness.model.profile import Profile, resolve_model
from harness.model.profile_schema import Weights
from harness.model.prompt import PromptRenderer
from harness.types import Quantization, Task
from tests.model.kinds import write_base

TASK = Task("t", "A page about <b>bread</b>")
CHATTY = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy to be broken."""
    return Path(shutil.copytree(whole, tmp_path / "model"))


def load(folder: Path, quantization: Quantization = "none") -> LoadedModel:
    return load_model(Weights(folder=str(folder)), Precision(quantization, "float32", "cpu"))


def answer(folder: Path, template: str = "Write: {{ prompt }}", chat: bool = False) -> list[int]:
    """The prompt's and a few greedy tokens, as a run loads the model."""
    loaded = load(folder)
    ids = torch.tensor([PromptRenderer(template, chat, loaded.tokenizer).tokens(TASK)])
    return greedy(loaded.model, ids)


def greedy(model: Any, ids: torch.Tensor) -> list[int]:
    with torch.no_grad():
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=4,
            # as the harness asks, whatever a folder says
            output_attentions=False,
            output_hidden_states=False,
        )
    found: list[int] = out[0].tolist()
    return found


def refused(folder: Path, **how: Any) -> str:
    """The one line."""
    with pytest.raises(HarnessError) as error:
        answer(folder, **how)
    said = str(error.value)
    assert "\n" not in said
    assert len(said) < 600
    return said


def edit(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))


def change(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


MLP = "model.layers.1.mlp.up_proj.weight"


def test_what_is_missing_left_over_or_of_another_shape_is_named(folder: Path) -> None:
    right = answer(folder)
    change(folder, lambda tensors: tensors.pop(MLP))
    assert f"weights of its config are not in the files: {MLP}" in refused(folder)
    change(folder, lambda tensors: tensors.update({MLP: torch.zeros(3, 32)}))
    assert f"weights of another shape than its config says: {MLP}" in refused(folder)
    change(
        folder, lambda tensors: tensors.update({MLP: torch.zeros(64, 32), "model.layers.9.mlp.weight": torch.ones(2)})
    )
    assert "weights that its config has no place for: model.layers.9.mlp.weight" in refused(folder)
    change(folder, lambda tensors: tensors.pop("model.layers.9.mlp.weight"))
    # old checkpoints hold what is made anew from the config
    change(folder, lambda tensors: tensors.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}))
    assert len(answer(folder)) == len(right)
    change(folder, lambda tensors: tensors.update({MLP: torch.full((64, 32), float("nan"))}))
    assert "weights that are not finite in float32" in refused(folder)


def test_weights_that_are_there_twice_are_refused(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {MLP: "model.safetensors"}}))
    assert answer(folder)
    index.write_text(json.dumps({"weight_map": {MLP: "model-00001-of-00002.safetensors"}}))
    assert answer(folder)  # left behind: the parts are gone
    shutil.copy(folder / "model.safetensors", folder / "model-00001-of-00002.safetensors")
    assert "holds the weights twice: in model.safetensors and as model.safetensors.index.json" in refused(folder)


def test_tied_weights_are_not_missing(tmp_path: Path) -> None:
    folder = write_base(tmp_path, tie_word_embeddings=True)
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    assert answer(folder)


def test_attention_is_torchs_where_the_model_has_it_and_its_own_elsewhere(folder: Path, tmp_path: Path) -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    assert load(folder).model.config._attn_implementation == "sdpa"
    other = tmp_path / "gemma2"
    shutil.copytree(folder, other)
    sizes = {
        name: getattr(load(folder).model.config, name) for name in ("vocab_size", "hidden_size", "intermediate_size")
    }
    config = Gemma2Config(**sizes, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8)
    torch.manual_seed(3)
    Gemma2ForCausalLM(config).save_pretrained(other)
    loaded = load(other)
    assert loaded.model.config._attn_implementation == "eager"
    assert answer(other)


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def without_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def config(**values: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "config.json", **values)


GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": True}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (config(quantization_config=GPTQ), "does not load: "),
        (config(quantization_config=AWQ), "does not load: "),
        (config(model_type="newest"), "transformers has no such causal language model"),
        (config(model_type="t5"), "no such causal language model"),
        (config(model_type="newest", auto_map={"AutoConfig": "code.C"}), "program code"),
        (config(num_hidden_layers=3), "weights of its config are not in the files: model.layers.2."),
        (config(num_hidden_layers=1), "weights that its config has no place for: model.layers.1."),
        (config(num_hidden_layers=10**9), "its config says 1000000000 layers"),
        (config(num_attention_heads=0), "does not load"),
        (config(num_attention_heads=3), "in "),
        (config(hidden_size="wide"), "does not load"),
        (config(vocab_size=-4), "does not load"),
        (config(vocab_size=100), "weights of another shape"),
        (config(max_position_embeddings="long"), "max_position_embeddings 'long'"),
        (config(hidden_act="swirl"), "does not load"),
        (without_tokenizer, "token"),
        (pickled, "holds its weights as pickles"),
        (cut, "model.safetensors"),
        (lambda folder: (folder / "config.json").write_text("[1, 2]"), "config.json holds no JSON object"),
        (lambda folder: (folder / "generation_config.json").write_text("{"), "generation_config.json"),
        (lambda folder: edit(folder / "generation_config.json", eos_token_id=[None]), "by eos_token_id [None]"),
        (lambda folder: edit(folder / "generation_config.json", bos_token_id="<s>"), "by bos_token_id '<s>'"),
        (lambda folder: (folder / "adapter_config.json").write_text("{}"), "an adapter beside a model"),
    ],
)  # fmt: skip
def test_a_folder_that_does_not_run_is_one_line(spoil: Callable[[Path], None], words: str, folder: Path) -> None:
    spoil(folder)
    assert words in refused(folder)


def test_weights_that_are_quantised_already_are_not_quantised_again(folder: Path) -> None:
    edit(folder / "config.json", quantization_config=GPTQ)
    with pytest.raises(UsageError, match="quantised by gptq already"):
        load(folder, "nf4")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (
            "{% if messages[0].role != 'system' %}{{ raise_exception('a system turn first') }}{% endif %}",
            "a system turn",
        ),
        ("{% for m in messages[1:] %}{{ m.content }}{% endfor %}", "leaves out what the user says"),
        ("{{ messages[3].content }}", "does not take turns of user and assistant"),
        ("{% for m in messages %}", "does not take turns of user and assistant"),
        ({"tools": CHATTY, "rag": CHATTY}, "has rag, tools and no default"),
        (None, "it has none"),
    ],
)
def test_a_chat_template_that_does_not_take_the_request_is_one_line(template: Any, words: str, folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    assert words in refused(folder, chat=True)
    assert answer(folder)


def test_of_several_chat_templates_the_default_is_taken(folder: Path, whole: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = {"default": CHATTY, "tools": "nothing"}
    tokenizer.save_pretrained(folder)
    renderer = PromptRenderer("Write: {{ prompt }}", True, load(folder).tokenizer)
    assert renderer.text(TASK) == "<user>Write: A page about <b>bread</b>"


@pytest.mark.parametrize("behind", ["</s>", "<s>"])
def test_no_end_token_stands_behind_a_plain_prompt(behind: str, folder: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.convert_tokens_to_ids(["<s>", behind])
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"<s> $A {behind}", special_tokens=[("<s>", ids[0]), (behind, ids[1])]
    )
    tokenizer.save_pretrained(folder)
    own = load(folder).tokenizer
    assert own("x")["input_ids"][-1] == ids[1]
    tokens = PromptRenderer("{{ prompt }}", False, own).tokens(TASK)
    assert own.decode(tokens) == f"<s>{TASK.prompt}"


def test_a_tokenizer_without_an_end_token_cannot_teach_an_end(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", eos_token=...)
    assert answer(folder)
    with pytest.raises(UsageError, match="names no end token"):
        PromptRenderer("{{ prompt }}", False, load(folder).tokenizer).answer_tokens("<p>")


@pytest.mark.slow
def test_a_gguf_file_or_its_folder_is_a_model(embedded_profile: Profile, tmp_path: Path) -> None:
    from harness.model.weights import fetch_weights, packaged_file

    assert embedded_profile.file.weights is not None
    assert embedded_profile.file.weights.gguf is not None
    packed = packaged_file(embedded_profile.file.weights.gguf)
    (tmp_path / "model.gguf").symlink_to(packed)
    for word in (str(tmp_path), str(tmp_path / "model.gguf")):
        spec = resolve_model(word, embedded_profile)
        assert spec.profile.file.chat
        assert spec.profile.file.weights is not None
        assert fetch_weights(spec.profile.file.weights).sha256 == fetch_weights(embedded_profile.file.weights).sha256
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    with pytest.raises(UsageError, match="holds 2 GGUF files"):
        resolve_model(str(tmp_path), embedded_profile)
    with pytest.raises(HarnessError, match="cannot be read"):
        resolve_model(str(tmp_path / "other.gguf"), embedded_profile)


FILES = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**40) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@st.composite
def breakages(draw: st.DrawFn) -> tuple[str, Callable[[Path], None]]:
    """Something done to one file."""
    name = draw(st.sampled_from(FILES))
    kinds = ["delete", "empty", "cut", "bytes", "flip"] + (["value", "drop", "whole"] if name.endswith("json") else [])
    kind, share, junk, value = (
        draw(st.sampled_from(kinds)),
        draw(st.floats(0, 1)),
        draw(st.binary(max_size=20)),
        draw(JSON),
    )

    def spoil(folder: Path) -> None:
        path = folder / name
        data = path.read_bytes()
        place = int(share * len(data))
        if kind in ("value", "drop"):
            content = json.loads(data)
            key = sorted(content)[int(share * (len(content) - 1))]
            content[key] = value
            if kind == "drop":
                del content[key]
            data = json.dumps(content).encode()
        changed = {
            "empty": b"",
            "cut": data[:place],
            "bytes": junk,
            "flip": data[:place] + junk + data[place + len(junk) :],
            "whole": json.dumps(value).encode(),
        }
        path.write_bytes(changed.get(kind, data))
        if kind == "delete":
            path.unlink()

    return f"{kind} {name} {share:.3f} {junk!r} {value!r}", spoil


def fuzz(broken: tuple[str, Callable[[Path], None]], whole: Path, place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(whole, place)
    broken[1](place)
    try:
        found = answer(place)
    except HarnessError as error:
        assert "\n" not in str(error)
        return
    model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(place)
    prompt = torch.tensor([PromptRenderer("Write: {{ prompt }}", False, tokenizer).tokens(TASK)])
    assert found == greedy(model, prompt)


FUZZ = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=25, derandomize=True, **FUZZ)
@given(broken=breakages())
def test_one_broken_file_is_one_line_or_the_right_answer(
    broken: tuple[str, Callable[[Path], None]], whole: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    fuzz(broken, whole, tmp_path_factory.getbasetemp() / "broken")


@pytest.mark.slow
@settings(max_examples=400, **FUZZ)
@given(broken=breakages())
def test_any_broken_file_is_one_line_or_the_right_answer(
    broken: tuple[str, Callable[[Path], None]], whole: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    fuzz(broken, whole, tmp_path_factory.getbasetemp() / "broken")
