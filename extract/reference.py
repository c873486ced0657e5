"""``extract backbones check NAME --reference``: a network beside its original implementation, live, on the user's own file.

The original runs in a process of its own interpreter, because it can seldom be installed beside this project; the two exchange
``.npz`` files of plain arrays. Both use the weight file that lies in the original's package.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbones import random, registry, weights
from backbones.sources import Source
from backbones.spec import Backbone, Frames, Sound
from backbones.testing import Check
from extract.errors import PlanError

ROWS = 8
TIMEOUT_S = 900
NETWORK_TOLERANCE = 1e-4  # of the largest value
# bands without sound hold float32's rounding, which differs by up to 3 dB at -80: 1.2e-3 was seen, other front ends are 0.1 off
WHOLE_TOLERANCE = 5e-3
_SCRIPT = "run_openl3.py"
_INSTALL = (
    "install openl3 in an environment of its own (python -m venv …; pip install openl3) and give its interpreter: "
    "--reference PYTHON"
)


def compare(name: str, interpreter: str, media: str | None = None) -> list[Check]:
    """Rows of a network and of its original for the same input.

    Parameters
    ----------
    name
        of an OpenL3 backbone
    interpreter
        a Python that can import ``openl3``, 0.4 or later
    media
        a file whose first eight seconds are compared; None: made-up input

    Returns
    -------
    list of Check
        ``network``: both networks on the input that we prepared; for sound also ``whole``: from 48-kHz windows on, with the
        original's own front end. Where the original has no such front end, its default is compared and nothing is judged

    Raises
    ------
    UnknownName, PlanError
        there is no such backbone, it has no original to run, or the original does not run there
    ClipError
        the file gives no rows
    WeightsError
        the original's weight file does not fit our network
    """
    backbone = registry.get(name)
    family, modality, *rest = (*name.split("_"), "", "")[:6] if name.startswith("openl3_") else ("",) * 6
    if family != "openl3":
        raise PlanError(f"{name} has no original to compare with; the backbones openl3_… have one")
    representation, content, size, variant = rest
    fed = _made_up(backbone) if media is None else _decoded(backbone, media)
    prepared = _prepared(backbone, fed)
    request: dict[str, Any] = {
        "modality": modality,
        "representation": representation,
        "content": content,
        "size": int(size),
        "prepared": prepared,
    }
    if modality == "audio":
        request |= {"front": variant or "kapre", "windows": fed, "prepared": prepared.transpose(0, 2, 1)}
    else:
        request["prepared"] = prepared[:, 0].transpose(0, 2, 3, 1)
    reply = run_original(interpreter, request)
    ours = _rows(backbone, Path(str(reply["weights"])), prepared)
    said = f"{reply['versions']}, {len(fed)} rows of {media or 'made-up input'}"
    checks = [_judge("network", ours, reply["network"], NETWORK_TOLERANCE, f"on the same prepared input; {said}")]
    if modality == "audio":
        same = bool(variant) or representation == "linear"
        checks.append(
            _judge("whole", ours, reply["whole"], WHOLE_TOLERANCE, f"with its own front end; {said}")
            if same
            else _judge("whole", ours, reply["whole"], None, f"its front end is {name}_kapre's; {said}")
        )
    return checks


def run_original(interpreter: str, request: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """One call of the original: arrays and words out, arrays and words back (backbones/originals).

    Raises
    ------
    PlanError
        the interpreter cannot be started, has no openl3, or openl3 failed; with the end of what it said
    """
    import backbones.originals

    script = Path(backbones.originals.__path__[0]) / _SCRIPT
    # the CPU's arithmetic is what the tolerances are for
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    with tempfile.TemporaryDirectory(prefix="extract-reference-") as folder:
        asked, answered = Path(folder) / "request.npz", Path(folder) / "reply.npz"
        np.savez(asked, allow_pickle=False, **{key: np.asarray(value) for key, value in request.items()})
        try:
            done = subprocess.run(
                [interpreter, str(script), str(asked), str(answered)],
                env=quiet,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIMEOUT_S,
                check=False,
            )
        except OSError as error:
            raise PlanError(f"{interpreter} cannot be started: {error}; {_INSTALL}") from error
        except subprocess.TimeoutExpired as error:
            raise PlanError(f"{interpreter} ran openl3 for {TIMEOUT_S} s and was stopped") from error
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        if "No module named 'openl3'" in last:
            raise PlanError(f"{interpreter} has no openl3; {_INSTALL}")
        if done.returncode or not answered.is_file():
            raise PlanError(f"openl3 failed in {interpreter} (exit code {done.returncode}): {last}")
        with np.load(answered, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}


def _judge(
    title: str, ours: NDArray[np.float32], theirs: NDArray[np.float32], tolerance: float | None, said: str
) -> Check:
    if ours.shape != theirs.shape:
        return Check(title, False, f"{ours.shape} rows here, {theirs.shape} from the original; {said}")
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    off = float(np.abs(a - b).max() / np.abs(b).max())
    cosine = float(((a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))).min())
    allowed = "" if tolerance is None else f", allowed {tolerance:g}"
    detail = f"max error {off:.2g} of the largest value{allowed}; least cosine {cosine:.7f}; {said}"
    # written so that a NaN fails
    return Check(title, None if tolerance is None else off <= tolerance, detail)


def _rows(backbone: Backbone, file: Path, prepared: NDArray[np.float32]) -> NDArray[np.float32]:
    import torch

    module = weights.materialise(backbone, Source("folder", folder=file.parent), allow_unverified=True)
    with torch.inference_mode():
        rows: NDArray[np.float32] = module(torch.from_numpy(prepared)).numpy()
    return rows


def _prepared(backbone: Backbone, fed: NDArray[Any]) -> NDArray[np.float32]:
    """What our network eats, contiguous: (n, frames, bands) or (n, 1, 3, h, w)."""
    import torch

    from extract.prepare import frames_to_tensor, log_mel

    (view,) = backbone.views
    tensor = frames_to_tensor(fed, view) if isinstance(view, Frames) else log_mel(torch.from_numpy(fed), view)
    return np.ascontiguousarray(tensor.numpy())


def _decoded(backbone: Backbone, media: str) -> NDArray[Any]:
    """The first rows of a file, one a second, as the decoder delivers them."""
    from extract.decode.clip import decode
    from extract.decode.events import Block, Broken, Opened
    from extract.grid import Grid
    from extract.plan import Limits, Tap

    rows: list[NDArray[Any]] = []
    for event in decode(media, 0, None, [Tap(backbone.views[0], Grid())], Limits()):
        if isinstance(event, Opened):
            rows = []
            for error in event.errors.values():
                raise error
        elif isinstance(event, Broken):
            raise event.error
        elif isinstance(event, Block):
            rows += list(event.data[event.valid == 1])
        if len(rows) >= ROWS:
            break
    if not rows:
        raise PlanError(f"{media} is shorter than one second: there is nothing to compare")
    return np.stack(rows[:ROWS])


def _made_up(backbone: Backbone) -> NDArray[Any]:
    (view,) = backbone.views
    if isinstance(view, Sound):
        noise = random.values(0, "reference", ROWS * view.samples).reshape(ROWS, view.samples)
        return noise * np.linspace(0.01, 0.9, ROWS, dtype=np.float32)[:, np.newaxis]
    height, width = view.height_width
    noise = random.values(0, "reference", ROWS * height * width * 3).reshape(ROWS, 1, height, width, 3)
    return np.asarray((noise + 1) * np.float32(127.5), dtype=np.uint8)
