"""What the reader of pages knows about the elements of HTML."""

from __future__ import annotations

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"}
INLINE = {
    *("a", "abbr", "acronym", "b", "bdi", "bdo", "big", "button", "cite", "code", "data", "del", "dfn", "em", "font"),
    *("i", "img", "input", "ins", "kbd", "label", "mark", "meter", "nobr", "output", "progress", "q", "rt", "ruby"),
    *("s", "samp", "select", "small", "span", "strike", "strong", "sub", "sup", "svg", "textarea", "time", "tt", "u"),
    *("map", "object", "picture", "slot", "var", "wbr"),
    *("math", "mfrac", "mi", "mn", "mo", "mrow", "msqrt", "msub", "msubsup", "msup", "mtext", "semantics"),
}
"""What ends no block; of elements with a prefix, such as Word's, none does."""
NOT_SHOWN = {
    *("annotation", "annotation-xml", "audio", "canvas", "datalist", "iframe", "noembed", "noframes", "noscript"),
    *("rp", "script", "style", "template", "title", "video"),
}
UNSEEN_INPUTS = {"checkbox", "color", "file", "hidden", "image", "password", "radio", "range"}
NAVIGATION_CLASSES = {"navheader", "navfooter"}
"""What DocBook's stylesheets call the lines of links above and below a page."""
HEADINGS = {f"h{level}": level for level in range(1, 7)}
CELLS = {"td", "th"}
_END_PARAGRAPHS = {
    *("address", "article", "aside", "blockquote", "details", "div", "dl", "fieldset", "figure", "footer", "form"),
    *("header", "hr", "main", "nav", "ol", "p", "pre", "section", "table", "ul"),
}
_NOT_BEYOND = {"button", "table", *CELLS}
_GROUPS = {"thead", "tbody", "tfoot"}
ENDED = {
    **dict.fromkeys(_END_PARAGRAPHS, ({"p"}, _NOT_BEYOND)),
    **dict.fromkeys(HEADINGS, ({"p", *HEADINGS}, _NOT_BEYOND)),
    "li": ({"li"}, {"ul", "ol", "menu", *_NOT_BEYOND}),
    **dict.fromkeys(("dt", "dd"), ({"dt", "dd"}, {"dl", *_NOT_BEYOND})),
    **dict.fromkeys(CELLS, (CELLS, {"table"})),
    "tr": ({"tr", "caption"}, {"table"}),
    **dict.fromkeys(_GROUPS, ({*_GROUPS, "caption"}, {"table"})),
    "option": ({"option"}, {"select", "datalist"}),
    "body": ({"head"}, {"body"}),
}
"""By the name of a start tag: the elements it ends that were left open, and those beyond which it ends none."""
