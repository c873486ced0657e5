"""torch.compile with its weights frozen in: some per cent faster, for a minute of compiling per network."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from extract.errors import PlanError

if TYPE_CHECKING:
    import torch


def compiled(module: torch.nn.Module, device: str) -> torch.nn.Module:
    """The network as one compiled program for its fixed batch; compilation happens in the first forward.

    Raises
    ------
    PlanError
        there is no C++ compiler, which CPU code needs
    """
    import torch
    import torch._inductor.config

    if device == "cpu" and not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        raise PlanError(
            "--compile needs a C++ compiler (g++ or clang++) on the CPU; install one, or leave --compile away"
        )
    torch._inductor.config.freezing = True
    program: torch.nn.Module = torch.compile(module, dynamic=False)  # type: ignore[assignment]
    return program
