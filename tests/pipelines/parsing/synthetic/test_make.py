"""A store of made-up features: real to every reader, known to be made up, learnable, and as asked for."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from extract.errors import StoreError
from extract.store import Store
from extract.store.dataset import FeatureDataset
from extract.store.verify import verify
from manifests import ave, llp
from pipelines.parsing.synthetic.make import CHUNK, make_synthetic, split_sizes
from pipelines.parsing.synthetic.scenes import Drawn, Scene, draw_ave, draw_avvp, events_of
from pipelines.parsing.synthetic.stand_ins import StandIn, confused, features, prototypes
from pipelines.parsing.task import BACKGROUND

EAR = StandIn("vggish", "audio", (24,))
EYE = StandIn("resnet152", "visual", (32,))
MAP = StandIn("vgg19_ave", "visual", (7, 7, 16))
TINY = {"audio": [EAR], "visual": [EYE], "clip": ""}


def make(folder: Path, task: str = "avvp", **more: object):
    return make_synthetic(folder, task, **{"clips": 80, **TINY, **({"visual": [MAP]} if task == "ave" else {}), **more})


def contents(folder: Path) -> dict[str, bytes]:
    """All files but those that say when or where: the lock, and the index, which knows inodes."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name not in ("lock", "index.h5")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def truth(store: Store, ids: tuple[str, ...], modality: str, classes: tuple[str, ...]) -> NDArray[np.bool_]:
    found = np.zeros((len(ids), 10, len(classes)), bool)
    at = {clip_id: i for i, clip_id in enumerate(ids)}
    for event in store.events:
        if event.clip_id in at and event.modality == modality:
            found[at[event.clip_id], event.onset_s : event.offset_s, classes.index(event.label)] = True
    return found


def ridge(x: NDArray[np.float32], y: NDArray[np.bool_], unseen: NDArray[np.float32]) -> NDArray[np.float64]:
    """Scores of rows: linear, in closed form."""
    middle = x.mean(axis=0)
    x, unseen = x - middle, unseen - middle
    weights = np.linalg.solve(x.T @ x + 0.05 * len(x) * x.var() * np.eye(x.shape[1]), x.T @ (y - y.mean(axis=0)))
    return unseen @ weights + y.mean(axis=0)


def mean_auc(score: NDArray[np.float64], y: NDArray[np.bool_]) -> float:
    found = []
    for one, there in zip(score.T, y.T, strict=True):
        ranks, many = one.argsort().argsort(), there.sum()
        if 0 < many < len(there):
            found.append((ranks[there].sum() - many * (many - 1) / 2) / (many * (len(there) - many)))
    return float(np.mean(found))


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the shapes of LLP's official features."""
    folder = tmp_path_factory.mktemp("official") / "s"
    make_synthetic(folder, clips=20)
    return folder


@pytest.fixture(scope="module")
def heard_and_seen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("avvp") / "s"
    make_synthetic(folder, clips=1500, rows_per_second=1, visual=[StandIn("resnet152", "visual", (256,))], clip="")
    return folder


# ---- a store like any other ------------------------------------------------------------------------------------------


def test_shapes_of_llp(official: Path) -> None:
    store = Store(official)
    ids = store.split_ids("val") + store.split_ids("test")
    for name, shape in (("vggish", (10, 128)), ("resnet152", (80, 2048)), ("r2plus1d_18", (10, 512))):
        data, valid = store.to_dense(ids, name)
        assert data.shape == (3, *shape)
        assert data.dtype == np.float32
        assert data.min() == 0
        assert valid.all()
    rows = store.rows(ids[0], "resnet152")
    assert rows.window_ns[[0, -1]].tolist() == [[0, 125_000_000], [9_875_000_000, 10_000_000_000]]
    assert (rows.source_ns == -1).all()


