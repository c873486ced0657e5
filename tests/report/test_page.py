"""The page as a file: what it shows, that it asks for nothing, that nothing in it is taken for HTML, how it is written."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from extract import api
from extract.errors import PlanError, StoreError, StoreUnwritable, UnknownName
from extract.store.part import seal_piece
from extract.testing.page import Page
from manifests.clip import Clip, read_manifest, write_manifest

SECTIONS = (
    "coverage", "failures", "clips", "labels", "maps", "similarity", "sheets", "time", "storage", "provenance",
)  # fmt: skip


def written(store: Path, out: Path, **options: object) -> Page:
    return Page(Path(api.report(store, out, **options).path).read_text())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def page(full: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Page]:
    out = tmp_path_factory.mktemp("page") / "report.html"
    return out, written(full, out)


@pytest.fixture
def copy(full: Path, tmp_path: Path) -> Path:
    """The store of `full`, without its neighbours, to be changed."""
    return Path(shutil.copytree(full, tmp_path / "copy"))


def test_it_shows_every_section_and_the_verdict(page: tuple[Path, Page]) -> None:
    told = page[1].text
    assert tuple(page[1].sections()) == SECTIONS
    for name in (
        "resnet152",
        "r2plus1d_18",
        "vggish",
        "no_audio",
        "undecodable",
        "not_found",
        "Cheering",
        "train",
        "NVIDIA",
    ):
        assert name in told
    # 60 clips: 13 and 42 not found, 5 and 52 undecodable, 3, 20, 37 and 54 silent, 58 and 59 not computed
    assert "50 of 60 clips complete, 4 masked, 4 failed, 2 left to do, 3 backbones" in told
    assert "weights RANDOM in 1 of 3" in told


def test_it_carries_everything_within_itself(page: tuple[Path, Page]) -> None:
    text = page[0].read_text()
    for _, attrs in page[1].elements:
        for name in ("src", "href", "srcset", "poster", "data", "action", "xlink:href"):
            assert attrs.get(name, "#").startswith(("#", "data:image/"))
    assert not re.search(r"url\(|@import|https?://|//cdn", text)
    assert "default-src 'none'" in text
    assert not any(name.startswith("on") for _, attrs in page[1].elements for name in attrs)
    assert len(text) < 5_000_000


def test_sheets_have_pictures_sound_and_labels_on_one_axis(page: tuple[Path, Page]) -> None:
    elements = page[1].elements
    frames = [attrs for tag, attrs in elements if tag == "img" and attrs.get("alt", "").startswith("frame at")]
    assert len(frames) == 20  # of the two clips that have files
    lefts = [float(re.search(r"left:([\d.]+)%", attrs["style"]).group(1)) for attrs in frames[:10]]  # type: ignore[union-attr]
    assert lefts == pytest.approx(range(0, 100, 10))
    assert sum(attrs.get("alt", "").startswith("log-mel") for _, attrs in elements) == 2
    assert "heard" in page[1].text
    assert "the file is not there" in page[1].text


def test_nothing_given_is_taken_for_html(made: ModuleType, tmp_path: Path) -> None:
    evil = made.EVIL.replace("/", "")  # a clip id holds no slash
    store = tmp_path / "store"
    made.create_store(store)
    rows = [made.rows_of(name, 1, 4, key, False) for key in made.INFOS for name in (evil, "b", "c")]
    failed = [made.Remark(f"{evil}d", made.STILL.key, "open", made.EVIL[:20], f"why {made.EVIL}")]
    ids = [evil, "b", "c", f"{evil}d"]
    seal_piece(store / "parts", "0" * 16, ids, made.INFOS, rows, failed, (), {made.EVIL: made.EVIL})
    clips = [Clip(name, f"{made.EVIL}.mp4", 0, None, (made.EVIL,), made.EVIL) for name in ids]
    write_manifest(store / "manifest.csv", clips)
    header = {"line": "header", "started": made.EVIL, "host": made.EVIL, "recipe": made.EVIL, "keys": [made.EVIL]}
    made.write_ledger(store, "20261120T091244Z-aaaa", [header, {"line": "summary", "ended": made.EVIL}])
    told = written(store, tmp_path / "report.html")
    assert [tag for tag, _ in told.elements].count("script") == 1
    assert evil in told.text
    assert made.EVIL in told.text
    assert any(attrs.get("aria-label", "").startswith(made.EVIL) for _, attrs in told.elements)


def test_chosen_clips(full: Path, made: ModuleType, tmp_path: Path) -> None:
    told = written(full, tmp_path / "r.html", clips=(made.clip_id(7), made.clip_id(13)))
    assert [tag for tag, attrs in told.elements if attrs.get("class") == "sheet"] == ["article"] * 2
    with pytest.raises(UnknownName, match="did you mean vid00007_7_17"):
        api.report(full, tmp_path / "r.html", clips=("vid00007_7_1",))
    with pytest.raises(PlanError, match="13 clips"):
        api.report(full, tmp_path / "r.html", clips=[made.clip_id(i) for i in range(13)])


def test_unknown_and_absent_maps_are_refused(full: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="umap"):
        api.report(full, tmp_path / "r.html", method="umapp")
    with pytest.raises(PlanError, match="pip install umap-learn"):
        api.report(full, tmp_path / "r.html", method="umap")


def test_only_reports_are_replaced(full: Path, tmp_path: Path) -> None:
    mine = tmp_path / "thesis.html"
    mine.write_text("<p>mine</p>")
    with pytest.raises(StoreError, match="is no report"):
        api.report(full, mine)
    assert mine.read_text() == "<p>mine</p>"
    with pytest.raises(StoreError, match="is a folder"):
        api.report(full, tmp_path)
    out = tmp_path / "new" / "r.html"
    first = api.report(full, out).size_bytes
    assert api.report(full, out).size_bytes == first
    assert [path.name for path in out.parent.iterdir()] == ["r.html"]


def test_a_full_disk_leaves_no_half_page(full: Path) -> None:
    with pytest.raises(StoreUnwritable, match="bytes needed"):
        api.report(full, Path("/proc/report.html"))


def test_an_empty_store(made: ModuleType, tmp_path: Path) -> None:
    made.create_store(tmp_path / "store")
    told = written(tmp_path / "store", tmp_path / "r.html")
    assert tuple(told.sections()) == SECTIONS
    assert "no clips and no rows yet" in told.text
    assert "No rows yet" in told.text


def test_a_manifest_and_no_rows_yet(copy: Path, tmp_path: Path) -> None:
    for path in (copy / "parts").iterdir():
        path.unlink()
    assert "0 of 60 clips complete, 60 left to do, 3 backbones" in written(copy, tmp_path / "r.html").text


def test_no_manifest(copy: Path, tmp_path: Path) -> None:
    (copy / "manifest.csv").unlink()
    (copy / "manifest.dense.csv").unlink()
    told = written(copy, tmp_path / "r.html").text
    assert "58 clips, 4 masked" in told
    assert "keeps no manifest" in told
    assert "its file is unknown" in told


def test_no_ledger(copy: Path, tmp_path: Path) -> None:
    shutil.rmtree(copy / "runs")
    told = written(copy, tmp_path / "r.html").text
    assert "No run is recorded" in told
    assert "--videos DIR names it" in told


def test_videos_names_the_folder(copy: Path, full: Path, tmp_path: Path) -> None:
    shutil.rmtree(copy / "runs")
    told = written(copy, tmp_path / "r.html", videos=str(full.parent / "manifests"))
    assert any(attrs.get("alt", "").startswith("frame at") for _, attrs in told.elements)


def test_broken_ledgers_and_manifests_are_told(copy: Path, tmp_path: Path) -> None:
    (copy / "runs" / "20261122T000000Z-cccc.jsonl").write_text("{no json}\n")
    (copy / "runs" / "20261122T000001Z-dddd.jsonl").write_text('{"line": "header", "started"')
    (copy / "manifest.csv").write_text("what,is,this\n")
    told = written(copy, tmp_path / "r.html").text
    assert "20261122T000000Z-cccc.jsonl cannot be read" in told
    assert "manifest.csv cannot be read" in told
    assert "2026-11-21 09:30" in told


def test_a_damaged_part_is_told(copy: Path, tmp_path: Path) -> None:
    part = sorted((copy / "parts").glob("*.h5"))[0]
    part.write_bytes(part.read_bytes()[:5000])
    told = written(copy, tmp_path / "r.html").text
    assert "1 DAMAGED file" in told
    assert part.name in told


def test_a_flipped_bit_is_told_with_verify(copy: Path, made: ModuleType, tmp_path: Path) -> None:
    from extract.store import Store

    place = Store(copy).location(made.clip_id(1), made.STILL.key)
    raw = bytearray(place.part.read_bytes())
    raw[(place.offset_bytes or 0) + 9] ^= 64
    place.part.write_bytes(raw)
    assert "Verification" not in written(copy, tmp_path / "r.html").text
    told = written(copy, tmp_path / "r.html", verify=True).text
    assert "Verification" in told
    assert f"{made.STILL.key} {made.clip_id(1)}" in told


def test_a_sound_store_is_said_to_be_sound(made: ModuleType, tmp_path: Path) -> None:
    store = made.make_store(tmp_path / "store", clips=3, media=0)
    assert "what it says it is" in written(store, tmp_path / "r.html", verify=True).text


def test_a_read_only_store(copy: Path, tmp_path: Path) -> None:
    before = sorted(copy.rglob("*"))
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert "50 of 60 clips complete" in written(copy, tmp_path / "r.html").text
    finally:
        for path in (copy, *copy.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert sorted(copy.rglob("*")) == before


def test_a_run_in_progress_is_said(full: Path, tmp_path: Path) -> None:
    from extract.store.runs import Lock

    with Lock(full):
        assert "A run is writing to this store" in written(full, tmp_path / "r.html").text


def test_files_that_are_no_media_are_said_in_their_place(copy: Path, made: ModuleType, tmp_path: Path) -> None:
    shutil.rmtree(copy / "runs")
    listed = read_manifest(copy / "manifest.csv")
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / Path(listed[0].path).name).write_bytes(b"no film")
    (tmp_path / "manifests").mkdir()
    told = written(copy, tmp_path / "r.html", videos=str(tmp_path / "manifests"), clips=(made.clip_id(0),)).text
    assert "no known demuxer reads it" in told


def test_the_page_stays_small_with_many_clips_and_labels(made: ModuleType, tmp_path: Path) -> None:
    store = made.make_store(tmp_path / "store", clips=150, media=0)
    clips = [
        Clip(clip.clip_id, clip.path, 0, clip.stop_ns, (f"label {i}",) * 40 + ("x" * 5000,), f"split {i}")
        for i, clip in enumerate(read_manifest(store / "manifest.csv"))
    ]
    write_manifest(store / "manifest.csv", clips)
    done = api.report(store, tmp_path / "r.html")
    assert done.size_bytes < 1_000_000
    told = Page(done.path.read_text()).text
    assert "and 121 more labels" in told
    assert "other splits" in told


def test_the_command(full: Path, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from extract.commands.report import report

    out = tmp_path / "r.html"
    said = CliRunner().invoke(report, [str(full), "-o", str(out), "--clips", "vid00007_7_17, vid00008_8_18"])
    assert said.exit_code == 0, said.output
    assert said.output.startswith("50 of 60 clips complete, 4 masked, 4 failed, 2 left to do, 3 backbones")
    assert str(out) in said.output
    assert out.read_text().count('class="sheet"') == 2
