"""What cannot be made: each refused by name, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from extract.errors import PlanError, UnknownName
from pipelines.parsing.synthetic.make import make_synthetic
from pipelines.parsing.synthetic.scenes import Scene
from pipelines.parsing.synthetic.stand_ins import StandIn

EAR = StandIn("vggish", "audio", (24,))
EYE = StandIn("resnet152", "visual", (32,))
TINY = {"audio": [EAR], "visual": [EYE], "clip": ""}


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"clips": 2}, PlanError, "one per split"),
        ({"seed": -1}, PlanError, "must not be negative"),
        ({"sizes": {"train": 5, "val": 5}}, PlanError, "sizes are .* train, val, test, at least 1 each"),
        ({"sizes": {"train": 5, "val": 0, "test": 5}}, PlanError, "at least 1 each"),
        ({"sizes": {"train": 5, "val": 1, "test": 5, "more": 1}}, PlanError, "sizes are"),
        ({"sizes": {"train": 1_000_000, "val": 1, "test": 1}}, PlanError, "1000002 clips"),
        ({"task": "avp"}, UnknownName, "did you mean avvp"),
        ({"audio": ["vgish"]}, UnknownName, "did you mean"),
        ({"audio": ["resnet152"]}, PlanError, "is visual, and was given as audio"),
        ({"audio": [EYE]}, PlanError, "must have modality 'audio'"),
        ({"audio": "vggish"}, PlanError, "list of at least one"),
        ({"visual": []}, PlanError, "list of at least one"),
        ({"visual": [EYE, EYE]}, PlanError, "asked for twice: resnet152@"),
        ({"audio": ["clap_htsat_fused_map"]}, PlanError, "dims are"),
        ({"task": "ave", "clip": "r2plus1d_18"}, PlanError, "no third slot"),
        ({"rows_per_second": 7, "visual": ["resnet152"]}, PlanError, "rows_per_second is 7"),
    ],
)
def test_refused(tmp_path: Path, arguments: dict[str, object], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make_synthetic(tmp_path / "s", **{**TINY, "clips": 10, **arguments})
    assert not (tmp_path / "s").exists()


BAD_SCENES = [
    *({"together": 0.5}, {"silent": -0.1, "together": 0.61}, {"counts": (0.5, 0.4)}, {"counts": (0.2,) * 5}),
    *({"shift_s": 10}, {"seconds": 1}, {"whole": 1.5}, {"extent": 0.0}, {"loudness": float("nan")}, {"distractors": 5}),
]


@pytest.mark.parametrize("fields", BAD_SCENES)
def test_scenes_that_cannot_be(fields: dict[str, float]) -> None:
    with pytest.raises(PlanError, match=r"^Scene"):
        Scene(**fields)


BAD_STAND_INS = [
    *({"name": "a/b"}, {"modality": "both"}, {"dims": ()}, {"dims": (7, 7, 8)}, {"strength": -1.0}, {"shared": 1.1}),
    *({"zeros": 0.0}, {"zeros": float("nan")}, {"rows_per_second": 0}),
]


@pytest.mark.parametrize("fields", BAD_STAND_INS)
def test_stand_ins_that_cannot_be(fields: dict[str, object]) -> None:
    with pytest.raises(PlanError, match=r"^StandIn"):
        StandIn(**{"name": "a", "modality": "audio", "dims": (8,), **fields})