def test_shapes_of_ave(tmp_path: Path) -> None:
    made = make_synthetic(tmp_path / "s", "ave", clips=5)
    store = Store(made.store)
    ids = tuple(store.manifest)
    assert store.to_dense(ids, "vgg19_ave")[0].shape == (5, 10, 7, 7, 512)
    assert store.to_dense(ids, "vggish")[0].shape == (5, 10, 128)
    assert list(made.keys) == ["audio", "visual"]
    assert ave.is_ave(store.manifest.values())


def test_labels_and_splits_are_as_in_llp(heard_and_seen: Path) -> None:
    store = Store(heard_and_seen)
    assert llp.is_llp(store.manifest.values())
    sizes = {split: len(store.split_ids(split)) for split in ("train", "val", "test")}
    assert sizes == {"train": 1266, "val": 82, "test": 152}
    annotated = {event.clip_id for event in store.events}
    assert annotated == {*store.split_ids("val"), *store.split_ids("test")}
    for clip_id in annotated:
        union = {event.label for event in store.events if event.clip_id == clip_id}
        assert set(store.labels(clip_id)) == union
    assert {len(clip.labels) for clip in store.manifest.values()} == {1, 2, 3, 4}
    assert len({clip_id[:11] for clip_id in store.manifest}) == 1500  # what official loaders go by


def test_the_training_loop_reads_it(official: Path) -> None:
    data = FeatureDataset(official, ["vggish", "resnet152", "r2plus1d_18"], split="test", pool="mean")
    item = data[0]
    for key, width in (("vggish", 128), ("resnet152", 2048), ("r2plus1d_18", 512)):
        assert tuple(item[key].shape) == (10, width)
    assert tuple(item["labels"].shape) == (25,)
    assert bool(item["annotated"])
    assert not bool(FeatureDataset(official, ["vggish"], split="train")[0]["annotated"])
    either = item["targets"]["audio"].maximum(item["targets"]["visual"]).amax(dim=0)
    assert either.equal(item["labels"])


@pytest.mark.parametrize("task", ["avvp", "ave"])
def test_verify_finds_nothing(tmp_path: Path, task: str) -> None:
    make(tmp_path / "s", task)
    assert verify(tmp_path / "s") == []


def test_a_deep_look_finds_only_that_it_is_made_up(official: Path) -> None:
    findings = verify(official, deep=True)
    assert findings
    assert {finding.level for finding in findings} == {"note"}
    assert all(
        finding.problem.endswith("is synthetic: made from drawn labels, no network saw or heard anything")
        for finding in findings
    )


def test_nobody_takes_it_for_real(official: Path) -> None:
    store = Store(official)
    for info in store.keys():  # noqa: SIM118
        identity = json.loads(info.identity)
        assert identity["source"] == "synthetic"
        assert identity["scene"]["seed"] == 0
        assert identity["stand_in"]["strength"] == 4.0
        assert info.weights == identity["weights"] == "random:synthetic:0"
        assert "synthetic" in info.view
    assert all(clip.path.startswith("synthetic/") for clip in store.manifest.values())


@pytest.mark.parametrize("task", ["avvp", "ave"])
@pytest.mark.parametrize("clips", [3, 4, 17, 400, 11_849])
def test_no_split_is_empty(task: str, clips: int) -> None:
    sizes = split_sizes(task, clips)
    assert sum(sizes.values()) == clips
    assert min(sizes.values()) >= 1
    if clips == 11_849 and task == "avvp":
        assert sizes == {"train": 10_000, "val": 649, "test": 1_200}


@pytest.mark.parametrize("task", ["avvp", "ave"])
def test_sizes_can_be_given(tmp_path: Path, task: str) -> None:
    sizes = {"test": 7, "train": 3, "val": 5}
    made = make(tmp_path / "s", task, clips=999, sizes=sizes)
    store = Store(made.store)
    assert made.splits == sizes
    assert list(made.splits) == ["train", "val", "test"]
    ids = {split: store.split_ids(split) for split in sizes}
    assert {split: len(each) for split, each in ids.items()} == sizes
    assert make(tmp_path / "s", task, sizes=dict(sorted(sizes.items()))) == made
    assert all(set(ids[split]) == {e.clip_id for e in store.events} & set(ids[split]) for split in ("val", "test"))
    if task == "avvp":
        assert not {event.clip_id for event in store.events} & set(ids["train"])


