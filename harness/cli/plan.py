"""`plan`: what a training would take, before anything is fetched."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.options import ProfileOption, TrainedModelArgument, WeightsOption
from harness.errors import HarnessError, UsageError
from harness.types import GpuName


def plan(
    model: TrainedModelArgument = "tuned",
    weights: WeightsOption = None,
    profile: ProfileOption = None,
    gpu: Annotated[GpuName | None, typer.Option("--gpu", case_sensitive=False, help="Default: this machine's.")] = None,
) -> None:
    """Say what a training would fetch and take, and how fast it would be."""
    from harness.cli.train import training_of
    from harness.generate.transformers.plan import plan_decoding
    from harness.model.adhoc_profile import adhoc_profile
    from harness.model.gpu_memory import CARDS, GIB, USABLE, checkpoint_bytes, this_card
    from harness.model.profile import base_weights, load_profile, resolve_model
    from harness.model.reach import UNKNOWN_LIMIT
    from harness.model.weights_facts import weights_facts, weights_memory
    from harness.progress import ProgressReporter
    from harness.train.batch_layout import written_layout
    from harness.train.memory_plan import best_layout, nearest_fitting, peak_memory, tokens_per_second
    from harness.train.settings import check_names

    reporter = ProgressReporter()
    card = CARDS[gpu] if gpu else this_card()
    if weights is not None:
        if profile is not None:
            raise UsageError("--weights and --profile both say which models there are", "leave one of them out")
        chosen = adhoc_profile(weights, card=card)
        reporter.say(chosen.why)
    else:
        chosen = load_profile(profile or ("llama-2-7b" if gpu else None))
    training, shape = training_of(resolve_model(model, chosen)), chosen.file.shape
    check_names(training.sft, training.lora)
    if weights is not None and (shape is None or card is None):
        reporter.say(weights_memory(weights_facts(base_weights(chosen)), chosen.file.quantization, card))
        return
    if shape is None:
        raise UsageError(f"profile {chosen.name} has no `shape`", "copy the sizes from the model's config.json")
    if card is None:
        raise UsageError("there is no CUDA GPU to plan for", "name one: --gpu t4, l4, a10, a100 or h100")
    quantization = chosen.file.quantization
    written = written_layout(training.sft)
    layout = best_layout(shape, training, quantization, card) if training.batch_plan == "auto" else written
    memory = peak_memory(shape, training, layout or written, quantization)
    if layout is None or memory.total > USABLE * card.memory:
        raise HarnessError(
            f"{model} needs {memory.total / GIB:.1f} GiB, {card.name} has {USABLE * card.memory / GIB:.1f} GiB to give",
            nearest_fitting(shape, training, quantization, card),
        )
    source = base_weights(chosen)
    fetched = 0.0 if source.gguf or source.folder else checkpoint_bytes(shape) / 1e9
    reporter.say(f"{chosen.name}/{model} on {card.name}: {layout}; {'bfloat16' if card.modern else 'float16'}")
    reporter.say(f"weights to fetch unless they are in the hub's cache: {fetched:.1f} GB ({source})")
    for name in ("weights", "adapter", "optimiser", "activations", "workspace"):
        reporter.say(f"  {name:<12}{getattr(memory, name) / GIB:6.2f} GiB")
    reporter.say(f"  {'peak':<12}{memory.total / GIB:6.2f} GiB of {card.memory / GIB:.1f}")
    speed = tokens_per_second(shape, training, layout, quantization, card)
    source_of_speed = "from rates measured on one" if "H100" in card.name else "computed from the data sheet"
    reporter.say(f"about {speed:.0f} tokens/s ({source_of_speed})")
    file = chosen.file
    limit = file.max_new_tokens or UNKNOWN_LIMIT
    decoding = plan_decoding(shape, quantization, card, file.batch_size, limit)
    reporter.say(f"answering afterwards: {decoding}")
