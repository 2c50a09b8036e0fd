"""Everything the scorers want to know of a page's text, found in one pass per parser.

The facts are plain values, so that they can be found in a process that may be killed and sent back.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import lxml.etree
import turbohtml

from harness.metrics.elements import (
    DOCUMENT_LEVEL,
    SPEAKING_ELEMENTS,
    UNSEEN_ELEMENTS,
    VOID_ELEMENTS,
    is_element_name,
)
from harness.metrics.unspaced import tokens
from harness.metrics.wrap import FOREIGN, Wrapped, bare
from harness.types import Message, Scope

_CODE_TOKEN = re.compile(r"\w+|[^\w\s]")
_KEPT_MESSAGES = 50


@dataclass(frozen=True, slots=True)
class PageFacts:
    """What turbohtml (a parser of the current HTML standard) and lxml say of one page."""

    elements: int
    """Elements that the author wrote and lxml found again."""
    content: bool
    """Whether there is more than empty elements: any text, or an element that says something without text."""
    doctype: bool
    """The doctype of the present standard (`<!DOCTYPE html>`) stands before any content."""
    title: bool
    closed: bool
    """The page's own end tag is there."""
    depth: int
    """How deep start tags nest at most, counted from the tags alone: an upper bound of the DOM's depth."""
    errors: tuple[Message, ...]
    """turbohtml's parse errors, which carry the standard's codes."""
    lxml_errors: tuple[Message, ...]
    dom_tokens: tuple[str, ...]
    """Canonical tokens of the DOM: start tags, sorted attributes, words, end tags."""
    words: tuple[str, ...]
    """The words that a reader can see, in order; characters where the script puts no spaces between words."""
    tags: tuple[str, ...]
    """Element names in document order, without html, head and body."""
    families: frozenset[tuple[str, ...]]
    """Every element with its element children, as (parent, child, child, ...): subtrees of height 1."""


def page_facts(html: str, scope: Scope) -> PageFacts:
    """Parse `html` with both parsers and return what is there.

    A fragment is parsed where it would stand (`harness.metrics.wrap.bare`); what stands around it counts as tokens, on
    both sides of a comparison, but never as the author's elements or content.
    """
    wrapped = bare(html, scope)
    document = turbohtml.parse(wrapped.html, allow_declarative_shadow_roots=False)
    walk = _Walk()
    walk.run(document)
    written, closed, depth = _written(html, not FOREIGN.isdisjoint(wrapped.path))
    found, lxml_errors = _lxml(wrapped)
    own = Counter(walk.tags)
    own.subtract(wrapped.path)
    return PageFacts(
        elements=len(written & found),
        content=walk.text or any(own[name] > 0 for name in SPEAKING_ELEMENTS) or bool(FOREIGN & {*wrapped.path}),
        doctype=_standards_doctype(document),
        title=walk.title,
        closed=closed,
        depth=depth + len(wrapped.path),
        errors=tuple(
            Message("turbohtml", e.code.replace("-", " "), max(e.line - wrapped.offset, 1), e.col, e.code)
            for e in document.errors[:_KEPT_MESSAGES]
        ),
        lxml_errors=lxml_errors,
        dom_tokens=tuple(walk.tokens),
        words=tuple(walk.words),
        tags=tuple(walk.tags),
        families=frozenset(walk.families),
    )


def _written(html: str, foreign: bool) -> tuple[set[str], bool, int]:
    """The elements the author wrote start tags for, whether a real `</html>` is there, and how deep the tags nest.

    `foreign` says that the page is a part of a drawing or a formula, whose elements have names of their own.
    """
    names: set[str] = set()
    closed, depth, deepest = False, 0, 0
    for token in turbohtml.tokenize(html):
        if token.type is turbohtml.TokenType.START_TAG and token.tag:
            if foreign or is_element_name(token.tag):
                names.add(token.tag)
            if token.tag not in VOID_ELEMENTS:
                depth += 1
                deepest = max(deepest, depth)
        elif token.type is turbohtml.TokenType.END_TAG:
            closed = closed or token.tag == "html"
            depth = max(depth - 1, 0)
    return names, closed, deepest


