"""How networks take volumes of one channel or of several."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn

from alignshift import AlignShiftConv, SliceConv, TSMConv, convert_to_3d
from tests.alignshift.converter.networks import DEPTH, EveryLayer, rgb_slices, volume


def copies(x: torch.Tensor, channels: int) -> torch.Tensor:
    """The slices of a volume of one channel, with copies of it for all channels."""
    return rgb_slices(x)[:, :1].expand(-1, channels, -1, -1)


@pytest.mark.parametrize("in_channels", [1, 2, 3, 5, None])
def test_grey_volumes_give_what_their_rgb_copies_gave(in_channels: int | None) -> None:
    model = EveryLayer().eval()
    net = convert_to_3d(model, SliceConv, in_channels)
    x = volume()
    out = net(x.expand(-1, in_channels or 3, -1, -1, -1))
    expected = model(rgb_slices(x)).view(2, DEPTH, 5).transpose(1, 2)
    torch.testing.assert_close(out, expected)


def test_an_odd_first_convolution_gets_repeated_volumes() -> None:
    model = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, 8, 3), nn.Conv2d(8, 8, 1)).eval()
    net = convert_to_3d(model, TSMConv, tsm=False)
    x = volume()
    expected = model(rgb_slices(x)).view(2, DEPTH, 8, 6, 6).transpose(1, 2)
    torch.testing.assert_close(net(x), expected)
    assert "repeated to 3 channels" in net.report.first_conv
    rgb = convert_to_3d(model, TSMConv, in_channels=3, tsm=False)
    torch.testing.assert_close(rgb(x.expand(-1, 3, -1, -1, -1)), expected)
    with pytest.raises(ValueError, match=r"must be 1, 3 or None .* got 2: 1 takes 12 channels"):
        convert_to_3d(model, TSMConv, in_channels=2)


def test_two_convolutions_that_read_the_image_get_repeated_volumes() -> None:
    class TwoBranches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.narrow = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 1)
            self.mix = nn.Conv2d(8, 8, 1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.mix(self.wide(images) + self.narrow(images))

    model = TwoBranches()
    net = convert_to_3d(model, TSMConv, tsm=False)
    expected = model(rgb_slices(volume())).view(2, DEPTH, 8, 16, 16).transpose(1, 2)
    torch.testing.assert_close(net(volume()), expected)
    assert net.report.skipped["narrow"] == "takes 3 channels like the first convolution"


def test_a_first_convolution_of_another_kind_gets_repeated_volumes() -> None:
    class Standardized(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            weight = self.weight / self.weight.std((1, 2, 3), keepdim=True)
            return self._conv_forward(x, weight, self.bias)

    for channels in (3, 4):
        model = nn.Sequential(Standardized(channels, 8, 3), nn.Conv2d(8, 8, 1))
        expected = model(copies(volume(), channels)).view(2, DEPTH, 8, 14, 14).transpose(1, 2)
        torch.testing.assert_close(convert_to_3d(model, TSMConv, tsm=False)(volume()), expected)


@pytest.mark.parametrize("channels", [1, 2, 4, 8])
@pytest.mark.parametrize("in_channels", [1, 2, 4])
def test_plain_first_convolutions_of_any_width_are_adapted(channels: int, in_channels: int) -> None:
    model = nn.Sequential(nn.Conv2d(channels, 8, 3), nn.Conv2d(8, 8, 1)).eval()
    net = convert_to_3d(model, TSMConv, in_channels, tsm=False)
    x = volume()
    expected = model(copies(x, channels)).view(2, DEPTH, 8, 14, 14).transpose(1, 2)
    torch.testing.assert_close(net(x.expand(-1, in_channels, -1, -1, -1)), expected)
    assert net.model[0].in_channels == in_channels
    assert list(net.report.skipped) == ["0"]


def test_grouped_first_convolutions_get_repeated_volumes() -> None:
    model = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.Conv2d(8, 8, 1))
    net = convert_to_3d(model, TSMConv, tsm=False)
    expected = model(copies(volume(), 4)).view(2, DEPTH, 8, 14, 14).transpose(1, 2)
    torch.testing.assert_close(net(volume()), expected)
    assert "has 2 groups): volumes are repeated to 4 channels" in net.report.first_conv


@pytest.mark.parametrize(
    "build", [torchvision.models.googlenet, torchvision.models.inception_v3], ids=["v1", "v3"]
)
def test_networks_that_pick_channels_get_repeated_volumes(
    build: Callable[..., nn.Module],
) -> None:
    model = build(transform_input=True, init_weights=False, aux_logits=False).eval()
    x = torch.rand(1, 1, DEPTH, 80, 80)
    expected = model(rgb_slices(x)).view(1, DEPTH, 1000).transpose(1, 2)
    net = convert_to_3d(model, AlignShiftConv, alignshift=False)
    with torch.no_grad():
        torch.testing.assert_close(net(x), expected)
        # In three channels, which need not be alike, they are taken as they come.
        color = x.expand(-1, 3, -1, -1, -1)
        torch.testing.assert_close(net(color), expected)
        as_it_is = convert_to_3d(model, AlignShiftConv, 3, alignshift=False)
        torch.testing.assert_close(as_it_is(color), expected)
    with pytest.raises(ValueError, match=r"must be 1, 3 or None .* got 2: .* transform_input"):
        convert_to_3d(model, AlignShiftConv, 2)


def test_a_network_may_look_at_three_channels_in_its_own_way() -> None:
    class Centered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.tensor([0.1, 0.5, 0.9]).view(1, 3, 1, 1))
            self.conv, self.mix = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.mix(self.conv(images - self.mean))

    model = Centered()
    expected = model(rgb_slices(volume())).view(2, DEPTH, 8, 14, 14).transpose(1, 2)
    net = convert_to_3d(model, TSMConv, in_channels=3, tsm=False)
    torch.testing.assert_close(net(volume().expand(-1, 3, -1, -1, -1)), expected)


def test_the_stem_is_found_behind_a_head() -> None:
    class HeadFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.stem = nn.Conv2d(16, 2, 1), nn.Conv2d(3, 16, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.head(self.stem(images))

    net = convert_to_3d(HeadFirst(), TSMConv)
    assert net.report.skipped == {"stem": "first convolution"}
    assert net.report.first_conv == "stem, from 3 channels to 1"
    assert net(volume()).shape == (2, 2, DEPTH, 14, 14)


def test_the_adapted_width_says_whether_the_first_convolution_can_mix() -> None:
    def report(in_channels: int, n_fold: int) -> dict[str, str]:
        model = torchvision.models.resnet18()
        settings = {"skip_first_conv": False, "n_fold": n_fold}
        return dict(convert_to_3d(model, TSMConv, in_channels, **settings).report.skipped)

    assert report(1, 2) == {"conv1": "fewer channels than n_fold = 2"}
    assert report(16, 8) == {}


def test_channels_are_checked() -> None:
    with pytest.raises(ValueError, match=r"x must have 1 channels .* \(2, 3, 3, 16, 16\)"):
        convert_to_3d(EveryLayer(), TSMConv)(volume().expand(-1, 3, -1, -1, -1))
    repeating = convert_to_3d(
        nn.Conv2d(4, 8, 3, groups=2), TSMConv, skip_first_conv=False, n_fold=2
    )
    with pytest.raises(ValueError, match=r"x must have 1 or 4 channels .* \(2, 3, 3, 16, 16\)"):
        repeating(volume().expand(-1, 3, -1, -1, -1))
