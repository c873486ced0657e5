from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract.errors import ManifestError
from manifests.seconds import MAX_NS, to_ns, to_text


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("0", 0),
        ("20", 20_000_000_000),
        ("007", 7_000_000_000),
        ("101.8", 101_800_000_000),
        ("0.1", 100_000_000),
        ("420.000", 420_000_000_000),
        ("0.000000001", 1),
        ("9223372036.854775807", MAX_NS),
    ],
)
def test_seconds_are_exact(text: str, time_ns: int) -> None:
    assert to_ns(text) == time_ns
    assert Decimal(text) * 10**9 == time_ns


@given(st.integers(0, MAX_NS))
def test_round_trip(time_ns: int) -> None:
    text = to_text(time_ns)
    assert to_ns(text) == time_ns
    assert "." not in text or text[-1] not in "0."


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a number of seconds"),
        ("ten", "not a number of seconds"),
        ("1e3", "not a number of seconds"),
        ("nan", "not a number of seconds"),
        (" 1", "not a number of seconds"),
        ("1_0", "not a number of seconds"),
        ("+1", "not a number of seconds"),
        ("1.", "not a number of seconds"),
        (".5", "not a number of seconds"),
        ("1,5", "not a number of seconds"),
        ("٣", "not a number of seconds"),
        ("1\n", "not a number of seconds"),
        ("-0.5", "negative"),
        ("0.1234567890", "10 places"),
        ("9223372036.854775808", "64 bits"),
        ("9" * 10_000, "64 bits"),
    ],
)
def test_what_is_not_seconds_is_refused_with_its_value(text: str, says: str) -> None:
    with pytest.raises(ManifestError, match=says) as caught:
        to_ns(text)
    assert repr(text)[:20].rstrip("'") in str(caught.value)
