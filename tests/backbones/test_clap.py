"""CLAP's towers: the front end and rows of the official code, the same on every run, and both published layouts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from backbones import clap, random, registry, weights
from backbones.sources import Source
from backbones.spec import Sound
from extract.errors import LayoutMismatch
from extract.prepare import log_mel

transformers = pytest.importorskip("transformers", reason="CLAP needs the extra `clap`")
nets = pytest.importorskip("backbones.nets.clap")
RATE_HZ = 48_000


def chirp(seconds: float) -> np.ndarray:
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    noise = np.random.RandomState(0).standard_normal(len(t))
    x = 0.3 * np.sin(2 * np.pi * (200 + 300 * t) * t) + 0.02 * noise
    x[: len(x) // 8] *= 1e-3
    return x.astype(np.float32)


def extractor(fusion: bool) -> transformers.ClapFeatureExtractor:
    return transformers.ClapFeatureExtractor(
        frequency_min=50, frequency_max=14_000, truncation="fusion" if fusion else "rand_trunc"
    )


def official_mel(samples: np.ndarray, fusion: bool) -> torch.Tensor:
    """transformers' spectrogram of what laion_clap makes of the samples first."""
    pcm = (np.clip(samples, -1, 1) * 32767.0).astype(np.int16) / np.float32(32767.0)
    return extractor(fusion)(pcm, sampling_rate=RATE_HZ, return_tensors="pt")["input_features"][0, 0]


@pytest.mark.parametrize("fusion", [True, False])
@pytest.mark.parametrize("seconds", [10.0, 3.3, 1.0], ids=["ten seconds", "repeated thrice", "repeated ten times"])
def test_the_front_end_is_the_official_one(fusion, seconds):
    name = "clap_htsat_fused" if fusion else "clap_htsat_unfused"
    samples = chirp(seconds)
    view = replace(registry.get(name).views[0], samples=len(samples))
    ours = log_mel(torch.from_numpy(samples)[None], view)[0]
    assert (ours - official_mel(samples, fusion)).abs().max() < 2e-3


def test_samples_pass_16_bits_first():
    view = registry.get("clap_htsat_fused").views[0]
    quiet = np.full((1, view.samples), 0.9 / 32767, dtype=np.float32)  # truncated to nothing
    assert (log_mel(torch.from_numpy(quiet), view) == -100).all()


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    module = registry.get("clap_htsat_fused").build()
    random.fill(module, 1)
    return module.eval()


def test_ten_seconds_are_never_taken_for_a_longer_clip(network):
    mel = official_mel(chirp(10), fusion=True)[None]
    with torch.inference_mode():
        ours = network(mel)
        for longer in (False, True):
            theirs = network.net(
                input_features=mel[:, None].expand(-1, 4, -1, -1), is_longer=torch.tensor([[longer]])
            ).audio_embeds
            theirs = theirs / theirs.norm()
            assert ((ours - theirs).abs().max() < 1e-6) is not longer
    assert ours.norm() == pytest.approx(1.0, abs=1e-6)


def test_a_long_window_is_fused_at_the_places_the_official_code_draws_with_seed_0(network):
    samples = chirp(30)
    view = registry.get("clap_htsat_fused_30s").views[0]
    mel = log_mel(torch.from_numpy(samples)[None], view)
    np.random.seed(0)  # transformers draws from numpy's global generator
    theirs = extractor(fusion=True)(
        (np.clip(samples, -1, 1) * 32767.0).astype(np.int16) / np.float32(32767.0),
        sampling_rate=RATE_HZ,
        return_tensors="pt",
    )
    assert theirs["is_longer"].tolist() == [[True]]
    assert (nets.fused(mel)[0] - theirs["input_features"][0]).abs().max() < 5e-3
    with torch.inference_mode():
        assert torch.equal(network(mel), network(mel))


@pytest.mark.parametrize("frames", [nets.FRAMES + 1, nets.FRAMES + 2, 3001])
def test_places_lie_in_the_spectrogram(frames):
    assert all(0 <= place <= frames - nets.FRAMES for place in nets.places(frames))
    assert nets.places(frames) == nets.places(frames)


def test_the_map_is_what_the_embedding_is_pooled_from(network):
    maps = registry.get("clap_htsat_fused_map").build().eval()
    state = {k: v for k, v in network.state_dict().items() if not k.startswith("net.audio_projection.")}
    maps.load_state_dict(state, strict=True)
    mel = official_mel(chirp(10), fusion=True)[None]
    with torch.inference_mode():
        rows = maps(mel)
        pooled = network.net.audio_projection(rows.mean(dim=1))
        assert rows.shape == (1, 64, 768)
        assert (pooled / pooled.norm() - network(mel)).abs().max() < 1e-6


