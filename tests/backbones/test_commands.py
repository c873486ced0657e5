from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace

import pytest
import torch
from click.testing import CliRunner

from backbones import registry
from backbones.spec import Frames, LogMel, Sound
from extract.commands.backbones import backbones
from extract.commands.zoo import view_words
from extract.errors import DigestMismatch, LayoutMismatch, PlanError, UnknownName, WeightsMissing


def run(*args: str, fails: type[Exception] | None = None):
    result = CliRunner().invoke(backbones, args)
    if fails is None:
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    else:
        assert isinstance(result.exception, fails), result.output
    return result


def test_list_has_a_line_for_every_backbone(cache):
    listed = run("list")
    assert listed.stderr.startswith("timm:NAME names any model of timm")
    lines = listed.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["name", *registry.names()]
    (line,) = [line for line in lines if line.startswith("resnet152")]
    assert " ".join(line.split()) == "resnet152 visual 2048 58.1 M 11.51 BSD-3-Clause 1 x 224x224 RGB fetch"
    (line,) = [line for line in lines if line.startswith("vggish ")]
    assert "0.975 s at 16 kHz, 96x64 spectrogram" in line
    cache.mkdir()
    (cache / "resnet152-b121ed2d.pth").touch()
    assert [line.split()[0] for line in run("list").output.splitlines() if line.endswith("here")] == ["resnet152"]


FRAMES = Frames(4, 256, 224)
MEL = LogMel(400, 400, 160, 64, 100.0, 4000.0, log="db", pad=(1, 2))
SOUND = Sound(16_000, 16_000, MEL)
OTHER_FRAMES = {"count": 2, "resize": (256, 256), "crop": 200, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)} | {
    "interpolation": "bicubic",
    "jpeg": "mjpeg_200k",
    "aspect": "storage",
}
OTHER_SOUND = {"rate_hz": 22_050, "samples": 8000, "spectrogram": None, "resample": "moviepy"}
OTHER_MEL = {"n_fft": 512, "win_length": 300, "hop_length": 80, "n_mels": 0, "f_min_hz": 50.0, "f_max_hz": 3000.0} | {
    "mel_scale": "slaney",
    "mel_norm": "slaney",
    "triangles": "mel",
    "power": 1,
    "mel_sqrt": True,
    "log": "ln",
    "offset": 0.5,
    "db_range": 40.0,
    "pad": (3, 4),
    "pad_mode": "reflect",
    "frames": 5,
    "window": "rectangular",
    "preemphasis": 0.9,
    "scale": 2.0,
    "pcm16": True,
    "repeat_to": 20_000,
}


@pytest.mark.parametrize(("view", "others"), [(FRAMES, OTHER_FRAMES), (SOUND, OTHER_SOUND), (MEL, OTHER_MEL)])
def test_the_words_for_a_view_leave_nothing_out(view, others):
    def words(view):
        return view_words(replace(SOUND, spectrogram=view) if isinstance(view, LogMel) else view)

    assert set(others) == {field.name for field in fields(view)}
    for name, value in others.items():
        assert words(replace(view, **{name: value})) != words(view), name


def test_list_picks_by_pattern_and_modality(zoo, tiny):
    registry.register(replace(tiny, extra="clap"))

    def names(*args):
        return [line.split()[0] for line in run("list", *args).output.splitlines()][1:]

    assert names("resnet1") == ["resnet101", "resnet152", "resnet18"]
    assert names("resnet?8", "VGGISH_PRE") == ["resnet18", "vggish_preact"]
    assert set(names("--modality", "audio")) == {n for n in registry.names() if registry.get(n).modality == "audio"}
    assert names("vggish_pre*", "resnet*", "--modality", "audio") == ["vggish_preact"]
    assert run("list", "tiny").output.splitlines()[1].endswith("random, needs extract-av[clap]")
    assert "pip install 'extract-av[clap]'" in run("show", "tiny").output
    said = "no visual backbone fits vggish; `extract backbones list` shows all"
    assert said in str(run("list", "vggish", "--modality", "visual", fails=PlanError).exception)


