"""Where weights come from, and what they are called."""

from __future__ import annotations

import hashlib
import logging
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from backbones import download, registry, weights
from backbones.sources import Source
from backbones.weights import parse_source, weights_id
from extract.errors import DeviceUnavailable, DigestMismatch, LayoutMismatch, PlanError, WeightsError, WeightsMissing

OFFICIAL = Source("official")


def in_folder(folder: Path) -> Source:
    return Source("folder", folder=folder)


# ---- what the user writes ----------------------------------------------------------------------------------------------


def test_parse_source(tmp_path):
    assert parse_source("official") == OFFICIAL
    assert parse_source("random:12") == Source("random", seed=12)
    assert parse_source(str(tmp_path)) == in_folder(tmp_path)


@pytest.mark.parametrize("text", ["random", "random:", "random:-1", "random:1.5", "random:x", "random:²"])
def test_bad_seeds(text):
    with pytest.raises(PlanError, match="the seed must be a whole number >= 0"):
        parse_source(text)


def test_a_file_and_a_missing_folder(tmp_path):
    (tmp_path / "x.pth").touch()
    with pytest.raises(PlanError, match="is a file; give its folder"):
        parse_source(str(tmp_path / "x.pth"))
    for text in (str(tmp_path / "none"), ""):
        with pytest.raises(WeightsMissing, match=r"no such folder; use `official`, `random:SEED`"):
            parse_source(text)


# ---- ids -----------------------------------------------------------------------------------------------------------------


def test_the_official_id_needs_no_file(cache):
    assert weights_id(registry.get("resnet152"), OFFICIAL) == "sha256:394f9c45"
    assert weights_id(registry.get("vggish"), OFFICIAL) == "sha256:10086976"
    assert weights_id(registry.get("vggish_pca8"), OFFICIAL).endswith("sha256:10086976+4d878af3")
    assert weights_id(registry.get("vggish"), Source("random", seed=7)) == "random:7"
    assert not cache.exists()


@pytest.mark.parametrize("digest", [64, 8])
def test_a_folder_with_the_published_file_has_the_official_id(published, digest):
    backbone, folder = published(("a.pth", "old.pth"), digest=digest)
    official = weights_id(backbone, OFFICIAL)
    assert official == f"sha256:{backbone.weights[0][0].sha256[:8]}"
    assert weights_id(backbone, in_folder(folder)) == official
    (folder / "a.pth").unlink()  # the older publication of the same weights
    assert weights_id(backbone, in_folder(folder)) == official
    assert [path.name for path in weights.locate(backbone, in_folder(folder))] == ["old.pth"]


def test_several_files_are_joined(published):
    backbone, folder = published("a.pth", "b.pth", digest=8)
    digests = [entry[0].sha256 for entry in backbone.weights]
    assert weights_id(backbone, in_folder(folder)) == weights_id(backbone, OFFICIAL) == f"sha256:{'+'.join(digests)}"


def test_another_file_is_refused_unless_allowed(published):
    backbone, folder = published("a.pth", "b.pth")
    torch.save({"fc.bias": torch.ones(4)}, folder / "b.pth")
    with pytest.raises(
        DigestMismatch, match=r"b\.pth is not the published file: its sha256 is .*published is"
    ) as error:
        weights_id(backbone, in_folder(folder))
    assert "--allow-unverified-weights" in str(error.value)
    full = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("a.pth", "b.pth")]
    assert weights_id(backbone, in_folder(folder), allow_unverified=True) == f"file:{'+'.join(full)}"
    with pytest.raises(DigestMismatch):
        weights.materialise(backbone, in_folder(folder))
    module = weights.materialise(backbone, in_folder(folder), allow_unverified=True)
    assert torch.equal(module.fc.bias, torch.ones(4))


def test_a_file_without_a_published_digest_must_be_allowed(published):
    backbone, folder = published("a.pt", digest=0)
    with pytest.raises(DigestMismatch, match=r"no digest of a\.pt was ever published"):
        weights_id(backbone, in_folder(folder))
    full = hashlib.sha256((folder / "a.pt").read_bytes()).hexdigest()
    assert weights_id(backbone, in_folder(folder), allow_unverified=True) == f"file:{full}"
    with pytest.raises(WeightsMissing, match="digest: none published"):
        weights_id(backbone, OFFICIAL, allow_unverified=True)


