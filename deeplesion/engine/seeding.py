"""Randomness of the main process that follows from (seed, iteration, rank) alone."""

from __future__ import annotations

import torch
from mmengine.dist import get_rank

from deeplesion.datasets.samplers.base import seed_cpu, seed_of

# Kept apart from each other and from the draws of samplers, which have no fourth number.
TRAINING, VALIDATION = 1, 2


def seed_iteration(seed: int, iteration: int, purpose: int = TRAINING) -> None:
    """Seed all generators of this process, those of GPUs included.

    Args:
        seed: Of the run.
        iteration: How many iterations of training have been finished.
        purpose: ``TRAINING``, or ``VALIDATION`` for that after so many iterations.
    """
    derived = seed_of(seed, iteration, get_rank(), purpose)
    seed_cpu(derived)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(derived)