def test_show_describes_pictures_and_sound_in_words():
    output = " ".join(run("show", "resnet152").output.split())
    for said in (
        "1 RGB frame per row, 224 x 224",
        "resized to a short side of 256 pixels, then the centre 224 x 224; bilinear, antialiased",
        "values in [0, 1], minus mean (0.485, 0.456, 0.406), over std (0.229, 0.224, 0.225)",
        " llp-clean, ",
        "or resnet152-b121ed2d.pth (sha256 b121ed2d; BSD-3-Clause)",
    ):
        assert said in output
    output = " ".join(run("show", "vggish").output.split())
    for said in (
        "0.975 s of mono sound at 16000 Hz (15600 samples) per row",
        "resampled by soxr HQ",
        "hann window of 400 samples every 160, FFT of 512",
        "64 mel bands (htk scale, triangles in mel) from 125 to 7500 Hz of the magnitude; ln(x + 0.01)",
        "96 spectrogram frames x 64 values",
    ):
        assert said in output


def test_show_says_where_weights_are_published(cache):
    output = run("show", "vggish_pca8").output
    for said in (
        "vggish-10086976.pth (sha256 10086976; Apache-2.0)",
        "https://storage.googleapis.com/audioset/vggish_pca_params.npz",
        "no published digest: --allow-unverified-weights",
        "Hershey et al. 2017",
        f"{cache}: not complete",
    ):
        assert said in output
    assert all(run("show", name).exit_code == 0 for name in registry.names())


def test_unknown_names():
    for command in ("show", "fetch", "check"):
        assert "did you mean" in str(run(command, "vgish", fails=UnknownName).exception)


def test_fetch_and_check_without_a_network(zoo, published):
    backbone, folder = published("a.pth")
    registry.register(backbone)
    for command in ("fetch", "check"):
        assert "a.pth is not on this machine" in str(run(command, "tiny", fails=WeightsMissing).exception)
    torch.save({"fc.weight": torch.ones(4, 3), "fc.bias": torch.ones(4)}, folder / "a.pth")
    assert "not the published file" in str(
        run("check", "tiny", "--weights", str(folder), fails=DigestMismatch).exception
    )
    result = run("check", "tiny", "--weights", str(folder), "--allow-unverified-weights")
    assert result.exit_code == 0
    assert "neighbours    ok" in result.output


def test_fetch_says_what_is_there(zoo, published, cache):
    backbone, folder = published("a.pth")
    registry.register(backbone)
    folder.rename(cache)
    digest = backbone.weights[0][0].sha256[:8]
    assert run("fetch", "tiny").output == f"tiny: {cache / 'a.pth'}\ntiny: licence MIT\ntiny: sha256:{digest}\n"


def restricted(backbone, note=""):
    """The same, with a licence that forbids something."""
    row = replace(backbone.weights[0][0], licence="CC-BY-NC-4.0", note=note)
    return replace(backbone, weights=((row,),))


def test_a_licence_that_forbids_something_is_said_everywhere(zoo, published, cache):
    backbone, folder = published("a.pth")
    registry.register(restricted(backbone, note="ask the authors"))
    folder.rename(cache)
    assert "CC-BY-NC-4.0 (no commercial use)" in run("list", "tiny").output
    assert "LICENCE: no commercial use" in run("show", "tiny").output
    assert "licence CC-BY-NC-4.0 (no commercial use); ask the authors" in run("fetch", "tiny").output


def test_fetch_from_a_folder(zoo, published, cache):
    backbone, folder = published("a.pth")
    registry.register(backbone)
    assert "--from nowhere: give a folder" in str(
        run("fetch", "tiny", "--from", "nowhere", fails=WeightsMissing).exception
    )
    assert f"tiny: {cache / 'a.pth'}" in run("fetch", "tiny", "--from", str(folder)).output
    (cache / "a.pth").unlink()
    torch.save({"fc.weight": torch.ones(4, 3)}, folder / "a.pth")
    said = str(run("fetch", "tiny", "--from", str(folder), fails=DigestMismatch).exception)
    assert "a.pth is published with sha256" in said


def test_fetch_goes_on_after_one_that_cannot_be_had(zoo, published, cache):
    backbone, folder = published("a.pth")
    registry.register(backbone)
    lost = replace(backbone.weights[0][0], uri="http://127.0.0.1:9/lost.pth", filename="lost.pth")
    registry.register(replace(backbone, name="lost", weights=((lost,),)))
    registry.register(replace(backbone, name="never", weights=()))
    folder.rename(cache)
    result = run("fetch", "lost", "never", "tiny", fails=WeightsMissing)
    assert f"tiny: {cache / 'a.pth'}" in result.output
    assert "lost.pth is not on this machine" in str(result.exception)
    assert "no trained weights of never were ever published" in str(result.exception)


