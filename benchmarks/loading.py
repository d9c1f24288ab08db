"""The ways to a sample of `benchmarks/pipeline.py`; run as a script, one in its own process."""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from deeplesion.datasets.deeplesion import DeepLesionDataset
from deeplesion.engine.malloc import keep_freed_memory

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script finds its own folder only

from benchmarks.baseline import data as textbook  # noqa: E402
from benchmarks.worker import TEXTBOOK, Worker, serve  # noqa: E402

CONFIG = ROOT / "configs/_base_/datasets/deeplesion_7x2mm.py"
NUM_SLICES, SIDE = 7, 512
PARTS = ("load", "sample")
PNG, PACKED = "png", "packed"
WAYS = (PNG, PACKED)
Way = Callable[[int], Any]


def dataset(root: Path, packed: Path | None) -> DeepLesionDataset:
    """The data set with the training pipeline of the config."""
    pipeline = copy.deepcopy(Config.fromfile(CONFIG).train_pipeline)
    return DeepLesionDataset(
        data_root=str(root),
        mask_file="masks_{split}.json",
        pipeline=pipeline,
        packed=None if packed is None else str(packed),
    )


def make_way(part: str, name: str, root: Path, packed: Path) -> Way:
    """A way to the sample of an index.

    Args:
        part: ``load``, a stack loaded and windowed, or ``sample``, a whole training sample.
        name: The way.
        root: Folder of the data set.
        packed: Folder of its packed cache.
    """
    if name in WAYS:
        data = dataset(root, packed if name == PACKED else None)
        return data.__getitem__ if part == "sample" else _loader(data)
    plain = dataset(root, None)
    infos = [plain.get_data_info(index) for index in range(len(plain))]
    if part == "sample":
        return lambda i: textbook.training_sample(infos[i], NUM_SLICES, SIDE)
    return lambda i: textbook.window(textbook.load_stack(infos[i], NUM_SLICES))


def _loader(data: DeepLesionDataset) -> Way:
    steps = {type(step).__name__: step for step in data.pipeline.transforms}
    infos = [data.get_data_info(index) for index in range(len(data))]
    return lambda i: steps["WindowCT"](steps["LoadCTSlices"](dict(infos[i])))


def worker(part: str, name: str, root: Path, packed: Path, samples: int) -> Worker:
    """The process of a way, whose turn is a round of samples."""
    return Worker(Path(__file__), part, name, str(root), str(packed), str(samples))


def main(part: str, name: str, root: str, packed: str, samples: str) -> None:
    """Take a round of samples whenever told to; all ways get the same random numbers."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    init_default_scope("mmdet")
    if name != TEXTBOOK:
        keep_freed_memory()
    way, seeds = make_way(part, name, Path(root), Path(packed)), count()

    def take_round() -> dict[str, float]:
        spent = 0.0
        for index in range(int(samples)):
            np.random.seed(next(seeds))
            start = time.process_time()
            way(index)
            spent += time.process_time() - start
        return {"seconds": spent / int(samples)}

    serve(take_round)


if __name__ == "__main__":
    main(*sys.argv[1:])
