"""The clip networks against those they were published as: their outputs on made-up weights, their files, their operations.

tests/golden/slowfast.npz was made with pytorchvideo 0.1.5; avslowfast.npz with the author's code (SlowFast pull request 219);
cmac_resnet9.npz with GDT's src/resnet.py. Each also lists the keys and shapes of its network's checkpoint.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from backbones import registry
from backbones.nets.avslowfast import resampled
from backbones.nets.slowfast import split
from backbones.random import skip_initialisation
from backbones.sources import Source
from backbones.state import fit
from backbones.weights import materialise
from extract.errors import LayoutMismatch
from extract.prepare import log_mel

State = dict[str, torch.Tensor]
RANDOM = Source("random", seed=0)


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def shapes(golden: dict[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {
        str(key): tuple(int(side) for side in shape if side)
        for key, shape in zip(golden["keys"], golden["shapes"], strict=True)
    }


def recipe(golden_weights: ModuleType, namespace: str, golden: dict[str, np.ndarray], *closing: str) -> State:
    keys = shapes(golden)
    scales = {key: 0.25 for key in keys if key.endswith(closing)} if closing else {}
    state: State = golden_weights.torch_state(namespace, keys, scales)
    return state


def off(got: torch.Tensor, expected: np.ndarray) -> float:
    """Largest error, relative to the largest value."""
    return float(np.abs(got.numpy() - expected).max() / np.abs(expected).max())


def fitted(name: str, state: State) -> torch.nn.Module:
    backbone = registry.get(name)
    with skip_initialisation():
        module = backbone.build().eval()
    fit(module, backbone.adapt((state,)), name)
    return module


@pytest.mark.parametrize(
    ("name", "gmacs"),
    [
        ("r2plus1d_34_8", 38.2),
        ("r2plus1d_34_32", 152.8),
        ("slowfast_4x16_r50", 36.34),
        ("avslowfast_4x16_r50", 39.871),
        ("slowfast_4x16_r50_slow", None),
        ("slowfast_4x16_r50_fast", None),
        ("avslowfast_4x16_r50_slow", None),
        ("avslowfast_4x16_r50_fast", None),
        ("avslowfast_4x16_r50_audio", None),
        ("cmac_r2plus1d_18", None),
        ("cmac_resnet9", None),
    ],
)
def test_operations(name, gmacs):
    """What is published counts normalisations and means as well, which are less than one in a hundred."""
    backbone = registry.get(name)
    with torch.device("meta"):
        module = backbone.build().eval()
        inputs = [torch.empty((1, *view.input_shape)) for view in backbone.views]
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        assert module(*inputs).shape == (1, *backbone.dims)
    measured = counter.get_total_flops() / 2e9
    assert measured == pytest.approx(backbone.gmacs, abs=0.006)
    if gmacs:
        assert 0.99 * gmacs < measured <= gmacs


# ---- R(2+1)D-34 ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ig65m() -> State:
    """A file as moabitcoin/ig65m-pytorch publishes it for 32 frames: torchvision's names, 359 classes."""
    state = materialise(registry.get("r2plus1d_34_32"), RANDOM, folded=False).net.state_dict()
    return dict(state) | {"fc.weight": torch.zeros(359, 512), "fc.bias": torch.zeros(359)}


