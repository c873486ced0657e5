"""The layout of LLP: what the official loader reads, filtered CSVs, missing clips, kills, a full disk."""

from __future__ import annotations

import csv
import json
import random
import shutil

import numpy as np
import pytest
import torch

from extract.errors import ManifestError, PlanError, StoreError, UnknownName
from extract.store import Store
from extract.store.export import export
from extract.store.export.llp_csv import EVENTS, LABELLED, from_annotations
from extract.store.part import seal_piece
from manifests.clip import Clip
from manifests.llp import LABELS


@pytest.fixture
def store(llp, tmp_path):
    return llp.make(
        tmp_path / "store",
        [llp.rows(c, i) for c in llp.IDS for i in llp.INFOS.values()],
        clips=llp.CLIPS,
        events=llp.HEARD,
    )


@pytest.fixture
def holey(llp, tmp_path):
    return llp.holey(tmp_path / "holey")


# ---- the official loader's contract ----------------------------------------------------------------------------------


class Loader(torch.utils.data.Dataset):
    """What dataloader.py of AVVP-ECCV20 does with an export: names, shapes, types, columns, labels."""

    def __init__(self, root, split):
        with (root / "data" / split).open(encoding="ascii", newline="") as file:
            header, *self.rows = csv.reader(file, delimiter="\t")
        assert header == ["filename", "event_labels"]
        self.folders = [root / "feats" / folder for folder in ("vggish", "res152", "r2plus1d_18")]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        name, labels = self.rows[i][0][:11], self.rows[i][-1].split(",")
        target = np.zeros(25)
        for label in labels:
            target[LABELS.index(label)] = 1
        arrays = [np.load(folder / f"{name}.npy", allow_pickle=False) for folder in self.folders]
        return [torch.from_numpy(array) for array in arrays], torch.from_numpy(target)


