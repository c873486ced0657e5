"""Seconds as people write them, and the nanoseconds they are here: exact both ways, no float in between."""

from __future__ import annotations

import re

from extract.errors import ManifestError

NS_PER_S = 1_000_000_000
MAX_NS = 2**63 - 1
_SECONDS = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?")
_ALLOWED = "seconds are plain decimals >= 0 with at most 9 places, such as 0, 20 or 101.8"


def to_ns(text: str) -> int:
    """Decimal seconds to nanoseconds, exactly.

    Parameters
    ----------
    text
        ``0``, ``20``, ``101.8``: digits, at most 9 of them after the point; no sign, exponent or blanks

    Returns
    -------
    int
        nanoseconds, 0 to 2**63 - 1

    Raises
    ------
    ManifestError
        the text is anything else; the message holds the value and what is allowed
    """
    match = _SECONDS.fullmatch(text)
    if match is None:
        raise ManifestError(f"{text!r} is not a number of seconds; {_ALLOWED}")
    sign, whole, places = match[1], match[2].lstrip("0") or "0", match[3] or ""
    if sign:
        raise ManifestError(f"{text!r} is negative; {_ALLOWED}")
    if len(places) > 9:
        raise ManifestError(f"{text!r} has {len(places)} places, finer than a nanosecond; {_ALLOWED}")
    # the length is looked at first: int() refuses texts of thousands of digits with an error of its own
    if len(whole) > 10 or (time_ns := int(whole) * NS_PER_S + int(places.ljust(9, "0"))) > MAX_NS:
        raise ManifestError(f"{text[:40]!r} is beyond 9223372036 seconds, more than 64 bits of nanoseconds hold")
    return time_ns


def to_text(time_ns: int) -> str:
    """Nanoseconds >= 0 to the shortest decimal seconds that say the same: ``20``, ``101.8``, ``0.000000001``."""
    whole, rest = divmod(time_ns, NS_PER_S)
    return f"{whole}.{rest:09d}".rstrip("0") if rest else str(whole)
