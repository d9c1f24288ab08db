"""The report of a conversion."""

from __future__ import annotations

import torchvision

from alignshift import ConversionReport, convert_to_3d


def test_it_lists_what_was_converted_skipped_and_loaded() -> None:
    model = torchvision.models.resnet18()
    report = convert_to_3d(model, "TSMConv", skip=["layer1.*"]).report
    assert len(report.converted) == 15
    assert set(report.converted.values()) == {"TSMConv"}
    assert len(report.skipped) == 5
    assert report.loaded == len(model.state_dict())
    assert str(report).splitlines() == [
        "convolutions converted: 15 to TSMConv",
        "skipped (first convolution): conv1",
        "skipped (told to): layer1.0.conv1, layer1.0.conv2, layer1.1.conv1, layer1.1.conv2",
        "slice by slice as they are: 1 AdaptiveAvgPool2d, 20 BatchNorm2d, 1 Linear, 1 MaxPool2d, "
        "9 ReLU",
        "first convolution: conv1, from 3 channels to 1",
        "loaded: 122 tensors of the 2D network",
    ]


def test_an_empty_one() -> None:
    assert str(ConversionReport()).startswith("convolutions converted: none\n")
