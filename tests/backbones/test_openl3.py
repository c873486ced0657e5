"""Our OpenL3 against TensorFlow's on the same made-up weights, from files as openl3 and torchopenl3 publish theirs.

tests/golden/openl3_*.npz are slices of what openl3 0.4.2 gave (kapre 0.3.7, librosa 0.10.2; kapre 0.1.4's source for kapre014).
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest
import torch

from backbones import registry
from backbones.nets.openl3 import WIDTHS
from backbones.sources import Source
from backbones.state import fit, load_state
from backbones.views import describe_view
from backbones.weights import materialise
from extract.errors import LayoutMismatch, WeightsMissing
from extract.prepare import log_mel

FRONTS = ("kapre014", "kapre", "librosa")
CASES = [("linear", "kapre014"), *((mel, front) for mel in ("mel128", "mel256") for front in FRONTS)]
BAND_STEP = {"linear": 32, "mel128": 8, "mel256": 16}  # of the spectrogram's slices in tests/golden
Layers = list[tuple[str, dict[str, np.ndarray]]]


def name_of(representation: str, front: str, size: int = 512) -> str:
    return f"openl3_audio_{representation}_env_{size}" + ("" if front == "kapre014" else f"_{front}")


def keras_layers(recipe: ModuleType, namespace: str, channels: int) -> Layers:
    """The sixteen layers with weights, in the file's order: the goldens' recipe in Keras's shapes."""

    def drawn(key: str, *shape: int) -> np.ndarray:
        return recipe.unit(f"{namespace}/{key}", shape)

    layers = []
    before = channels
    for place, width in enumerate(WIDTHS):
        norm = {leaf: 1 + 0.2 * drawn(f"bn_{place}/{leaf}", before) for leaf in ("gamma", "moving_variance")}
        norm |= {leaf: 0.1 * drawn(f"bn_{place}/{leaf}", before) for leaf in ("beta", "moving_mean")}
        kernel = drawn(f"conv_{place}/kernel", 3, 3, before, width) * np.sqrt(6 / (9 * before))
        conv = {"kernel": kernel, "bias": 0.1 * drawn(f"conv_{place}/bias", width)}
        layers += [("batch_normalization", norm), ("conv2d", conv)]
        before = width
    return [(kind, {leaf: value.astype(np.float32) for leaf, value in found.items()}) for kind, found in layers]


def write_h5(
    path: Path, layers: Layers, first: int = 0, last: str = "audio_embedding_layer", old: bool = False
) -> Path:
    """As Keras's save_weights does: every layer has a group, those without weights an empty one; numbers go on from `first`."""
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    numbers = {"batch_normalization": first, "conv2d": max(0, first - 15)}
    order = ("gamma", "beta", "moving_mean", "moving_variance", "kernel", "bias")
    with h5py.File(plain, "w") as file:
        names = ["input_1"]
        file.create_group("input_1").attrs["weight_names"] = np.array([], dtype="S1")
        if old:  # files of openl3 0.2 to 0.3 hold kapre's kernels
            names.append("melspectrogram_1")
            group = file.create_group("melspectrogram_1")
            group.attrs["weight_names"] = [b"melspectrogram_1/real_kernels:0"]
            group["melspectrogram_1/real_kernels:0"] = np.zeros((4, 1, 1, 3), np.float32)
        for place, (kind, found) in enumerate(layers):
            name = last if place == len(layers) - 1 else f"{kind}_{numbers[kind]}" if numbers[kind] else kind
            numbers[kind] += 1
            names.append(name)
            group = file.create_group(name)
            leaves = sorted(found, key=order.index)
            group.attrs["weight_names"] = [f"{name}/{leaf}:0".encode() for leaf in leaves]
            for leaf in leaves:
                group[f"{name}/{leaf}:0"] = found[leaf]
        file.attrs["layer_names"] = [name.encode() for name in names]
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.4.0"
    if plain != path:
        path.write_bytes(gzip.compress(plain.read_bytes(), 1))
        plain.unlink()
    return path


