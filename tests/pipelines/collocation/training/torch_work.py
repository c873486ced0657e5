"""A work whose module imports torch at its top, as those of pipelines.parsing do."""

import os
from collections.abc import Callable

import torch


def threads_of(task: int, device: str, stopping: Callable[[], bool]) -> tuple[int, str]:
    return torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]