def test_fetch_for_a_recipe(zoo, published, cache, monkeypatch):
    from extract import recipes

    backbone, folder = published("a.pth")
    registry.register(backbone)
    folder.rename(cache)
    monkeypatch.setattr(recipes, "get", lambda name: replace(recipes.recipes()[0], backbones=("tiny", "tiny")))
    assert run("fetch", "--recipe", "mine").output.count("tiny: sha256:") == 1
    assert "name backbones" in run("fetch").output


def test_weights_of_ones_own(zoo, published, cache):
    backbone, folder = published("a.pth")
    row = replace(backbone.weights[0][0], uri="", sha256=None, filename="a.pth", licence="-")
    registry.register(replace(backbone, weights=((row,),)))
    assert run("list", "tiny").output.splitlines()[1].endswith("your own")
    assert "a.pth (never published: your own training; --weights DIR)" in run("show", "tiny").output
    assert "train it, put your a.pth into a folder" in str(run("fetch", "tiny", fails=WeightsMissing).exception)
    assert run("check", "tiny", "--weights", str(folder)).exit_code == 0


def test_a_wrong_file_under_the_right_name(zoo, published):
    """The expected layout and the first keys that differ, in the one line that the user sees."""
    backbone, folder = published("a.pth")
    registry.register(replace(registry.get("resnet18"), name="tiny", weights=backbone.weights))
    allow = ("--weights", str(folder), "--allow-unverified-weights")
    said = str(run("check", "tiny", *allow, fails=LayoutMismatch).exception)
    assert "a.pth for tiny: expected the layout of torchvision (with the key layer1.0.conv1.weight)" in said
    assert "the file's keys are fc.bias, fc.weight" in said
    torch.save({"layer1.0.conv1.weight": torch.zeros(64, 64, 3, 3), "more": torch.zeros(1)}, folder / "a.pth")
    said = str(run("check", "tiny", *allow, fails=LayoutMismatch).exception)
    assert "missing: net.conv1.weight, net.bn1.weight, net.bn1.bias, …; 1 unknown: net.more" in said


@pytest.mark.parametrize(("params", "code"), [(16, 0), (15, 1)])
def test_check_exits_with_1_if_one_fails(zoo, tiny, params, code):
    registry.register(replace(tiny, params=params))
    result = run("check", "tiny", "--weights", "random:0")
    assert result.exit_code == code
    assert ("FAILED" in result.output) is bool(code)
    assert "not run none is known for this network" in result.output


def test_check_of_everything(zoo, tiny, published, cache):
    """What lacks its weights or its library is not run; everything else is, whatever becomes of the one before."""
    backbone, _ = published("a.pth")

    def lacking():
        import a_library_that_is_not_here  # noqa: F401

    zoo.clear()
    for each in (
        tiny,
        replace(tiny, name="lacks_library", build=lacking, extra="clap"),
        replace(backbone, name="lacks_weights"),
        replace(tiny, name="wrong", dims=(5,)),
    ):
        registry.register(each)
    result = run("check", "--all", "--weights", "random:0")
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[0].startswith("lacks_library: not run lacks_library needs more")
    assert "tiny: blank         ok" in result.output
    assert "wrong: shape         FAILED" in result.output
    assert lines[-1] == "failed: wrong"
    result = run("check", "--all")
    assert result.exit_code == 0
    assert "lacks_weights: not run the weight file a.pth is not on this machine" in result.output
    assert result.output.splitlines()[-1] == "none failed"
    for args in ((), ("tiny", "--all")):
        assert "name backbones" in run("check", *args).output


def test_check_frees_each_network(zoo, tiny, monkeypatch):
    """Networks that hold themselves, as many do, are not all in memory at the end."""
    import weakref

    built = []

    def build():
        alive = [ref for ref in built if ref() is not None]
        assert not alive
        module = tiny.build()
        module.itself = [module]
        built.append(weakref.ref(module))
        return module

    zoo.clear()
    for name in ("a", "b", "c"):
        registry.register(replace(tiny, name=name, build=build))
    assert run("check", "--all", "--weights", "random:0").exit_code == 0
    assert len(built) == 3


def test_listing_is_fast_and_imports_no_torch():
    """The whole zoo in the blink of an eye; the bound is of processor time, for the machine may be busy."""
    code = (
        "import sys, time; from extract.cli import extract\n"
        "try: extract(['backbones', 'list'])\n"
        "except SystemExit: pass\n"
        "loaded = [name for name in ('torch', 'numpy', 'urllib.request') if name in sys.modules]\n"
        "print(loaded, time.process_time(), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, seconds = done.stderr.splitlines()[-1].rsplit(maxsplit=1)
    assert loaded == "[]"
    assert float(seconds) < 0.5
