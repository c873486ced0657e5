"""Stores of the shapes of LLP, and official CSVs; also imported by the exports' tests."""

from __future__ import annotations

import csv
import hashlib

import numpy as np

from extract.plan import canonical_json, key_of
from extract.store import Store
from extract.store.catalog import create_store
from extract.store.export.llp_csv import EVENTS, LABELLED
from extract.store.part import seal_piece
from extract.store.rows import KeyInfo, Remark, Rows
from manifests.clip import Clip, write_manifest
from manifests.dense import Event, write_dense
from manifests.llp import LABELS

SHAPES = {"vggish": (10, 128), "resnet152": (80, 2048), "r2plus1d_18": (10, 512)}
FOLDERS = {"vggish": "vggish", "resnet152": "res152", "r2plus1d_18": "r2plus1d_18"}
IDS = ("BjCEufrlXm4_20_30", "-nSYwyaP4QE_50_60", "4O9rI-FpqLg_10_20", "_3Ydb_NYcIy_101.8_111.8")
SPLITS = ("train", "train", "val", "test")


def info(name, dims, storage="float32", **more):
    identity = canonical_json({"backbone": name, **more} | ({} if storage == "float32" else {"storage": storage}))
    return KeyInfo(key_of(identity), identity, "[]", "sha256:abc", "MIT", dims, storage)


INFOS = {name: info(name, shape[1:]) for name, shape in SHAPES.items()}


def rows(clip, info, count=None):
    name = info.key.split("@")[0]
    count = count or SHAPES.get(name, (10,))[0]
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(f"{clip} {name}".encode()).digest()[:4]))
    start = np.arange(count, dtype=np.int64) * (10_000_000_000 // count)
    data = rng.random((count, *info.dims), np.float32).astype(info.storage)
    valid = np.ones(count, np.uint8)
    return Rows(clip, info.key, data, np.stack([start, start + 10_000_000], axis=1), valid, start[:, None])


def make(path, content, failed=(), masked=(), infos=None, clips=None, events=()):
    """A store of those rows; the manifest is `clips`, if any."""
    create_store(path)
    ids = tuple(dict.fromkeys([each.clip_id for each in (*content, *failed)]))
    seal_piece(path / "parts", "a" * 16, ids, infos or tuple(INFOS.values()), content, failed, masked, {})
    if clips:
        write_manifest(path / "manifest.csv", clips)
        write_dense(path / "manifest.dense.csv", events)
    return Store(path)


CLIPS = tuple(
    Clip(clip, f"{clip[:11]}.mp4", labels=(LABELS[i], LABELS[2 * i + 1]), split=split)
    for i, (clip, split) in enumerate(zip(IDS, SPLITS, strict=True))
)
HEARD = (
    Event(IDS[2], "audio", 0, 4, LABELS[2]),
    Event(IDS[3], "both", 3, 10, LABELS[3]),
    Event(IDS[3], "visual", 0, 1, LABELS[7]),
)


def holey(path):
    """The first clip has no sound, the third has failed."""
    content = [rows(c, i) for c in IDS for i in INFOS.values() if c != IDS[2] and (c, i.key[:6]) != (IDS[0], "vggish")]
    failed = [Remark(IDS[2], i.key, "open", "not_found", "there is no file") for i in INFOS.values()]
    failed += [Remark(IDS[0], INFOS["vggish"].key, "audio", "undecodable", "after 3 frames")]
    masked = [Remark(IDS[1], INFOS["vggish"].key, "audio", "no_audio", "no audio stream")]
    return make(path, content, failed, masked, clips=CLIPS, events=HEARD)


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def table(path):
    with path.open(encoding="ascii", newline="") as file:
        return list(csv.reader(file, delimiter="\t"))


GONE = "zzzzzzzzzzz_1_11"


def annotations(folder, end="\n"):
    """Official CSVs of the clips of `IDS` and one more, with the dirt that the real ones have."""
    folder.mkdir()
    weak = [f"{c}\tSpeech" for c in (*IDS, GONE)]
    dense = [
        f"{IDS[2]}\t9\t9\tDog", f"{IDS[2]}\t9\t9\tDog", f"{IDS[3]}\t0\t3\tCar", f"{GONE}\t0\t3\tCar",
        f"{IDS[0]}`\t1\t2\tCar", "Baby_cry_infant_cry\t0\t10\tBaby_cry_infant_cry", "P7x4FV4lg_570_580\t1\t2\tDog",
    ]  # fmt: skip
    texts = {name: ["filename\tevent_labels", *weak] for name in LABELLED}
    texts |= {name: ["filename\tonset\toffset\tevent_labels", *dense] for name in EVENTS.values()}
    for name, lines in texts.items():
        (folder / name).write_bytes(end.join([*lines, ""]).encode())
    return folder