def test_other_sizes_other_names(tmp_path: Path) -> None:
    """Also those that happen to be the ones without `sizes`."""
    usual = make(tmp_path / "a")
    found = [usual, make(tmp_path / "b", sizes=usual.splits), make(tmp_path / "c", sizes=usual.splits | {"train": 1})]
    assert [made.splits for made in found[:2]] == [usual.splits] * 2
    assert len({made.keys["audio"] for made in found}) == 3
    manifests = [Store(made.store).manifest.keys() for made in found]
    assert not manifests[0] & manifests[1]
    assert not manifests[1] & manifests[2]


# ---- again, and otherwise --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["avvp", "ave"])
def test_equal_arguments_equal_bytes(tmp_path: Path, task: str) -> None:
    first, second = make(tmp_path / "a", task), make(tmp_path / "b", task)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert (first.keys, first.splits, first.events) == (second.keys, second.splits, second.events)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*")}
    assert make(tmp_path / "a", task) == first
    assert stamps == {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*")}


@pytest.mark.parametrize(
    ("other", "same_clips"),
    [
        ({"seed": 1}, False),
        ({"clips": 81}, False),
        ({"scene": Scene(whole=0.5)}, False),
        ({"audio": [StandIn("vggish", "audio", (24,), strength=5.0)]}, True),
        ({"audio": [StandIn("vggish", "audio", (24,), shared=1.0)]}, True),
        ({"audio": [StandIn("vggish", "audio", (25,))]}, True),
    ],
)
def test_other_arguments_other_names(tmp_path: Path, other: dict[str, object], same_clips: bool) -> None:
    first, second = make(tmp_path / "a"), make(tmp_path / "b", **other)
    assert first.keys["audio"] != second.keys["audio"]
    one, another = Store(tmp_path / "a"), Store(tmp_path / "b")
    shared = one.manifest.keys() & another.manifest.keys()
    assert len(shared) == (80 if same_clips else 0)
    assert not same_clips or one.events == another.events


def test_a_backbone_does_not_depend_on_the_others(tmp_path: Path) -> None:
    more = StandIn("clap_htsat_fused", "audio", (16,), shared=0.5)
    alone, among = make(tmp_path / "a"), make(tmp_path / "b", audio=[more, EAR], clip="r2plus1d_18")
    assert among.keys["audio"][1] == alone.keys["audio"][0]
    assert among.keys["visual"] == alone.keys["visual"]
    ids, one, other = tuple(Store(tmp_path / "a").manifest), Store(tmp_path / "a"), Store(tmp_path / "b")
    for name in ("vggish", "resnet152"):
        assert (one.to_dense(ids, name)[0] == other.to_dense(ids, name)[0]).all()


def test_what_is_there_stays(tmp_path: Path) -> None:
    make(tmp_path / "s")
    before = contents(tmp_path / "s")
    with pytest.raises(StoreError, match="another command"):
        make(tmp_path / "s", seed=1)
    assert contents(tmp_path / "s") == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match="holds something else"):
        make(tmp_path / "other")
    assert contents(tmp_path / "other") == {"notes.txt": b"mine"}


def test_an_interrupted_one_is_finished(tmp_path: Path) -> None:
    def stop(done: int, clips: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "a", on_clip=stop)
    (part,) = (tmp_path / "a" / "parts").iterdir()
    sealed = part.stat().st_mtime_ns
    seen: list[tuple[int, int]] = []
    make(tmp_path / "a", on_clip=lambda done, clips: seen.append((done, clips)))
    make(tmp_path / "b")
    assert seen == [(CHUNK, 80), (80, 80)]
    assert part.stat().st_mtime_ns == sealed
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