def test_the_official_loader_trains_on_it(llp, tmp_path):
    rng = random.Random(0)
    ids = [f"{'abcdefghij'[i % 10] * 9}{i:02}_{i}_{i + 10}" for i in range(12)]
    labels = [tuple(rng.sample(LABELS, rng.randint(1, 3))) for _ in ids]
    clips = [
        Clip(c, "x.mp4", labels=each, split=("train", "val", "test")[max(0, i - 9)])
        for i, (c, each) in enumerate(zip(ids, labels, strict=True))
    ]
    store = llp.make(tmp_path / "store", [llp.rows(c, i) for c in ids for i in llp.INFOS.values()], clips=clips)
    export(store, "llp", tmp_path / "out")
    train, val = (Loader(tmp_path / "out", name) for name in ("AVVP_train.csv", "AVVP_val_pd.csv"))
    assert (len(train), len(val), len(Loader(tmp_path / "out", "AVVP_test_pd.csv"))) == (10, 1, 1)
    arrays, target = val[0]
    assert [(tuple(a.shape), a.dtype) for a in arrays] == [(s, torch.float32) for s in llp.SHAPES.values()]
    assert {LABELS[i] for i in target.nonzero().flatten().tolist()} == set(clips[10].labels)

    torch.manual_seed(0)
    sizes = [shape[1] for shape in llp.SHAPES.values()]
    heads = torch.nn.ModuleList(torch.nn.Linear(size, 25) for size in sizes)
    optimizer = torch.optim.Adam(heads.parameters(), lr=3e-4)
    losses = []
    for _ in range(6):
        for (audio, still, moving), wanted in torch.utils.data.DataLoader(train, batch_size=5, shuffle=True):
            still = still.view(len(still), 10, 8, 2048).mean(2)  # noqa: PLW2901 - as the networks do
            frames = sum(head(x) for head, x in zip(heads, (audio, still, moving), strict=True))
            loss = torch.nn.functional.binary_cross_entropy(frames.sigmoid().mean(1), wanted.float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert sum(losses[-2:]) < 0.8 * sum(losses[:2])


def test_every_byte(llp, store, tmp_path):
    done = export(store, "llp", tmp_path / "out")
    found = llp.tree(tmp_path / "out")
    assert json.loads(found.pop("export.json"))["complete"] is True
    expected = {}
    for name, folder in llp.FOLDERS.items():
        for clip in llp.IDS:
            np.save(tmp_path / "x.npy", store[clip, name])
            expected[f"feats/{folder}/{clip[:11]}.npy"] = (tmp_path / "x.npy").read_bytes()
    weak = [f"{c.clip_id}\t{','.join(c.labels)}\n" for c in llp.CLIPS]
    head = "filename\tevent_labels\n"
    events = "filename\tonset\toffset\tevent_labels\n"
    texts = {
        "dataset_full": head + "".join(weak),
        "train": head + "".join(weak[:2]),
        "val_pd": head + weak[2],
        "test_pd": head + weak[3],
        "eval_audio": f"{events}{llp.IDS[2]}\t0\t4\t{LABELS[2]}\n{llp.IDS[3]}\t3\t10\t{LABELS[3]}\n",
        "eval_visual": f"{events}{llp.IDS[3]}\t3\t10\t{LABELS[3]}\n{llp.IDS[3]}\t0\t1\t{LABELS[7]}\n",
    }
    expected |= {f"data/AVVP_{name}.csv": text.encode() for name, text in texts.items()}
    assert found == expected
    assert (done.files, done.kept, done.missing, done.notes) == (18, 0, (), ())
    assert done.size_bytes == sum(map(len, expected.values()))


def test_float16_becomes_float32(llp, tmp_path):
    half = llp.info("vggish", (128,), "float16")
    store = llp.make(tmp_path / "s", [llp.rows(c, half) for c in llp.IDS], infos=[half])
    done = export(store, "llp", tmp_path / "out", keys=["vggish"])
    array = np.load(tmp_path / "out" / "feats" / "vggish" / f"{llp.IDS[0][:11]}.npy")
    assert array.dtype == np.float32
    assert (array == store[llp.IDS[0], "vggish"]).all()
    assert "feats/res152, feats/r2plus1d_18 was not asked for" in done.notes[0]
    assert "has no copy of a manifest, so no CSVs are written; --annotations" in done.notes[1]
    assert list((tmp_path / "out" / "data").iterdir()) == []


# ---- what does not fit -----------------------------------------------------------------------------------------------


def test_keys_that_do_not_fit(llp, store, tmp_path):
    ids, heard, two = llp.IDS, llp.INFOS["vggish"], llp.info("vggish", (128,), precision="bfloat16")
    other, odd = llp.info("clip_b32", (7,)), llp.info("resnet152", (7,), crop=1)
    pitch = llp.make(
        tmp_path / "pitch",
        [llp.rows(ids[0], two), llp.rows(ids[0], heard)],
        infos=[two, heard],
    )
    with pytest.raises(
        StoreError, match="no feature for feats/res152, feats/r2plus1d_18, which the official code reads"
    ):
        export(pitch, "llp", tmp_path / "o")
    with pytest.raises(PlanError, match="both go to feats/vggish; export one of them"):
        export(pitch, "llp", tmp_path / "o", keys=[two.key, heard.key])
    seal_piece(store.path / "parts", "b" * 16, ids, [two], [llp.rows(ids[0], two)], [], [], {})
    with pytest.raises(StoreError, match=r"2 features for feats/vggish; say with --keys which: vggish@.*, vggish@"):
        export(Store(store.path), "llp", tmp_path / "o")
    mixed = llp.make(
        tmp_path / "m",
        [llp.rows(ids[0], odd), llp.rows(ids[0], other, 3), llp.rows(ids[1], other, 2)],
        infos=[odd, other],
    )
    with pytest.raises(
        StoreError, match=r"feats/res152 holds \(80, 2048\) per clip, and rows of resnet152@.* have shape \(7,\)"
    ):
        export(mixed, "llp", tmp_path / "o", keys=["resnet152"])
    assert not (tmp_path / "o").exists()
    export(mixed, "llp", tmp_path / "o", keys=["clip_b32"])
    there = {name: np.load(tmp_path / "o" / "feats" / "clip_b32" / f"{name[:11]}.npy").shape for name in ids[:2]}
    assert there == {ids[0]: (3, 7), ids[1]: (2, 7)}, "any shape, where nobody has said which"
    third = llp.make(tmp_path / "third", [llp.rows(ids[2], heard)], infos=[heard])
    shutil.copy(next((third.path / "parts").iterdir()), mixed.path / "parts")
    with pytest.raises(StoreError, match="the others have 2 to 3: how many rows of zeros it should get is not known"):
        export(Store(mixed.path), "llp", tmp_path / "p", keys=["clip_b32"], missing="zero")
    with pytest.raises(UnknownName, match="no way with missing clips is called 'fill'"):
        export(store, "llp", tmp_path / "p", keys=["r2plus1d_18"], missing="fill")
    assert not (tmp_path / "p").exists()


def test_clips_with_another_number_of_rows_are_named(llp, tmp_path):
    key = llp.INFOS["vggish"]
    store = llp.make(tmp_path / "s", [llp.rows(c, key, 9 if c == llp.IDS[1] else 10) for c in llp.IDS], infos=[key])
    with pytest.raises(
        StoreError, match=f"1 clips have another number of rows of {key.key}: {llp.IDS[1]} has 9; compute"
    ):
        export(store, "llp", tmp_path / "o", keys=["vggish"])
    export(store, "llp", tmp_path / "o", keys=["vggish"], ids=[llp.IDS[0], llp.IDS[2]])


def test_names_that_collide_or_are_none(llp, tmp_path):
    key = llp.INFOS["vggish"]
    same = ("BjCEufrlXm4_20_30", "BjCEufrlXm4_30_40")
    store = llp.make(tmp_path / "s", [llp.rows(c, key) for c in same], infos=[key])
    with pytest.raises(StoreError, match=f"clips '{same[0]}' and '{same[1]}' have the same first 11 characters"):
        export(store, "llp", tmp_path / "o", keys=["vggish"])
    export(store, "llp", tmp_path / "o", keys=["vggish"], ids=same[1:])
    slash = llp.make(tmp_path / "t", [llp.rows("a/b", key)], infos=[key])
    with pytest.raises(StoreError, match="clip id 'a/b' cannot name a file"):
        export(slash, "llp", tmp_path / "p", keys=["vggish"])


@pytest.mark.parametrize(("labels", "words"), [(("a,b",), "holds a comma"), (("a\tb",), "no TAB"), (('"a"',), "quote")])
def test_labels_that_break_a_csv(llp, tmp_path, labels, words):
    key = llp.INFOS["vggish"]
    store = llp.make(
        tmp_path / "s", [llp.rows(llp.IDS[0], key)], infos=[key], clips=[Clip(llp.IDS[0], "x", labels=labels)]
    )
    with pytest.raises(StoreError, match=words):
        export(store, "llp", tmp_path / "o", keys=["vggish"])


def test_clips_without_labels_or_split_and_foreign_labels(llp, tmp_path):
    key = llp.INFOS["vggish"]
    clips = [
        Clip(llp.IDS[0], "x"),
        Clip(llp.IDS[1], "x", labels=("Yodel",)),
        Clip(llp.IDS[2], "x", labels=("Car",), split="train"),
    ]
    store = llp.make(tmp_path / "s", [llp.rows(c, key) for c in llp.IDS[:3]], infos=[key], clips=clips)
    done = export(store, "llp", tmp_path / "o", keys=["vggish"])
    assert [row[0] for row in llp.table(tmp_path / "o" / "data" / "AVVP_dataset_full.csv")[1:]] == [
        llp.IDS[1],
        llp.IDS[2],
    ]
    assert [row[0] for row in llp.table(tmp_path / "o" / "data" / "AVVP_train.csv")[1:]] == [llp.IDS[2]]
    notes = " ".join(done.notes)
    assert "1 clips have no labels and are in no CSV" in notes
    assert "1 labels are not among LLP's 25, and the official code stops at them: Yodel" in notes
    assert "data/AVVP_val_pd.csv has no rows: no clip with labels is in the split val" in notes
    assert "has no events of these clips: the AVVP_eval files have no rows, so evaluation means nothing" in notes


# ---- missing clips ---------------------------------------------------------------------------------------------------


def test_missing_clips_are_left_out(llp, holey, tmp_path):
    done = export(holey, "llp", tmp_path / "o")
    kept = [llp.IDS[1], llp.IDS[3]]
    for folder in llp.FOLDERS.values():
        assert sorted(p.name for p in (tmp_path / "o" / "feats" / folder).iterdir()) == sorted(
            f"{c[:11]}.npy" for c in kept
        )
    assert [row[0] for row in llp.table(tmp_path / "o" / "data" / "AVVP_dataset_full.csv")[1:]] == kept
    assert len(llp.table(tmp_path / "o" / "data" / "AVVP_val_pd.csv")) == 1
    assert len(llp.table(tmp_path / "o" / "data" / "AVVP_eval_audio.csv")) == 2
    with (tmp_path / "o" / "missing.csv").open(newline="") as file:
        said = [tuple(row) for row in csv.reader(file)][1:]
    assert sorted(said) == sorted(
        [
            (llp.IDS[0], llp.INFOS["vggish"].key, "undecodable", "after 3 frames"),
            *((llp.IDS[2], each.key, "not_found", "there is no file") for each in llp.INFOS.values()),
        ]
    )
    assert (
        f"{llp.INFOS['vggish'].key}: a policy filled rows of 1 clips (no_audio); they are exported as they are stored"
        in done.notes
    )


def test_missing_clips_are_written_as_zeros(llp, holey, tmp_path):
    done = export(holey, "llp", tmp_path / "o", missing="zero")
    assert len(llp.table(tmp_path / "o" / "data" / "AVVP_dataset_full.csv")) == 5
    for clip in llp.IDS:
        for name, folder in llp.FOLDERS.items():
            array = np.load(tmp_path / "o" / "feats" / folder / f"{clip[:11]}.npy")
            assert (array.shape, array.dtype) == (llp.SHAPES[name], np.float32)
            lacks = clip == llp.IDS[2] or (clip == llp.IDS[0] and name == "vggish")
            assert (array == (0 if lacks else holey[clip, name])).all(), (clip, name)
    assert len(done.missing) == 4
    assert (tmp_path / "o" / "missing.csv").exists()


def test_missing_clips_can_be_an_error(llp, holey, store, tmp_path):
    with pytest.raises(StoreError, match=f"2 clips are missing: {llp.IDS[0]}, {llp.IDS[2]}; nothing was exported"):
        export(holey, "llp", tmp_path / "o", missing="error")
    assert not (tmp_path / "o").exists()
    assert export(store, "llp", tmp_path / "o", missing="error").files == 18


# ---- official annotations --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_copies_lose_only_the_rows_of_clips_that_are_not_here(llp, holey, tmp_path, end):
    official = llp.annotations(tmp_path / "official", end)
    done = export(holey, "llp", tmp_path / "o", annotations=official)
    for name in (*LABELLED, *EVENTS.values()):
        kept = [
            line
            for line in (official / name).read_bytes().splitlines(keepends=True)
            if not line.startswith((llp.IDS[0].encode() + b"\t", llp.IDS[2].encode(), llp.GONE.encode()))
        ]
        assert (tmp_path / "o" / "data" / name).read_bytes() == b"".join(kept), name
    assert "data/AVVP_eval_audio.csv lost 3 of 7 rows, those of clips that are not here" in done.notes
    assert "data/AVVP_train.csv lost 3 of 5 rows, those of clips that are not here" in done.notes
    why = {(each.clip_id, each.key): each.why for each in done.missing}
    assert why[llp.GONE, ""] == "the annotations list it; the store does not know it"


def test_copies_of_what_is_asked_for(llp, store, tmp_path):
    official = llp.annotations(tmp_path / "official")
    done = export(store, "llp", tmp_path / "o", annotations=official, ids=llp.IDS[:1])
    assert [row[0] for row in llp.table(tmp_path / "o" / "data" / LABELLED[0])[1:]] == [llp.IDS[0]]
    assert [each.clip_id for each in done.missing] == [llp.GONE], "what was not asked for is not missing"
    with pytest.raises(StoreError, match=f"1 clips are missing: {llp.GONE}"):
        export(store, "llp", tmp_path / "p", annotations=official, missing="error")


def test_zeros_for_strangers_leave_the_csvs_as_they_are(llp, holey, tmp_path):
    official = llp.annotations(tmp_path / "official")
    export(holey, "llp", tmp_path / "o", annotations=official, missing="zero")
    assert {p.name: p.read_bytes() for p in (tmp_path / "o" / "data").iterdir()} == llp.tree(official)
    assert not np.load(tmp_path / "o" / "feats" / "res152" / f"{llp.GONE[:11]}.npy").any()
    assert len(Loader(tmp_path / "o", "AVVP_train.csv")) == 5
    assert all(len(sample) == 2 for sample in Loader(tmp_path / "o", "AVVP_train.csv"))


def test_annotations_match_ids_without_a_span_and_never_another_span(llp, tmp_path):
    key = llp.INFOS["vggish"]
    store = llp.make(
        tmp_path / "s", [llp.rows(c, key) for c in (llp.IDS[0][:11], llp.IDS[1][:11] + "_51_61")], infos=[key]
    )
    export(store, "llp", tmp_path / "o", keys=["vggish"], annotations=llp.annotations(tmp_path / "official"))
    assert [row[0] for row in llp.table(tmp_path / "o" / "data" / LABELLED[0])[1:]] == [llp.IDS[0]]


def test_annotations_that_are_none(llp, store, tmp_path):
    official = llp.annotations(tmp_path / "official")
    (official / "AVVP_val_pd.csv").write_text("filename,event_labels\n")
    with pytest.raises(ManifestError, match=r"AVVP_val_pd\.csv must begin with the line"):
        export(store, "llp", tmp_path / "o", annotations=official)
    (official / "AVVP_val_pd.csv").unlink()
    with pytest.raises(ManifestError, match=r"AVVP_val_pd\.csv.*--annotations takes the folder data/ of AVVP-ECCV20"):
        export(store, "llp", tmp_path / "o", annotations=official)


def test_the_real_annotations(llp, shared):
    folder = shared / "data" / "llp"
    names = (*LABELLED, *EVENTS.values())
    ids = [row[0] for row in llp.table(folder / "AVVP_dataset_full.csv")[1:]]
    everything = from_annotations(folder, set(ids), set(ids))
    assert everything.files == {name: (folder / name).read_bytes() for name in names}
    assert (everything.strangers, everything.notes) == ((), ())
    gone = set(random.Random(0).sample(ids, 2000))
    some = from_annotations(folder, set(ids) - gone, set(ids) - gone)
    assert set(some.strangers) == gone
    for name in names:
        lines = (folder / name).read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if line.split(b"\t")[0].decode() not in gone]
        assert some.files[name] == b"".join(kept)
        assert f"data/{name} lost {len(lines) - len(kept)} of {len(lines) - 1} rows" in " ".join(some.notes)