def test_ig65m_file(ig65m, tmp_path):
    counted = [
        t for key, t in ig65m.items() if not key.endswith(("running_mean", "running_var", "num_batches_tracked"))
    ]
    assert sum(t.numel() for t in counted) == 63_676_142
    for stage, width, first, second in ((2, 128, 230, 288), (3, 256, 460, 576), (4, 512, 921, 1152)):
        block = f"layer{stage}.0"
        assert ig65m[f"{block}.conv1.0.0.weight"].shape == (first, width // 2, 1, 3, 3)
        assert ig65m[f"{block}.conv2.0.0.weight"].shape == (second, width, 1, 3, 3)
        assert ig65m[f"{block}.conv2.0.3.weight"].shape == (width, second, 3, 1, 1)
    backbone = registry.get("r2plus1d_34_32")
    torch.save(ig65m, tmp_path / backbone.weights[0][0].filename)
    module = materialise(backbone, Source("folder", folder=tmp_path), allow_unverified=True, folded=False)
    assert torch.equal(module.net.layer4[0].conv2[0][0].weight, ig65m["layer4.0.conv2.0.0.weight"])
    assert {norm.eps for norm in module.modules() if isinstance(norm, torch.nn.BatchNorm3d)} == {1e-3}


def test_torchvisions_own_count_of_middle_channels_is_refused(ig65m):
    """A VideoResNet without the three replaced convolutions is another network."""
    state = ig65m | {"layer2.0.conv2.0.0.weight": torch.zeros(230, 128, 1, 3, 3)}
    with pytest.raises(
        LayoutMismatch, match=r"1 of another shape: net\.layer2\.0\.conv2\.0\.0\.weight \(230, .* \(288, "
    ):
        fitted("r2plus1d_34_32", state)


def test_ig65m_files_are_four_networks():
    names = {"r2plus1d_34_8", "r2plus1d_34_8_kinetics", "r2plus1d_34_32", "r2plus1d_34_32_kinetics"}
    assert {name for name in registry.names() if name.startswith("r2plus1d_34")} == names
    rows = {name: registry.get(name).weights[0][0] for name in names}
    assert len({row.sha256 for row in rows.values()}) == 4
    for name, row in rows.items():
        backbone = registry.get(name)
        assert f"clip{backbone.view.count}_" in row.filename
        assert ("ft_kinetics" in row.filename) == name.endswith("_kinetics")
        assert backbone.window_s == pytest.approx(backbone.view.count / 30)


# ---- SlowFast --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slowfast(golden: Path) -> dict[str, np.ndarray]:
    return arrays(golden / "slowfast.npz")


@pytest.fixture(scope="module")
def pytorchvideo(golden_weights: ModuleType, slowfast: dict[str, np.ndarray]) -> State:
    return recipe(golden_weights, "slowfast_4x16_r50", slowfast, "norm_c.weight")


@pytest.fixture(scope="module")
def clip(golden_weights: ModuleType) -> torch.Tensor:
    pixels = golden_weights.unit("slowfast/fast", (1, 3, 32, 224, 224)).astype(np.float32)
    return torch.from_numpy(pixels).transpose(1, 2)


def test_slowfast_is_pytorchvideos(tmp_path, slowfast, pytorchvideo, clip):
    backbone = registry.get("slowfast_4x16_r50")
    file = tmp_path / "SLOWFAST_4x16_R50.pyth"
    torch.save({"model_state": pytorchvideo, "epoch": 196}, file)
    module = materialise(backbone, Source("folder", folder=tmp_path), allow_unverified=True)
    with torch.inference_mode():
        assert off(module(clip)[0], slowfast["pooled_2304"]) <= 1e-5


def test_pathways_of_slowfast(pytorchvideo, clip):
    small = clip[..., :64, :64]
    with torch.inference_mode():
        both = fitted("slowfast_4x16_r50", pytorchvideo)(small).numpy()
        assert off(fitted("slowfast_4x16_r50_slow", pytorchvideo)(small), both[:, :2048]) <= 1e-6
        assert off(fitted("slowfast_4x16_r50_fast", pytorchvideo)(small), both[:, 2048:]) <= 1e-6


def test_slow_frames_are_not_evenly_spaced():
    frames = torch.arange(32.0).reshape(1, 32, 1, 1, 1).expand(1, 32, 3, 2, 2)
    slow, fast = split(frames)
    assert slow[0, 0, :, 0, 0].tolist() == torch.linspace(0, 31, 4).long().tolist() == [0, 10, 20, 31]
    assert fast[0, 0, :, 0, 0].tolist() == list(range(32))
    with pytest.raises(ValueError, match="32 frames at a time, got 16"):
        split(frames[:, :16])


def test_pyslowfasts_own_checkpoint_names(pytorchvideo):
    """The layout of a checkpoint that PySlowFast itself writes."""
    ours = registry.get("slowfast_4x16_r50").adapt((pytorchvideo,))
    words = {
        "s1.pathway0_stem.conv.weight": "slow.conv.weight",
        "s1.pathway1_stem.bn.running_var": "fast.bn.running_var",
        "s1_fuse.conv_f2s.weight": "fuse.1.conv.weight",
        "s4_fuse.bn.bias": "fuse.4.bn.bias",
        "s2.pathway1_res0.branch1.weight": "fast.res.2.0.downsample.0.weight",
        "s2.pathway1_res0.branch1_bn.weight": "fast.res.2.0.downsample.1.weight",
        "s4.pathway0_res5.branch2.b.weight": "slow.res.4.5.b.weight",
        "s5.pathway0_res2.branch2.c_bn.running_mean": "slow.res.5.2.c_bn.running_mean",
    }
    theirs = {key: ours[name] for key, name in words.items()} | {"head.projection.weight": torch.zeros(400, 2304)}
    adapted = registry.get("slowfast_4x16_r50").adapt((theirs,))
    assert set(adapted) == set(words.values())
    assert all(adapted[name] is ours[name] for name in adapted)


def test_wrong_slowfast_files(pytorchvideo):
    kernel_of_seven = pytorchvideo | {
        f"blocks.{k}.multipathway_fusion.conv_fast_to_slow.weight": torch.zeros(2 * c, c, 7, 1, 1)
        for k, c in enumerate((8, 32, 64, 128))
    }
    with pytest.raises(
        LayoutMismatch, match=r"4 of another shape: fuse\.1\.conv\.weight \(16, 8, 7, 1, 1\) instead of"
    ):
        fitted("slowfast_4x16_r50", kernel_of_seven)
    with pytest.raises(LayoutMismatch, match=r"2 unknown: blocks\.6\.extra\.weight, extra"):
        fitted("slowfast_4x16_r50", pytorchvideo | {"blocks.6.extra.weight": torch.zeros(1), "extra": torch.zeros(1)})
    short = {key: value for key, value in pytorchvideo.items() if not key.startswith("blocks.3.multipathway_fusion")}
    with pytest.raises(LayoutMismatch, match=r"5 missing: fuse\.4\.conv\.weight"):
        fitted("slowfast_4x16_r50", short)
    with pytest.raises(LayoutMismatch, match=r"pytorchvideo .* or PySlowFast .* the file's keys are stem\.0\.weight"):
        fitted("slowfast_4x16_r50", {"stem.0.weight": torch.zeros(1)})


# ---- AVSlowFast ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def avslowfast(golden: Path) -> dict[str, np.ndarray]:
    return arrays(golden / "avslowfast.npz")


@pytest.fixture(scope="module")
def pull_request(golden_weights: ModuleType, avslowfast: dict[str, np.ndarray]) -> State:
    return recipe(golden_weights, "avslowfast", avslowfast, "branch2.c_bn.weight", "branch2.out_bn.weight")


@pytest.fixture(scope="module")
def window(golden_weights: ModuleType) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames, and a spectrogram that is the golden's input once it is standardised."""
    pixels = golden_weights.unit("avslowfast/fast", (1, 3, 32, 224, 224)).astype(np.float32)
    sound = golden_weights.unit("avslowfast/audio", (1, 128, 80)) * 4.66 - 7.03
    return torch.from_numpy(pixels).transpose(1, 2), torch.from_numpy(sound.astype(np.float32))


def test_avslowfast_is_the_authors(tmp_path, avslowfast, pull_request, window):
    """Through one's own checkpoint, every stage of every pathway."""
    torch.save({"model_state": pull_request}, tmp_path / "avslowfast_4x16_r50.pth")
    backbone = registry.get("avslowfast_4x16_r50")
    module = materialise(backbone, Source("folder", folder=tmp_path), allow_unverified=True, folded=False)
    maps: dict[str, torch.Tensor] = {}

    def keep(name):
        # the networks work in place on what they return
        return lambda _module, _args, out: maps.update({name: out.clone()})

    for place, pathway in enumerate((module.slow, module.fast, module.audio)):
        for stage, blocks in pathway.res.items():
            blocks.register_forward_hook(keep(f"s{stage}_p{place}"))
    for stage, place in (("4", "s3_fuse_p0"), ("5", "s4_fuse_p0")):
        module.slow.res[stage].register_forward_pre_hook(
            lambda _module, args, place=place: maps.update({place: args[0].clone()})
        )
    with torch.inference_mode():
        row = module(*window)[0]
    assert off(row, avslowfast["pooled_3328"]) <= 1e-4
    assert len(maps) == 14
    for name, out in maps.items():
        theirs = tuple(avslowfast[f"shape_{name}"])
        assert tuple(out.shape) == (theirs if out.ndim == 5 else (theirs[0], theirs[1], *theirs[3:])), name
        assert off(out.flatten(2).mean(2)[0], avslowfast[f"chmean_{name}"]) <= 1e-4, name


def test_pathways_of_avslowfast(pull_request, window):
    small, sound = window[0][..., :64, :64], window[1]
    with torch.inference_mode():
        whole = fitted("avslowfast_4x16_r50", pull_request)(small, sound).numpy()
        for pathway, eaten, modality, part in (
            ("slow", (small, sound), "audio-visual", slice(0, 2048)),
            ("fast", (small,), "visual", slice(2048, 2304)),
            ("audio", (sound,), "audio", slice(2304, 3328)),
        ):
            name = f"avslowfast_4x16_r50_{pathway}"
            assert registry.get(name).modality == modality
            assert off(fitted(name, pull_request)(*eaten), whole[:, part]) <= 1e-6


def test_spectrograms_are_resampled_and_standardised_as_the_author_does(avslowfast):
    spectrogram = torch.from_numpy(avslowfast["logmel_2s"])[None]
    assert torch.equal(resampled(spectrogram)[0], torch.from_numpy(avslowfast["logmel_128_normalized"]))
    for frames in (100, 124, 128, 132):
        counted = torch.arange(float(frames)).reshape(1, frames, 1)
        index = (resampled(counted) * 4.66 - 7.03).round().long().flatten()
        assert index.tolist() == torch.linspace(0, frames - 1, 128).long().tolist()
    assert avslowfast["logmel_index"].tolist() == torch.linspace(0, 123, 128).long().tolist()


def test_the_sound_of_avslowfast_is_librosas_log_mel():
    librosa = pytest.importorskip("librosa")
    sound = registry.get("avslowfast_4x16_r50_audio").view
    assert (sound.samples, sound.input_shape) == (34_133, (132, 80))
    time_s = np.arange(sound.samples) / sound.rate_hz
    noise = np.random.default_rng(0).uniform(-0.05, 0.05, sound.samples)
    wave = (0.4 * np.sin(2 * np.pi * (200 + 900 * time_s) * time_s) + noise).astype(np.float32)
    wave[9000:12000] = 0.0
    theirs = librosa.feature.melspectrogram(
        y=wave, sr=16_000, n_fft=512, win_length=512, hop_length=256, n_mels=80, htk=True, center=False
    )
    ours = log_mel(torch.from_numpy(wave)[None], sound)[0].numpy()
    assert np.abs(ours - np.log(theirs + 1e-8).T).max() <= 1e-3


def test_frames_are_made_once_for_both_networks():
    slowfast, avslowfast = registry.get("slowfast_4x16_r50"), registry.get("avslowfast_4x16_r50")
    assert slowfast.view == avslowfast.views[0]
    assert slowfast.window_s == avslowfast.window_s == pytest.approx(64 / 30)


def test_wrong_avslowfast_files(pull_request, pytorchvideo):
    with pytest.raises(
        LayoutMismatch, match=r"AVSlowFast in PySlowFast \(with the key s1\.pathway2_stem\.conv_t\.weight\)"
    ):
        fitted("avslowfast_4x16_r50", pytorchvideo)
    fused_early = pull_request | {"s2_fuse.conv_f2s.weight": torch.zeros(64, 32, 5, 1, 1)}
    with pytest.raises(LayoutMismatch, match=r"1 unknown: fuse\.2\.conv\.weight"):
        fitted("avslowfast_4x16_r50", fused_early)


# ---- CMAC ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def resnet9(golden: Path) -> dict[str, np.ndarray]:
    return arrays(golden / "cmac_resnet9.npz")


@pytest.fixture(scope="module")
def gdt(golden_weights: ModuleType, resnet9: dict[str, np.ndarray]) -> State:
    """GDT's audio network alone."""
    return recipe(golden_weights, "resnet9_audio", resnet9)


def test_the_audio_network_is_gdts(golden, resnet9, gdt):
    bank = torch.from_numpy(arrays(golden / "cmac_logfbank.npz")["logfbank_257x99"]).transpose(1, 2).contiguous()
    backbone = registry.get("cmac_resnet9")
    assert bank.shape[1:] == backbone.view.input_shape == (99, 257)
    with torch.inference_mode():
        assert off(fitted("cmac_resnet9", gdt)(bank), resnet9["feature_512"]) <= 1e-4


def test_cmac_files(tmp_path, gdt):
    """One's own training: each network alone, or GDT's whole model in both places."""
    visual = dict(materialise(registry.get("cmac_r2plus1d_18"), RANDOM, folded=False).net.state_dict())
    whole = {
        **{f"video_network.base.{key}": value for key, value in visual.items()},
        **{f"audio_network.base.{key}": value for key, value in gdt.items()},
        "audio_network.base.fc.weight": torch.zeros(1000, 512),
        "audio_network.base.fc.bias": torch.zeros(1000),
        "mlp_v.block_forward.2.weight": torch.zeros(512, 512),
        "mlp_a.block_forward.2.weight": torch.zeros(512, 512),
    }
    for name, alone, key in (
        ("cmac_r2plus1d_18", visual, "layer4.1.conv2.0.3.weight"),
        ("cmac_resnet9", gdt, "layer4.0.conv2.weight"),
    ):
        backbone = registry.get(name)
        assert [(row.uri, row.sha256, row.filename) for row in backbone.weights[0]] == [("", None, f"{name}.pth")]
        for content in (alone, {"model": whole}):
            torch.save(content, tmp_path / f"{name}.pth")
            module = materialise(backbone, Source("folder", folder=tmp_path), allow_unverified=True, folded=False)
            assert torch.equal(module.net.state_dict()[key], alone[key])
    with pytest.raises(LayoutMismatch, match=r"1 unknown: text_network\.weight"):
        fitted("cmac_resnet9", whole | {"text_network.weight": torch.zeros(1)})
    with pytest.raises(LayoutMismatch, match=r"torchvision .* or GDT \(with the key video_network\.base\.layer1"):
        fitted("cmac_r2plus1d_18", gdt)