# ---- what happens in the clips ---------------------------------------------------------------------------------------


def relations(drawn: Drawn) -> Counter[str]:
    """How the events of AVVP clips are heard and seen, told from their spans alone."""
    found: Counter[str] = Counter()
    for label, (heard, seen) in zip(drawn.label.ravel(), drawn.span_s.reshape(-1, 2, 2).tolist(), strict=True):
        if label >= 0:
            audible, visible = heard[0] < heard[1], seen[0] < seen[1]
            both = "together" if heard == seen else "shifted"
            found[both if audible and visible else "off_screen" if audible else "silent" if visible else "nothing"] += 1
    return found


@pytest.mark.parametrize(
    "scene", [Scene(), Scene(together=0.1, shifted=0.2, off_screen=0.3, silent=0.4), Scene(whole=1.0)]
)
def test_modalities_disagree_as_often_as_asked(scene: Scene) -> None:
    found = relations(draw_avvp(5000, 3, scene))
    total = found.total()
    for name in ("together", "shifted", "off_screen", "silent"):
        rate = getattr(scene, name)
        assert abs(found[name] / total - rate) < 4 * np.sqrt(rate * (1 - rate) / total), name
    assert not found["nothing"]


def test_labels_with_times_tell_the_same(tmp_path: Path) -> None:
    make(tmp_path / "s", scene=Scene(together=0, shifted=0, off_screen=1, silent=0))
    assert {event.modality for event in Store(tmp_path / "s").events} == {"audio"}


def test_classes_are_as_unequal_as_in_llp() -> None:
    drawn = draw_avvp(10_000, 0, Scene())
    clips = [drawn.classes_of(i) for i in range(10_000)]
    count = Counter(label for labels in clips for label in labels)
    speech, cello, violin = (llp.LABELS.index(name) for name in ("Speech", "Cello", "Violin_fiddle"))
    assert count.most_common(1)[0][0] == speech
    assert 0.45 < count[speech] / 10_000 < 0.65
    assert set(count) == set(range(25))
    assert min(count.values()) < 0.03 * count[speech]
    together = sum({cello, violin} <= set(labels) for labels in clips)
    assert together > 3 * count[cello] * count[violin] / 10_000
    assert sum({cello, speech} <= set(labels) for labels in clips) < 0.5 * count[cello] * count[speech] / 10_000
    assert all(len(set(labels)) == len(labels) for labels in clips)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**40),
    seconds=st.integers(2, 20),
    whole=st.floats(0, 1),
    shift=st.integers(1, 30),
    task=st.sampled_from(["avvp", "ave"]),
)
def test_spans_are_valid(seed: int, seconds: int, whole: float, shift: int, task: str) -> None:
    scene = Scene(seconds=seconds, whole=whole, shift_s=min(shift, seconds - 1))
    drawn = draw_avvp(40, seed, scene) if task == "avvp" else draw_ave(40, seed, scene, 28)
    classes = llp.LABELS if task == "avvp" else ave.LABELS
    for clip in range(40):
        labels = drawn.classes_of(clip)
        assert 1 <= len(labels) <= 4
        events = events_of(drawn, clip, "c", classes, both=task == "ave")
        assert {event.label for event in events} == {classes[label] for label in labels}
        assert all(0 <= event.onset_s < event.offset_s <= seconds for event in events)
        if task == "ave":
            assert len(events) == 1
    first = drawn.span_s[:, : drawn.events]
    moved = np.abs(first[:, :, 0, 0] - first[:, :, 1, 0])[(first[..., 0] < first[..., 1]).all(axis=2)]
    assert task == "ave" or moved.max(initial=0) <= shift


