"""Names of the HTML standard that the scorers need."""

from __future__ import annotations


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


HTML_ELEMENTS = _names(
    """
    a abbr address area article aside audio b base bdi bdo blockquote body br button canvas caption cite code col
    colgroup data datalist dd del details dfn dialog div dl dt em embed fieldset figcaption figure footer form h1 h2
    h3 h4 h5 h6 head header hgroup hr html i iframe img input ins kbd label legend li link main map mark menu meta
    meter nav noscript object ol optgroup option output p picture pre progress q rp rt ruby s samp script search
    section select selectedcontent slot small source span strong style sub summary sup svg math table tbody td
    template textarea tfoot th thead time title tr track u ul var video wbr
    acronym applet basefont bgsound big blink center dir font frame frameset isindex marquee menuitem nobr noembed
    noframes param plaintext rb rtc strike tt xmp
    """
)
"""All elements of the HTML standard, the obsolete ones too: an author who writes <center> did write HTML."""

SPEAKING_ELEMENTS = _names(
    """
    img input button select textarea video audio canvas svg math iframe embed object hr table progress meter link meta
    base source track area col param
    """
)
"""Elements that say something without any text of their own."""

VOID_ELEMENTS = _names(
    "area base br col embed hr img input link meta source track wbr param basefont bgsound frame keygen"
)
"""Elements without an end tag, as the standard's parser treats them."""

UNSEEN_ELEMENTS = _names("head script style template noscript title datalist noframes noembed")
"""Elements whose text no reader sees."""

DOCUMENT_LEVEL = frozenset({"html", "head", "body"})
"""Elements that every parser adds where the author left them out."""


def is_element_name(name: str) -> bool:
    """Whether `name` (lower case) is an HTML element or a custom element rather than, say, a `<placeholder>`."""
    return name in HTML_ELEMENTS or ("-" in name and name[0].isascii() and name[0].isalpha())
