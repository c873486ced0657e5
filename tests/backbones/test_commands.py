from __future__ import annotations

import pytest
import torch
from click.testing import CliRunner

from backbones import registry
from extract.commands.backbones import backbones
from extract.errors import DigestMismatch, UnknownName, WeightsMissing


def run(*args: str, fails: type[Exception] | None = None):
    result = CliRunner().invoke(backbones, args)
    if fails is None:
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    else:
        assert isinstance(result.exception, fails), result.output
    return result


def test_list_has_a_line_for_every_backbone(cache):
    lines = run("list").output.splitlines()
    assert [line.split()[0] for line in lines] == ["name", *registry.names()]
    (line,) = [line for line in lines if line.startswith("resnet152")]
    assert " ".join(line.split()) == "resnet152 visual 2048 58.1 M 11.51 BSD-3-Clause 1 x 224x224 RGB fetch"
    (line,) = [line for line in lines if line.startswith("vggish ")]
    assert "0.975 s at 16 kHz, 96x64 spectrogram" in line
    cache.mkdir()
    (cache / "resnet152-b121ed2d.pth").touch()
    assert [line.split()[0] for line in run("list").output.splitlines() if line.endswith("here")] == ["resnet152"]


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
    assert run("fetch", "tiny").output == f"tiny: {cache / 'a.pth'}\ntiny: sha256:{backbone.weights[0][0].sha256[:8]}\n"


@pytest.mark.parametrize(("params", "code"), [(16, 0), (15, 1)])
def test_check_exits_with_1_if_one_fails(zoo, tiny, params, code):
    from dataclasses import replace

    registry.register(replace(tiny, params=params))
    result = run("check", "tiny", "--weights", "random:0")
    assert result.exit_code == code
    assert ("FAILED" in result.output) is bool(code)
    assert "not run none is known for this network" in result.output
