"""Numbers and texts as a person reads them."""

from __future__ import annotations


def in_bytes(count: float) -> str:
    """Bytes in powers of 1000."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} TB"


def in_seconds(seconds: float) -> str:
    """A duration in the unit that suits it."""
    if seconds < 120:
        return f"{seconds:.3g} s" if seconds < 10 else f"{seconds:.1f} s".replace(".0 s", " s")
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def in_number(number: float) -> str:
    """A whole number with thousands set apart, any other one with three digits."""
    return f"{number:,.0f}" if float(number).is_integer() or abs(number) >= 1000 else f"{number:.3g}"


def in_percent(number: float) -> str:
    """A number for a style or a share, without zeros that say nothing."""
    return f"{number:.3f}".rstrip("0").rstrip(".")


def cut(text: str, length: int = 80) -> str:
    """A text of at most so many characters; an ellipsis stands for the rest."""
    return text if len(text) <= length else text[: length - 1] + "…"
