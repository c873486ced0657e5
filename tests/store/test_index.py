"""The index of a store against a plain model, and against opening every part anew, through any history."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.errors import DamagedPart
from extract.store import Store
from extract.store.catalog import Catalog, create_store, save_index
from extract.store.index import PartFile, empty, live, with_parts, without
from extract.store.index_file import NAME, read_index, write_index
from extract.store.merge import list_parts, merge_chunk
from extract.store.part import seal_piece
from extract.store.reader import KeyIndex, PartIndex
from extract.store.rows import Remark
from extract.store.verify import verify

SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
CLIPS = ("a", "b", "-c", "gamma_ä", "a_much_longer_name", "z" * 40)
REASONS = ("not_found", "no_audio", "bug", "ü")

# ---- the plain model -------------------------------------------------------------------------------------------------


def row(clip, key):
    """How many rows a clip has under a key, and their digest: the same in whatever part they lie."""
    digest = hashlib.sha256(f"{clip} {key}".encode()).digest()
    return digest[0] % 4 + 1, digest


def part_index(content, rows, failed, masked):
    """A part as reading it would give it, without a file."""
    keys = {}
    for info in content.KEYS:
        clips = tuple(clip for clip, number in rows if content.KEYS[number] is info)
        if not clips:
            continue
        stops = np.cumsum([row(clip, info.key)[0] for clip in clips])
        span = np.stack([np.concatenate([[0], stops[:-1]]), stops], axis=1).astype(np.int64)
        sha256 = np.array([np.frombuffer(row(clip, info.key)[1], np.uint8) for clip in clips])
        keys[info.key] = KeyIndex(info, clips, span, sha256, content.SOURCES[info.key], (512, 600, 700, None))
    remarks = [
        tuple(Remark(clip, content.KEYS[number].key, *what) for clip, number, *what in each)
        for each in (failed, masked)
    ]
    return PartIndex("x", keys, *remarks, "[]", "none", 2)


def age(name, mtime_ns):
    return mtime_ns, not name.endswith(".piece.h5"), name


class Model:
    """Who has what, by dictionaries: parts by name, each with its time and what it holds."""

    def __init__(self, parts):
        self.parts = dict(sorted(parts.items(), key=lambda item: age(item[0], item[1][0])))

    def have(self):
        found = {}
        for _, index in self.parts.values():
            for key, entry in index.keys.items():
                for clip in entry.clips:
                    found.setdefault(clip, set()).add(key)
        return {clip: frozenset(keys) for clip, keys in found.items()}

    def failed(self):
        have, newest = self.have(), {}
        for _, index in self.parts.values():
            newest |= {(each.clip_id, each.key): each for each in index.failed}
        return tuple(newest[name] for name in sorted(newest) if name[1] not in have.get(name[0], ()))

    def masked(self):
        newest = {}
        for _, index in self.parts.values():
            newest |= {(each.clip_id, each.key, each.stage, each.reason): each for each in index.masked}
        return tuple(newest[name] for name in sorted(newest))

    def tally(self):
        found = {}
        sets = {
            "rows": {(clip, key) for clip, keys in self.have().items() for key in keys},
            "masked": {(each.clip_id, each.key) for each in self.masked()},
            "failed": {(each.clip_id, each.key) for each in self.failed()},
        }
        for kind, names in sets.items():
            for _, key in names:
                found.setdefault(key, {"rows": 0, "masked": 0, "failed": 0})[kind] += 1
        return dict(sorted(found.items()))

    def reasons(self, kind):
        found = {}
        for reason, _ in {(each.reason, each.clip_id) for each in getattr(self, kind)()}:
            found[reason] = found.get(reason, 0) + 1
        return found

    def settled(self, clip, key):
        said = {(each.clip_id, each.key) for each in (*self.failed(), *self.masked())}
        return key in self.have().get(clip, ()) or (clip, key) in said


def catalog_of(index, folder):
    catalog = Catalog(folder)
    catalog._found = index, {key: live(column) for key, column in index.columns.items()}
    return catalog


def compare(content, catalog, model):
    keys = [info.key for info in content.KEYS]
    have = model.have()
    assert dict(catalog.have()) == have
    assert catalog._have_many() == have
    assert catalog.clip_ids() == tuple(sorted(have))
    assert (catalog.failed(), catalog.masked()) == (model.failed(), model.masked())
    assert catalog.tally() == model.tally()
    for kind in ("failed", "masked"):
        assert catalog.reasons(kind) == model.reasons(kind)
    asked = [*CLIPS, "nobody", "zz" * 60]
    expected = [[model.settled(clip, key) for key in keys] for clip in asked]
    assert catalog.settled(asked, keys).tolist() == expected
    for info in content.KEYS:
        clips = sorted(clip for clip, keys in have.items() if info.key in keys)
        assert (info in catalog.keys()) == bool(clips)  # noqa: SIM118
        if clips:
            assert catalog.clips(info.key) == tuple(clips)
            assert catalog.counts(info.key).tolist() == [row(clip, info.key)[0] for clip in clips]
        assert [(clip, info.key) in catalog for clip in asked] == [clip in clips for clip in asked]


CELL = st.tuples(st.sampled_from(CLIPS), st.integers(0, 2))
SAID = st.tuples(
    st.sampled_from(CLIPS),
    st.integers(0, 2),
    st.sampled_from(("open", "audio")),
    st.sampled_from(REASONS),
    st.text(max_size=3),
)


def once(names):
    return list({each[:2]: each for each in names}.values())


PART = st.tuples(
    st.lists(CELL, unique=True, max_size=8),
    st.lists(SAID, max_size=4).map(once),
    st.lists(SAID, max_size=3, unique_by=lambda each: each[:4]),
)
NAMES = ("a.h5", "b.h5", "a.0123.piece.h5", "a.4567.piece.h5", "c.h5")
STEP = st.tuples(st.sampled_from(("add", "drop", "save")), st.sampled_from(NAMES), PART, st.integers(0, 3))


@given(steps=st.lists(st.lists(STEP, min_size=1, max_size=3), max_size=6))
@settings(parent=SLOW, max_examples=120)
def test_any_history_of_parts(content, tmp_path_factory, steps):
    """Parts come (several at once), are replaced and go; the index is saved and loaded in between."""
    folder = tmp_path_factory.mktemp("store")
    create_store(folder)
    index, parts = empty(), {}
    for group in steps:
        new = {}
        for action, name, (rows, failed, masked), mtime_ns in group:
            if action == "save":
                write_index(folder, index)
                index = read_index(folder)
            elif action == "drop":
                new.pop(name, None)
                parts.pop(name, None)
                index = without(index, {name})
            else:
                file = PartFile(name, 1, 1, mtime_ns, "")
                new[name] = file, part_index(content, rows, failed, masked)
                index = without(index, {name} & {part.name for part in index.parts})
        parts |= {name: (file.mtime_ns, part) for name, (file, part) in new.items()}
        index = with_parts(index, list(new.values()))
        compare(content, catalog_of(index, folder), Model(parts))
        fresh = with_parts(
            empty(), [(PartFile(name, 1, 1, *rest[:1], ""), rest[1]) for name, rest in sorted(parts.items())]
        )
        assert catalog_of(index, folder).digest() == catalog_of(fresh, folder).digest()


@given(
    ids=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=9), unique=True)
)
@settings(parent=SLOW, max_examples=60)
def test_any_clip_ids(content, tmp_path_factory, ids):
    """Also in two parts, of different lengths, of any letters."""
    parts = [part_index(content, [(clip, 0) for clip in half], [], []) for half in (ids[::2], ids[1::2])]
    index = empty()
    for i, part in enumerate(parts):
        index = with_parts(index, [(PartFile(f"{i}.h5", 1, 1, i, ""), part)])
    assert index.text(np.arange(len(index.ids))) == tuple(sorted(ids))
    assert index.ranks(sorted(ids)).tolist() == list(range(len(ids)))
    assert [index.rank(clip) for clip in sorted(ids)] == list(range(len(ids)))
    others = [clip + "x" * 9 for clip in ids]
    assert index.ranks(others).tolist() == [index.rank(each) for each in others] == [-1] * len(ids)


# ---- real parts ------------------------------------------------------------------------------------------------------


class Files:
    """A store of real parts, in which things happen."""

    def __init__(self, content, path):
        self.content, self.path, self.parts = content, path, path / "parts"
        create_store(path)
        self.now = itertools.count(1_000_000_000, 1_000_000_000)
        self.records = content.make_records()
        self.reader = Store(path, strict=False)

    def do(self, action, number):
        there = list_parts(self.parts)
        if action == "seal":
            first = number % len(self.records)
            self.aged(self.content.seal(self.parts, self.records[first : first + 1 + number % 5]))
        elif action == "save":
            save_index(self.path)
        elif action == "refresh":
            self.reader.refresh()
        elif action == "merge":
            if merge_chunk(self.parts, self.content.CHUNK, self.content.ORDER):
                self.aged(self.parts / f"{self.content.CHUNK}.h5")
        elif there:
            getattr(self, action)(there[number % len(there)], number)

    def aged(self, path):
        """Times that differ by a second, as a clock would give them: the disk's are too coarse for a quick test."""
        os.utime(path, ns=(now := next(self.now), now))

    def delete(self, path, number):
        path.unlink()

    def copy(self, path, number):
        """The same bytes once more, under another name."""
        target = self.parts / f"{number % 7:016x}.h5"
        if target != path:
            self.aged(shutil.copyfile(path, target))

    def rewrite(self, path, number):
        """The same bytes as another file, as a copy of the store would have it; the time stays or changes."""
        raw, stat = path.read_bytes(), path.stat()
        path.unlink()
        path.write_bytes(raw)
        os.utime(path, ns=(stat.st_mtime_ns,) * 2) if number % 2 else self.aged(path)

    def rename(self, path, number):
        path.rename(self.parts / f"{number % 7:016x}.h5")

    def contradict(self, path, number):
        """A part with other numbers for one clip."""
        rows = [each for kind, each in self.records if kind == "rows"]
        each = rows[number % len(rows)]
        each = dataclasses.replace(each, data=each.data + number)
        self.aged(seal_piece(self.parts, f"{number:016x}", self.content.ORDER, self.content.KEYS, [each], [], [], {}))

    def spoil(self, path, number):
        """Cut off: it can no more be opened."""
        path.write_bytes(path.read_bytes()[: 100 * (number % 6)])
        self.aged(path)


