"""A profile of a model as files to edit, and whether the files of a profile are right."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import yaml
from pydantic import JsonValue

from harness.errors import UsageError
from harness.model.adhoc_profile import adhoc_profile
from harness.model.profile import BASELINES_FOLDER, Profile, model_names, read_model_file
from harness.model.profile_schema import ModelFile, ProfileFile
from harness.model.prompt import PromptRenderer
from harness.storage.outputs import output_folder
from harness.types import Task

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class _Dumper(yaml.SafeDumper):
    """Templates of several lines as blocks."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def write_profile(name: str, weights: str, baselines: Path = BASELINES_FOLDER) -> Path:
    """Write the profile that `--weights` would make into a folder of its own and return it.

    Raises:
        UsageError: the name cannot be one, it is taken, or the word names no weights.
        HarnessError: the weights' small files cannot be had.
    """
    if _NAME.fullmatch(name) is None:
        raise UsageError(f"'{name}' cannot be the name of a profile", "use letters, digits, '.', '_' and '-'")
    if (baselines / name).exists():
        raise UsageError(f"{baselines / name} exists already", "take another name, or edit its files")
    made = adhoc_profile(weights)
    with output_folder(baselines / name) as folder:
        (folder / "profile.yaml").write_text(_yaml(made.file), encoding="utf-8")
        for model, file in made.models.items():
            (folder / f"{model}.yaml").write_text(_yaml(file), encoding="utf-8")
    return baselines / name


def _yaml(file: ProfileFile | ModelFile) -> str:
    written = file.model_dump(mode="json", exclude_defaults=True)
    return yaml.dump(written, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def profile_faults(
    profile: Profile, check_training: Callable[[dict[str, JsonValue], dict[str, JsonValue]], None]
) -> list[str]:
    """Return what is wrong in a profile's files, a line each; nothing is fetched for it.

    The template is tried on a task with an input and on one without.

    Args:
        profile: What is checked.
        check_training: Raises UsageError where `sft` or `lora` of a training has a wrong setting.
    """
    faults = []
    renderer = PromptRenderer(profile.file.prompt, chat=False)
    for task in (Task("1", "A page about bread."), Task("2", "Change the page.", "<p>Salt.</p>")):
        try:
            turn = renderer.user_turn(task)
        except UsageError as error:
            return [str(error)]
        faults += [
            f"profile.yaml: the prompt leaves out the task's {what}"
            for what, text in (("prompt", task.prompt), ("input", task.input))
            if text not in turn
        ]
    for name in model_names(profile):
        try:
            training = read_model_file(profile, name).train
            if training is not None:
                check_training(training.sft, training.lora)
        except UsageError as error:
            faults.append(f"{name}.yaml: {error}")
    return list(dict.fromkeys(faults))
