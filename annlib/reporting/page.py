"""Parts of an HTML page. They are trees of elements, not text, so every value is escaped when the page is written."""

import base64
from collections.abc import Iterable, Sequence
from xml.etree.ElementTree import Element, tostring

from annlib.reporting.scaling import Picture

# Nothing is loaded from anywhere: a picture or script that is not in the page itself does not work.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_STYLE = """
:root { color-scheme: light dark; --text: #1a1d21; --soft: #5b636d; --line: #d9dde2; --ground: #fff; --raised: #f5f6f8;
  --accent: #0072b2; --best: #e3f1f8; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e8eb; --soft: #a0a8b2; --line: #383e46; --ground: #15181c;
  --raised: #1f2329; --accent: #56b4e9; --best: #16364a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 62rem; color: var(--text); background: var(--ground);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { margin: 0; font-size: 2rem; line-height: 1.2; }
h2 { margin: 2.5rem 0 .75rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line); font-size: 1.35rem; }
h3 { margin: 1.5rem 0 .5rem; font-size: 1.05rem; }
p { margin: .5rem 0; }
.soft, footer { color: var(--soft); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(12rem, 1fr)); gap: .75rem;
  margin: 1.5rem 0 0; }
.figures div { padding: .75rem 1rem; border: 1px solid var(--line); border-radius: .5rem; background: var(--raised); }
.figures dt { color: var(--soft); font-size: .875rem; line-height: 1.3; }
.figures dd { margin: 0; font-size: 1.5rem; font-weight: 600; line-height: 1.35; font-variant-numeric: tabular-nums; }
.figures dd + dd { font-size: .8125rem; font-weight: normal; line-height: 1.3; color: var(--soft); }
.figures .main dd:first-of-type { color: var(--accent); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9375rem; font-variant-numeric: tabular-nums; }
caption { padding: 0 0 .5rem; color: var(--soft); text-align: left; }
th, td { padding: .3rem 1.25rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: 600; }
.number { text-align: right; }
td.number { white-space: nowrap; }
.best > * { background: var(--best); }
figure { margin: 1rem 0 2rem; }
img { display: block; width: auto; max-width: 100%; height: auto; max-height: 45rem; border-radius: .375rem;
  background: #fff; }
figcaption { margin-top: .5rem; color: var(--soft); }
pre { margin: 0; padding: .75rem 1rem; overflow-x: auto; border: 1px solid var(--line); border-radius: .5rem;
  background: var(--raised); font: .875rem/1.5 ui-monospace, monospace; }
.command { white-space: pre-wrap; overflow-wrap: anywhere; }
.command span { display: inline-block; max-width: 100%; }
summary { cursor: pointer; color: var(--accent); margin-bottom: .5rem; }
footer { margin-top: 3rem; padding-top: .75rem; border-top: 1px solid var(--line); font-size: .875rem; }
@media (max-width: 40rem) { body { padding: 1rem .75rem 2rem; } h1 { font-size: 1.6rem; }
  .figures { grid-template-columns: repeat(2, 1fr); } th, td { padding-right: .9rem; } }
@media print { :root { color-scheme: light; --text: #000; --soft: #444; --line: #bbb; --ground: #fff; --raised: #fff;
  --accent: #000; --best: #eee; } body { max-width: none; padding: 0; font-size: 10pt; } h2, h3 { break-after: avoid; }
  figure, .figures div, tr { break-inside: avoid; } img { max-height: 12cm; } .wide, pre { overflow: visible; }
  pre { white-space: pre-wrap; } details::details-content { content-visibility: visible; } }
"""


def element(tag: str, *children: Element | str, **attributes: str) -> Element:
    """Returns an element.

    Args:
        tag: its name.
        children: elements and text, in order.
        attributes: by name; a trailing underscore is dropped (`class_`), other ones become hyphens.
    """
    made = Element(tag, {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()})
    for child in children:
        if isinstance(child, Element):
            made.append(child)
        elif len(made):
            made[-1].tail = (made[-1].tail or "") + child
        else:
            made.text = (made.text or "") + child
    return made


def section(title: str, *children: Element) -> Element:
    """Returns a part of the page under a heading of the second level."""
    return element("section", element("h2", title), *children)


def figures(cells: Iterable[tuple[str, str, str]], *, num_main: int) -> Element:
    """Returns boxes of large figures.

    Args:
        cells: (what it is, the figure, a note or "") of each.
        num_main: how many of the first ones stand out.
    """
    boxes = []
    for index, (name, value, note) in enumerate(cells):
        parts = [element("dt", name), element("dd", value)] + ([element("dd", note)] if note else [])
        boxes.append(element("div", *parts, **({"class": "main"} if index < num_main else {})))
    return element("dl", *boxes, class_="figures")


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    name: str,
    numbers: bool,
    caption: str = "",
    best: int | None = None,
) -> Element:
    """Returns a table whose first column names the rows; it scrolls sideways where it does not fit.

    Args:
        columns: headings.
        rows: cells of each row.
        name: what a screen reader calls it.
        numbers: all columns but the first hold numbers.
        caption: what stands above, if anything.
        best: index of the row that stands out.
    """
    kind = {"class": "number"} if numbers else {}
    head = [element("th", column, scope="col", **(kind if index else {})) for index, column in enumerate(columns)]
    body = []
    for index, (first, *rest) in enumerate(rows):
        cells = [element("th", first, scope="row"), *(element("td", cell, **kind) for cell in rest)]
        body.append(element("tr", *cells, **({"class": "best"} if index == best else {})))
    title = [element("caption", caption)] if caption else []
    made = element("table", *title, element("thead", element("tr", *head)), element("tbody", *body))
    # A region that takes the focus, because otherwise a keyboard cannot scroll it.
    return element("div", made, class_="wide", role="region", aria_label=name, tabindex="0")


def figure(picture: Picture, *, caption: str, description: str) -> Element:
    """Returns an embedded picture; `description` is for those who do not see it."""
    data = base64.b64encode(picture.content).decode()
    size = {"width": str(picture.width), "height": str(picture.height)}
    image = element("img", src=f"data:{picture.media_type};base64,{data}", alt=description, **size)
    return element("figure", image, element("figcaption", caption))


def page(title: str, *children: Element) -> bytes:
    """Returns a whole page, UTF-8."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", _STYLE),
    )
    root = element("html", head, element("body", *children), lang="en")
    text = "<!DOCTYPE html>\n" + tostring(root, encoding="unicode", method="html") + "\n"
    # Paths that are not UTF-8 hold lone surrogates.
    return text.encode("utf-8", "xmlcharrefreplace")
