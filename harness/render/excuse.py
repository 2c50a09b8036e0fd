"""Whether an uncaught script error was caused by the closed room: by the very resource that was refused.

A page whose library was refused is not to blame that the library's names are missing. A refused font, picture or
beacon explains no missing name; a missing element is the page's own fault whatever was refused; an error in the page's
own words is its own. So each kind of error is excused by one kind of resource only, and a missing name only by a script
that may define it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class ScriptError:
    """An uncaught error: its message, its class, and where in the document it was thrown (0 where that is unknown)."""

    text: str
    name: str = ""
    line: int = 0
    column: int = 0


Refused = Sequence[tuple[str, str]]
"""(resource type in lower case, URL) of each refused request."""

_LIBRARIES: tuple[tuple[re.Pattern[str], frozenset[str]], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), frozenset(names.split()))
    for pattern, names in (
        (r"jquery|code\.jquery\.com|zepto", "$ jQuery Zepto"),
        (r"bootstrap", "bootstrap $ jQuery Popper"),
        (r"popper", "Popper"),
        (r"\bvue", "Vue VueRouter Vuex Pinia"),
        (r"\breact", "React ReactDOM ReactRouterDOM ReactRouter PropTypes"),
        (r"babel", "Babel"),
        (r"angular", "angular ng"),
        (r"\bd3\b|/d3[.@/-]", "d3"),
        (r"chart(\.?js)?\b|chart\.(umd|min|bundle)", "Chart ChartDataLabels"),
        (r"three(\.module)?(\.min)?\.js|/three@|/three/", "THREE"),
        (r"lodash|underscore", "_"),
        (r"moment", "moment"),
        (r"dayjs", "dayjs"),
        (r"axios", "axios"),
        (r"gsap|greensock|tweenmax|scrolltrigger", "gsap ScrollTrigger TweenMax TweenLite TimelineMax Power2 Expo"),
        (r"leaflet", "L"),
        (r"maps\.google|google.*maps", "google"),
        (r"charts/loader|gstatic\.com/charts", "google"),
        (r"googletagmanager|google-analytics|gtag", "gtag ga dataLayer"),
        (r"adsbygoogle|doubleclick|googlesyndication", "adsbygoogle googletag"),
        (r"swiper", "Swiper"),
        (r"slick", "$ jQuery"),
        (r"owl\.?carousel", "$ jQuery"),
        (r"datatables", "DataTable $ jQuery"),
        (r"\baos\b", "AOS"),
        (r"typed(\.min)?\.js|/typed", "Typed"),
        (r"plotly", "Plotly"),
        (r"highlight|hljs", "hljs"),
        (r"prism", "Prism"),
        (r"highcharts", "Highcharts"),
        (r"echarts", "echarts"),
        (r"apexcharts", "ApexCharts"),
        (r"\bp5\b|/p5[.@/]", "p5 createCanvas background"),
        (r"phaser", "Phaser"),
        (r"pixi", "PIXI"),
        (r"matter", "Matter"),
        (r"katex", "katex renderMathInElement"),
        (r"mathjax", "MathJax"),
        (r"mermaid", "mermaid"),
        (r"marked", "marked"),
        (r"dompurify|purify", "DOMPurify"),
        (r"socket\.?io", "io"),
        (r"firebase", "firebase"),
        (r"stripe", "Stripe"),
        (r"paypal", "paypal"),
        (r"sweetalert|swal", "Swal swal"),
        (r"feather", "feather"),
        (r"lucide", "lucide"),
        (r"ionicons|font-?awesome|kit\.fontawesome|use\.typekit", "FontAwesome Typekit"),
        (r"tailwind", "tailwind"),
        (r"alpine", "Alpine"),
        (r"htmx", "htmx"),
        (r"require(\.min)?\.js|requirejs", "require define requirejs"),
        (r"particles", "particlesJS pJSDom tsParticles"),
        (r"anime(\.min)?\.js|/anime", "anime"),
        (r"hammer", "Hammer"),
        (r"isotope", "Isotope $ jQuery"),
        (r"masonry", "Masonry $ jQuery"),
        (r"flatpickr", "flatpickr"),
        (r"select2", "$ jQuery"),
        (r"quill", "Quill"),
        (r"tinymce", "tinymce tinyMCE"),
        (r"ckeditor", "CKEDITOR ClassicEditor"),
        (r"ace(\.min)?\.js", "ace"),
        (r"codemirror", "CodeMirror"),
        (r"youtube.*api", "YT"),
        (r"facebook", "FB"),
        (r"recaptcha", "grecaptcha"),
        (r"materialize", "M $ jQuery"),
        (r"foundation", "Foundation $ jQuery"),
        (r"semantic", "$ jQuery"),
        (r"handlebars", "Handlebars"),
        (r"mustache", "Mustache"),
        (r"fullcalendar", "FullCalendar"),
        (r"jspdf", "jsPDF jspdf"),
        (r"html2canvas", "html2canvas"),
        (r"qrcode", "QRCode"),
        (r"tensorflow|tfjs|/tf\.", "tf"),
        (r"polyfill|modernizr|html5shiv|respond", "Modernizr html5"),
    )
)
"""What well-known scripts define: their names, and no others, are missed where they were refused."""

_MOST_CHARACTERS = 500_000
_NEVER = frozenset({"module", "exports", "process", "global", "Buffer", "__dirname", "__filename"})
"""Names of another world that no script for browsers defines."""
_SELF = r"(?:(?:window|globalThis|self|top|parent)\s*(?:\?\.|\.)\s*)?"
_NAME = r"[A-Za-z_$][\w$]*"
_ROOT = re.compile(rf"^\s*(?:new\s+)?{_SELF}(?P<root>{_NAME})(?P<rest>.*)$", re.DOTALL)
_NOT_DEFINED = re.compile(rf"^(?P<root>{_NAME}) is not defined$")
_TOO_EARLY = re.compile(rf"^Cannot access '(?P<root>{_NAME})' before initialization$")
_NO_FUNCTION = re.compile(r"^(?P<expression>.+) is not a (?:function|constructor)$", re.DOTALL)
_NO_PARTS = re.compile(r"^Cannot destructure property '.*' of '(?P<expression>.+)' as it is undefined\.?$", re.DOTALL)
_OF_NOTHING = re.compile(
    r"^Cannot (?:read|set) properties of (?P<what>undefined|null) \((?:reading|setting) '(?P<property>.*)'\)$"
)
_BEFORE = re.compile(
    rf"(?P<expression>{_SELF}{_NAME}(?:\s*(?:\?\.|\.)\s*{_NAME}|\([^()]*\))*)\s*(?:\?\.|\.|\[\s*['\"]?)$"
)
_STYLE_PROPERTIES = frozenset({"cssRules", "rules", "sheet", "insertRule", "deleteRule", "addRule", "removeRule"})
_SCRIPT = frozenset({"script"})
_DATA = frozenset({"fetch", "xhr", "eventsource", "websocket"})
_LOADED = _SCRIPT | _DATA | {"image", "media", "stylesheet", "texttrack"}

# What an engine says where a load itself failed, and the kinds of resources whose refusal makes it say so.
_FAILED_LOADS: tuple[tuple[re.Pattern[str], frozenset[str]], ...] = (
    (re.compile(r"dynamically imported module|^Importing a module"), _SCRIPT),
    (re.compile(r"^Failed to fetch$"), frozenset({"fetch"})),
    (re.compile(r"^Failed to execute 'importScripts'"), _SCRIPT | {"other"}),
    (re.compile(r"^Failed to execute 'send' on 'XMLHttpRequest'"), frozenset({"xhr"})),
    (re.compile(r"HTMLImageElement provided is in the 'broken' state|source image c"), frozenset({"image"})),
    (re.compile(r"HTMLVideoElement|no supported source"), frozenset({"media"})),
    (re.compile(r"^A network error occurred\.?$"), frozenset({"font"})),
    (re.compile(r"^(?:\[object )?(?:Progress)?Event\]?$"), _LOADED),
)


def own_errors(errors: Sequence[ScriptError], refused: Refused, html: str) -> list[ScriptError]:
    """Return the errors that no refused resource explains, in order; `html` is the document as it was served."""
    if not refused:
        return list(errors)
    html = html[:_MOST_CHARACTERS]
    lines = html.split("\n")
    own: list[ScriptError] = []
    excused = 0
    for error in errors:
        # A script that stopped half-way leaves its own names undefined for the next one.
        if _explained(error, refused, html, lines) or (excused and _follows(error, html, lines)):
            excused += 1
        else:
            own.append(error)
    return own


def _explained(error: ScriptError, refused: Refused, html: str, lines: Sequence[str]) -> bool:
    kinds = {kind for kind, _ in refused}
    text = error.text.strip()
    for pattern, needed in _FAILED_LOADS:
        if pattern.search(text):
            return not needed.isdisjoint(kinds)
    nothing = _OF_NOTHING.match(text)
    if nothing and error.name in ("", "TypeError"):
        before = _before(error, lines)
        if nothing["property"] in _STYLE_PROPERTIES and "stylesheet" in kinds:
            return True
        if re.search(r"contentDocument|contentWindow|getSVGDocument", before):
            return "document" in kinds
        if nothing["what"] == "null":  # an element that is not there
            return False
        if not _DATA.isdisjoint(kinds) and _comes_from_data(before, html):
            return True
    root = _missing_root(error, lines)
    return bool(root) and _may_define([url for kind, url in refused if kind == "script"], root, html)


def _missing_root(error: ScriptError, lines: Sequence[str]) -> str:
    """The global name whose absence the error tells of; empty where it tells of none."""
    text = error.text.strip()
    if error.name in ("", "ReferenceError") and (found := _NOT_DEFINED.match(text)):
        return found["root"]
    if error.name not in ("", "TypeError"):
        return ""
    expression = ""
    if found := _NO_FUNCTION.match(text) or _NO_PARTS.match(text):
        expression = found["expression"]
    elif _OF_NOTHING.match(text):
        expression = _before(error, lines)
    root = _ROOT.match(expression)
    return root["root"] if root else ""


def _before(error: ScriptError, lines: Sequence[str]) -> str:
    """The expression whose property was asked for, from the place of the error in the document."""
    if not 0 < error.line <= len(lines) or error.column < 1:
        return ""
    found = _BEFORE.search(lines[error.line - 1][max(0, error.column - 301) : error.column - 1])
    return found["expression"] if found else ""


def _may_define(scripts: Sequence[str], name: str, html: str) -> bool:
    if name in _NEVER:
        return False
    declared = _declared(name, html)
    letters = re.sub(r"[^a-z0-9]", "", name.lower())
    for url in scripts:
        known = _known(url)
        if known is not None and name in known:
            return True
        if not declared and len(letters) > 2 and letters in re.sub(r"[^a-z0-9]", "", url.lower()):
            return True
        # A script that nobody knows, most often the page's own file, may define whatever the page does not.
        if not declared and known is None:
            return True
    return False


@lru_cache(maxsize=1024)
def _known(url: str) -> frozenset[str] | None:
    """What the well-known scripts that a URL names define; None where it names none."""
    found = [names for pattern, names in _LIBRARIES if pattern.search(url)]
    return frozenset().union(*found) if found else None


def _declared(name: str, html: str) -> bool:
    """Whether the page declares the name itself: as a variable, a function, a class or a parameter."""
    # Every repetition is bounded: a hostile page must not make this quadratic.
    word = rf"(?<![\w$.]){re.escape(name)}(?![\w$])"
    return bool(
        re.search(
            rf"\b(?:var|let|const|function|class)\s{{1,20}}{word}|\b(?:var|let|const)\s{{0,20}}[{{\[][^}}\]]{{0,200}}?{word}"
            rf"|\bfunction\b[^()]{{0,80}}\([^()]{{0,200}}?{word}|{word}\s{{0,20}}=>"
            rf"|\([^()]{{0,200}}?{word}[^()]{{0,200}}\)\s{{0,20}}=>",
            html,
        )
    )


def _comes_from_data(expression: str, html: str) -> bool:
    root = _ROOT.match(expression)
    if root is None:
        return False
    name = re.escape(root["root"])
    return bool(
        re.search(
            rf"(?<![\w$]){name}\s{{0,20}}=[^=;\n][^;\n]{{0,200}}(?:await|fetch|json|response|ajax)", html, re.IGNORECASE
        )
    )


def _follows(error: ScriptError, html: str, lines: Sequence[str]) -> bool:
    early = _TOO_EARLY.match(error.text.strip())
    root = early["root"] if early else _missing_root(error, lines)
    return bool(root) and _declared(root, html)
