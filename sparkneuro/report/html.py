"""One HTML page that needs nothing else: text, tables, pictures inside it, and its numbers as JSON."""

import base64
import json
import math
from html import escape
from importlib.resources import files


class Markup(str):
    """Text that is HTML already, and is set as it is in a cell of a table."""


def link(text, target):
    """Set a link.

    Parameters
    ----------
    text : str
        Plain text.
    target : str
        Where it leads; relative to the page.

    Returns
    -------
    html : Markup
        The element.

    Examples
    --------
    >>> link("sub-01 < all", "sub-01.html#run")
    '<a href="sub-01.html#run">sub-01 &lt; all</a>'
    """
    return Markup(f'<a href="{escape(target)}">{escape(text)}</a>')


def mark(text):
    """Set text that stands out, in colour and weight; its words must say why.

    Parameters
    ----------
    text : str
        Plain text.

    Returns
    -------
    html : Markup
        The element.
    """
    return Markup(f'<strong class="outlier">{escape(text)}</strong>')


def make_sortable(table):
    """Let a click on a heading sort a table.

    Parameters
    ----------
    table : str
        From `table`.

    Returns
    -------
    html : str
        The table, and the few lines of script that do it; without script it stays in its order.
    """
    script = files("sparkneuro.report").joinpath("sorting.html").read_text(encoding="utf-8")
    return table.replace("<table>", '<table class="sortable">', 1) + script


def anchor(heading):
    """Tell by which name links reach a section.

    Parameters
    ----------
    heading : str
        Plain text of its heading.

    Returns
    -------
    name : str
        What follows ``#``.

    Examples
    --------
    >>> anchor("sub-01_task-rest: DVARS")
    'sub-01-task-rest-dvars'
    """
    return "-".join("".join(c if c.isalnum() else " " for c in heading.lower()).split())


def build_page(title, subtitle, sections, numbers):
    """Put sections together into a page.

    Parameters
    ----------
    title, subtitle : str
        Plain text.
    sections : list of tuple of (str, list of str)
        Heading (plain text) and the parts below it (HTML, from the other functions here).
    numbers : dict
        What programs may want to read from the page, as ``<script type="application/json" id="report">``.

    Returns
    -------
    page : str
        The HTML.
    """
    style = files("sparkneuro.report").joinpath("style.css").read_text(encoding="utf-8")
    links = "".join(f'<li><a href="#{anchor(heading)}">{escape(heading)}</a></li>' for heading, _ in sections)
    body = "".join(
        f'<section id="{anchor(heading)}"><h2>{escape(heading)}</h2>{"".join(parts)}</section>' for heading, parts in sections
    )
    # "</" would end the script; "<\/" is the same string to a JSON reader.
    data = json.dumps(_plain(numbers), allow_nan=False).replace("</", "<\\/")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><header><h1>{escape(title)}</h1>"
        f"<p>{escape(subtitle)}</p></header><nav><ul>{links}</ul></nav><main>{body}</main>"
        f'<script type="application/json" id="report">{data}</script></body></html>\n'
    )


def paragraph(text):
    """Set a paragraph.

    Parameters
    ----------
    text : str
        Plain text.

    Returns
    -------
    html : str
        The element.

    Examples
    --------
    >>> paragraph("r < 0.5")
    '<p>r &lt; 0.5</p>'
    """
    return f"<p>{escape(text)}</p>"


def picture(content, alt, caption):
    """Set a picture with its caption.

    Parameters
    ----------
    content : bytes
        PNG or SVG.
    alt : str
        What it shows, for who cannot see it.
    caption : str
        What it means, and how it was made.

    Returns
    -------
    html : str
        The element, the picture within it.
    """
    kind = "image/png" if content.startswith(b"\x89PNG") else "image/svg+xml"
    source = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    return f'<figure><img alt="{escape(alt)}" src="{source}"><figcaption>{escape(caption)}</figcaption></figure>'


def table(columns, rows):
    """Set a table; numbers stand to the right.

    Parameters
    ----------
    columns : sequence of str
        Headings.
    rows : sequence of sequence
        Cells: text, numbers (shown with three significant digits, whole ones in full), or None.

    Returns
    -------
    html : str
        The element, which scrolls sideways when the page is narrow.
    """
    # A cell that is HTML already stands where the other cells of its column do.
    cells = [[row[place] for row in rows if not isinstance(row[place], Markup | None)] for place in range(len(columns))]
    numeric = [bool(column) and all(map(_is_number, column)) for column in cells]
    sides = [' class="number"' if right else "" for right in numeric]
    head = "".join(f"<th{side}>{escape(column)}</th>" for side, column in zip(sides, columns, strict=True))
    lines = [[f"<td{side}>{format_value(cell)}</td>" for side, cell in zip(sides, row, strict=True)] for row in rows]
    body = "".join(f"<tr>{''.join(line)}</tr>" for line in lines)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def format_value(value):
    """Write a value for a person.

    Parameters
    ----------
    value : object
        Text, number or None.

    Returns
    -------
    text : str
        Escaped for HTML.

    Examples
    --------
    >>> format_value(48751), format_value(0.123456), format_value(None), format_value(12345.6)
    ('48,751', '0.123', '–', '12,346')
    """
    if isinstance(value, Markup):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    if _is_number(value):
        return f"{value:,}"
    return escape(str(value))


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(value):
    """The same value with NaN and infinity, which JSON does not know, as None, and NumPy numbers as Python's."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