def test_an_event_of_ave_is_where_both_are() -> None:
    drawn = draw_ave(3000, 0, Scene(whole=0), 28)
    assert np.bincount(drawn.label[:, 0]).min() >= 107
    heard, seen = drawn.span_s[:, 0, 0], drawn.span_s[:, 0, 1]
    both = np.stack([np.maximum(heard[:, 0], seen[:, 0]), np.minimum(heard[:, 1], seen[:, 1])], axis=1)
    longer_heard, longer_seen = (heard != both).any(axis=1), (seen != both).any(axis=1)
    assert (both[:, 0] < both[:, 1]).all()
    # a sound that lasts all the clip and an event that begins with it may look like one of the others
    assert abs((~longer_heard & ~longer_seen).mean() - Scene().together) < 0.06
    assert 0.2 < (longer_heard & ~longer_seen).mean() < 0.4
    assert 0.1 < (longer_seen & ~longer_heard).mean() < 0.3
    beside = drawn.label[:, 1]
    assert (beside != drawn.label[:, 0]).all()
    assert (drawn.span_s[:, 1] == [[0, 0], [0, 10]]).all()


# ---- what is perceived of it -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [25, 28])
def test_confusions(classes: int) -> None:
    assert not set(confused(classes, EAR)) & set(confused(classes, EYE))
    alike_ears, alike_eyes = StandIn("a", "audio", (8,), shared=1.0), StandIn("v", "visual", (8,), shared=1.0)
    assert set(confused(classes, alike_ears)) == set(confused(classes, alike_eyes))
    half = StandIn("a", "audio", (8,), shared=0.5)
    kept = len(set(confused(classes, half)) & set(confused(classes, alike_eyes)))
    assert kept in (6, 8)  # of 12 or 14: whole fours
    for of in (EAR, EYE, alike_ears, half):
        pairs = confused(classes, of)
        assert len({label for pair in pairs for label in pair}) == 2 * len(pairs) == 4 * (classes // 4)
        vectors = prototypes(classes, of)
        cosine = vectors @ vectors.T
        expected = np.eye(classes)
        for one, other in pairs:
            expected[one, other] = expected[other, one] = of.confusion
        assert np.allclose(cosine, expected, atol=1e-6)


def solo(label: int, modality: int) -> Drawn:
    """200 clips of one class, all the time."""
    span = np.zeros((200, 1, 2, 2), np.int64)
    span[:, :, modality, 1] = 10
    return Drawn(
        np.full((200, 1), label), span, np.ones((200, 1, 2), np.float32), np.full((200, 1, 2), 0.5, np.float32), 1
    )


def test_a_slot_without_event_adds_nothing() -> None:
    drawn = draw_avvp(50, 0, Scene())
    assert (drawn.span_s[drawn.label < 0] == 0).all()


def test_strength_is_in_standard_deviations() -> None:
    of = StandIn("vggish", "audio", (4096,), strength=3.0, background=0.0, zeros=1e-9)  # nothing is cut off
    one, other = (features(solo(label, 0), of, Scene(), 25, 0, 0).reshape(-1, 4096) for label in (0, 8))
    away = one.mean(axis=0) - other.mean(axis=0)
    away /= np.linalg.norm(away)
    apart = (one @ away).mean() - (other @ away).mean()
    assert apart / (one @ away).std() == pytest.approx(3 * np.sqrt(2), rel=0.1)


def test_zeros_and_background() -> None:
    silent = solo(0, 1)
    for zeros in (0.1, 0.6):
        of = StandIn("vggish", "audio", (512,), zeros=zeros)
        found = features(silent, of, Scene(), 25, 0, 0)
        assert (found == 0).mean() == pytest.approx(zeros, abs=0.03)
    of = StandIn("vggish", "audio", (512,), background=2.0, zeros=1e-9)
    found = features(silent, of, Scene(), 25, 0, 0)
    within, between = found.var(axis=1).mean(), found.mean(axis=1).var(axis=0).mean()
    assert between / within == pytest.approx(4, rel=0.15)


def test_an_object_is_in_some_cells_only() -> None:
    of = StandIn("vgg19_ave", "visual", (7, 7, 64), strength=20.0, background=0.0)
    drawn = solo(3, 1)
    drawn.place[:100] = 0.0
    found = features(drawn, of, Scene(extent=0.35), 28, 0, 0) - features(solo(3, 0), of, Scene(), 28, 0, 0)
    there = np.abs(found).sum(axis=(1, 4)) > 0
    assert (there.sum(axis=(1, 2)) == 4).all()
    assert there[:100, :2, :2].all()
    assert not there[100:, :2, :2].any()


def test_rows_of_a_second_differ_and_agree() -> None:
    of = StandIn("resnet152", "visual", (64,), rows_per_second=8, background=0.0)
    found = features(solo(0, 0), of, Scene(), 25, 0, 0).reshape(-1, 8, 64)
    assert found.var(axis=1).mean() > 0.1
    assert 0.3 < np.corrcoef(found[:, 0].ravel(), found[:, 1].ravel())[0, 1] < 0.7


# ---- what can be learnt from it --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "modality"), [("vggish", "audio"), ("resnet152", "visual")])
def test_each_modality_tells_its_events(heard_and_seen: Path, key: str, modality: str) -> None:
    store = Store(heard_and_seen)
    known, unseen = store.split_ids("test"), store.split_ids("val")
    x, new = (store.to_dense(ids, key)[0].reshape(len(ids) * 10, -1) for ids in (known, unseen))
    y, wanted = (truth(store, ids, modality, llp.LABELS).reshape(-1, 25) for ids in (known, unseen))
    score = ridge(x, y, new)
    assert 0.8 < mean_auc(score, wanted) < 0.99
    other = truth(store, unseen, "visual" if modality == "audio" else "audio", llp.LABELS).reshape(-1, 25)
    assert mean_auc(score, wanted) > mean_auc(score, other) + 0.05


def test_without_strength_there_is_nothing_to_learn(tmp_path: Path) -> None:
    make(tmp_path / "s", clips=600, audio=[StandIn("vggish", "audio", (64,), strength=0.0)])
    store = Store(tmp_path / "s")
    known, unseen = store.split_ids("test"), store.split_ids("val")
    x, new = (store.to_dense(ids, "vggish")[0].reshape(-1, 64) for ids in (known, unseen))
    y, wanted = (truth(store, ids, "audio", llp.LABELS).reshape(-1, 25) for ids in (known, unseen))
    assert 0.35 < mean_auc(ridge(x, y, new), wanted) < 0.65


def test_ave_is_told_by_both_modalities(tmp_path: Path) -> None:
    make(tmp_path / "s", "ave", clips=600, audio=["vggish"], visual=[StandIn("vgg19_ave", "visual", (7, 7, 48))])
    store = Store(tmp_path / "s")
    known, unseen = store.split_ids("train"), store.split_ids("test")
    classes = (*ave.LABELS, BACKGROUND)
    y, wanted = (truth(store, ids, "both", classes) for ids in (known, unseen))
    for each in (y, wanted):
        each[:, :, 28] = ~each.any(axis=2)
    assert 0.1 < wanted[:, :, 28].mean() < 0.3
    x, new = (
        np.concatenate(
            [store.to_dense(ids, "vggish")[0], store.to_dense(ids, "vgg19_ave")[0].max(axis=(2, 3))], axis=2
        ).reshape(len(ids) * 10, -1)
        for ids in (known, unseen)
    )
    heard, seen, both = slice(0, 128), slice(128, None), slice(None)
    right = {}
    for name, part in (("heard", heard), ("seen", seen), ("both", both)):
        score = ridge(x[:, part], y.reshape(-1, 29), new[:, part])
        right[name] = (score.argmax(axis=1) == wanted.reshape(-1, 29).argmax(axis=1)).mean()
    most = wanted[:, :, 28].mean()
    assert right["both"] > most + 0.1
    assert right["both"] > max(right["heard"], right["seen"])