def state(store, content):
    store.index  # noqa: B018
    keys = [info.key for info in content.KEYS]
    rows = {
        (clip, key): store.rows(clip, key).data.tobytes() for clip, keys in store.have().items() for key in sorted(keys)
    }
    return (
        rows,
        store.digest(),
        store.failed(),
        store.masked(),
        store.tally(),
        [store.reasons(kind) for kind in ("failed", "masked")],
        store.settled([*content.ORDER, "nobody"], keys).tolist(),
        [path.name for path in store.parts()],
        [path.name for path, _ in store.damaged()],
    )


ACTIONS = ("seal", "seal", "save", "refresh", "merge", "delete", "copy", "rewrite", "rename")


@given(steps=st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 30)), min_size=2, max_size=8))
@settings(parent=SLOW, max_examples=60)
def test_any_history_of_files(content, tmp_path_factory, steps):
    """A reader that lives on, one that begins with the index file, and one that opens every part see the same."""
    files = Files(content, tmp_path_factory.mktemp("files") / "store")
    for action, number in steps:
        files.do(action, number)
    (files.path / NAME).rename(files.path / "aside") if (files.path / NAME).exists() else None
    fresh = state(Store(files.path), content)
    (files.path / "aside").rename(files.path / NAME) if (files.path / "aside").exists() else None
    rows = {(each.clip_id, each.key): each.data.tobytes() for kind, each in files.records if kind == "rows"}
    assert fresh[0].items() <= rows.items()
    assert state(Store(files.path), content) == fresh
    files.reader.refresh()
    assert state(files.reader, content) == fresh
    before = (files.path / NAME).read_bytes() if (files.path / NAME).exists() else b""
    save_index(files.path)
    save_index(files.path)
    assert state(Store(files.path), content) == fresh
    assert verify(files.path) == [] or {each.level for each in verify(files.path)} == {"leftover"}
    assert before[:13] in (b"", b"extract index")


