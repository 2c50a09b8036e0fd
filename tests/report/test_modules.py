"""Modules become one script that does in a browser what they do there as modules."""

from __future__ import annotations

from typing import Any

import pytest

from harness.errors import HarnessError
from harness.report import markup
from harness.report.modules import join_modules

FILES = {
    "main.js": 'import { twice, $ } from "./twice.js";\nimport {\n  ONE,\n} from "./one.js";\n'
    "result = twice(ONE) + $;\n",
    "twice.js": 'import { ONE } from "./one.js";\nconst own = 2;\nexport const twice = (x) => own * x;\n'
    "export const $ = ONE;\n",
    "one.js": "// export const said = 1;\nconst own = 20;\nruns.push(own);\nexport const ONE = own;\n"
    "export function a() {}\nexport async function b() {}\nexport class C {}\n",
}


def join(**changed: str) -> str:
    return join_modules("main.js", {**FILES, **{f"{name}.js": text for name, text in changed.items()}}.__getitem__)


def test_a_browser_runs_each_module_once_and_names_stay_their_modules_own(browser: Any) -> None:
    page = browser.new_page()
    found = page.evaluate(f"() => {{ let result; const runs = []; {join()} return [result, runs, typeof own]; }}")
    assert found == [60, [20], "undefined"]
    page.close()


def test_what_is_imported_stands_first_and_nothing_of_the_syntax_is_left() -> None:
    text = join()
    assert text.index("__one_js =") < text.index("__twice_js =") < text.index("__main_js =")
    assert not any(line.startswith(("import", "export")) for line in text.splitlines())
    assert text == join()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"main": 'import { thrice } from "./twice.js";\n'}, "main.js: twice.js does not export thrice"),
        ({"main": 'import { own } from "./one.js";\n'}, "main.js: one.js does not export own"),
        ({"one": 'import { twice } from "./twice.js";\n'}, "a circle: main.js → twice.js → one.js → twice.js"),
        ({"main": 'import { twice as t } from "./twice.js";\n'}, "main.js: twice.js does not export as, t"),
        ({"main": 'import * as all from "./one.js";\n'}, "main.js: not to be joined: import * as all"),
        ({"main": 'import "./one.js";\n'}, 'main.js: not to be joined: import "./one.js"'),
        ({"main": 'import { x } from "elsewhere";\n'}, "main.js: not to be joined: import { x }"),
        ({"main": "export default 1;\n"}, "main.js: not to be joined: export default 1"),
        ({"main": "export let late = 1;\n"}, "main.js: not to be joined: export let late"),
        ({"main": "const x = 1;\nexport { x };\n"}, "main.js: not to be joined: export { x }"),
        ({"main": 'export * from "./one.js";\n'}, "main.js: not to be joined: export * from"),
    ],
)  # fmt: skip
def test_what_would_not_work_is_one_line(changed: dict[str, str], said: str) -> None:
    with pytest.raises(HarnessError) as caught:
        join(**changed)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["report", "overview"])
def test_a_page_holds_each_module_that_it_needs_and_no_other(name: str) -> None:
    text = markup.script(name)
    assert text.count("const __theme_js = ") == text.count(f"const __{name}_js = ") == 1
    assert ("__store_js" in text) == (name == "report")