def test_a_folder_without_the_file(published, tmp_path):
    backbone, _ = published(("a.pth", "old.pth"))
    with pytest.raises(WeightsMissing, match=r"holds no a\.pth or old\.pth, which tiny needs"):
        weights_id(backbone, in_folder(tmp_path))


def test_a_network_that_was_never_published(tiny, tmp_path):
    for source in (OFFICIAL, in_folder(tmp_path)):
        with pytest.raises(WeightsMissing, match="no trained weights of tiny were ever published"):
            weights_id(tiny, source)
    assert weights_id(tiny, Source("random", seed=0)) == "random:0"


# ---- where files are looked for ------------------------------------------------------------------------------------------


def test_the_cache_folder_then_torch_hub(published, cache):
    backbone, folder = published(("a.pth", "old.pth"))
    assert not weights.cached(backbone)
    download.hub_folder().mkdir(parents=True)
    shutil.copy(folder / "old.pth", download.hub_folder())
    assert weights.cached(backbone)
    assert weights.locate(backbone, OFFICIAL) == (download.hub_folder() / "old.pth",)
    shutil.copy(folder / "a.pth", cache)
    assert weights.locate(backbone, OFFICIAL) == (cache / "a.pth",)


def test_a_wrong_file_in_torch_hub_is_passed_over_and_said(published, caplog):
    backbone, folder = published(("a.pth", "old.pth"))
    download.hub_folder().mkdir(parents=True)
    (download.hub_folder() / "a.pth").write_bytes(b"half of it")
    shutil.copy(folder / "old.pth", download.hub_folder())
    with caplog.at_level(logging.WARNING):
        assert weights.locate(backbone, OFFICIAL) == (download.hub_folder() / "old.pth",)
    assert "a.pth is not the published file and is passed over" in caplog.text


@pytest.mark.parametrize("allow", [False, True])
def test_a_wrong_file_in_the_cache_folder_is_an_error(published, cache, allow):
    backbone, _ = published("a.pth")
    cache.mkdir()
    (cache / "a.pth").write_bytes(b"half of it")
    with pytest.raises(DigestMismatch, match="delete or replace it"):
        weights.fetch(backbone, OFFICIAL, allow)
    assert (cache / "a.pth").read_bytes() == b"half of it"


@pytest.mark.parametrize("allow", [False, True])
def test_an_unverified_file_in_the_cache_does_not_stand_in_for_official_weights(published, cache, allow):
    backbone, folder = published(("a.pth", "other.pt"))
    entry = (backbone.weights[0][0], replace(backbone.weights[0][1], sha256=None))
    backbone = replace(backbone, weights=(entry,))
    cache.mkdir()
    shutil.copy(folder / "other.pt", cache)
    with pytest.raises(WeightsMissing, match=r"the weight file a\.pth is not on this machine"):
        weights.locate(backbone, OFFICIAL, allow)
    assert weights_id(backbone, OFFICIAL, allow) == f"sha256:{entry[0].sha256[:8]}"


def test_a_file_is_hashed_once(published, monkeypatch):
    backbone, folder = published("a.pth")
    first = weights_id(backbone, in_folder(folder))
    original, calls = download._digest, []
    monkeypatch.setattr(download, "_digest", lambda *args: calls.append(1) or original(*args))
    assert weights_id(backbone, in_folder(folder)) == first
    assert calls == []
    path = folder / "a.pth"
    path.write_bytes(path.read_bytes()[:-1] + b"x")  # same size
    with pytest.raises(DigestMismatch):
        weights_id(backbone, in_folder(folder))
    assert calls


KINDS = {
    "md5": lambda data: hashlib.md5(data).hexdigest(),
    "sha1": lambda data: hashlib.sha1(data).hexdigest(),
    # as `git hash-object` counts
    "git": lambda data: hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_other_digests_verify_where_no_sha256_was_published(published, cache, kind):
    backbone, folder = published("a.pth")
    path = folder / "a.pth"
    digits = KINDS[kind](path.read_bytes())
    entry = (replace(backbone.weights[0][0], sha256=None, checksum=f"{kind}:{digits}"),)
    backbone = replace(backbone, weights=(entry,))
    assert weights_id(backbone, OFFICIAL) == f"{kind}:{digits[:8]}"
    assert weights_id(backbone, in_folder(folder)) == f"{kind}:{digits[:8]}"
    assert weights.locate(backbone, in_folder(folder)) == (path,)
    two = replace(backbone, weights=(entry, (replace(entry[0], sha256="0123456789", checksum=""),)))
    assert weights_id(two, OFFICIAL) == f"{kind}:{digits[:8]}+sha256:01234567"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DigestMismatch, match=f"its {kind} is [0-9a-f]+, published is {digits}"):
        weights_id(backbone, in_folder(folder))


