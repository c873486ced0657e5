from __future__ import annotations

from pathlib import Path

import pytest

from extract.errors import ManifestError
from manifests.dense import Event, by_clip, dense_path, read_dense, write_dense

HEADER = "clip_id,modality,onset,offset,label\n"
EVENTS = (
    Event("-a_1_11", "audio", 0, 4, "Speech"),
    Event("-a_1_11", "visual", 2, 10, "Frying_(food)"),
    Event("-a_1_11", "audio", 4, 5, "Dog"),
    Event("b", "both", 9, 10, "Male speech, man speaking"),
)


def test_round_trip_and_grouping(tmp_path: Path) -> None:
    path = dense_path(tmp_path / "llp.csv")
    assert path.name == "llp.dense.csv"
    write_dense(path, EVENTS)
    assert path.read_text().splitlines()[:2] == [HEADER.strip(), "-a_1_11,audio,0,4,Speech"]
    assert read_dense(path) == EVENTS
    assert by_clip(EVENTS) == {
        "-a_1_11": {"audio": [(0, 4, "Speech"), (4, 5, "Dog")], "visual": [(2, 10, "Frying_(food)")]},
        "b": {"both": [(9, 10, "Male speech, man speaking")]},
    }


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("a,smell,0,1,x", "modality 'smell' must be audio, visual or both"),
        ("a,audio,0.5,1,x", "onset '0.5' must be whole seconds"),
        ("a,audio,0,-1,x", "offset '-1' must be whole seconds"),
        ("a,audio,3,3,x", "from 3 to 3 holds nothing"),
        ("a,audio,0,1,", "label '' must be non-empty"),
        (",audio,0,1,x", "clip id is empty"),
        ("a,audio,0,1", "4 columns, must be 5"),
    ],
)
def test_bad_rows_are_refused_with_their_line(row: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "x.dense.csv"
    path.write_text(f"{HEADER}a,audio,0,1,x\n{row}\n")
    with pytest.raises(ManifestError, match=f"line 3: .*{says}"):
        read_dense(path)


def test_bad_events_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"event 1 cannot be written .* from 9 to 0 holds nothing"):
        write_dense(tmp_path / "x.csv", [Event("a", "audio", 9, 0, "x")])
