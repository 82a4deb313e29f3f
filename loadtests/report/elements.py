"""Pieces that the page is made of."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from html import escape


def panel(title: str, note: str, content: str, across: bool = False) -> str:
    """A titled box; over the whole width if `across`."""
    kind = "panel across" if across else "panel"
    return f'<section class="{kind}"><h2>{title}</h2><p class="note">{note}</p>{content}</section>'


def tile(what: str, big: str, sub: str) -> str:
    """One large number."""
    return (
        f'<div class="tile"><div class="what">{escape(what)}</div><div class="big">{big}</div>'
        f'<div class="sub">{sub}</div></div>'
    )


def legend(entries: Iterable[tuple[str, str]], *, strokes: bool = False, hollow: bool = False) -> str:
    """Names with their colours."""
    shape = "stroke " if strokes else ""
    parts = [f'<span><i class="{shape}{colour}"></i>{escape(text)}</span>' for text, colour in entries]
    if hollow:
        parts.append('<span><i class="hollow"></i>void: the generator could not keep up</span>')
    return f'<p class="legend">{"".join(parts)}</p>'


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: Collection[int]) -> str:
    """Cells are HTML; columns in `numbers` stand right. Scrolls by itself where it is too wide."""

    def cell(tag: str, place: int, text: str) -> str:
        return f'<{tag} class="num">{text}</{tag}>' if place in numbers else f"<{tag}>{text}</{tag}>"

    head = "".join(cell("th", place, text) for place, text in enumerate(heads))
    body = "".join(f"<tr>{''.join(cell('td', place, text) for place, text in enumerate(row))}</tr>" for row in rows)
    return f'<div class="scrolled"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and what they are."""
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(value)}</dd>' for name, value in pairs)}</dl>"
