"""Released AVE features into a store, the round trip through an export, and memory."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from extract.errors import ManifestError, StoreError
from extract.store import Store
from extract.store.compare import compare
from extract.store.export import export
from extract.store.importing.bring import import_features
from extract.store.verify import verify
from manifests import ave as corpus
from manifests.clip import write_manifest

IDS = (
    "-aaaaaaaaa__Church-bell",
    "bbbbbbbbbbb_Male-speech-man-speaking",
    "-aaaaaaaaa__Bark",
    "ccccccccccc_Mandolin",
    "ddddddddddd_Bark",
)


@pytest.fixture(scope="session")
def made(ave_store):
    return ave_store


@pytest.fixture
def data(made, tmp_path):
    """An official data folder with both feature files, random float64 that fits float32."""
    folder = made.official(tmp_path / "release" / "data")
    put(folder, "audio_feature.h5", np.random.default_rng(1).standard_normal((5, 10, 128), dtype=np.float32))
    put(folder, "visual_feature.h5", np.random.default_rng(2).standard_normal((5, 10, 7, 7, 512), dtype=np.float32))
    return folder


def put(folder: Path, name: str, array, dtype="<f8", **layout) -> None:
    with h5py.File(folder / name, "w") as file:
        file.create_dataset("avadataset", data=array.astype(dtype), **layout)


def counts(found) -> dict[str, tuple[int, int, int, int]]:
    return {key.split("@")[0]: (n.added, n.kept, n.failed, n.absent) for key, n in found.keys.items()}


def test_rows_by_the_annotations(made, data, tmp_path):
    found = import_features(data.parent, tmp_path / "s", "ave")
    assert counts(found) == {"vggish": (5, 0, 0, 0), "vgg19_ave": (5, 0, 0, 0)}
    store = Store(tmp_path / "s")
    arrays = made.arrays(data)
    for row, clip in enumerate(IDS):
        assert store[clip, "vggish"].dtype == np.float32
        assert (store[clip, "vggish"] == arrays["audio_feature.h5"][row]).all()
        assert (store[clip, "vgg19_ave"] == arrays["visual_feature.h5"][row]).all()
    built = corpus.clips(data / "Annotations.txt")
    assert tuple(store.manifest.values()) == built.clips
    assert store.events == built.events
    assert verify(store.path) == []
    assert counts(import_features(data, tmp_path / "s", "ave")) == {"vggish": (0, 5, 0, 0), "vgg19_ave": (0, 5, 0, 0)}


def test_what_a_store_knows_of_its_clips_stays(made, data, tmp_path):
    """Its manifest says where the videos are, which a release does not know."""
    known = [replace(clip, path=f"videos/{clip.path}") for clip in corpus.clips(data / "Annotations.txt").clips[:2]]
    path = made.store(tmp_path / "s", IDS[:2])
    write_manifest(path / "manifest.csv", known)
    assert counts(import_features(data, path, "ave"))["vggish"] == (5, 0, 0, 0)
    found = list(Store(path).manifest.values())
    assert found[:2] == known
    assert [clip.clip_id for clip in found] == list(IDS)


@pytest.mark.parametrize("layout", [{}, {"chunks": (2, 10, 128), "compression": "gzip"}])
@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f8"])
def test_one_file_of_any_float_and_layout(made, data, tmp_path, layout, dtype):
    (data / "visual_feature.h5").unlink()
    array = made.arrays(data)["audio_feature.h5"]
    put(data, "audio_feature.h5", array, dtype, **layout)
    found = import_features(data, tmp_path / "s", "ave")
    assert counts(found) == {"vggish": (5, 0, 0, 0)}
    assert found.notes == ("not there: visual_feature.h5",)
    assert (Store(tmp_path / "s")[IDS[4], "vggish"] == array[4]).all()


def test_broken_rows_are_named(made, data, tmp_path):
    array = made.arrays(data)["audio_feature.h5"]
    array[1, 2, 3], array[3, 0, 0] = np.nan, 1e200
    put(data, "audio_feature.h5", array)
    found = import_features(data, tmp_path / "s", "ave")
    assert counts(found) == {"vggish": (3, 0, 2, 0), "vgg19_ave": (5, 0, 0, 0)}
    failed = Store(tmp_path / "s").failed()
    assert [(each.clip_id, each.reason) for each in failed] == [(IDS[1], "bad_feature"), (IDS[3], "bad_feature")]
    assert "1 of 1280 values are NaN or infinite" in failed[0].message


def test_a_damaged_chunk_costs_its_rows(made, data, tmp_path):
    array = made.arrays(data)["audio_feature.h5"]
    put(data, "audio_feature.h5", array, chunks=(1, 10, 128), compression="gzip", fletcher32=True)
    with h5py.File(data / "audio_feature.h5", "r") as file:
        place = file["avadataset"].id.get_chunk_info(2).byte_offset
    raw = bytearray((data / "audio_feature.h5").read_bytes())
    raw[place + 100] ^= 255
    (data / "audio_feature.h5").write_bytes(raw)
    assert counts(import_features(data, tmp_path / "s", "ave"))["vggish"] == (4, 0, 1, 0)
    (remark,) = Store(tmp_path / "s").failed()
    assert remark.clip_id == IDS[2]
    assert "row 2 of" in remark.message


def test_rows_in_no_order_file_are_left_out(made, data, tmp_path):
    made.official(data, orders={"train": [4, 0], "val": [], "test": [1]})
    found = import_features(data, tmp_path / "s", "ave")
    assert counts(found)["vggish"] == (3, 0, 0, 2)
    assert "2 row(s) are in no order file and were left out" in found.notes
    assert Store(tmp_path / "s").clips("vggish") == tuple(sorted((IDS[0], IDS[1], IDS[4])))


def test_a_manifest_chooses_clips_and_may_stand_for_the_annotations(made, data, tmp_path):
    built = corpus.clips(data / "Annotations.txt")
    write_manifest(tmp_path / "some.csv", built.clips[3:])
    found = import_features(data, tmp_path / "some", "ave", manifest=tmp_path / "some.csv")
    assert counts(found)["vggish"] == (2, 0, 0, 0)
    assert tuple(Store(tmp_path / "some").manifest) == IDS[3:]
    (data / "Annotations.txt").unlink()
    with pytest.raises(ManifestError, match=r"there is no .*Annotations\.txt"):
        import_features(data, tmp_path / "s", "ave")
    with pytest.raises(ManifestError, match="has 5 rows, the annotations have 2"):
        import_features(data, tmp_path / "s", "ave", manifest=tmp_path / "some.csv")
    write_manifest(tmp_path / "all.csv", built.clips)
    import_features(data, tmp_path / "s", "ave", manifest=tmp_path / "all.csv")
    assert (Store(tmp_path / "s")[IDS[4], "vggish"] == made.arrays(data)["audio_feature.h5"][4]).all()


def test_refusals(made, data, tmp_path):
    with pytest.raises(StoreError, match=r"holds neither audio_feature\.h5 nor visual_feature\.h5"):
        import_features(tmp_path, tmp_path / "s", "ave")
    array = made.arrays(data)["audio_feature.h5"]
    put(data, "audio_feature.h5", array[:4])
    with pytest.raises(ManifestError, match="has 4 rows, the annotations have 5"):
        import_features(data, tmp_path / "s", "ave")
    put(data, "audio_feature.h5", array[..., :64])
    with pytest.raises(StoreError, match=r"must be of shape \(N, 10, 128\).*is \(5, 10, 64\)"):
        import_features(data, tmp_path / "s", "ave")
    (data / "audio_feature.h5").write_bytes(b"no HDF5")
    with pytest.raises(StoreError, match="is no HDF5 file with a dataset 'avadataset'"):
        import_features(data, tmp_path / "s", "ave")
    assert not (tmp_path / "s").exists()


def test_round_trip(made, tmp_path):
    """Store to float64 arrays to store: not a bit is lost, and a row without features does not come back as zeros."""
    folder = made.official(tmp_path / "official")
    path = made.full(tmp_path / "ours", folder, without=[(IDS[1], made.VISUAL.key)])
    export(Store(path), "ave", tmp_path / "out", annotations=folder)
    found = import_features(tmp_path / "out", tmp_path / "theirs", "ave")
    assert counts(found) == {"vggish": (4, 0, 0, 1), "vgg19_ave": (4, 0, 0, 1)}
    result = compare(path, tmp_path / "theirs")
    assert [(pair.clips, pair.only_a, pair.only_b, pair.rows, pair.equal) for pair in result.pairs] == [
        (4, 0, 0, 40, 40),
        (4, 1, 0, 40, 40),
    ]
    assert all((pair.cosine_min, pair.max_abs, pair.worst) == (1.0, 0.0, ()) for pair in result.pairs)


LARGE = """
import resource, sys
from pathlib import Path
from extract.store.importing.bring import import_features
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
import_features(Path(sys.argv[1]), Path(sys.argv[2]), "ave")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def test_memory_is_bounded(made, tmp_path):
    """A chunk of the store, 64 MB here, and not the file, 401 MB; its rows are holes, so that it takes no disk."""
    rows = 200
    lines = [f"{corpus.LABELS[i % 28]}&video{i:06d}&good&0&10" for i in range(rows)]
    folder = made.official(tmp_path / "data", lines, {})
    with h5py.File(folder / "visual_feature.h5", "w") as file:
        file.create_dataset("avadataset", (rows, 10, 7, 7, 512), "<f8", fill_time="never")[rows - 1] = 1.0
    assert (folder / "visual_feature.h5").stat().st_size > 400_000_000
    done = subprocess.run(
        [sys.executable, "-c", LARGE, folder, tmp_path / "s"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(Store(tmp_path / "s").clips("vgg19_ave")) == rows
    assert int(done.stdout) < 160_000_000
