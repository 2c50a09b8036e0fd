"""Answers as models write them, and the page that a reader would cut out of each."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import turbohtml
from hypothesis import given
from hypothesis import strategies as st

from harness.answer import find_page, page_end
from harness.answer.markup import Markup
from harness.metrics.extract import extract

ANSWERS = [json.loads(line) for line in (Path(__file__).parent / "page_in_answer.jsonl").read_text().splitlines()]
D = '<!DOCTYPE html>\n<html lang="en">\n<head><title>T</title></head>\n<body><h1>Hi</h1></body>\n</html>'
F = '<form action="/s"><label>Name <input name="n"></label><button>Go</button></form>'
OLD = "<html><body>old</body></html>"


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer["name"])
def test_the_page_of_an_answer(answer: dict[str, str]) -> None:
    page = extract(answer["completion"], "eos", answer["scope"])  # type: ignore[arg-type]
    wanted = answer["page"]
    if wanted is None:  # a page beside the files it links to: the page alone, whose files are then missing
        wanted = answer["completion"].split("```html\n")[1].split("\n```")[0]
    assert (page.html, page.kind == "other", page.truncated) == (wanted, answer["name"] == "jsx", False)


def inside(content: str) -> str:
    """The document with something in its body."""
    return D.replace("<h1>Hi</h1>", content)


OF_DOCUMENTS = {
    "mention of one": f"Use the <table> element for tabular data.\n\n{D}",
    "mention of many": f"I use <header>, <main> and <footer> elements.\n{D}",
    "mention of html": f"The <html> tag is the root.\n\n{D}",
    "think": f"<think>first {OLD}</think>{D}",
    "thinks": f"<think>a</think>\nWell.\n<think>{OLD}</think>\n{D}",
    "nested think": f"<think>a<think>b</think>c {OLD}</think>{D}",
    "think that names its end": f"<think>I close by `</think>` {OLD}</think>{D}",
    "thinking with a fence": f"<thinking>```html\n{OLD}\n```</thinking>\n```html\n{D}\n```",
    "fenced draft, stray end": f"```html\n{OLD}\n```\n</think>\n{D}",
    "reasoning": f"<reasoning>maybe {OLD}</reasoning>\n{D}",
    "brackets": f"[THINK]{OLD}[/THINK]{D}",
    "triangles": f"\u25c1think\u25b7{OLD}\u25c1/think\u25b7{D}",
    "channels": f"<|channel|>analysis<|message|>{OLD}<|end|><|start|>assistant<|channel|>final<|message|>{D}<|return|>",
    "channels without marks": f"analysisWe need a page {OLD}assistantfinal{D}",
    "channel": f"<|channel>thought\n{OLD}<channel|>{D}",
    "thinking tokens": f"<|START_THINKING|>{OLD}<|END_THINKING|><|START_RESPONSE|>{D}<|END_RESPONSE|>",
    "thought tokens": f"<|begin_of_thought|>{OLD}<|end_of_thought|>\n<|begin_of_solution|>\n{D}\n<|end_of_solution|>",
    "next turn": f"{D}<|im_end|>\n<|im_start|>user\nMore {OLD}",
    "next request": f"{D}\n\n### Instruction:\nAnother\n{OLD}",
    "turn of a model": f"<start_of_turn>model\n{D}<end_of_turn>",
    "turns of user and model": f"<bos><start_of_turn>user\nMend {OLD}<end_of_turn>\n<start_of_turn>model\n{D}",
    "begin and end": f"<s> {D}</s>",
    "artifact": f'Here:\n<artifact identifier="x" type="text/html">\n{D}\n</artifact>\nEnjoy!',
    "actions": f'<boltArtifact id="a"><boltAction type="shell">npm i</boltAction>\n'
    f'<boltAction type="file" filePath="index.html">\n{D}\n</boltAction></boltArtifact>',
    "files": f'<file path="index.html">\n{D}\n</file>\n<file path="a.css">p{{}}</file>',
    "answer and fence": f"<answer>\n```html\n{D}\n```\n</answer>",
    "unknown wrapper": f"<my_page>\n{D}\n</my_page>",
    "longer fence": f"````html\n{D}\n````",
    "tildes": f"~~~~~html\n{D}\n~~~~~\nBye",
    "indented": f"   ```html\n{D}\n   ```",
    "in a list": f"1. Do:\n\n   ```html\n{D}\n   ```\n2. Bye",
    "info": f'```html title="index.html" {{1,3}}\n{D}\n```',
    "class": f"```{{.html}}\n{D}\n```",
    "file name": f"```index.html\n{D}\n```",
    "closed on the line": f"```html\n{D}```",
    "never closed": f"```html\n{D}\n\nThis page shows a heading.",
    "closed with an end token": f"```html\n{D}\n```</s>",
    "markdown": f"```markdown\n# T\n```html\n{D}\n```\n```\nBye",
    "longer markdown": f"````markdown\n# T\n```html\n{D}\n```\n````\nBye",
    "component first": f'```jsx\nexport default () => <p className="a"/>;\n```\nPlain:\n```html\n{D}\n```',
    "style first": f"```css\np{{}}\n```\n\n{D}",
    "heredoc": f"```bash\ncat > index.html <<EOF\n{D}\nEOF\n```",
    "python": f'```python\nhtml = """\n{D}\n"""\n```',
    "file headings": f"**index.html**\n\n{D}\n\n**style.css**\nbody{{}}",
    "json in a fence": "```json\n" + json.dumps({"note": "a <b> tag", "html": D}) + "\n```",
    "json of files": json.dumps({"files": [{"path": "a.css", "content": "p{}"}, {"path": "i.html", "content": D}]}),
    "json behind prose": f"Here is your page:\n{json.dumps({'title': 'a <b> tag', 'html': D})}\nOpen it.",
    "call of a tool": f"<tool_call>\n{json.dumps({'name': 'write', 'arguments': {'html': D}})}\n</tool_call>",
    "call behind a mark": f"[TOOL_CALLS]{json.dumps([{'name': 'write', 'arguments': {'html': D}}])}",
    "call in tags": f'<function_calls><invoke name="w"><parameter name="h">{D}</parameter></invoke></function_calls>',
    "call in other tags": f"<tool_call>\n<function=w>\n<parameter=html>\n{D}\n</parameter>\n</function>\n</tool_call>",
    "cdata": f"<page><![CDATA[\n{D}\n]]></page>",
    "plain quotes": f'"{D}"',
    "json string before a remark": f"{json.dumps(D)}\n\nOpen it.",
    "json beside it": f'{{"title": "<b>T</b>"}}\n\n```html\n{D}\n```',
    "json in the request": f'Of {{"use": "a <ul><li>x</li></ul>", "as": ["<b>y</b>", "z"]}}:\n```html\n{D}\n```',
    "block quote": "> ```html\n> " + D.replace("\n", "\n> ") + "\n> ```\n\nBye",
    "block quote without a block": "> " + D.replace("\n", "\n> "),
    "braces in prose": f'Set {{"title": "the <title> tag"}} so:\n{D}',
    "user and assistant": f"Human: mend {OLD}\n\nAssistant: {D}",
    "inst": f"[INST] mend {OLD} [/INST]{D}",
}


@pytest.mark.parametrize("name", ["s", "content", "my-page"])
def test_elements_called_as_the_one_around_the_page_are_its_own(name: str) -> None:
    page = f"<!DOCTYPE html><html><body><p><{name}>9</{name}> 5</p></body></html>"
    assert find_page(f"<{name}>{page}</{name}>").html == page
    assert page_end(f"<{name}>{page}</{name}>") == len(f"<{name}>{page}")
    cut = page.removesuffix("</p></body></html>")
    assert find_page(f"<{name}>{cut}</{name}> Bye").html == cut


PROMPT = f"Mend {OLD}"
ECHOES = {
    "ChatML": "<|im_start|>system\nWrite <b>HTML</b>.<|im_end|>\n<|im_start|>user\n%s<|im_end|>\n"
    "<|im_start|>assistant\n",
    "Llama 3": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nWrite.<|eot_id|><|start_header_id|>user"
    "<|end_header_id|>\n\n%s<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "Llama 2": "<s>[INST] <<SYS>>\nWrite.\n<</SYS>>\n\n%s [/INST] ",
    "Zephyr": "<|system|>\nWrite.</s>\n<|user|>\n%s</s>\n<|assistant|>\n",
    "Vicuna": "A chat between a curious user and an assistant. USER: %s ASSISTANT: ",
    "gpt-oss": "<|start|>user<|message|>%s<|end|><|start|>assistant<|channel|>final<|message|>",
    "DeepSeek": "<\uff5cbegin\u2581of\u2581sentence\uff5c><\uff5cUser\uff5c>%s<\uff5cAssistant\uff5c>",
    "Command R": "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>%s<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
    "Granite": "<|start_of_role|>user<|end_of_role|>%s<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>",
    "without tokens": "system\nYou are a helpful assistant.\nuser\n%s\nassistant\n",
    "without tokens, glued": "user\n\n%sassistant\n\n",
    "a question": "Q: %s\nA: ",
}


@pytest.mark.parametrize("template", ECHOES)
def test_a_prompt_that_is_repeated_is_no_answer(template: str) -> None:
    assert extract(ECHOES[template] % PROMPT + D, "eos").html == D


@pytest.mark.parametrize("how", OF_DOCUMENTS)
def test_a_document_is_cut_free(how: str) -> None:
    for reason in ("eos", "stop", "length"):
        page = extract(OF_DOCUMENTS[how], reason)
        assert (page.html, page.truncated) == (D, False)


@pytest.mark.parametrize(
    "content",
    [
        "<script>const end = '</html>';</script>",
        "<script>`\n```\n</html>`</script>",
        "<textarea>\n```\n</html>\n</textarea>",
        "<!-- </html> ``` -->",
        "<svg><![CDATA[</html>]]></svg>",
        "<p title='</html>'>x</p>",
        "<pre>\n```js\nlet a;\n```\n</pre>",
        "<p>Say <code></think></code> or <code><|im_end|></code></p>",
        "<p><s>old</s> new</p>",
        "<style>a::after{content:'</html>'}</style>",
        "<style>\na:hover{color:red}\na::after{}\n</style>",
    ],
)
@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "```html\n{}\n```",
        "Sure:\n{}\nBye",
        "Question: dark? No.\n{}",
        "<think>a</think>{}",
        "<answer>{}</answer>",
    ],
)
def test_what_stands_in_the_page_stays_in_it(content: str, around: str) -> None:
    assert extract(around.replace("{}", inside(content)), "eos").html == inside(content)
    assert page_end(inside(content) + "\nmore") == len(inside(content))


OF_FRAGMENTS = {
    "end tokens": [f"{F}{token}" for token in ("</s>", "<|im_end|>", "<end_of_turn>\n", "<|endoftext|>Q")],
    "full-width token": [f"{F}<\uff5cend\u2581of\u2581sentence\uff5c>"],
    "in an unclosed fence": [f"```html\n{F}<|im_end|>", f"```html\n{F}"],
    "wrappers": [f"<answer>{F}</answer>", f'<antArtifact type="text/html">\n{F}\n</antArtifact>', f"`{F}`"],
    "calls of tools": [
        f"<tool_call>{json.dumps({'arguments': {'html': F}})}</tool_call>",
        f"<invoke name='w'><parameter name='html'>{F}</parameter></invoke>",
        f"<function=w><parameter=html>\n{F}\n</parameter></function>",
    ],
    "cdata": [f"<answer><![CDATA[{F}]]></answer>", f"<my_form><![CDATA[\n{F}\n]]></my_form>"],
    "json": [f"So: {json.dumps({'html': F})}", f'{{"html": "{F}"}}', json.dumps({"html": F})],
    "block quote": [f"> ```html\n> {F}\n> ```", f"> {F}"],
    "a sentence behind": [f"{F}\nThis form has a field.", f"{F}\n\nThe <input> element is the field."],
    "a page to show it in": [f"```html\n{F}\n```\nIn a page:\n```html\n{D}\n```"],
    "a turn behind": [f"{F}\n\n### Instruction:\nWrite\n<form></form>"],
}  # fmt: skip


@pytest.mark.parametrize("how", OF_FRAGMENTS)
def test_a_fragment_is_cut_free(how: str) -> None:
    assert [extract(answer, "eos", "fragment").html for answer in OF_FRAGMENTS[how]] == [F] * len(OF_FRAGMENTS[how])


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ("```vue\n<template>\n<p>{{ a }}</p>\n</template>\n<script setup>\nconst a = 1\n</script>\n```", "Vue"),
        ("<template>\n<p>{{ a }}</p>\n</template>\n<script>\nexport default {}\n</script>", "Vue"),
        ("```html\n<template><p/></template>\n<script>\nexport default {}\n</script>\n```", "Vue"),
        ('```html\n<ul><li v-for="x in xs">{{ x }}</li></ul>\n```', "Vue"),
        ("```svelte\n<button on:click={go}>{n}</button>\n```", "Svelte"),
        ("<script>\n  export let items;\n</script>\n{#each items as i}\n<p>{i}</p>\n{/each}", "Svelte"),
        ("```tsx\nexport default function L() {\n  return (\n    <html>\n<body>a</body>\n</html>);\n}\n```", "React"),
        ('import React from "react";\n\nfunction App() {\n  return (\n    <p className="a">x</p>\n  );\n}', "React"),
        ('```javascript\nconst App = () => <p className="a">x</p>;\n```', "React"),
        ('```\nimport React from "react";\nexport default function A(){ return (<p>x</p>); }\n```', "React"),
        ('```html\n<li *ngFor="let x of xs">{{ x }}</li>\n```', "Angular"),
        ('```html\n{% extends "a.html" %}\n{% block b %}<p>{{ t }}</p>{% endblock %}\n```', "Jinja"),
        ("```php\n<!DOCTYPE html>\n<html><body><?php echo 1; ?></body></html>\n```", "PHP"),
        ("```erb\n<% @xs.each do |x| %><p><%= x %></p><% end %>\n```", "ERB"),
        ("```pug\ndoctype html\nhtml\n  body\n    h1 Hi\n```", "Pug"),
    ],
)  # fmt: skip
def test_code_of_a_framework_is_told_as_such(answer: str, what: str) -> None:
    page = extract(answer, "eos")
    assert (page.kind, page.html, page.found) == ("other", "", False)
    assert page.note == f"{what} code, not a page"


@pytest.mark.parametrize(
    "page",
    [
        "<!DOCTYPE html>\n<html><body>{% for x in xs %}<p>{{ x }}</p>{% endfor %}</body></html>",
        "<html><body><?php echo 1; ?></body></html>",
        '<html><head><script src="vue.js"></script></head><body><li v-for="x in xs">{{ x }}</li></body></html>',
        '<div><?php foreach ($xs as $x) { ?><p>x</p><?php } ?></div>',
        "<p>In Jinja one writes <code>{% for x in xs %}</code>.</p>",
        '<div id="app"></div>\n<script type="text/babel">const A = () => <p onClick={go}>x</p>;</script>',
    ],
)  # fmt: skip
def test_a_page_with_template_tags_is_a_page(page: str) -> None:
    """A browser shows it, and shows the tags: the other metrics tell."""
    assert extract(page, "eos").html == page
    assert extract(f"```html\n{page}\n```", "eos").html == page


@pytest.mark.parametrize(
    "answer",
    [
        "You should use the <table> element to do this.",
        "You should use\n<table> elements to do this.",
        "Wrap words in <b> and </b>.",
        "It ends with </html>.",
        "<think>plan " + D,
        "```js\nlet a = '<html></html>';\n```",
        "&lt;!DOCTYPE html&gt;&lt;html&gt;&lt;/html&gt;",
        "```html\n```",
    ],
)
def test_a_mention_a_thought_and_a_string_are_no_page(answer: str) -> None:
    page = extract(answer, "eos")
    assert (page.kind, page.html) == ("none", "")
    assert page_end(answer) is None


@pytest.mark.parametrize("before", ["", "Sure:\n", "```html\n", "<think>a</think>\n```html\n", "~~~\n", "<answer>\n"])
def test_a_page_that_was_cut_off_is_all_there_is_of_it(before: str) -> None:
    for length in range(len("<!DOCTYPE html>\n<html"), len(D) - 1, 7):
        page = extract(before + D[:length], "length")
        assert (page.html, page.truncated) == (D[:length].strip(), True)
    cut = extract('{"html": "<html>\\n<p>\\u00e9 Hi', "length")
    assert (cut.html, cut.truncated) == ("<html>\n<p>é Hi", True)


WRAPPERS = [
    ("", ""),
    ("```html\n", "\n```"),
    ("~~~\n", "\n~~~\n"),
    ("<think>a <b> {}</think>\n", ""),
    ("Here it is:\n\n", "\n\nI hope it helps."),
    ("<answer>\n", "\n</answer>"),
    ('<artifact type="text/html">', "</artifact>"),
    ("", "<|im_end|>"),
    ("", "\n</s>"),
    ("Use the <table> element.\n\n", ""),
    ("### Instruction:\nMend it.\n### Response:\n", ""),
]
PIECES = [
    "<p>a</p>",
    "<script>'</html>'</script>",
    "<!-- b -->",
    "é\n",
    "<pre>\n```\n</pre>",
    "<br>",
    "{{ x }}",
    "<s>c</s>",
]


@given(
    st.lists(st.sampled_from(PIECES), max_size=6).map("".join),
    st.lists(st.sampled_from(WRAPPERS[3:]), max_size=3),
    st.sampled_from(WRAPPERS[:3]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_a_page_comes_out_of_any_wrappers_as_it_was(
    body: str, outer: list[tuple[str, str]], inner: tuple[str, str], newline: str
) -> None:
    page = f"<!DOCTYPE html>\n<html>\n<body>{body}</body>\n</html>"
    answer = inner[0] + page + inner[1]
    # an echo of the prompt is one only at the very beginning
    for before, behind in sorted(outer, key=lambda wrapper: wrapper[0].startswith("###")):
        answer = before.replace("{}", page) + answer + behind
    page, answer = page.replace("\n", newline), answer.replace("\n", newline)
    found = extract(answer, "eos")
    assert (found.html, found.truncated) == (page, False)
    end = page_end(answer)
    assert end is not None
    stopped = extract(answer[:end], "stop")  # as decoding here, which ends at the page's end
    assert (stopped.html, stopped.truncated) == (page, False)
    ends = [
        n
        for n in range(len(answer) + 1)
        if answer[:n].lower().endswith("</html>") and page_end(answer[:n], final=False)
    ]
    assert ends[:1] == [end]


TAGS = [
    "<html>",
    "</html>",
    "<p a='</html>'>",
    '<p b="</html>">',
    "<!-- </html> -->",
    "<script>",
    "</script>",
    "<title>",
]
TAGS += [
    "</title>",
    "<textarea>",
    "</textarea>",
    "<style>",
    "</style>",
    "<!-->",
    '<a =">',
    "<",
    "</",
    "x",
    "\n",
    "<!d>",
]


@given(st.lists(st.sampled_from(TAGS), max_size=12).map("".join))
def test_end_tags_are_those_of_the_standard(html: str) -> None:
    """Where nothing is left open, as it is in no text that ends all it could have opened."""
    html += "<!-- -->\"'></script></title></textarea></style>"
    ours = [piece.start for piece in Markup(html, final=True).pieces(0) if (piece.kind, piece.name) == ("end", "html")]
    theirs = [t for t in turbohtml.tokenize(html) if t.type is turbohtml.TokenType.END_TAG and t.tag == "html"]
    assert len(ours) == len(theirs)


UNITS = [
    "<",
    "```html\n",
    "~~~\n",
    "<think>",
    "</think>",
    "<p> ",
    "<!--",
    "<html>\n```\n",
    "<script>",
    "<title>",
    "</html>",
]
UNITS += [
    "<pre>\n```\n",
    '<a b="',
    "<a b='\">",
    "<|im_end|>",
    "</s>",
    "` `` ``` ",
    "<!doctype html>\n",
    '["<p>", ',
    "\\",
]
UNITS += [
    "[THINK]",
    "<|channel|>analysis<|message|>",
    "<svg><![CDATA[",
    "a\n<html>b\n",
    "<script><!-- <script> </script>",
]
UNITS += [
    "return (<p className={",
    "{% if",
    "```markdown\n",
    "<answer>",
    "### Instruction:\n",
    " ",
    "\n \n",
    "</title>",
    "`",
    "assistant\n",
    '{"a": ',
    '"<',
    "\n> ",
    "<![CDATA[",
    "<parameter=a>",
]


@pytest.mark.parametrize("start", ["", "Hello ", "user\n", "> ```html\n> ", "```html\n", "<html>", "```\n", '{"a": "<'])
def test_time_grows_with_the_length_and_no_faster(start: str) -> None:
    def cost(answer: str) -> float:
        """Seconds of this thread."""
        before = time.thread_time()
        extract(answer, "eos")
        page_end(answer, final=False)
        return time.thread_time() - before

    for unit in UNITS:
        short, long = (start + unit * (size // len(unit)) for size in (2_000, 16_000))
        most = 24 * min(cost(short), cost(short)) + 0.25
        assert cost(long) < most or cost(long) < most, (unit, most)  # a garbage collection may fall into one


def test_a_long_answer_takes_seconds() -> None:
    before = time.process_time()
    for start, unit in (("", "<"), ("", "```html\n"), ("", "<think>"), ("", "<p> "), ('{"a": "<p>', r"\"")):
        extract(start + unit * (250_000 // len(unit)) + "\\", "length")
    assert time.process_time() - before < 15
