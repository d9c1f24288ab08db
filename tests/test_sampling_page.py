"""docs/sampling.md works as it stands: its snippets go into configs, and their loaders draw."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

pytest.importorskip("mmdet")

from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch.utils.data import DataLoader

import deeplesion  # noqa: F401
from deeplesion.datasets.samplers import ClassBalancedSampler, RepeatFactorSampler
from deeplesion.datasets.samplers.sample_table import thickness_groups
from tests.deeplesion.datasets.helpers import row_of, write_csv, write_series
from tests.test_readme import REPO_ROOT, blocks

PAGE = REPO_ROOT / "docs/sampling.md"
SNIPPETS = blocks(PAGE, "python")
BASES = {
    "epochs": "alignshift/retinanet_alignshift-r50-fpn_7x2mm_20e_deeplesion.py",
    "iterations": "alignshift/mask-rcnn_alignshift-densenet-small_7x2mm_500it_synthetic.py",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key slices of which few have an interval of 3 mm, and few lie high in the body."""
    root = tmp_path_factory.mktemp("deeplesion")
    intervals = [1] * 10 + [3] + [5] * 8
    rows = [
        row_of(
            f"{number:06d}_01_01",
            5,
            Spacing_mm_px_=f"0.5, 0.5, {interval}",
            Normalized_lesion_location=f"0.5, 0.5, {0.1 if number < 4 else 0.9}",
        )
        for number, interval in enumerate(intervals, 1)
    ]
    write_csv(root / "DL_info.csv", rows)
    write_series(root, "000001_01_01", [5])
    return root


def loader_of(snippet: str, base: str, root: Path, folder: Path) -> DataLoader:
    """The training dataloader of a config of one snippet."""
    init_default_scope("mmdet")
    path = folder / "mine.py"
    path.write_text(f"_base_ = {str(REPO_ROOT / 'configs' / BASES[base])!r}\n{snippet}")
    loader = Config.fromfile(path).train_dataloader
    loader.num_workers, loader.persistent_workers = 0, False
    loader.dataset = ConfigDict(
        type="DeepLesionDataset", data_root=str(root), split="train", pipeline=[]
    )
    return Runner.build_dataloader(loader, seed=3)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_snippets_work(number: int, base: str, root: Path, tmp_path: Path) -> None:
    snippet = SNIPPETS[number]
    loader = loader_of(snippet, base, root, tmp_path)
    batches = list(islice(loader.batch_sampler, 30))
    again = loader_of(snippet, base, root, tmp_path)
    assert list(islice(again.batch_sampler, 30)) == batches
    assert (len(batches) == 30) == (base == "iterations")
    sampler = loader.batch_sampler.sampler
    intervals = [
        loader.dataset.get_data_info(i)["slice_interval"] for i in range(len(loader.dataset))
    ]
    if "ThicknessBatchSampler" in snippet:
        groups = thickness_groups(intervals)
        assert all(len({groups[index] for index in batch}) == 1 for batch in batches)
    if "RepeatFactorSampler" in snippet:
        assert isinstance(sampler, RepeatFactorSampler)
        rare = [list(sampler.order(epoch)).count(10) for epoch in range(20)]
        assert set(rare) == {1, 2}  # 1.38 times on average
    if "ClassBalancedSampler" in snippet:
        assert isinstance(sampler, ClassBalancedSampler)
        assert sum(index < 3 for index in sampler.order(0)) > 3


def test_every_option_is_on_the_page() -> None:
    assert len(SNIPPETS) == 4
