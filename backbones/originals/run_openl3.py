"""Run openl3 (0.4 or later, TensorFlow) on prepared inputs: ``python run_openl3.py REQUEST.npz REPLY.npz``.

Another interpreter runs this file, the one that has openl3: nothing of this project is imported, and the files hold plain arrays.

Request: ``modality`` (audio or image), ``representation``, ``content``, ``size``; ``prepared``: (n, bands, frames) decibels or
(n, 224, 224, 3) pixels, float32; for audio also ``windows``, (n, 48000) float32, and ``front``, one of openl3's front ends.
Reply: ``versions``, ``weights`` (the path of its file), ``network``: (n, size) of ``prepared``; for audio also ``whole``:
(n, size) of ``windows``.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np


def main(request_path: str, reply_path: str) -> None:
    """Read the request, run the original, write the reply."""
    with np.load(request_path, allow_pickle=False) as file:
        request = {key: file[key] for key in file.files}
    openl3 = importlib.import_module("openl3")
    models = importlib.import_module("openl3.models")
    tensorflow = importlib.import_module("tensorflow")
    if not hasattr(models, "VALID_FRONTENDS"):
        sys.exit(f"openl3 {openl3.__version__} is too old for this comparison: it needs openl3 0.4 or later")
    answer = _audio if str(request["modality"]) == "audio" else _image
    versions = f"openl3 {openl3.__version__}, tensorflow {tensorflow.__version__}"
    np.savez(reply_path, versions=np.array(versions), **answer(openl3, models, request))


def _audio(openl3: Any, models: Any, request: dict[str, Any]) -> dict[str, Any]:
    representation, content, size = str(request["representation"]), str(request["content"]), int(request["size"])
    # its front end "librosa" is a network that takes spectrograms
    network = models.load_audio_embedding_model(representation, content, size, frontend="librosa")
    front = str(request["front"])
    model = models.load_audio_embedding_model(representation, content, size, frontend=front)
    rows, _ = openl3.get_audio_embedding(
        list(request["windows"]),
        48000,
        model=model,
        input_repr=representation,
        embedding_size=size,
        center=False,
        hop_size=1.0,
        frontend=front,
        verbose=False,
    )
    return {
        "weights": np.array(models.get_audio_embedding_model_path(representation, content)),
        "network": network.predict(request["prepared"][..., np.newaxis], verbose=0),
        "whole": np.concatenate(rows),
    }


def _image(openl3: Any, models: Any, request: dict[str, Any]) -> dict[str, Any]:
    representation, content, size = str(request["representation"]), str(request["content"]), int(request["size"])
    model = models.load_image_embedding_model(representation, content, size)
    return {
        "weights": np.array(models.get_image_embedding_model_path(representation, content)),
        "network": model.predict(request["prepared"], verbose=0),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
