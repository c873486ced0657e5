"""The comparison with an original implementation: what travels, what is judged, and what a user is told when it cannot run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from backbones import registry, weights
from backbones.sources import Source
from extract import reference
from extract.commands.check_backbone import check
from extract.errors import NoAudio, PlanError

AUDIO, IMAGE = "openl3_audio_mel128_env_512", "openl3_image_mel256_env_512"
ORIGINAL = "EXTRACT_TEST_OPENL3"  # a Python with openl3 >= 0.4, for the one test that needs it

# speaks openl3's and TensorFlow's part, and writes down what it was given
STAND_IN = """
import json, numpy as np
from pathlib import Path
VALID_FRONTENDS = ("librosa", "kapre")
__version__ = "0.4.2"
class Model:
    def __init__(self, size): self.size = size
    def predict(self, x, verbose=0):
        Path(__file__).with_name("fed_%d.json" % x.ndim).write_text(json.dumps([list(x.shape), str(x.dtype)]))
        return np.tile(np.arange(1, self.size + 1, dtype="float32"), (len(x), 1))
def load_audio_embedding_model(representation, content, size, frontend): return Model(size)
def load_image_embedding_model(representation, content, size): return Model(size)
def get_audio_embedding_model_path(r, c): return str(Path(__file__).with_name("openl3_audio_%s_%s.h5" % (r, c)))
def get_image_embedding_model_path(r, c): return str(Path(__file__).with_name("openl3_image_%s_%s.h5" % (r, c)))
def get_audio_embedding(audio, sr, model, frontend, **options):
    said = [len(audio), list(audio[0].shape), sr, frontend, options["center"], options["hop_size"]]
    Path(__file__).with_name("whole.json").write_text(json.dumps(said))
    return [model.predict(np.zeros((1, 2))) for _ in audio], None
"""


@pytest.fixture
def original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `openl3` that this interpreter can import in a process of its own; returns its folder."""
    folder = tmp_path / "site" / "openl3"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("from openl3.models import *\nfrom openl3.models import __version__\n")
    (folder / "models.py").write_text(STAND_IN)
    (tmp_path / "site" / "tensorflow.py").write_text('__version__ = "2.15"\n')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    return folder


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Stands for our networks: what they gave last is in the list, and the test says by how much it is off."""
    made: list[np.ndarray] = [np.zeros(1, np.float32)]

    def ours(backbone, file, prepared):
        assert file.parent.name == "openl3"
        row = np.arange(1, backbone.dims[0] + 1, dtype=np.float32)
        return np.tile(row, (len(prepared), 1)) + made[0]

    monkeypatch.setattr(reference, "_rows", ours)
    return made


@pytest.mark.parametrize(("off", "passed"), [(0.0, True), (0.04, True), (0.06, False), (3.0, False), (np.nan, False)])
def test_the_networks_are_judged_by_their_largest_value(original, rows, off, passed):
    rows[0] = np.float32(off)
    network, whole = reference.compare(f"{AUDIO}_librosa", sys.executable)
    assert (network.name, network.passed) == ("network", passed)
    assert whole.passed is bool(off < 2.5)
    assert "openl3 0.4.2, tensorflow 2.15, 8 rows of made-up input" in network.detail


@pytest.mark.parametrize(
    ("name", "front", "judged"),
    [
        (f"{AUDIO}_librosa", "librosa", True),
        (f"{AUDIO}_kapre", "kapre", True),
        ("openl3_audio_linear_env_512", "kapre", True),
        (AUDIO, "kapre", None),
    ],
)
def test_what_sound_is_sent(original, rows, name, front, judged):
    _, whole = reference.compare(name, sys.executable)
    assert json.loads((original / "whole.json").read_text()) == [8, [48_000], 48_000, front, False, 1.0]
    frames, bands = registry.get(name).view.input_shape
    assert json.loads((original / "fed_4.json").read_text()) == [[8, bands, frames, 1], "float32"]
    assert whole.passed is judged
    assert (f"its front end is {name}_kapre's" in whole.detail) is (judged is None)


@pytest.mark.parametrize("name", [IMAGE, f"{IMAGE}_official"])
def test_what_pictures_are_sent(original, rows, name):
    (network,) = reference.compare(name, sys.executable)
    assert network.passed
    assert json.loads((original / "fed_4.json").read_text()) == [[8, 224, 224, 3], "float32"]


def test_the_users_own_file(original, rows, media):
    network, _ = reference.compare(AUDIO, sys.executable, str(media / "c00.mp4"))
    assert network.passed
    assert "rows of " + str(media / "c00.mp4") in network.detail
    with pytest.raises(NoAudio):
        reference.compare(AUDIO, sys.executable, str(media / "mute.mp4"))


def test_the_command(original, rows, media):
    def run(*args: str):
        return CliRunner().invoke(check, args)

    result = run(f"{AUDIO}_kapre", IMAGE, "--file", str(media / "c00.mp4"), "--reference")
    assert (result.exit_code, result.output.count(" ok ")) == (0, 3), result.output
    rows[0] = np.float32(1.0)
    result = run(IMAGE, "--reference", sys.executable)
    assert (result.exit_code, result.output.count("FAILED")) == (1, 1)
    assert "--file is what --reference compares on" in run(AUDIO, "--file", "x").output


def test_rows_come_from_the_originals_weight_file(original, monkeypatch):
    seen = []

    def materialise(backbone, source, **options):
        seen.append((source, options))
        return weights_here(backbone, Source("random"))

    weights_here = weights.materialise
    monkeypatch.setattr(weights, "materialise", materialise)
    network, _ = reference.compare(AUDIO, sys.executable)
    assert seen == [(Source("folder", original), {"allow_unverified": True})]
    assert network.passed is False


def test_what_the_user_is_told(original, tmp_path, monkeypatch):
    with pytest.raises(PlanError, match="vggish has no original to compare with"):
        reference.compare("vggish", sys.executable)
    with pytest.raises(PlanError, match=r"cannot be started.*--reference PYTHON"):
        reference.compare(AUDIO, str(tmp_path / "none"))
    (original / "models.py").write_text(STAND_IN.replace("VALID_FRONTENDS", "OTHERS"))
    with pytest.raises(PlanError, match=r"exit code 1.*openl3 0\.4\.2 is too old"):
        reference.compare(AUDIO, sys.executable)
    monkeypatch.delenv("PYTHONPATH")
    with pytest.raises(PlanError, match=r"has no openl3; install openl3 in an environment of its own"):
        reference.compare(AUDIO, sys.executable)


def test_the_script_imports_nothing_of_this_project():
    import backbones.originals

    (script,) = Path(backbones.originals.__path__[0]).glob("run_*.py")
    code = f"import sys, runpy; runpy.run_path({str(script)!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"backbones", "extract", "torch"} & set(done.stdout.split())


@pytest.mark.slow
@pytest.mark.parametrize("name", [f"{AUDIO}_kapre", IMAGE])
def test_against_the_real_openl3(name):
    interpreter = os.environ.get(ORIGINAL)
    if not interpreter:
        pytest.skip(f"{ORIGINAL} names no Python with openl3 >= 0.4")
    assert all(result.passed for result in reference.compare(name, interpreter))
