"""Archives of torch.jit.save: their tensors, and nothing of what else they hold."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from backbones.state import load_state
from extract.errors import WeightsError


class Net(nn.Module):
    """Layers, a list of them, one that appears twice, a buffer, a tensor, numbers and lists, as attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = nn.ModuleDict({"conv1": nn.Conv2d(3, 4, 2)})
        self.rest = nn.ModuleList([nn.Linear(4, 4), nn.BatchNorm1d(4)])
        self.again = self.rest[0]
        self.register_buffer("context_length", torch.tensor(77))
        self.part = nn.Parameter(torch.arange(12.0).reshape(3, 4).t()[1:], requires_grad=False)
        self.numbers, self.table, self.tensors = [1, 2], {"a": 1.5}, [torch.ones(1)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.visual["conv1"](x).mean((2, 3))
        for layer in self.rest:
            y = layer(y)
        return (
            self.again(y) + self.context_length + self.numbers[0] + self.table["a"] + self.tensors[0] + self.part.sum()
        )

    def script(self) -> torch.jit.ScriptModule:
        return torch.jit.script(self.eval())


@pytest.mark.parametrize("how", ["script", "trace", "half"])
def test_torchscript_archives(tmp_path, how):
    net = Net().eval()
    if how == "trace":
        torch.jit.trace(net, torch.ones(1, 3, 4, 4)).save(tmp_path / "w.pt")
    else:
        (net.half() if how == "half" else net).script().save(tmp_path / "w.pt")
    expected = torch.jit.load(tmp_path / "w.pt").state_dict()
    assert "visual.conv1.weight" in expected
    state = load_state(tmp_path / "w.pt")
    assert set(state) == set(expected)
    assert all(torch.equal(state[key], tensor) for key, tensor in expected.items())
    assert all(state[key].dtype == tensor.dtype for key, tensor in expected.items())


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def doctored(tmp_path: Path, content: bytes, compress: int = zipfile.ZIP_STORED, drop: str = "") -> Path:
    """A TorchScript archive whose data.pkl was written by somebody else."""
    Net().script().save(tmp_path / "good.pt")
    with zipfile.ZipFile(tmp_path / "good.pt") as good, zipfile.ZipFile(tmp_path / "w.pt", "w") as bad:
        for name in good.namelist():
            if name != drop:
                bad.writestr(
                    name, (content or good.read(name)) if name == "good/data.pkl" else good.read(name), compress
                )
    return tmp_path / "w.pt"


def build(*opcodes: bytes) -> bytes:
    return b"\x80\x02" + b"".join(opcodes) + b"."


MODULE = b"c__torch__ A\n".replace(b" ", b"\n") + b")\x81"


@pytest.mark.parametrize(
    "content",
    [
        lambda crater: pickle.dumps(Bomb(crater), 2),
        lambda crater: pickle.dumps(Bomb(crater), 4),
        lambda crater: build(MODULE, b"}U\x01a", pickle.dumps(Bomb(crater), 0)[:-1], b"sb"),
        lambda _: build(b"cbuiltins\neval\n(U\x031+1tR"),
        lambda _: build(b"ctorch._utils\n_import_dotted_name\n(U\x02ostR"),
        lambda _: build(b"ctorch.jit._pickle\n__builtins__\n"),
        lambda _: build(b"\x8c\x05torch\x8c\x13_utils.os.path.join\x93"),
        lambda _: build(b"ccollections\nnamedtuple\n"),
        lambda _: build(MODULE, b")b"),  # packs its own state, as quantised layers do
    ],
)
def test_a_malicious_torchscript_archive(tmp_path, content):
    path = doctored(tmp_path, content(tmp_path / "crater"))
    with pytest.raises(WeightsError, match="holds Python objects besides tensors and was not opened any further"):
        load_state(path)
    assert not (tmp_path / "crater").exists()


def endless() -> bytes:
    """A module that is its own attribute."""
    return build(MODULE, b"q\x00}U\x01ah\x00sb")


@pytest.mark.parametrize(
    ("content", "compress", "drop"),
    [
        (b"", zipfile.ZIP_DEFLATED, ""),
        (b"", zipfile.ZIP_STORED, "good/data/3"),
        (b"", zipfile.ZIP_STORED, "good/data.pkl"),
        (b"\x80", zipfile.ZIP_STORED, ""),
        (endless(), zipfile.ZIP_STORED, ""),
        (build(b"c__torch__\nA\n", b"}b"), zipfile.ZIP_STORED, ""),
        (build(b"N"), zipfile.ZIP_STORED, ""),
        (build(b"NQ"), zipfile.ZIP_STORED, ""),
    ],
)
def test_a_damaged_torchscript_archive(tmp_path, content, compress, drop):
    with pytest.raises(WeightsError):
        load_state(doctored(tmp_path, content, compress, drop))


def test_a_tensor_that_reaches_beyond_its_storage(tmp_path):
    Net().script().save(tmp_path / "good.pt")
    with zipfile.ZipFile(tmp_path / "good.pt") as good:
        content = good.read("good/data.pkl")
    sizes = b"(K\x04K\x03K\x02K\x02t"  # of conv1
    assert content.count(sizes) == 1
    with pytest.raises(WeightsError, match="cannot be read"):
        load_state(doctored(tmp_path, content.replace(sizes, b"(K\x7fK\x03K\x02K\x02t")))
