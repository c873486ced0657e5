"""Timelines of one clip: as text for a terminal here, as a picture in drawing.py, from the rows of rows.py."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from math import ceil, floor

from extract.errors import PlanError
from pipelines.parsing.page.drawing import look, style, svg, swatch
from pipelines.parsing.page.rows import EPS, Row, ave_rows, avvp_rows, check, labels_of, runs

__all__ = ["Row", "ave_rows", "avvp_rows", "look", "printable", "runs", "style", "svg", "swatch", "text"]

NAME_COLUMNS = 13
LABEL_COLUMNS = 22


def text(title: str, seconds: float, rows: Sequence[Row], *, width: int = 80, plain: bool = False) -> str:
    """A timeline for a terminal.

    Parameters
    ----------
    title
        such as the id of the clip
    seconds
        its length; one that does not fit into the width at a column per second is continued below, and the title says so
    rows
        at least one; each class of a row has a line
    width
        columns, at least 60
    plain
        ASCII instead of blocks

    Returns
    -------
    str
        lines without blanks at their ends; what a terminal would obey, such as escape sequences, is written out

    Raises
    ------
    PlanError
        too narrow, no seconds, or an event outside them
    """
    if width < 60:
        raise PlanError(f"a timeline needs 60 columns, got {width}")
    check(seconds, rows)
    labels = labels_of(rows)
    shown = {label: _cut(printable(label, plain), LABEL_COLUMNS) for label in labels}
    wide = max((_columns(label) for label in shown.values()), default=0)
    left = NAME_COLUMNS + wide + (1 if wide else 0)
    room = width - left - len(f"{ceil(seconds)} s")
    per_second = max(1, min(6, floor(room / seconds)))
    block_s = seconds if seconds * per_second <= room else room // 10 * 10
    blocks = ceil(seconds / block_s - EPS)
    length = f"{seconds:g} s" + (f", continued every {block_s:g} s" if blocks > 1 else "")
    lines = [f"{printable(title, plain)} ({length})"]
    for number in range(blocks):
        from_s, to_s = number * block_s, min(seconds, (number + 1) * block_s)
        lines += ["", *_block(rows, labels, shown, (from_s, to_s), per_second, left, plain)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _block(
    rows: Sequence[Row],
    labels: Sequence[str],
    shown: dict[str, str],
    span: tuple[float, float],
    per_second: int,
    left: int,
    plain: bool,
) -> list[str]:
    """The lines of a stretch of the clip, the axis first."""
    from_s, to_s = span
    columns = ceil((to_s - from_s) * per_second - EPS)
    full, empty = ("#", ".") if plain else ("█", "·")
    lines = [" " * left + _axis(from_s, to_s, per_second)]
    for row in rows:
        name = _pad(printable(row.name, plain), NAME_COLUMNS)
        inside = [event for event in row.events if event[0] < to_s and event[1] > from_s]
        for label in labels:
            line = [empty] * columns
            for start, stop, found in inside:
                if found == label:
                    a = max(0, floor((start - from_s) * per_second + EPS))
                    b = min(columns, ceil((stop - from_s) * per_second - EPS))
                    line[a:b] = full * (b - a)
            if full in line:
                lines.append(_pad(name + shown[label], left) + "".join(line))
                name = " " * NAME_COLUMNS
        if not inside:
            lines.append(_pad(name, left) + empty * columns)
    return lines


def _axis(from_s: float, to_s: float, per_second: int) -> str:
    """Seconds above the columns where they start; the last number has its unit."""
    step = next(step for step in (1, 2, 5, 10, 20, 50) if step * per_second >= 5 or step == 50)
    line = ""
    for second in range(floor(from_s), ceil(to_s) + 1, step):
        at = floor((second - from_s) * per_second)
        if at >= len(line) and second <= to_s + EPS:
            line = line.ljust(at) + f"{second} "
    return line + "s"


def printable(words: str, plain: bool = False) -> str:
    """A text without anything that a terminal obeys; with `plain`, in ASCII."""
    return "".join(
        c if c.isprintable() and (c.isascii() or not plain) else c.encode("unicode_escape").decode() for c in words
    )


def _columns(words: str) -> int:
    """Columns of a terminal that a text takes."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in words)
    return len(words) + wide - sum(unicodedata.combining(c) > 0 for c in words)


def _pad(words: str, columns: int) -> str:
    return words + " " * (columns - _columns(words))


def _cut(words: str, columns: int) -> str:
    """The beginning of a text, ending with ~ where it is longer."""
    if _columns(words) <= columns:
        return words
    while _columns(words) > columns - 1:
        words = words[:-1]
    return words + "~"
