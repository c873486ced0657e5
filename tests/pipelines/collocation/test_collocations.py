"""Names of collocations, and what features are called in a search."""

from __future__ import annotations

import pytest

from extract.errors import PlanError
from pipelines.collocation.collocations import Collocation, Trial, every, short_names


def test_names_and_slots():
    pair, three = Collocation("vggish", "resnet152"), Collocation("vggish", "resnet152", "r2plus1d_18")
    assert pair.name == "vggish+resnet152"
    assert three.name == "vggish+resnet152+r2plus1d_18"
    assert pair.slots == {"audio": "vggish", "visual": "resnet152"}
    assert list(three.slots.items())[-1] == ("clip", "r2plus1d_18")
    assert Trial(three, 7).name == "vggish+resnet152+r2plus1d_18 seed 7"


def test_every_collocation_the_last_slot_first():
    found = every({"audio": ("a", "b"), "visual": ("c", "d"), "clip": ("e", "f")})
    assert [each.name for each in found[:3]] == ["a+c+e", "a+c+f", "a+d+e"]
    assert len(set(found)) == 8


@pytest.mark.parametrize("clip", [{}, {"clip": ()}])
def test_without_a_clip_slot(clip):
    assert [each.name for each in every({"audio": ("a",), "visual": ("c", "d"), **clip})] == ["a+c", "a+d"]


@pytest.mark.parametrize(
    ("slots", "text"),
    [
        ({"audio": (), "visual": ("c",)}, "no backbone is left for the slot audio; .* --audio"),
        ({"audio": ("a",)}, "no backbone is left for the slot visual"),
        ({"audio": ("a", "b", "a"), "visual": ("c",)}, "--audio names a twice"),
        ({"audio": ("a",), "visual": ("c",), "clip": ("e", "e")}, "--clip names e twice"),
        ({"audio": ("a", "a+b"), "visual": ("b+c", "c")}, r"a\+b\+c is the name of two collocations"),
    ],
)  # fmt: skip
def test_refused(slots, text):
    with pytest.raises(PlanError, match=text):
        every(slots)


def test_short_names_tell_keys_apart():
    keys = ["vggish@1", "timm:x.y@2", "resnet@3", "resnet@4", "vggish@1"]
    assert short_names(keys) == {
        "vggish": "vggish@1", "timm:x.y": "timm:x.y@2", "resnet@3": "resnet@3", "resnet@4": "resnet@4"
    }  # fmt: skip
    assert list(short_names(keys)) == ["vggish", "timm:x.y", "resnet@3", "resnet@4"]
