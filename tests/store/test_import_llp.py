"""Released LLP features into a store: ids, marks, broken files, again, other content, kills, and that nothing is overwritten."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from extract import api
from extract.errors import ManifestError, PlanError, StoreBusy, StoreError, StoreUnwritable, UnknownName
from extract.job import Choices
from extract.running import Machine
from extract.store import Store
from extract.store.catalog import create_store
from extract.store.importing.bring import CHUNK, import_features
from extract.store.runs import Lock, last_run, read_run
from extract.store.verify import verify
from manifests.clip import Clip, read_manifest, write_manifest
from manifests.dense import Event, dense_path, read_dense, write_dense

SHAPES = {"vggish": (10, 128), "res152": (80, 2048), "r2plus1d_18": (10, 512)}
NAMES = {"vggish": "vggish", "res152": "resnet152", "r2plus1d_18": "r2plus1d_18"}
STEMS = ("-aaaaaaaaa_", "bbbbbbbbbbb", "ccccccccccc")


def release(folder: Path, stems: tuple[str, ...] = STEMS, names: tuple[str, ...] = tuple(SHAPES)) -> Path:
    for seed, name in enumerate(names):
        (folder / "feats" / name).mkdir(parents=True, exist_ok=True)
        for number, stem in enumerate(stems):
            array = np.random.default_rng([seed, number]).standard_normal(SHAPES[name], dtype=np.float32)
            np.save(folder / "feats" / name / f"{stem}.npy", array)
    return folder


def manifest(path: Path, stems: tuple[str, ...] = STEMS) -> Path:
    clips = [Clip(f"{stem}_30_40", f"{stem}.mp4", labels=("Car",), split="test") for stem in stems]
    write_manifest(path, clips)
    write_dense(dense_path(path), [Event(clips[0].clip_id, "audio", 2, 4, "Car")])
    return path


def added(found) -> dict[str, tuple[int, int, int, int]]:
    return {key.split("@")[0]: (n.added, n.kept, n.failed, n.absent) for key, n in found.keys.items()}


def test_rows_are_marked_as_imported(tmp_path):
    folder = release(tmp_path / "release")
    found = import_features(folder, tmp_path / "s", "llp", manifest=manifest(tmp_path / "llp.csv"))
    assert added(found) == dict.fromkeys(NAMES.values(), (3, 0, 0, 0))
    assert found.notes == ()
    store = Store(tmp_path / "s")
    assert verify(store.path) == []
    for name, backbone in NAMES.items():
        info = store.columns[store.resolve(backbone)].info
        hop_ns = 125_000_000 if name == "res152" else 1_000_000_000
        assert json.loads(info.identity) == {
            "backbone": backbone,
            "imported": {"layout": "llp", "name": "official"},
            "grid": {"window_ns": hop_ns, "hop_ns": hop_ns, "count": SHAPES[name][0]},
        }
        assert all("imported, provenance unknown" in text for text in (info.view, info.weights, info.licence))
        for stem in STEMS:
            rows = store.rows(f"{stem}_30_40", backbone)
            assert rows.data.tobytes() == np.load(folder / "feats" / name / f"{stem}.npy").tobytes()
            assert rows.window_ns[:, 0].tolist() == [i * hop_ns for i in range(len(rows.data))]
            assert rows.valid.all()
            assert (rows.source_ns == -1).all()
    assert list(store.manifest.values()) == read_manifest(tmp_path / "llp.csv")
    assert (tmp_path / "s/manifest.csv").read_bytes() == (tmp_path / "llp.csv").read_bytes()
    assert store.events == read_dense(tmp_path / "llp.dense.csv")
    said = api.status(store.path)
    assert (said.clips, said.runs, said.running, said.damaged) == (3, 1, None, ())
    run = read_run(last_run(store.path))
    assert run.header["imported"]["folder"] == str(folder)
    assert [receipt["clip_ids"] for receipt in run.receipts] == [[f"{stem}_30_40" for stem in STEMS]]
    assert api.again(store.path) == ()


def test_without_a_manifest_the_file_names_are_the_ids(tmp_path):
    found = import_features(release(tmp_path / "release"), tmp_path / "s", "llp")
    store = Store(tmp_path / "s")
    assert found.clips == 3
    assert store.clip_ids() == STEMS
    assert list(store.manifest.values()) == [Clip(stem, f"{stem}.mp4") for stem in STEMS]


def test_again_adds_what_is_missing_and_changes_nothing_else(tmp_path):
    folder, path = release(tmp_path / "release", STEMS[:2], ("vggish",)), tmp_path / "s"
    import_features(folder, path, "llp")
    before = {part: part.read_bytes() for part in Store(path).parts()}
    assert added(import_features(folder, path, "llp")) == {"vggish": (0, 2, 0, 0)}
    assert len(list((path / "runs").iterdir())) == 1, "nothing was done, so nothing is told"
    release(folder, STEMS, ("vggish", "res152"))
    assert added(import_features(folder / "feats", path, "llp")) == {"vggish": (1, 2, 0, 0), "resnet152": (3, 0, 0, 0)}
    assert {part: part.read_bytes() for part in before} == before
    assert Store(path).clips("resnet152") == STEMS
    assert list(Store(path).manifest) == list(STEMS)
    assert verify(path) == []


def test_other_content_is_an_error_and_changes_nothing(tmp_path):
    folder, path = release(tmp_path / "release", names=("vggish",)), tmp_path / "s"
    import_features(folder, path, "llp")
    before = Store(path).digest()
    array = np.load(folder / "feats/vggish/bbbbbbbbbbb.npy")
    array[3, 5] = np.nextafter(array[3, 5], np.float32(9))
    np.save(folder / "feats/vggish/bbbbbbbbbbb.npy", array)
    with pytest.raises(StoreError, match=r"clip 'bbbbbbbbbbb' has other rows of vggish@.*--name"):
        import_features(folder, path, "llp")
    assert Store(path).digest() == before
    import_features(folder, path, "llp", name="second")
    assert len(Store(path).keys()) == 2


BROKEN = {
    "empty": (lambda path: path.write_bytes(b""), "cannot be read"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "cannot be read"),
    "text": (lambda path: path.write_text("not an array"), "cannot be read"),
    "pickle": (lambda path: np.save(path, np.array([{}], object), allow_pickle=True), "cannot be read"),
    "shape": (
        lambda path: np.save(path, np.zeros((9, 128), np.float32)),
        r"has shape \(9, 128\), the layout has \(10, 128\)",
    ),
    "huge": (lambda path: path.write_bytes(path.read_bytes().replace(b"(10, 128)", b"(9**9,1)")), "cannot be read"),
    "whole numbers": (lambda path: np.save(path, np.zeros((10, 128), np.int64)), "holds int64"),
    "nan": (lambda path: np.save(path, np.full((10, 128), np.nan)), "1280 of 1280 values are NaN"),
    "too large": (lambda path: np.save(path, np.full((10, 128), 1e300)), "up to 1e[+]300 do not fit into float32"),
    "folder": (lambda path: (path.unlink(), path.mkdir()), "cannot be read"),
    "archive": (lambda path: np.savez(path.open("wb"), np.zeros(3)), "archive of several arrays"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_named_and_the_others_are_imported(tmp_path, kind):
    folder, path = release(tmp_path / "release", names=("vggish",)), tmp_path / "s"
    file = folder / "feats/vggish/bbbbbbbbbbb.npy"
    whole = file.read_bytes()
    breaking, message = BROKEN[kind]
    breaking(file)
    for _ in range(2):  # a second import adds nothing
        found = import_features(folder, path, "llp")
        ((key, counts),) = found.keys.items()
        assert counts.failed == 1
    assert len(list((path / "runs").iterdir())) == 1
    store = Store(path)
    assert store.clips("vggish") == (STEMS[0], STEMS[2])
    (remark,) = store.failed()
    assert (remark.clip_id, remark.key, remark.stage, remark.reason) == ("bbbbbbbbbbb", key, "import", "bad_feature")
    assert re.search(message, remark.message), remark.message
    if file.is_dir():
        file.rmdir()
    file.write_bytes(whole)
    assert added(import_features(folder, path, "llp")) == {"vggish": (1, 2, 0, 0)}
    assert Store(path).failed() == ()
    assert verify(path) == []


def test_types_that_are_tolerated(tmp_path):
    folder = release(tmp_path / "release", STEMS, ("vggish",)) / "feats/vggish"
    arrays = [np.load(folder / f"{stem}.npy") for stem in STEMS]
    np.save(folder / f"{STEMS[0]}.npy", np.asfortranarray(arrays[0].astype(np.float64)))
    np.save(folder / f"{STEMS[1]}.npy", arrays[1].astype(">f4"))
    np.save(folder / f"{STEMS[2]}.npy", arrays[2].astype(np.float64) + 1e-12)
    found = import_features(folder.parent, tmp_path / "s", "llp")
    store = Store(tmp_path / "s")
    assert (store[STEMS[0], "vggish"] == arrays[0]).all()
    assert (store[STEMS[1], "vggish"] == arrays[1]).all()
    assert [note.partition(": ")[2] for note in found.notes if "rounded" in note] == [
        "the numbers of 1 clips were rounded to float32"
    ]


def test_what_is_not_of_the_layout_is_said(tmp_path):
    folder = release(tmp_path / "release", (*STEMS, "ddddddddddd"), ("vggish", "res152"))
    (folder / "feats/clip").mkdir()
    (folder / "feats/res152/ccccccccccc.npy").unlink()
    found = import_features(
        folder, tmp_path / "s", "llp", manifest=manifest(tmp_path / "llp.csv", (*STEMS, "eeeeeeeeeee"))
    )
    assert added(found) == {"vggish": (3, 0, 0, 0), "resnet152": (2, 0, 0, 1)}
    assert found.notes == (
        "not of this layout, left alone: clip",
        "not there: r2plus1d_18",
        "1 files are of no clip of the manifest: ddddddddddd",
    )
    assert api.status(tmp_path / "s").clips == 4


def test_refusals(tmp_path):
    folder = release(tmp_path / "release", names=("vggish",))
    with pytest.raises(UnknownName, match="no layout to import is called 'lpl'; did you mean llp"):
        import_features(folder, tmp_path / "s", "lpl")
    with pytest.raises(PlanError, match="--name 'a/b'"):
        import_features(folder, tmp_path / "s", "llp", name="a/b")
    with pytest.raises(StoreError, match=r"holds no \.npy file in feats/vggish"):
        import_features(tmp_path, tmp_path / "s", "llp")
    write_manifest(tmp_path / "two.csv", [Clip("bbbbbbbbbbb_0_10", "b.mp4"), Clip("bbbbbbbbbbb_10_20", "b.mp4")])
    with pytest.raises(ManifestError, match=r"belongs to clip 'bbbbbbbbbbb_0_10' or to 'bbbbbbbbbbb_10_20'"):
        import_features(folder, tmp_path / "s", "llp", manifest=tmp_path / "two.csv")
    write_manifest(tmp_path / "other.csv", [Clip("zzzzzzzzzzz", "b.mp4")])
    with pytest.raises(ManifestError, match=r"no clip of .*other\.csv is in"):
        import_features(folder, tmp_path / "s", "llp", manifest=tmp_path / "other.csv")
    assert not (tmp_path / "s").exists()
    create_store(tmp_path / "s")
    with Lock(tmp_path / "s"), pytest.raises(StoreBusy):
        import_features(folder, tmp_path / "s", "llp")


def test_into_a_store_that_has_rows_of_its_own(content, store_path, parts, tmp_path):
    """Its manifest stays as it is, its ids are used, and what is new is added to its lists."""
    content.seal(parts, content.make_records())
    own = [Clip("zeta_0_10", "elsewhere/zeta.mp4", labels=("Car",), split="train"), Clip("bbbbbbbbbbb_5_15", "b.mp4")]
    write_manifest(store_path / "manifest.csv", own)
    write_dense(store_path / "manifest.dense.csv", [Event("zeta_0_10", "visual", 0, 1, "Car")])
    before = Store(store_path)[content.ORDER[0], content.STILL.key].tobytes()
    import_features(release(tmp_path / "release", ("zeta_0_10", *STEMS[1:]), ("vggish",)), store_path, "llp")
    store = Store(store_path)
    assert list(store.manifest.values()) == [*own, Clip("ccccccccccc", "ccccccccccc.mp4")]
    assert [event.clip_id for event in store.events] == ["zeta_0_10"]
    (key,) = (key for key, column in store.columns.items() if column.info.dims == (128,))
    assert store.clips(key) == ("bbbbbbbbbbb_5_15", "ccccccccccc", "zeta_0_10")
    assert store[content.ORDER[0], content.STILL.key].tobytes() == before
    assert [each for each in verify(store_path) if each.level == "damage"] == []


def die(*_):
    raise KeyboardInterrupt


def test_many_chunks_and_a_death_between_them(tmp_path, monkeypatch):
    stems = tuple(f"clip{i:07d}" for i in range(CHUNK + 5))
    folder, path = release(tmp_path / "release", stems, ("vggish",)), tmp_path / "s"
    import_features(folder, tmp_path / "undisturbed", "llp")
    for name in ("merge_chunk", "seal_piece"):
        monkeypatch.setattr(f"extract.store.importing.bring.{name}", die)
        with pytest.raises(KeyboardInterrupt):
            import_features(folder, path, "llp")
        monkeypatch.undo()
    # in truth a killed process leaves its piece; the next import merges it
    found = import_features(folder, path, "llp")
    assert added(found) in ({"vggish": (5, CHUNK, 0, 0)}, {"vggish": (CHUNK + 5, 0, 0, 0)})
    ours, theirs = (
        {part.name: part.read_bytes() for part in Store(where).parts()} for where in (path, tmp_path / "undisturbed")
    )
    assert ours == theirs
    assert len(ours) == 2


def test_a_piece_left_by_a_killed_import_is_merged_whatever_comes_next(tmp_path, monkeypatch):
    folder, path = release(tmp_path / "release", names=("vggish",)), tmp_path / "s"
    with monkeypatch.context() as patch:
        patch.setattr("extract.store.importing.bring.merge_chunk", die)
        with pytest.raises(KeyboardInterrupt):
            import_features(folder, path, "llp")
    assert [part.name.endswith(".piece.h5") for part in Store(path).parts()] == [True]
    release(folder, (*STEMS, "ddddddddddd"), ("vggish",))  # now the chunk is another
    assert added(import_features(folder, path, "llp")) == {"vggish": (1, 3, 0, 0)}
    assert verify(path) == []


def test_full_disk_and_then_again(tmp_path, monkeypatch):
    folder, path = release(tmp_path / "release"), tmp_path / "s"

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    with pytest.raises(StoreUnwritable, match="the disk is full"):
        import_features(folder, path, "llp")
    monkeypatch.undo()
    assert added(import_features(folder, path, "llp")) == dict.fromkeys(NAMES.values(), (3, 0, 0, 0))
    assert verify(path) == []


def test_the_command(tmp_path, monkeypatch):
    from extract.commands.import_ import import_

    monkeypatch.chdir(tmp_path)
    folder = release(tmp_path / "release", names=("vggish",))
    shutil.copy(folder / "feats/vggish/bbbbbbbbbbb.npy", folder / "feats/vggish/broken.npy")
    (folder / "feats/vggish/broken.npy").write_bytes(b"")
    done = CliRunner().invoke(import_, [str(folder), "--layout", "llp"])
    assert done.exit_code == 1, done.output
    assert "features/llp-official: 4 clips, imported, provenance unknown" in done.stdout
    assert "1 broken; `extract status features/llp-official --failed` says which and why" in done.stdout
    (folder / "feats/vggish/broken.npy").unlink()
    again = CliRunner().invoke(import_, [str(folder), "--layout", "llp", "-o", "other"])
    assert again.exit_code == 0
    assert "next: extract compare YOUR_STORE other" in again.stdout


@pytest.mark.usefixtures("tiny")
def test_runs_before_and_after_an_import(way, media, tmp_path):
    """The ledger of an import stands between theirs; neither run nor retry stumbles over it."""
    listed = way.manifest(tmp_path / "m.csv", media, ["c00", "c01"])
    choices, machine = Choices(backbones=("tiny_frames",), weights="random:0"), Machine(torch_threads=1)
    api.run(listed, choices, machine, tmp_path / "s")
    folder = release(tmp_path / "release", ("c00", "c01", "c09"), ("vggish",))
    (folder / "feats/vggish/c01.npy").write_bytes(b"")
    import_features(folder, tmp_path / "s", "llp", manifest=listed)
    assert api.status(tmp_path / "s").clips == 2
    assert api.again(tmp_path / "s") == (), "what was imported cannot be computed again"
    done = api.run(way.manifest(tmp_path / "m.csv", media), choices, machine, tmp_path / "s")
    assert (done.complete, done.computed) == (6, 4)
    assert verify(tmp_path / "s") == []
    assert Store(tmp_path / "s").clips("vggish") == ("c00",)
    assert {each.reason for each in Store(tmp_path / "s").failed()} == {"bad_feature"}
