"""The audio network of CMAC and GDT: a ResNet with one basic block per stage on a log filter bank."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

MEAN, STD = 1.93, 17.89


class ResNet9(nn.Module):
    """Log filter banks to pooled features, ``(n, 99, 257) -> (n, 512)``.

    The same layers as resnet9 of facebookresearch/GDT (src/resnet.py), which reads a spectrogram with frequency as its height
    and standardises it by one mean and one deviation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.net = ResNet(BasicBlock, [1, 1, 1, 1])
        self.net.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
        self.net.fc = nn.Identity()

    def forward(self, bank: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.net(((bank.transpose(1, 2) - MEAN) / STD).unsqueeze(1))
        return out
