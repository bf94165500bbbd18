"""The confusion matrix of the page: names that stay in view beside cells whose size follows the width of the screen.

The cells are one SVG; their places are CSS, counted in cells, so that one drawing fills a desktop, fits a phone where
it can, and scrolls with a hint where it cannot: text never shrinks below 11 px.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from convnext.report.words import percent

NO_MATRIX_ABOVE = 200
"""Classes above which the confusion matrix is not drawn: it would be wider than any screen and megabytes large."""
PAPER = 45
"""Classes up to which the names fit on paper."""
COUNTED = 30
"""Classes up to which each cell has its count written into it."""


@dataclass(frozen=True)
class _Sizes:
    """What decides the size of a cell: the number of classes, the longest name in signs, and the largest count."""

    classes: int
    longest: int
    largest: int

    @property
    def most(self) -> int:
        """Side of a cell where there is room, in pixels."""
        side = next((side for most, side in ((3, 96), (6, 68), (12, 48), (30, 34)) if self.classes <= most), 19)
        return max(side, self.least)

    @property
    def least(self) -> int:
        """Side below which it scrolls instead: the count at 11 px, or a line of text."""
        return 7 * len(str(self.largest)) + 9 if self.classes <= COUNTED else 14

    @property
    def label(self) -> int:
        """Width that the longest name wants, in pixels; the page cuts it at 36 % of the screen."""
        return 8 * min(self.longest, 26) + 12

    @property
    def too_narrow(self) -> int:
        """Width in pixels below which not all columns are seen at once."""
        cells = self.classes * self.least
        return round(min(cells + self.label, cells / 0.64)) + 4

    @property
    def flat(self) -> bool:
        """Whether names fit above the columns without turning them, also on the narrowest cells that do not scroll."""
        return 8 * self.longest + 6 <= self.least


def confusion(
    matrix: Sequence[Sequence[int]], classes: Sequence[str], linked: Collection[tuple[int, int]] = ()
) -> Markup:
    """Counts of truth (rows) against prediction (columns), shaded by their share of the row.

    Right answers and mistakes have a colour each. Cells without pictures are not drawn above 12 classes, so that a
    hundred stay small. Empty above `NO_MATRIX_ABOVE` classes.

    Args:
        matrix: k x k counts.
        classes: the k names.
        linked: cells (truth, named) whose pictures are on the page, under the name `anchor` gives.
    """
    if not classes or len(classes) > NO_MATRIX_ABOVE:
        return Markup("")
    sizes = _Sizes(len(classes), max(map(len, classes)), max(map(max, matrix)))
    names = Markup("").join(_name(name) for name in classes)
    cells = []
    for truth, row in enumerate(matrix):
        total = sum(row)
        for guess, pictures in enumerate(row):
            if pictures or sizes.classes <= 12:
                same = truth == guess
                told = f"{classes[truth]} recognised" if same else f"{classes[truth]} taken for {classes[guess]}"
                cell = _cell(sizes, truth, guess, pictures, total, told)
                link = Markup('<a href="#{}">{}</a>').format(anchor(truth, guess), cell)
                cells.append(link if (truth, guess) in linked else cell)
    kind = ("" if sizes.classes <= COUNTED else " dense") + (" flat" if sizes.flat else "")
    kind += " crowd" if sizes.classes > PAPER else ""
    head = Markup(
        "<style>@container mx (max-width:{narrow}px){{.mx-body{{--fade:2.5rem;--hint:block}}}}</style>"
        '<div class="mx{kind}" style="--k:{k};--most:{most}px;--least:{least}px;--wanted:{label}px">'
        '<div class="mx-body">'
        '<p class="mx-hint">Wider than this screen: <b>scroll sideways \u2192</b> for all {k} columns.</p>'
        '<div class="mx-scroll" tabindex="0" role="region" aria-label="Confusion matrix, scrolls sideways">'
        '<div class="mx-grid"><div class="mx-corner"><span>predicted\u00a0\u2192</span><span>truth\u00a0\u2193</span>'
        '</div><div class="mx-top">{names}</div><div class="mx-left">{names}</div>'
        '<svg class="matrix" role="img" aria-label="Confusion matrix">'
    )
    opening = head.format(
        narrow=sizes.too_narrow, kind=kind, k=sizes.classes, most=sizes.most, least=sizes.least, label=sizes.label,
        names=names,
    )  # fmt: skip
    return (
        opening + Markup("").join(cells) + Markup('</svg></div></div><p class="mx-said note" hidden></p></div></div>')
    )


def anchor(truth: int, guess: int) -> str:
    """The name on the page of the pictures of one confusion."""
    return f"m-{truth}-{guess}"


def _name(name: str) -> Markup:
    """A class's name for wide and for narrow screens, each cut in its middle: names often begin alike."""
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
    strength = part ** (0.6 if sizes.classes <= 30 else 0.45)  # a confusion of a few per cent must still be seen
    box = Markup('<g class="{}" style="--i:{};--j:{}"><title>{}: {} of {} ({})</title><rect fill-opacity="{:.2f}"/>')
    out = box.format(kind, truth, guess, told, pictures, total, percent(part), strength)
    if sizes.classes <= COUNTED:
        ink = "strong" if strength > 0.62 else "none" if not pictures else "weak"
        out += Markup('<text class="{}" dy=".35em">{}</text>').format(ink, pictures)
    return out + Markup("</g>")