@given(
    steps=st.lists(
        st.tuples(st.sampled_from((*ACTIONS, "spoil", "contradict")), st.integers(0, 30)), min_size=3, max_size=9
    )
)
@settings(parent=SLOW, max_examples=60)
def test_any_history_with_damage(content, tmp_path_factory, steps):
    files = Files(content, tmp_path_factory.mktemp("files") / "store")
    for action, number in steps:
        try:
            files.do(action, number)
        except DamagedPart:
            assert action == "merge"
    shutil.copytree(files.path, files.path.parent / "bare", ignore=shutil.ignore_patterns(NAME))
    fresh = state(Store(files.path.parent / "bare", strict=False), content)
    assert state(Store(files.path, strict=False), content) == fresh
    files.reader.refresh()
    assert state(files.reader, content) == fresh


# ---- parts that contradict each other --------------------------------------------------------------------------------


def conflicting(content, parts):
    """Two parts with different rows of one clip; the second is newer."""
    rows = content.make_rows("beta", content.STILL)
    paths = []
    for chunk, each in (("a" * 16, rows), ("b" * 16, dataclasses.replace(rows, data=rows.data + 1))):
        piece = seal_piece(parts, chunk, content.ORDER, content.KEYS, [each], [], [], {})
        paths.append(piece.rename(parts / f"{chunk}.h5"))
    os.utime(paths[0], ns=(1, 1))
    return paths


def test_a_contradiction_is_over_when_the_other_part_is_gone(content, store_path, parts):
    """The message says: delete one of them. Whichever it is, a reader that lives on must see it."""
    for gone in (0, 1):
        paths = conflicting(content, parts)
        reader, strict = Store(store_path, strict=False), Store(store_path)
        assert [path for path, _ in reader.damaged()] == paths[1:]
        with pytest.raises(DamagedPart, match="hold different rows of clip 'beta'"):
            strict.refresh()
        paths[gone].unlink()
        reader.refresh()
        assert (reader.parts(), reader.damaged()) == ((paths[1 - gone],), ())
        strict.refresh()
        assert strict.digest() == Store(store_path).digest()
        paths[1 - gone].unlink()


def test_a_contradiction_is_never_saved(content, store_path, parts):
    paths = conflicting(content, parts)
    save_index(store_path)
    with pytest.raises(DamagedPart, match="hold different rows of clip 'beta'"):
        Store(store_path).keys()
    assert [path for path, _ in Store(store_path, strict=False).damaged()] == paths[1:]
    assert [(each.part, each.clip, each.level) for each in verify(store_path)] == [(paths[1].name, "beta", "damage")]