def test_gits_own_id_of_a_file_is_ours(published):
    _, folder = published("a.pth")
    told = subprocess.run(["git", "hash-object", folder / "a.pth"], capture_output=True, text=True, check=True)
    assert download.file_digest(folder / "a.pth", "git") == told.stdout.strip()


@pytest.mark.parametrize("ledger", ["", "[]", "{", '{"x": 3}'])
def test_a_damaged_ledger_costs_time_only(published, cache, ledger):
    backbone, folder = published("a.pth")
    cache.mkdir()
    (cache / "digests.json").write_text(ledger)
    assert weights_id(backbone, in_folder(folder)) == weights_id(backbone, OFFICIAL)


# ---- networks ------------------------------------------------------------------------------------------------------------


def test_materialise(published):
    backbone, folder = published("a.pth")
    module = weights.materialise(backbone, in_folder(folder), precision="bfloat16")
    expected = torch.load(folder / "a.pth", weights_only=True)["fc.weight"].to(torch.bfloat16)
    assert torch.equal(module.fc.weight, expected)
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_random_weights_follow_the_seed_only(tiny):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = weights.materialise(tiny, Source("random", seed=1)).fc.weight
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(weights.materialise(tiny, Source("random", seed=1)).fc.weight, one)
    assert not torch.equal(weights.materialise(tiny, Source("random", seed=2)).fc.weight, one)


def test_a_file_of_another_network_names_its_first_keys(published, tiny):
    backbone, folder = published("a.pth")
    other = replace(registry.get("resnet18"), weights=backbone.weights)
    with pytest.raises(LayoutMismatch, match=r"a\.pth for resnet18: expected the layout of torchvision .*fc.bias"):
        weights.materialise(other, in_folder(folder))
    torch.save({"fc.weight": torch.zeros(4, 5), "extra": torch.zeros(1)}, folder / "a.pth")
    with pytest.raises(LayoutMismatch) as error:
        weights.materialise(backbone, in_folder(folder), allow_unverified=True)
    for said in ("1 missing: fc.bias", "1 unknown: extra", "fc.weight (4, 5) instead of (4, 3)"):
        assert said in str(error.value)


def test_a_file_with_the_mark_of_a_layout_and_nothing_else(published):
    backbone, folder = published("a.pth")
    other = replace(registry.get("vggish"), weights=backbone.weights)
    for content in (
        {"vggish/conv1/weights": torch.zeros(4)},
        {"features.0.weight": torch.zeros(1)},
        {"x": torch.zeros(1)},
    ):
        torch.save(content, folder / "a.pth")
        with pytest.raises(LayoutMismatch, match=r"a\.pth for vggish") as error:
            weights.materialise(other, in_folder(folder), allow_unverified=True)
        assert any(key in str(error.value) for key in (*content, "features.0.weight"))


def test_a_library_that_is_not_installed(tiny):
    def build():
        import a_library_that_is_not_here  # noqa: F401

    with pytest.raises(PlanError, match=r"tiny needs more .*not_here.*: pip install 'extract-av\[clap\]'"):
        weights.materialise(replace(tiny, build=build, extra="clap"), Source("random", seed=0))
    with pytest.raises(ImportError):
        weights.materialise(replace(tiny, build=build), Source("random", seed=0))


def test_a_truncated_file(published):
    backbone, folder = published("a.pth")
    content = (folder / "a.pth").read_bytes()
    (folder / "a.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(DigestMismatch):
        weights.materialise(backbone, in_folder(folder))
    with pytest.raises(WeightsError, match=r"damaged|cannot be read"):
        weights.materialise(backbone, in_folder(folder), allow_unverified=True)


@pytest.mark.parametrize(
    ("device", "said"), [("cuda:99", "there is no cuda:99 on this machine"), ("gpu", "'gpu' is no device")]
)
def test_an_absent_device_is_an_error(tiny, device, said):
    with pytest.raises(DeviceUnavailable, match=said):
        weights.materialise(tiny, Source("random", seed=0), device)
