"""A matrix of counts on the page: names that stay in view beside cells whose size follows the width of the screen.

The cells are one SVG; their places are CSS, counted in cells, so that one drawing fills a desktop, fits a phone where
it can, and scrolls with a hint where it cannot: text never shrinks below 11 px.
"""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from convnext.tasks.blocks import MATRIX_MOST, Matrix
from convnext.tasks.words import percent

PAPER = 45
"""Rows up to which the names fit on paper."""
COUNTED = 30
"""Rows up to which each cell has its count written into it."""


@dataclass(frozen=True)
class _Sizes:
    """What decides the size of a cell: the number of rows, the longest name in signs, and the largest count."""

    rows: int
    longest: int
    largest: int

    @property
    def most(self) -> int:
        """Side of a cell where there is room, in pixels."""
        side = next((side for most, side in ((3, 96), (6, 68), (12, 48), (30, 34)) if self.rows <= most), 19)
        return max(side, self.least)

    @property
    def least(self) -> int:
        """Side below which it scrolls instead: the count at 11 px, or a line of text."""
        return 7 * len(str(self.largest)) + 9 if self.rows <= COUNTED else 14

    @property
    def wanted(self) -> int:
        """Width that the longest name wants, in pixels; the page cuts it at 36 % of the screen."""
        return 8 * min(self.longest, 26) + 12

    @property
    def too_narrow(self) -> int:
        """Width in pixels below which not all columns are seen at once."""
        cells = self.rows * self.least
        return round(min(cells + self.wanted, cells / 0.64)) + 4

    @property
    def flat(self) -> bool:
        """Whether names fit above the columns without turning them, also on the narrowest cells that do not scroll."""
        return 8 * self.longest + 6 <= self.least


def matrix(block: Matrix) -> Markup:
    """Counts of truth (rows) against prediction (columns), shaded by their share of the row.

    Right answers and mistakes have a colour each. Cells without pictures are not drawn above 12 rows, so that a
    hundred stay small. Empty above `MATRIX_MOST` rows.
    """
    names = block.names
    if not names or len(names) > MATRIX_MOST:
        return Markup("")
    sizes = _Sizes(len(names), max(map(len, names)), max(map(max, block.counts)))
    titles = Markup("").join(_name(name) for name in names)
    cells = []
    for truth, row in enumerate(block.counts):
        total = sum(row)
        for guess, pictures in enumerate(row):
            if pictures or sizes.rows <= 12:
                told = (
                    f"{names[truth]} {block.right}"
                    if truth == guess
                    else f"{names[truth]} {block.wrong} {names[guess]}"
                )
                cell = _cell(sizes, truth, guess, pictures, total, told)
                link = block.links.get((truth, guess))
                cells.append(Markup('<a href="#{}">{}</a>').format(link, cell) if link else cell)
    kind = ("" if sizes.rows <= COUNTED else " dense") + (" flat" if sizes.flat else "")
    kind += " crowd" if sizes.rows > PAPER else ""
    head = Markup(
        "<style>@container mx (max-width:{narrow}px){{.mx-body{{--fade:2.5rem;--hint:block}}}}</style>"
        '<div class="mx{kind}" style="--k:{k};--most:{most}px;--least:{least}px;--wanted:{wanted}px">'
        '<div class="mx-body">'
        '<p class="mx-hint">Wider than this screen: <b>scroll sideways \u2192</b> for all {k} columns.</p>'
        '<div class="mx-scroll" tabindex="0" role="region" aria-label="{title}, scrolls sideways">'
        '<div class="mx-grid"><div class="mx-corner"><span>predicted\u00a0\u2192</span><span>truth\u00a0\u2193</span>'
        '</div><div class="mx-top">{names}</div><div class="mx-left">{names}</div>'
        '<svg class="matrix" role="img" aria-label="{title}">'
    )
    opening = head.format(
        narrow=sizes.too_narrow, kind=kind, k=sizes.rows, most=sizes.most, least=sizes.least, wanted=sizes.wanted,
        names=titles, title=block.title,
    )  # fmt: skip
    return (
        opening + Markup("").join(cells) + Markup('</svg></div></div><p class="mx-said note" hidden></p></div></div>')
    )


def _name(name: str) -> Markup:
    """A row's name for wide and for narrow screens, each cut in its middle: names often begin alike."""
    both = Markup('<span title="{}"><i>{}</i><i class="short" aria-hidden="true">{}</i></span>')
    return both.format(name, shortened(name, 26), shortened(name, 14))


def shortened(text: str, most: int) -> str:
    """A long text without its middle."""
    if len(text) <= most:
        return text
    head = (most - 1) // 2
    return f"{text[:head]}\u2026{text[len(text) - (most - 1 - head) :]}"


def _cell(sizes: _Sizes, truth: int, guess: int, pictures: int, total: int, told: str) -> Markup:
    part = pictures / total if total else 0.0
    kind = "right" if truth == guess else "wrong"
    strength = part ** (0.6 if sizes.rows <= 30 else 0.45)  # a few per cent must still be seen
    box = Markup('<g class="{}" style="--i:{};--j:{}"><title>{}: {} of {} ({})</title><rect fill-opacity="{:.2f}"/>')
    out = box.format(kind, truth, guess, told, pictures, total, percent(part), strength)
    if sizes.rows <= COUNTED:
        ink = "strong" if strength > 0.62 else "none" if not pictures else "weak"
        out += Markup('<text class="{}" dy=".35em">{}</text>').format(ink, pictures)
    return out + Markup("</g>")
