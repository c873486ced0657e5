"""Real clips, the whole way: the shipped LLP clip as its authors saw it, and every odd file in ../shared/clips."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from extract.grid import NS
from extract.store.catalog import Store
from extract.store.verify import verify
from manifests.clip import Clip, read_manifest, write_manifest

LONG = "long_1080p_videoonly_lowbitrate"  # six minutes of 1080p: too long for every run of the suite


@pytest.mark.slow
def test_the_llp_clip(way: ModuleType, shared: Path, tmp_path: Path) -> None:
    source = shared / "clips" / "YapengTian__AVVP-ECCV20" / "BjCEufrlXm4.mp4"
    clip = Clip("BjCEufrlXm4_20_30", str(source), 0, 10 * NS, ("Speech",), "train")
    write_manifest(tmp_path / "llp.csv", [clip])
    store_path = tmp_path / "s"
    done = way.cli("run", tmp_path / "llp.csv", "--weights", "random:0", "--out", store_path, timeout_s=280)
    assert done.returncode == 0, done.stderr
    assert "1 clips: 1 complete, 0 masked, 0 failed" in done.stdout
    store = Store(store_path)
    shapes = {name: store[clip.clip_id, name].shape for name in ("resnet152", "r2plus1d_18", "vggish")}
    assert shapes == {"resnet152": (80, 2048), "r2plus1d_18": (10, 512), "vggish": (10, 128)}
    rows = {name: store.rows(clip.clip_id, store.resolve(name)) for name in shapes}
    assert all(each.valid.all() for each in rows.values())
    assert all(each.data.std(axis=0).any() for each in rows.values()), "no two seconds are alike"

    frames = _official_frames(shared, source)
    times_ns = rows["resnet152"].source_ns[:, 0]
    assert len(frames) == 80
    assert times_ns.tolist() == frames
    assert rows["r2plus1d_18"].source_ns.reshape(-1).tolist() == times_ns.tolist()
    assert rows["vggish"].source_ns[:, 0].tolist() == [second * NS for second in range(10)]
    assert verify(store_path) == []


def _official_frames(shared: Path, source: Path) -> list[int]:
    """Presentation times in ns of the 80 frames that the official scripts fed, by the JPEGs that their authors shipped."""
    import av

    picked = json.loads((shared / "data" / "llp" / "frames_BjCEufrlXm4" / "frame_map.json").read_text())
    with av.open(str(source)) as file:
        stream = file.streams.video[0]
        times = sorted(packet.pts for packet in file.demux(stream) if packet.pts is not None)
        ns = [round(time * stream.time_base * NS) for time in times]
    frames = picked["jpeg_to_source_frame"]
    return [ns[frames[i]] for i in np.round(np.linspace(0, len(frames) - 1, 80)).astype(int)]


@pytest.fixture(scope="session")
def real(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of every file in ../shared/clips but the longest, by the builder for folders."""
    from click.testing import CliRunner

    from extract.commands.manifest import manifest

    path = tmp_path_factory.mktemp("real") / "clips.csv"
    result = CliRunner().invoke(manifest, ["folder", str(shared / "clips"), "-o", str(path)])
    assert result.exit_code == 0, result.output
    write_manifest(path, [_absolute(clip, path) for clip in read_manifest(path) if LONG not in clip.clip_id])
    return path


def _absolute(clip: Clip, manifest: Path) -> Clip:
    from dataclasses import replace

    from manifests.clip import resolve

    return replace(clip, path=str(resolve(clip, manifest)))


# What becomes of pictures and of sound, where that is not rows: by clip id without its folder, as the manifest names them.
# Every other file gives both.
OUTCOMES = {
    ("", "no_audio"): (
        "bitmap bbb_176x144_128kbps_15fps_h263 bbb_800x640_768kbps_30fps_avc_2b_firstpts_10_sec bbb_800x640_768kbps_30fps_vp9 "
        "sample_android_slow_motion sample_av1 sample_vvc unordered video_180 video_90 webm S001C001P001R001A001_rgb demo "
        "part_0 test.mp4 av1_video bt709_full_range h264_10bits h265_10bits h265_video fixture-null fixture.mpg fixture2"
    ),
    ("no_video", ""): (
        "chirp_1s chirp_44k chirp_mono chirp_stereo real_32k_mono_7s real_44k_stereo_10s short silence torchvggish_test "
        "bbb_1ch_16kHz_aac sample_with_opus_audio mp4-with-audio"
    ),
    ("no_video", "zero_duration"): "empty",
    ("undecodable", "no_audio"): "corrupted",
    ("zero_duration", "no_audio"): "AudioVideoInterleave WindowsMediaVideo",
    ("not_media", "not_media"): "FlashVideo Mpeg4 fixture-corrupt",
}


@pytest.fixture(scope="session")
def on_local(way: ModuleType, real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("local") / "s"
    done = way.cli(*way.run_args(real, store, "--chunk", 8, "--lanes", 2), timeout_s=250)
    assert done.returncode == 1, done.stderr
    return store


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_every_real_clip_ends_as_expected(way: ModuleType, real: Path, on_local: Path) -> None:
    store = Store(on_local)
    assert verify(on_local) == []
    told = {(remark.clip_id, remark.key.split("@")[0]): remark.reason for remark in store.failed()}
    told |= {
        (remark.clip_id, remark.key.split("@")[0]): remark.reason
        for remark in store.masked()
        if remark.reason == "no_audio"
    }
    expected = {name: outcome for outcome, names in OUTCOMES.items() for name in names.split()}
    wrong = []
    for clip in read_manifest(real):
        eye = {told.get((clip.clip_id, name), "") for name in ("tiny_frames", "tiny_clips")}
        found = ("+".join(sorted(eye)), told.get((clip.clip_id, "tiny_sound"), ""))
        if found != expected.pop(clip.clip_id.rsplit("__", 1)[-1], ("", "")):
            wrong.append((clip.clip_id, found))
    assert not wrong
    assert not expected, "files that are not there any more"
    keys = [info.key for info in store.keys()]  # noqa: SIM118 - a Store is no dict
    for clip in read_manifest(real):
        for key in keys:
            if (clip.clip_id, key) in store:
                rows = store.rows(clip.clip_id, key)
                filled = rows.valid == 0
                assert rows.data[~filled].any() or filled.all(), (clip.clip_id, key)
                assert (rows.source_ns[~filled] >= 0).all(), "what is valid has a source"


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.xdist_group("ray")
def test_both_engines_give_equal_bytes(way: ModuleType, real: Path, on_local: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    args = way.run_args(real, tmp_path / "s", "--chunk", 8, "--lanes", 2, "--engine", "ray")
    process = way.start(*args, mark=str(tmp_path))
    stdout, stderr = process.communicate(timeout=250)
    assert process.returncode == 1, stderr
    assert "81 clips" in stdout
    assert way.parts(tmp_path / "s") == way.parts(on_local)
    assert not way.alive(str(tmp_path)), "nothing of the cluster is left"