def _lxml(wrapped: Wrapped) -> tuple[set[str], tuple[Message, ...]]:
    """The element names in lxml's tree, and libxml2's error log."""
    parser = lxml.etree.HTMLParser(huge_tree=True, encoding="utf-8")
    try:
        root = lxml.etree.fromstring(wrapped.html.encode("utf-8", "surrogatepass"), parser)
    except lxml.etree.LxmlError as error:
        return set(), (Message("lxml", str(error)),)
    names = {e.tag.lower() for e in root.iter() if isinstance(e.tag, str)} if root is not None else set()
    # The whole log is read at once: indexing it is quadratic.
    log = tuple(
        Message("lxml", entry.message.strip(), max(entry.line - wrapped.offset, 1), entry.column, entry.type_name)
        for entry, _ in zip(parser.error_log, range(_KEPT_MESSAGES), strict=False)
    )
    return names, log


def _standards_doctype(document: turbohtml.Document) -> bool:
    for node in document.children:
        if isinstance(node, turbohtml.Doctype):
            return node.name == "html" and not node.public_id and node.system_id in (None, "", "about:legacy-compat")
        if isinstance(node, turbohtml.Element):
            return False
    return False


class _Walk:
    """One walk over the DOM that collects what the similarity measures compare."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.words: list[str] = []
        self.tags: list[str] = []
        self.families: set[tuple[str, ...]] = set()
        self.text = False
        self.title = False

    def run(self, document: turbohtml.Document) -> None:
        # Each entry is an element with its remaining children, or None for text: no recursion, so no limit on nesting.
        stack: list[tuple[str, Iterator[turbohtml.Node], bool, bool]] = [("", iter(document.children), True, False)]
        while stack:
            name, children, seen, raw = stack[-1]
            child = next(children, None)
            if child is None:
                stack.pop()
                if name and name not in DOCUMENT_LEVEL:
                    self.tokens.append(f"</{name}>")
            elif isinstance(child, turbohtml.Text | turbohtml.CData):
                self._text(child.data, seen, raw)
            elif isinstance(child, turbohtml.Element):
                stack.append(self._element(child, seen))
            elif isinstance(child, turbohtml.DocumentFragment):  # what a <template> holds
                stack.append(("", iter(child.children), seen, raw))

    def _text(self, data: str, seen: bool, raw: bool) -> None:
        # Code is cut at punctuation, so that its layout does not count; prose is cut at white space alone.
        words = tokens(data, _CODE_TOKEN.findall if raw else str.split)
        self.text = self.text or bool(words)
        self.tokens.extend(map(_text_token, words))
        if seen:
            self.words.extend(words)

    def _element(self, element: turbohtml.Element, seen: bool) -> tuple[str, Iterator[turbohtml.Node], bool, bool]:
        name = element.tag
        attributes = element.attrs
        children = list(element.children)
        if name not in DOCUMENT_LEVEL:
            self.tokens.append(f"<{name}>")
            self.tags.append(name)
        for attribute in sorted(attributes):
            self.tokens.extend(_attribute_tokens(attribute, attributes[attribute]))
        family = tuple(child.tag for child in children if isinstance(child, turbohtml.Element))
        if family and name != "html":
            self.families.add((name, *family))
        if name == "title" and element.namespace == turbohtml.Namespace.HTML and element.text.strip():
            self.title = True
        shadow = name == "template" and "shadowrootmode" in attributes  # whose content stands in its host's place
        hidden = (name in UNSEEN_ELEMENTS and not shadow) or "hidden" in attributes
        return name, iter(children), seen and not hidden, name in ("script", "style")


def _text_token(word: str) -> str:
    """A word of text as a token that is no tag's nor attribute's: a page that shows `&lt;b&gt;` has no `<b>`."""
    return f"\\{word}" if len(word) > 1 and word[0] in "<@\\" else word


def _attribute_tokens(name: str, value: str | list[str] | None) -> list[str]:
    """One token per class and per style declaration, else one for the whole attribute; none holds white space."""
    words = value if isinstance(value, list) else str("" if value is None else value).split()
    if name == "class":
        return [f"@class={word}" for word in sorted(set(words))]
    text = " ".join(words)
    if name == "style":
        parts = [re.sub(r"\s*([:,])\s*", r"\1", part.strip()) for part in text.split(";")]
        return [f"@style={part}".replace(" ", "\u2423") for part in parts if part]
    return [f"@{name}={text}".replace(" ", "\u2423")]
