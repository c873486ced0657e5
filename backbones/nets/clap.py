"""LAION-CLAP's audio tower (Wu et al. 2023) around transformers' ``ClapAudioModelWithProjection``.

What the official code leaves to chance is settled here: a window longer than ten seconds is fused from its whole, shrunk, and
three pieces at the places that the official code draws right after ``numpy.random.seed(0)``; a window of ten seconds or less
is never treated as a longer one, which transformers' own feature extractor does with one window of every batch.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import ClapAudioConfig
from transformers.models.clap.modeling_clap import ClapAudioModelWithProjection

FRAMES = 1001  # of ten seconds at 48 kHz, one every 480 samples
SEED = 0


class Clap(nn.Module):
    """Log-mels to embeddings: ``(n, frames, 64) -> (n, 512)``, or to maps: ``-> (n, 64, 768)``.

    Parameters
    ----------
    fusion
        the network that fuses a long window from four spectrograms
    output
        ``embedding``: after the projection, of length 1; ``map``: the 64 positions before pooling, in the order that
        VALOR's features have (the eight columns of time within pairs of frequency rows)
    """

    def __init__(self, fusion: bool, output: Literal["embedding", "map"]) -> None:
        super().__init__()
        self.fusion = fusion
        self.output = output
        self.net = ClapAudioModelWithProjection(ClapAudioConfig(enable_fusion=fusion))
        for part in self.net.modules():
            if hasattr(part, "relative_position_index"):  # a table of constants, which some files hold and some do not
                part._non_persistent_buffers_set.add("relative_position_index")
        if output == "map":
            self.net.audio_projection = nn.Identity()  # type: ignore[assignment]

    def forward(self, log_mel: torch.Tensor) -> torch.Tensor:
        longer = log_mel.shape[1] > FRAMES
        mels = fused(log_mel) if longer else log_mel.unsqueeze(1)
        if self.fusion and not longer:
            mels = mels.expand(-1, 4, -1, -1)
        flags = torch.full((len(mels), 1), longer, device=mels.device)
        out = self.net.audio_model(input_features=mels, is_longer=flags)
        if self.output == "map":
            maps: torch.Tensor = out.last_hidden_state.flatten(2).transpose(1, 2)
            return maps
        return functional.normalize(self.net.audio_projection(out.pooler_output), dim=-1)


def fused(log_mel: torch.Tensor) -> torch.Tensor:
    """A long spectrogram as four of 1001 frames, ``(n, frames, 64) -> (n, 4, 1001, 64)``: all of it, shrunk, and three pieces."""
    shrunk = functional.interpolate(log_mel.unsqueeze(1), size=(FRAMES, log_mel.shape[2]), mode="bilinear")
    pieces = [log_mel[:, None, start : start + FRAMES] for start in places(log_mel.shape[1])]
    return torch.cat([shrunk, *pieces], dim=1)


def places(frames: int) -> tuple[int, int, int]:
    """Where the three pieces of a spectrogram of so many frames start: the official draw with the seed 0."""
    thirds = [
        third if len(third) else np.zeros(1, dtype=int) for third in np.array_split(np.arange(frames - FRAMES + 1), 3)
    ]
    draw = np.random.RandomState(SEED)
    first, second, third = (int(draw.choice(third)) for third in thirds)
    return first, second, third
