"""The seed that an image brings along."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from deeplesion.models.sampling import SEED_KEY
from deeplesion.transforms.seeding import SeedSampling


def seed_of(generator_seed: int) -> int:
    """The seed that a packed image gets, after its way from a worker and to a device."""
    np.random.seed(generator_seed)
    sample = DetDataSample(gt_instances=InstanceData())
    packed = SeedSampling()({"data_samples": sample})["data_samples"]
    return pickle.loads(pickle.dumps(packed)).to("cpu").gt_instances.get(SEED_KEY)


def test_seed_follows_from_the_generator_of_the_pipeline() -> None:
    assert seed_of(0) == seed_of(0)
    assert seed_of(0) != seed_of(1)


def test_an_image_must_be_packed_first() -> None:
    with pytest.raises(ValueError, match="behind PackDetInputs"):
        SeedSampling()({"img": np.zeros(1)})


def test_says_its_name() -> None:
    assert repr(SeedSampling()) == "SeedSampling()"