def run(net: torch.nn.Module, *inputs: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return net(*(torch.from_numpy(np.ascontiguousarray(array)) for array in inputs)).numpy()


def close(got: np.ndarray, expected: np.ndarray, tolerance: float) -> bool:
    return got.shape == expected.shape and bool(np.abs(got - expected).max() <= tolerance * np.abs(expected).max())


@pytest.fixture(scope="module")
def layers(golden_weights) -> Callable[[str], Layers]:
    made: dict[str, Layers] = {}

    def get(namespace: str) -> Layers:
        if namespace not in made:
            made[namespace] = keras_layers(golden_weights, namespace, 3 if namespace == "openl3.image" else 1)
        return made[namespace]

    return get


@pytest.fixture(scope="module")
def net(layers, tmp_path_factory) -> Callable[[str], torch.nn.Module]:
    """The network of a name, with the recipe's weights read from an official file."""
    folder = tmp_path_factory.mktemp("openl3")

    def get(name: str) -> torch.nn.Module:
        backbone = registry.get(name)
        image = name.startswith("openl3_image")
        namespace = "openl3.image" if image else f"openl3.audio.{name.split('_')[2]}"
        path = folder / f"{namespace}.h5"
        if not path.exists():
            write_h5(path, layers(namespace), 120, "vision_embedding_layer" if image else "audio_embedding_layer")
        module = backbone.build().eval()
        fit(module, backbone.adapt((load_state(path),)), name)
        return module

    return get


@pytest.fixture(scope="module")
def audio(golden: Path) -> dict[str, np.ndarray]:
    with np.load(golden / "openl3_audio.npz", allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


@pytest.fixture(scope="module")
def windows(audio) -> torch.Tensor:
    """Windows 0 and 2 of openl3's `center` with half a second between windows: the first begins with half a second of zeros."""
    samples = np.concatenate([np.zeros(24_000), audio["wav_int16"] / 32768]).astype(np.float32)
    return torch.from_numpy(np.stack([samples[:48_000], samples[48_000:]]))


# ---- numbers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("representation", "front"), CASES)
def test_from_samples_to_embeddings(net, audio, windows, representation, front):
    name = name_of(representation, front)
    decibels = log_mel(windows, registry.get(name).view)
    bands = audio[f"{representation}_{front}_spec"]
    off = np.abs(decibels[1].numpy().T[:: BAND_STEP[representation]] - bands)
    assert off.max() <= 0.1
    assert off.mean() <= 1e-3
    assert close(run(net(name), decibels.numpy()), audio[f"{representation}_{front}_512"], 1e-4)


@pytest.mark.parametrize("representation", ["linear", "mel128", "mel256"])
def test_large_embeddings_are_flattened_as_frequency_time_channel(net, audio, windows, representation):
    name = name_of(representation, "kapre014", 6144)
    got = run(net(name), log_mel(windows, registry.get(name).view).numpy())
    assert close(got[1], audio[f"{representation}_kapre014_6144"], 1e-4)


@pytest.mark.parametrize("representation", ["linear", "mel128", "mel256"])
def test_audio_maps(net, audio, windows, representation):
    front = "kapre014" if representation == "linear" else "kapre"
    name = name_of(representation, front)
    decibels = log_mel(windows[1:], registry.get(name).view)
    with torch.inference_mode():
        maps = net(name).maps(decibels.transpose(1, 2).unsqueeze(1))[0, :4].permute(1, 2, 0).numpy()
    assert close(maps, audio[f"{representation}_map"], 1e-4)


def test_images(net, golden):
    with np.load(golden / "openl3_image.npz", allow_pickle=False) as file:
        # openl3 scales a picture of exactly 224 x 224 as its training did
        pixels = torch.from_numpy(file["image_224"]).permute(2, 0, 1)[None, None] / 127.5 - 1
        for size in (512, 8192):
            small = net(f"openl3_image_mel256_env_{size}")
            assert close(run(small, pixels.numpy())[0], file[f"emb{size}"], 1e-4)
        with torch.inference_mode():
            maps = small.maps(pixels[:, 0])[0, :4].permute(1, 2, 0).numpy()
        assert close(maps, file["map"], 1e-4)


@pytest.mark.parametrize(("representation", "front"), CASES)
def test_every_official_audio_row(shared, net, representation, front):
    with np.load(shared / "goldens" / "openl3_audio_input.npz", allow_pickle=False) as file:
        samples = torch.from_numpy(file["windows_center_hop05"])
    with np.load(shared / "goldens" / f"openl3_audio_{representation}.npz", allow_pickle=False) as file:
        expected = file[f"emb6144_{front}_sel"]
    name = name_of(representation, front, 6144)
    assert close(run(net(name), log_mel(samples, registry.get(name).view).numpy()), expected, 1e-4)


def test_every_official_image_row(shared, net):
    with np.load(shared / "goldens" / "openl3_image.npz", allow_pickle=False) as file:
        whole = file["image_224"].astype(np.float32) / 127.5 - 1
        pixels = np.stack([file["pre_360x480"], file["pre_240x320"], whole]).transpose(0, 3, 1, 2)[:, None]
        assert close(run(net("openl3_image_linear_music_8192_official"), pixels), file["emb8192"], 1e-4)


# ---- names and views -----------------------------------------------------------------------------------------------------


def test_every_name_says_its_front_end_or_scaling():
    names = [name for name in registry.names() if name.startswith("openl3_")]
    assert len(names) == 28 + 24
    for name in names:
        said = registry.get(name).note
        if name.startswith("openl3_image"):
            assert ("get_image_embedding does" if name.endswith("_official") else "pixels in [-1, 1]") in said
        else:
            front = name.rpartition("_")[2] if not name[-1].isdecimal() else "kapre014"
            assert ("linear spectrogram" if "_linear_" in name else f"front end {front}:") in said


def test_the_front_end_is_part_of_the_identity():
    views = [str(describe_view(registry.get(name_of("mel256", front)).view)) for front in FRONTS]
    assert len(set(views)) == 3
    scalings = [str(describe_view(registry.get(f"openl3_image_mel256_env_512{end}").view)) for end in ("", "_official")]
    assert len(set(scalings)) == 2


# ---- files ---------------------------------------------------------------------------------------------------------------


def same(module: torch.nn.Module, layers: Layers) -> bool:
    """Whether a network holds exactly these layers, each in its place."""
    state = module.state_dict()
    equal = []
    for place, (_, found) in enumerate(layers):
        prefix = f"{('norms', 'convs')[place % 2]}.{place // 2}"
        leaves = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
        for leaf, value in found.items():
            ours = state[f"{prefix}.{leaves.get(leaf, 'weight' if leaf == 'kernel' else leaf)}"].numpy()
            equal.append(np.array_equal(ours.transpose(2, 3, 1, 0) if ours.ndim == 4 else ours, value))
    return len(equal) == 48 and all(equal)


@pytest.mark.parametrize(
    ("file", "first", "old"),
    [
        ("openl3_audio_mel128_env-v0_4_0.h5.gz", 0, False),
        ("openl3_audio_mel128_env-v0_4_0.h5", 120, False),
        ("openl3_audio_mel128_env.h5", 1, True),
    ],
)
def test_official_audio_files(tmp_path, layers, file, first, old):
    source = layers("openl3.audio.mel128")
    write_h5(tmp_path / file, source, first, old=old)
    module = materialise(
        registry.get("openl3_audio_mel128_env_512"), Source("folder", tmp_path), allow_unverified=True, folded=False
    )
    assert same(module, source)


def test_official_image_file(tmp_path, layers):
    write_h5(tmp_path / "openl3_image_linear_music-v0_4_0.h5.gz", layers("openl3.image"), 120, "vision_embedding_layer")
    for name in ("openl3_image_linear_music_512", "openl3_image_linear_music_8192_official"):
        module = materialise(registry.get(name), Source("folder", tmp_path), allow_unverified=True, folded=False)
        assert same(module, layers("openl3.image"))


def test_torchopenl3_file(tmp_path, layers, net):
    ours = net("openl3_audio_mel128_music_512").state_dict()
    theirs = {"speclayer.mel_basis": torch.zeros(128, 5), "speclayer.dft_real_kernels": torch.zeros(5, 1, 4)}
    for key, value in ours.items():
        kind, number, leaf = key.split(".")
        layer = "audio_embedding_layer" if (kind, number) == ("convs", "7") else f"conv2d_{int(number) + 1}"
        theirs[f"{f'batch_normalization_{int(number) + 1}' if kind == 'norms' else layer}.{leaf}"] = value
    torch.save(theirs, tmp_path / "torchopenl3_mel128_music_6144.pth.tar", _use_new_zipfile_serialization=False)
    backbone = registry.get("openl3_audio_mel128_music_6144_kapre")
    module = materialise(backbone, Source("folder", tmp_path), allow_unverified=True, folded=False)
    assert all(torch.equal(value, ours[key]) for key, value in module.state_dict().items())


def test_wrong_files_say_what_was_expected(tmp_path, layers):
    audio, image = registry.get("openl3_audio_mel128_env_512"), registry.get("openl3_image_mel128_env_512")
    folder = Source("folder", tmp_path)
    with pytest.raises(
        WeightsMissing, match=r"v0_4_0\.h5\.gz or .*v0_4_0\.h5 or openl3_audio_mel128_env\.h5 or torchopenl3"
    ):
        materialise(audio, folder, allow_unverified=True)
    write_h5(tmp_path / "openl3_audio_mel128_env.h5", layers("openl3.image"))
    with pytest.raises(LayoutMismatch, match=r"norms\.0\.weight \(3,\) instead of \(1,\)"):
        materialise(audio, folder, allow_unverified=True)
    write_h5(tmp_path / "openl3_audio_mel128_env.h5", layers("openl3.audio.mel128")[:-1])
    with pytest.raises(LayoutMismatch, match=r"2 missing: convs\.7\.weight, convs\.7\.bias"):
        materialise(audio, folder, allow_unverified=True)
    (tmp_path / "openl3_image_mel128_env.h5").write_bytes((tmp_path / "openl3_audio_mel128_env.h5").read_bytes())
    with pytest.raises(LayoutMismatch, match="does not fit"):
        materialise(image, folder, allow_unverified=True)


def test_other_layouts_are_refused():
    audio, image = registry.get("openl3_audio_mel128_env_512"), registry.get("openl3_image_mel128_env_512")
    for backbone in (audio, image):
        with pytest.raises(
            LayoutMismatch, match=r"expected the layout of openl3 \(Keras.*the file's keys are features"
        ):
            backbone.adapt(({"features.0.weight": torch.zeros(1)},))
    two = {f"bn{place}/bn{place}/{leaf}:0": torch.zeros(1) for place in (0, 1) for leaf in ("gamma", "beta")}
    with pytest.raises(LayoutMismatch, match=r"in turn; layer 1 with weights is 'bn0' with beta, gamma"):
        image.adapt((two,))
    state = audio.adapt(({"audio_embedding_layer.weight": torch.zeros(1), "head": torch.zeros(1)},))
    with pytest.raises(LayoutMismatch, match="1 unknown: head"):
        fit(audio.build(), state, "x")