# ---- published layouts -----------------------------------------------------------------------------------------------


def hugging_face(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """As ClapModel saves itself: with the text tower, which is not ours."""
    state = {key.removeprefix("net."): tensor for key, tensor in network.state_dict().items()}
    text = {"text_model.embeddings.word_embeddings.weight": torch.zeros(4, 4), "logit_scale_a": torch.zeros(())}
    return state | text | {"text_projection.linear1.weight": torch.zeros(2, 2), "logit_scale_t": torch.zeros(())}


def laion(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """As laion_clap's checkpoints have it: one matrix for query, key and value, and more besides."""
    theirs: dict[str, torch.Tensor] = {}
    state = {key.removeprefix("net."): tensor for key, tensor in network.state_dict().items()}
    for key, tensor in state.items():
        name = key.replace("audio_model.audio_encoder.", "audio_branch.").replace(".batch_norm.", ".bn0.")
        name = name.replace("layernorm_before", "norm1").replace("layernorm_after", "norm2")
        name = name.replace("attention.output.dense", "attn.proj").replace("intermediate.dense", "mlp.fc1")
        name = name.replace(".output.dense", ".mlp.fc2").replace("attention.self.", "attn.")
        name = name.replace("audio_projection.linear1", "audio_projection.0").replace(
            "audio_projection.linear2", "audio_projection.2"
        )
        if ".attn.query." in name:
            parts = [state[key.replace("query", part)] for part in ("query", "key", "value")]
            theirs[name.replace("query", "qkv")] = torch.cat(parts)
        elif ".attn.key." not in name and ".attn.value." not in name:
            theirs[name] = tensor
    more = ("spectrogram_extractor.stft.conv_real.weight", "logmel_extractor.melW", "tscam_conv.weight", "head.bias")
    theirs |= {f"audio_branch.{name}": torch.zeros(2) for name in more}
    theirs |= {"audio_branch.layers.0.blocks.0.attn.relative_position_index": torch.zeros(64, 64, dtype=torch.int64)}
    return theirs | {"text_branch.pooler.dense.bias": torch.zeros(2), "logit_scale_a": torch.zeros(())}


def test_both_layouts_give_the_same_rows(network, tmp_path):
    save_file({k: v.contiguous() for k, v in hugging_face(network).items()}, tmp_path / "clap-htsat-fused.safetensors")
    checkpoint = {f"module.{key}": tensor for key, tensor in laion(network).items()}
    torch.save({"epoch": 1, "state_dict": checkpoint}, tmp_path / "630k-fusion-best.pt")
    source = Source("folder", folder=tmp_path)
    mel = official_mel(chirp(10), fusion=True)[None]
    with torch.inference_mode():
        for name in ("clap_htsat_fused", "clap_htsat_fused_630k"):
            module = weights.materialise(registry.get(name), source, allow_unverified=True)
            assert torch.equal(module(mel), network(mel))
        maps = weights.materialise(registry.get("clap_htsat_fused_map"), source, allow_unverified=True)
        assert maps(mel).shape == (1, 64, 768)


def test_a_file_of_the_network_without_fusion_does_not_fit(network, tmp_path):
    state = {k: v.contiguous() for k, v in hugging_face(network).items() if ".mel_conv2d." not in k}
    save_file(state, tmp_path / "clap-htsat-fused.safetensors")
    with pytest.raises(LayoutMismatch, match=r"2 missing: net\.audio_model\.audio_encoder\.patch_embed\.mel_conv2d"):
        weights.materialise(registry.get("clap_htsat_fused"), Source("folder", folder=tmp_path), allow_unverified=True)


def test_another_networks_file_is_named_as_such(tmp_path):
    save_file({"conv1.weight": torch.zeros(2)}, tmp_path / "clap-htsat-fused.safetensors")
    with pytest.raises(LayoutMismatch, match=r"transformers' ClapModel .* or laion_clap .* the file's keys are conv1"):
        weights.materialise(registry.get("clap_htsat_fused"), Source("folder", folder=tmp_path), allow_unverified=True)


def test_every_name_is_fed_48_khz_and_declares_the_extra():
    names = [name for name in registry.names() if name.startswith("clap_")]
    assert len(names) == 6
    for name in names:
        backbone = registry.get(name)
        assert isinstance(backbone.views[0], Sound)
        assert (backbone.views[0].rate_hz, backbone.extra) == (clap.RATE_HZ, "clap")
