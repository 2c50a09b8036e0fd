from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.checks.parse import parse_check
from harness.checks.words import Check, Step, as_pattern

ROOT = Path(__file__).parents[2]


def check(**kind: Any) -> dict[str, Any]:
    return {"why": "a word of the prompt", "level": "must", **kind}


def written(parsed: Check) -> dict[str, Any]:
    """The check as it stands in a file."""

    def words(step: Step) -> Any:
        return step.words if isinstance(step.words, str) else step.words.model_dump(by_alias=True, exclude_none=True)

    steps = [{step.kind: words(step)} for step in parsed.steps]
    return {"why": parsed.why, "level": parsed.level, **({"steps": steps} if parsed.acts else steps[0])}


@pytest.mark.parametrize(
    "kind",
    [
        {"see": {"role": "button", "name": "/send|submit/i"}},
        {"not_see": {"text": "Secret", "exact": True}},
        {"count": {"css": "tr:has(> td):not(.x)", "at_least": 2}},
        {"attribute": {"label": "E-mail", "attribute": "required"}},
        {"style": {"role": "heading", "level": 1, "property": "color", "is": "rgb(255, 0, 0)"}},
        {"value": {"placeholder": "Town", "matches": r"^\w+$"}},
        {"aria": '- heading "Menu" [level=1]\n- list:\n  - /children: equal\n  - listitem: /a+/'},
        {
            "steps": [
                {"fill": {"label": "Name", "value": 3}},
                {"press": {"css": "input", "key": "Enter"}},
                {"see": {"text": "3"}},
            ]
        },
    ],
)
def test_what_is_right_is_kept_whole(kind: dict[str, Any]) -> None:
    assert written(parse_check(check(**kind))) == check(**kind)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("see a button", "a check is a mapping"),
        ({"level": "must", "see": {"text": "x"}}, "why"),
        ({"why": "x", "level": "maybe", "see": {"text": "x"}}, "level"),
        (check(), "exactly one of"),
        (check(see={"text": "x"}, count={"css": "p", "is": 1}), "here: see and count"),
        (check(sea={"text": "x"}), "did you mean 'see'?"),
        (check(see={"rolle": "button"}), "did you mean 'role'?"),
        (check(see={"role": "buton"}), "did you mean 'button'?"),
        (check(see="button"), "expected a locator"),
        (check(see={}), "exactly one of"),
        (check(see={"role": "button", "css": "button"}), "here: role and css"),
        (check(see={"css": "p", "name": "x"}), "'name' belongs to a role"),
        (check(see={"role": "heading", "level": 7}), "level"),
        (check(see={"text": ""}), "empty"),
        (check(see={"text": "/(/"}), "regular expression"),
        (check(see={"text": "/x/g"}), "only i is known"),
        (check(see={"text": "/x/i", "exact": True}), "exact"),
        (check(see={"text": "/(?i)x/"}), "(?i), which browsers do not know: use ^, $ and the flag i"),
        (check(see={"role": "button", "name": r"/\ASend/"}), r"\A, which browsers do not know"),
        (check(see={"css": "p", "has_text": "/(?P<word>x)/i"}), "(?P, which browsers do not know: write it without"),
        (check(see={"text": "/[]x]/"}), "[], which browsers do not know"),
        (check(see={"label": "/x*+/"}), "*+, which browsers do not know"),
        (check(aria=r"- heading /menu\Z/"), r"\Z, which browsers do not know"),
        (check(see={"css": "p["}), "bracket"),
        (check(see={"css": "p > "}), "combinator"),
        (check(see={"css": "a[href='x]"}), "quote"),
        (check(see={"css": "//p"}), "no CSS selector"),
        (check(see={"css": "text=Hello"}), "no CSS selector"),
        (check(count={"css": "p"}), "count needs"),
        (check(count={"css": "p", "is": "many"}), "whole number"),
        (check(count={"css": "p", "at_least": 3, "at_most": 2}), "nothing is at least 3"),
        (check(attribute={"css": "p"}), "attribute"),
        (check(attribute={"css": "p", "attribute": "id", "matches": "["}), "regular expression"),
        (check(attribute={"css": "p", "attribute": "id", "is": "a", "matches": "a"}), "leaves no room"),
        (check(style={"css": "p", "property": "backgroundColor", "is": "x"}), "hyphens"),
        (check(style={"css": "p", "property": "color"}), "style needs"),
        (check(style={"css": "p", "property": "color", "is": "red"}), "write it as rgb(255, 0, 0)"),
        (check(style={"css": "p", "property": "background-color", "is": "#F00"}), "write it as rgb(255, 0, 0)"),
        (check(style={"css": "p", "property": "border-top-color", "is": "rgb(255,0,0)"}), "rgb(255, 0, 0)"),
        (check(value={"css": "input"}), "value needs"),
        (check(steps=[{"press": {"css": "p", "key": "Ctrl+a"}}, {"see": {"css": "p"}}]), "unknown key 'Ctrl+a'"),
        (check(steps=[{"press": {"css": "p", "key": "Enterr"}}, {"see": {"css": "p"}}]), "unknown key 'Enterr'"),
        (check(aria="- heading /menu/i"), "flag"),
        (check(aria="heading"), "list"),
        (check(aria="- hedding"), "did you mean 'heading'?"),
        (check(aria="- list: ["), "no YAML"),
        (check(steps=[]), "steps is a list"),
        (check(steps=[{"clik": {"css": "p"}}]), "did you mean 'click'?"),
        (check(steps=[{"click": {"css": "p"}}]), "not with click"),
        (check(steps=[{"fill": {"css": "input"}}, {"see": {"css": "p"}}]), "step 1, fill: value"),
        (check(steps=[{"click": {"css": "p"}, "see": {"css": "p"}}]), "step 1"),
        (check(steps=[{"click": {"css": "p"}}, {"steps": []}]), "unknown 'steps'"),
    ],
)
def test_what_is_wrong_is_named_on_one_line(wrong: Any, says: str) -> None:
    with pytest.raises(ValueError) as error:
        parse_check(wrong)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["Enter", "a", "+", "Control++", "Control+Shift+KeyA", "F12", " ", "ControlOrMeta+v"])
def test_keys_of_a_keyboard_are_known(key: str) -> None:
    parse_check(check(steps=[{"press": {"css": "p", "key": key}}, {"see": {"css": "p"}}]))


@pytest.mark.parametrize("pattern", [r"/[*+]+\++x/", r"/a\\A|[A*+]|(?:x)|(?=y)|(?!z)|a+?/"])
def test_patterns_of_both_languages_are_kept(pattern: str) -> None:
    parse_check(check(see={"text": pattern}))


@pytest.mark.parametrize(
    ("name", "value"), [("caret-color", "auto"), ("color", "rgba(0, 0, 0, 0.5)"), ("--brand-color", "red")]
)
def test_computed_values_are_kept(name: str, value: str) -> None:
    parse_check(check(style={"css": "p", "property": name, "is": value}))


def test_slashes_make_a_pattern() -> None:
    assert as_pattern("a/b") == "a/b"
    pattern = as_pattern("/a.b/i")
    assert not isinstance(pattern, str) and pattern.fullmatch("AxB")


def test_the_embedded_suite_speaks_these_words() -> None:
    files = sorted((ROOT / "tasks" / "html_starter" / "held_out").glob("*.yaml"))
    if not files:
        pytest.skip("tasks/html_starter is not in this checkout")
    for file in files:
        for task in yaml.safe_load(file.read_text(encoding="utf-8")):
            for found in task["checks"]:
                assert written(parse_check(found)) == found, task["id"]
