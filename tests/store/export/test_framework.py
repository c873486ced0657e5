"""What every export has in common: options, folders, continuing, what is missing, files that are whole."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from extract.errors import PlanError, StoreBusy, StoreError, StoreUnwritable, UnknownName
from extract.store import Store
from extract.store.export import Exported, Missing, export, find, layouts
from extract.store.export import whole as whole_file
from extract.store.export.ahead import ahead
from extract.store.export.begun import LOCK, TOLD
from extract.store.export.run import read_missing
from extract.store.export.whole import npy_size, sweep, whole, write_npy


@pytest.fixture
def store(shelf, tmp_path):
    return shelf.make(tmp_path / "store")


class Fake:
    """A layout that notes what it is called with; it writes one file per clip, until told to stop."""

    def __init__(self, monkeypatch):
        self.calls, self.stop, self.error, self.missing = [], None, RuntimeError("stopped"), ()
        self.meanwhile = lambda: None
        fake = self

        def export(store, keys, ids, out, *, way="a", at=None):
            fake.calls.append((keys, ids, out, way, at))
            wrote = 0
            for number in range(len(ids)):
                fake.meanwhile()
                if number == fake.stop:
                    raise fake.error
                wrote += write_npy(out / f"{number}.npy", np.zeros(3)) > 0
            return Exported(wrote, len(ids) - wrote, wrote * 152, fake.missing)

        module = type(sys)("fake")
        module.__doc__ = "A fake.\n\nMore of it."
        module.export = export
        monkeypatch.setattr(
            find, "_modules", lambda: {"fake": module, "other": sys.modules["extract.store.export.npy"]}
        )


@pytest.fixture
def fake(monkeypatch):
    layouts()  # so that npy is there to be the other
    return Fake(monkeypatch)


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- layouts and options ---------------------------------------------------------------------------------------------


def test_a_layout_is_a_module_with_a_function_export(monkeypatch, tmp_path):
    found = layouts()
    assert {"llp", "npy"} <= found.keys()
    assert not {"run", "find", "whole", "report", "begun", "llp_csv"} & found.keys()
    assert all(line and "\n" not in line for line in found.values())
    monkeypatch.setattr(find, "__file__", str(tmp_path / "find.py"))
    monkeypatch.setattr(find, "_PACKAGE", "layouts_of_a_test")
    (tmp_path / "mine.py").write_text('"""Mine."""\ndef export(store, keys, ids, out, *, size=3): ...\n')
    (tmp_path / "none.py").write_text("from layouts_of_a_test.mine import export\n")
    package = type(sys)("layouts_of_a_test")
    package.__path__ = [str(tmp_path)]
    monkeypatch.setitem(sys.modules, "layouts_of_a_test", package)
    find._modules.cache_clear()
    try:
        assert layouts() == {"mine": "Mine."}
        assert find.options_of("mine") == {"size": 3}
    finally:
        find._modules.cache_clear()


def test_the_package_is_light():
    code = "import sys, extract.store.export; print(*{'numpy', 'h5py', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_foreign_options_and_names_are_refused(store, fake, tmp_path):
    with pytest.raises(PlanError, match="the layout fake does not take --dtype: of the layouts only other do"):
        export(store, "fake", tmp_path / "o", dtype="float16")
    with pytest.raises(PlanError, match="--shard-clips: no layout does"):
        export(store, "fake", tmp_path / "o", shard_clips=3)
    with pytest.raises(UnknownName, match="no layout is called 'fakes'; did you mean fake"):
        export(store, "fakes", tmp_path / "o")
    with pytest.raises(UnknownName, match="did you mean vggish"):
        export(store, "fake", tmp_path / "o", keys=["vgish"])
    with pytest.raises(PlanError, match="a feature is asked for twice"):
        export(store, "fake", tmp_path / "o", keys=["vggish", store.resolve("vggish")])
    with pytest.raises(UnknownName, match=r"no clip of .* is called 'plane'; did you mean plain"):
        export(store, "fake", tmp_path / "o", ids=["plane"])
    with pytest.raises(PlanError, match="a clip is asked for twice"):
        export(store, "fake", tmp_path / "o", ids=["plain", "plain"])
    assert not (tmp_path / "o").exists()
    assert fake.calls == []


def test_everything_by_default_in_the_order_of_the_manifest(shelf, store, fake, tmp_path):
    export(store, "fake", tmp_path / "o")
    keys, ids, out, way, at = fake.calls[0]
    assert keys == shelf.keys(store)
    assert ids == shelf.IDS
    assert (out, way, at) == (tmp_path / "o", "a", None)
    bare = shelf.make(tmp_path / "bare", manifest=False)
    export(bare, "fake", tmp_path / "p", keys=["vggish"], way="b", at=Path("x"))
    keys, ids, out, way, at = fake.calls[1]
    assert keys == (shelf.HEARD.key,)
    assert ids == tuple(sorted(shelf.IDS)), "also the clip that only failed"
    assert (way, at) == ("b", Path("x"))
    told = json.loads((tmp_path / "p" / TOLD).read_text())
    assert told["options"] == {"way": "b", "at": str(Path("x").absolute())}
    assert (told["complete"], told["files"], told["clips"]) == (True, 8, 8)
    assert told["features"] == {shelf.HEARD.key: json.loads(shelf.HEARD.identity)}


def test_an_empty_store(tmp_path, fake):
    (tmp_path / "s" / "parts").mkdir(parents=True)
    with pytest.raises(StoreError, match="holds no features yet"):
        export(Store(tmp_path / "s"), "fake", tmp_path / "o")


# ---- whose folder it is ----------------------------------------------------------------------------------------------


def test_given_again_it_goes_on_and_then_is_complete(store, fake, tmp_path):
    out = tmp_path / "a" / "o"
    fake.stop = 3
    with pytest.raises(RuntimeError, match="stopped"):
        export(store, "fake", out)
    assert json.loads((out / TOLD).read_text())["complete"] is False
    assert sorted(tree(out)) == ["0.npy", "1.npy", "2.npy", TOLD]
    (out / ".extract-123-4.tmp").write_bytes(b"of a killed export")
    fake.stop = None
    done = export(store, "fake", out)
    assert (done.files, done.kept) == (5, 3)
    assert sorted(tree(out)) == sorted([*(f"{i}.npy" for i in range(8)), TOLD])
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    again = export(store, "fake", out, way="a")
    assert (again.files, again.kept, again.size_bytes) == (0, 8, 0)
    assert again.notes == (f"{out} is complete already; delete the folder to write it anew",)
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    assert len(fake.calls) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"keys": ["vggish"]}, "the features "),
        ({"ids": ["plain"]}, "other clips"),
        ({"way": "b"}, "the options {'way': 'a', 'at': None}, not {'way': 'b', 'at': None}"),
        ({"layout": "other"}, "the layout fake, not other; of the options"),
    ],
    ids=["keys", "ids", "options", "layout"],
)
def test_another_export_is_never_mixed_in(store, fake, tmp_path, change, words):
    out = tmp_path / "o"
    export(store, "fake", out)
    before = tree(out)
    with pytest.raises(StoreError, match=re.escape(words)) as error:
        export(store, **{"layout": "fake", "out": out, **change})
    assert "Nothing is overwritten: delete that folder" in str(error.value)
    assert tree(out) == before


def test_a_store_that_has_changed_is_not_mixed_in(shelf, store, fake, tmp_path):
    fake.stop = 3
    with pytest.raises(RuntimeError):
        export(store, "fake", tmp_path / "o")
    before = tree(tmp_path / "o")
    fake.stop = None
    more = shelf.seal_piece(
        store.path / "parts", "c" * 16, ["new"], [shelf.HEARD], [shelf.rows("new", shelf.HEARD)], [], [], {}
    )
    with pytest.raises(StoreError, match="of what the store held then; it has changed since"):
        export(Store(store.path), "fake", tmp_path / "o", ids=shelf.IDS)
    assert tree(tmp_path / "o") == before
    more.unlink()
    assert export(Store(store.path), "fake", tmp_path / "o").files == 5


def test_a_folder_of_others_is_left_alone(store, fake, tmp_path):
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "mine.txt").write_text("mine")
    with pytest.raises(StoreError, match="is not empty, and no export began there"):
        export(store, "fake", tmp_path / "o")
    (tmp_path / "p").mkdir()
    for text in ("no JSON", "[]", '{"layout": "fake"}'):
        (tmp_path / "p" / TOLD).write_text(text)
        with pytest.raises(StoreError, match="is not of an export of ours"):
            export(store, "fake", tmp_path / "p")
    for path in (tmp_path / "o" / "mine.txt", tmp_path / "o" / "mine.txt" / "deeper"):
        with pytest.raises(StoreError, match="is a file or lies in one"):
            export(store, "fake", path)
    assert tree(tmp_path / "o") == {"mine.txt": b"mine"}
    assert fake.calls == []


def test_what_fails_before_it_writes_leaves_no_trace(store, fake, tmp_path):
    fake.stop, fake.error = 0, StoreError("refused")
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "o", tmp_path / "empty"):
        with pytest.raises(StoreError, match="refused"):
            export(store, "fake", out)
    assert not (tmp_path / "o").exists()
    assert list((tmp_path / "empty").iterdir()) == []
    (tmp_path / "empty" / ".extract-1-2.tmp").write_bytes(b"")  # killed before it had written what it is
    fake.stop = None
    export(store, "fake", tmp_path / "empty", way="b")


def test_one_process_at_a_time(store, fake, tmp_path):
    fake.stop = 3
    with pytest.raises(RuntimeError):
        export(store, "fake", tmp_path / "o")
    fake.stop = None
    with open(tmp_path / "o" / LOCK, "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(StoreBusy, match="another process is writing"):
            export(store, "fake", tmp_path / "o")
    refused = []

    def meanwhile():
        with pytest.raises(StoreBusy) as error:
            export(store, "fake", tmp_path / "o")
        refused.append(error)

    fake.meanwhile = meanwhile
    assert export(store, "fake", tmp_path / "o").files == 5, "a lock that nobody holds is a leftover"
    assert len(refused) == 8
    assert not (tmp_path / "o" / LOCK).exists()


# ---- what is missing -------------------------------------------------------------------------------------------------


def test_missing_csv_says_why(shelf, store, fake, tmp_path):
    fake.missing = (
        Missing("failed", "", "no rows"),
        Missing("plain", shelf.STILL.key, 'an odd shape, of a "kind"'),
        Missing("stranger", shelf.HEARD.key, "not here"),
    )
    export(store, "fake", tmp_path / "o", keys=["vggish", "resnet152"])
    raw = (tmp_path / "o" / "missing.csv").read_text()
    rows = list(csv.reader(io.StringIO(raw)))
    assert rows == [
        ["clip_id", "key", "reason", "message"],
        ["failed", shelf.HEARD.key, "not_found", "failed.mp4 is not there"],
        ["failed", shelf.STILL.key, "not_found", "failed.mp4 is not there"],
        ["plain", shelf.STILL.key, "unfit", 'an odd shape, of a "kind"'],
        ["stranger", shelf.HEARD.key, "not_computed", "not here"],
    ]
    assert read_missing(tmp_path / "o") == [tuple(row) for row in rows[1:]]
    again = export(store, "fake", tmp_path / "o", keys=["vggish", "resnet152"])
    assert [each.clip_id for each in again.missing] == ["failed", "failed", "plain", "stranger"]
    fake.missing = ()
    export(store, "fake", tmp_path / "p")
    assert not (tmp_path / "p" / "missing.csv").exists()
    assert read_missing(tmp_path / "p") == []


# ---- files -----------------------------------------------------------------------------------------------------------

PLAIN = st.one_of(
    hnp.integer_dtypes(), hnp.unsigned_integer_dtypes(), hnp.floating_dtypes(sizes=(16, 32, 64)), hnp.boolean_dtypes()
)


@given(hnp.arrays(PLAIN, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)), st.booleans())
def test_the_bytes_of_numpy_save(tmp_path_factory, array, turned):
    array = array.T if turned else array
    path = tmp_path_factory.mktemp("npy") / "x.npy"
    expected = io.BytesIO()
    np.save(expected, np.asarray(array, order="C"))
    assert write_npy(path, array) == len(expected.getvalue()) == npy_size(array.shape, array.dtype)
    assert path.read_bytes() == expected.getvalue()
    assert write_npy(str(path), array) == 0


def test_a_short_write_is_gone_on_with(tmp_path, monkeypatch):
    array = np.arange(1000, dtype=np.float32)
    real = os.writev
    for most in (1, 127, 128, 129, 2000):
        monkeypatch.setattr(os, "writev", lambda fd, parts, most=most: real(fd, [b"".join(parts)[:most]]))
        monkeypatch.setattr(os, "write", lambda fd, data: real(fd, [bytes(data)[:777]]))
        write_npy(tmp_path / f"{most}.npy", array)
        assert (np.load(tmp_path / f"{most}.npy") == array).all()


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def full(fd, parts):
        os.write(fd, b"half")
        raise OSError(28, "No space left on device")

    def write(path, error):
        with whole(path, 77) as file:
            file.write(b"half")
            raise error

    with pytest.raises(ValueError, match="mine"):
        write(tmp_path / "x", ValueError("mine"))
    with pytest.raises(StoreUnwritable, match=r"cannot write .*/x \(77 bytes needed, [\d,]+ free\).*the disk is full"):
        write(tmp_path / "x", OSError(28, "No space left on device"))
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "x", FileNotFoundError("what the block reads is gone"))
    monkeypatch.setattr(os, "writev", full)
    with pytest.raises(StoreUnwritable, match=r"/x.npy \(5,000 bytes needed"):
        write_npy(tmp_path / "x.npy", np.zeros(3), 5000)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StoreUnwritable), whole(tmp_path / "no" / "x", 1):
        pass
    with pytest.raises(StoreUnwritable):
        write_npy(tmp_path / "no" / "x", np.zeros(3))


def test_a_file_of_another_size_is_replaced_and_long_names_fit(tmp_path):
    path = tmp_path / f"{'x' * 251}.npy"
    path.write_bytes(b"short")
    assert write_npy(path, np.zeros(3)) == path.stat().st_size
    with whole(path, 3) as file:
        file.write(b"new")
        assert path.read_bytes() != b"new"
    assert path.read_bytes() == b"new"


def test_only_temporary_files_are_swept(tmp_path):
    (tmp_path / "deep").mkdir()
    left = Path(whole_file._temporary(tmp_path / "deep" / "x.npy"))
    left.write_bytes(b"")
    for name in (".extract.tmp", "extract-1-2.tmp", ".extract-1-2.tmp.npy"):
        (tmp_path / name).write_bytes(b"")
    assert sweep(tmp_path) == 1
    assert len(list(tmp_path.iterdir())) == 4


def test_reading_ahead_keeps_order_and_errors():
    made = []

    def items():
        for i in range(5):
            made.append(i)
            yield i
        raise StoreError("at the end")

    coming = ahead(items())
    for item in range(5):
        assert next(coming) == item
        assert len(made) <= item + 2, "one ahead, not more"
    with pytest.raises(StoreError, match="at the end"):
        next(coming)
    assert list(ahead(iter(()))) == []
