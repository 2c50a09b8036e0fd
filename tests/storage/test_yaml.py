"""YAML as a person means it."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from harness.errors import UsageError
from harness.storage.yaml import YamlModel, load_yaml, read_yaml, validate

MEANT: dict[str, Any] = {
    "2e-4": 0.0002,
    "2E-4": 0.0002,
    "-5e-5": -0.00005,
    "1e3": 1000,
    "1.0e3": 1000.0,
    ".5": 0.5,
    "5.": 5.0,
    "1_000": 1000,
    "010": "010",
    "007": "007",
    "00.5": "00.5",
    "0o17": 15,
    "0x1f": 31,
    "1:30": "1:30",
    "12:30:45": "12:30:45",
    "2024-01-01": "2024-01-01",
    "1.2.3": "1.2.3",
    "12e": "12e",
    "e5": "e5",
    "0": 0,
    "-0.0": 0.0,
    ".inf": float("inf"),
    "1e400": float("inf"),
    "'2e-4'": "2e-4",
    "true": True,
    "null": None,
}


@pytest.mark.parametrize("text", MEANT)
def test_a_scalar_is_what_a_person_means(text: str, tmp_path: Any) -> None:
    (tmp_path / "a.yaml").write_text(f"value: {text}\n")
    for found in (load_yaml(f"value: {text}"), read_yaml(tmp_path / "a.yaml")):
        assert found == {"value": MEANT[text]}
        assert type(found["value"]) is type(MEANT[text])


@given(st.floats(allow_nan=False))
def test_every_float_as_python_writes_it_is_that_number(value: float) -> None:
    written = repr(value).replace("inf", ".inf")
    assert load_yaml(f"- {written}") == [value]


@given(st.integers())
def test_every_whole_number_is_that_number(value: int) -> None:
    assert load_yaml(f"- {value}") == [value]


class Inner(YamlModel):
    count: int | None = None
    share: float = Field(default=0.5, gt=0)
    shown: bool | None = None
    words: list[str] = Field(default_factory=list)


class Outer(YamlModel):
    inner: Inner = Inner()
    level: Annotated[int, Field(ge=1)] | None = None
    mixed: int | bool = 0


@pytest.mark.parametrize(
    "text", ["inner: {count: true}", "inner: {share: yes}", "level: true", "inner: {count: false}"]
)
def test_a_truth_value_is_no_number(text: str) -> None:
    with pytest.raises(UsageError, match=r"(count|share|level): a number is needed, not true or false") as fault:
        validate(Outer, load_yaml(text), "x.yaml")
    assert "\n" not in str(fault.value)


def test_what_is_one_or_may_be_a_truth_value_stays() -> None:
    found = validate(Outer, load_yaml("{inner: {count: 3, share: 1, shown: true}, level: 1, mixed: true}"), "x.yaml")
    assert (found.inner.count, found.inner.share, found.inner.shown, found.mixed) == (3, 1.0, True, True)


def test_a_key_that_stands_twice_is_refused_and_a_merged_one_may_be_changed() -> None:
    with pytest.raises(yaml.YAMLError, match="the key 'a' stands there twice"):
        load_yaml("b:\n  a: 1\n  c: 2\n  a: 3\n")
    assert load_yaml("x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  a: 3\n") == {"x": {"a": 1, "b": 2}, "y": {"a": 3, "b": 2}}
    assert load_yaml("{1: a, '1': b}") == {1: "a", "1": "b"}


@pytest.mark.parametrize("key", ["a", "learning_rate"])
def test_of_merged_keys_the_nearest_counts(key: str) -> None:
    known = f"one: &one {{{key}: 1, b: 1}}\nin: {{it: &two {{<<: *one, {key}: 2}}}}\n"
    assert load_yaml(known + "three: {<<: *two, c: 3}\nfour: {<<: *two}\n") == {
        "one": {key: 1, "b": 1},
        "in": {"it": {key: 2, "b": 1}},
        "three": {key: 2, "b": 1, "c": 3},
        "four": {key: 2, "b": 1},
    }
    for order, first in (("[*one, *two]", 1), ("[*two, *one]", 2)):
        found = load_yaml(f"{known}list: {{<<: {order}}}\n")
        assert isinstance(found, dict) and found["list"] == {key: first, "b": 1}
    with pytest.raises(yaml.YAMLError, match="<< wants a mapping"):
        load_yaml("{<<: [1]}")
    assert load_yaml("&a {<<: *a, b: 1}") == {"b": 1}
