"""Loading 2D weights: names, input channels, the report, bad files."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import Tensor, nn

from alignshift import SliceConv, TruncatedDenseNet3d, load_2d_weights, read_state_dict
from alignshift.weights import adapt_input_channels, first_convolution

State = dict[str, Tensor]


class Tiny(nn.Module):
    """A first convolution on one channel and a second one."""

    def __init__(self, in_channels: int = 1) -> None:
        super().__init__()
        self.conv0 = SliceConv(in_channels, 4, 3, bias=False)
        self.conv1 = SliceConv(4, 2, 1)


def tiny_state() -> State:
    """Weights of an RGB network with a head."""
    torch.manual_seed(0)
    return {
        "conv0.weight": torch.randn(4, 3, 3, 3),
        "conv1.weight": torch.randn(2, 4, 1, 1),
        "conv1.bias": torch.randn(2),
        "head.weight": torch.randn(5, 2),
    }


@pytest.fixture(scope="module")
def densenet121() -> State:
    """State dict of torchvision's network."""
    torch.manual_seed(0)
    return torchvision.models.densenet121(weights=None).state_dict()


def old_spelling(state: State) -> State:
    """As torchvision's published files spell it: `denselayer1.norm.1`, no batch counters."""
    pattern = re.compile(r"(denselayer\d+\.(?:norm|conv))(\d)\.")
    return {
        pattern.sub(r"\1.\2.", key): value
        for key, value in state.items()
        if not key.endswith("num_batches_tracked")
    }


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.backbone."])
@pytest.mark.parametrize("old", [False, True])
def test_loads_the_whole_trunk_of_densenet121(densenet121: State, prefix: str, old: bool) -> None:
    state = old_spelling(densenet121) if old else densenet121
    with torch.device("meta"):
        trunk = TruncatedDenseNet3d()
    trunk.to_empty(device="cpu")
    report = load_2d_weights(trunk, {prefix + key: value for key, value in state.items()})
    assert not report.missing
    names = [name for name, _ in trunk.named_parameters()]
    assert set(names) <= set(report.loaded)
    for name, parameter in trunk.named_parameters():
        if name != "conv0.weight":
            assert torch.equal(parameter, densenet121[f"features.{name}"]), name
    top = {key.removeprefix(f"{prefix}features.").split(".")[0] for key in report.skipped}
    head = {"classifier"} if not prefix else {f"{prefix}classifier".split(".")[0]}
    assert top == {"transition3", "denseblock4", "norm5"} | head


def test_a_grey_image_gives_the_response_of_its_rgb_copy(densenet121: State) -> None:
    image = torch.randn(1, 1, 1, 16, 16)
    for channels in (1, 2, 3, 7):
        model = Tiny(channels)
        report = load_2d_weights(model, tiny_state())
        assert "conv0.weight" in report.loaded
        expected = nn.functional.conv2d(
            image[:, 0].expand(-1, 3, -1, -1), tiny_state()["conv0.weight"]
        )
        actual = model.conv0(image.expand(-1, channels, -1, -1, -1))
        torch.testing.assert_close(actual[:, :, 0], expected)


def test_only_the_first_convolution_is_fitted() -> None:
    model = nn.Sequential(SliceConv(3, 8, 3), SliceConv(8, 8, 3))
    state = {"0.weight": torch.rand(8, 3, 3, 3), "1.weight": torch.rand(8, 3, 3, 3)}
    report = load_2d_weights(model, state)
    assert report.loaded == ("0.weight",)
    assert report.skipped == {
        "1.weight": "is of shape (8, 3, 3, 3), 1.weight is of shape (8, 8, 3, 3)"
    }


@pytest.mark.parametrize(
    ("widths", "in_channels", "expected"),
    [
        ([], 1, None),
        ([3, 8, 3], 1, "0"),
        ([1, 8, 3], 1, "0"),
        ([64, 3, 8], 1, "1"),  # a head before the stem
        ([64, 1, 8], None, "1"),
        ([16, 3, 8], 16, "0"),
        ([64, 8], 1, "0"),
        ([0, 8, 3], 1, "0"),  # lazy
        ([4, 0, 8], 1, "0"),
    ],
)
def test_which_convolution_reads_the_images(
    widths: list[int], in_channels: int | None, expected: str | None
) -> None:
    convs = {
        str(i): nn.Conv2d(width, 8, 1) if width else nn.LazyConv2d(8, 1)
        for i, width in enumerate(widths)
    }
    assert first_convolution(convs, in_channels) == expected


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_adapted_channels_are_alike_and_keep_their_sum(channels: int) -> None:
    weight = torch.arange(12.0).view(2, 3, 2, 1)
    adapted = adapt_input_channels(weight, channels)
    # Sums over the three channels: 0 + 2 + 4, 1 + 3 + 5 and 6 + 8 + 10, 7 + 9 + 11.
    expected = torch.tensor([[6.0, 9.0], [24.0, 27.0]]).view(2, 1, 2, 1) / channels
    assert adapted.shape == (2, channels, 2, 1)
    assert adapted.is_contiguous()
    torch.testing.assert_close(adapted, expected.expand(-1, channels, -1, -1))
    assert torch.equal(weight, torch.arange(12.0).view(2, 3, 2, 1))


def test_channels_that_fit_are_left_alone() -> None:
    weight = torch.randn(2, 3, 1, 5, 5)
    assert adapt_input_channels(weight, 3) is weight


@pytest.mark.parametrize("channels", [0, -1])
def test_adapting_to_no_channel_is_an_error(channels: int) -> None:
    with pytest.raises(ValueError, match=rf"in_channels must be at least 1, got {channels}"):
        adapt_input_channels(torch.ones(2, 3, 1, 1), channels)


def test_report_lists_everything() -> None:
    state = tiny_state() | {"conv1.bias": torch.ones(3), "epoch": 7}
    del state["conv1.weight"]
    report = load_2d_weights(Tiny(), state)
    assert report.loaded == ("conv0.weight",)
    assert dict(report.skipped) == {
        "conv1.bias": "is of shape (3,), conv1.bias is of shape (2,)",
        "head.weight": "the model has no such parameter",
        "epoch": "the model has no such parameter",
    }
    assert report.missing == ("conv1.weight", "conv1.bias")
    lines = str(report).splitlines()
    assert lines[0] == "1 tensors loaded, 3 of the checkpoint skipped, 2 of the model missing"
    assert lines[1:] == [
        "  skipped conv1.bias: is of shape (3,), conv1.bias is of shape (2,)",
        "  skipped head.* (1): the model has no such parameter",
        "  skipped epoch.* (1): the model has no such parameter",
        "  missing conv1.weight",
        "  missing conv1.bias",
    ]


def test_report_groups_what_the_trunk_leaves_out(densenet121: State) -> None:
    text = str(load_2d_weights(TruncatedDenseNet3d(), densenet121))
    assert len(text.splitlines()) == 5
    assert "skipped features.denseblock4.* (192)" in text
    assert "skipped classifier.* (2)" in text


def test_weights_of_the_operator_itself_are_missing_and_kept(densenet121: State) -> None:
    trunk = TruncatedDenseNet3d("A3DConv", {"dimension": 3})
    before = trunk.denseblock1.denselayer1.conv1.adaptive_align_weights.clone()
    report = load_2d_weights(trunk, densenet121)
    assert len(report.missing) == 84
    assert all(name.endswith("adaptive_align_weights") for name in report.missing)
    assert torch.equal(trunk.denseblock1.denselayer1.conv1.adaptive_align_weights, before)


class Deep(SliceConv):
    """An operator with a 3D kernel, which it makes of the 2D one that it is given to load."""

    def configure(self) -> None:
        """Repeat the 2D kernel over the depth."""
        self.weight = nn.Parameter(self.weight.detach().unsqueeze(2).repeat(1, 1, 3, 1, 1))

    def _load_from_state_dict(self, state_dict: State, prefix: str, *args: object) -> None:
        kernel = state_dict.get(f"{prefix}weight")
        if kernel is not None and kernel.ndim == 4:
            kernel = kernel.unsqueeze(2).expand(self.weight.shape)
            state_dict = state_dict | {f"{prefix}weight": kernel}
        super()._load_from_state_dict(state_dict, prefix, *args)


@pytest.mark.parametrize("in_channels", [1, 3])
def test_operators_inflate_their_2d_kernels_by_themselves(in_channels: int) -> None:
    model = Tiny(in_channels)
    model.conv0 = Deep(in_channels, 4, 3, bias=False)
    state = tiny_state()
    report = load_2d_weights(model, state)
    assert "conv0.weight" in report.loaded
    kernel = adapt_input_channels(state["conv0.weight"], in_channels)
    for depth in range(3):
        assert torch.equal(model.conv0.weight[:, :, depth], kernel)
    state["conv0.weight"] = torch.randn(4, in_channels, 3, 3, 3)
    assert not load_2d_weights(model, state).missing
    assert torch.equal(model.conv0.weight, state["conv0.weight"])


def test_kernels_of_another_size_are_not_inflated() -> None:
    model = Tiny()
    model.conv0 = Deep(1, 4, 3, bias=False)
    report = load_2d_weights(model, tiny_state() | {"conv0.weight": torch.ones(4, 1, 5, 5)})
    reason = "is of shape (4, 1, 5, 5), conv0.weight is of shape (4, 1, 3, 3, 3)"
    assert report.skipped["conv0.weight"] == reason


@pytest.mark.parametrize("shape", [(4, 2, 3, 3), (5, 3, 3, 3), (4, 3, 5, 5), (4, 3, 3)])
def test_other_shapes_are_never_bent(shape: tuple[int, ...]) -> None:
    model = Tiny()
    before = model.conv0.weight.clone()
    report = load_2d_weights(model, tiny_state() | {"conv0.weight": torch.ones(shape)})
    assert report.skipped["conv0.weight"].startswith(f"is of shape {shape}")
    assert torch.equal(model.conv0.weight, before)


def test_two_names_for_one_parameter() -> None:
    state = tiny_state()
    report = load_2d_weights(Tiny(), state | {"module.conv1.bias": torch.zeros(2)})
    assert report.skipped["module.conv1.bias"] == "conv1.bias was loaded from another name already"


def test_something_other_than_a_tensor() -> None:
    report = load_2d_weights(Tiny(), tiny_state() | {"conv1.bias": [1.0, 2.0]})
    assert report.skipped["conv1.bias"] == "is a list, conv1.bias is of shape (2,)"


def test_nothing_fits() -> None:
    message = r"state_dict must have names of the model, e\.g\. \['conv0\.weight', .* none fits"
    with pytest.raises(ValueError, match=message):
        load_2d_weights(Tiny(), {"stem.weight": torch.ones(1)})


@pytest.mark.parametrize("wrap", [[], ["state_dict"], ["model"]])
def test_reads_checkpoints(tmp_path: Path, wrap: list[str]) -> None:
    checkpoint: dict[str, object] = dict(tiny_state())
    for key in wrap:
        checkpoint = {"meta": {"epoch": 3, "CLASSES": "lesion"}, key: checkpoint}
    torch.save(checkpoint, tmp_path / "weights.pth")
    state = read_state_dict(tmp_path / "weights.pth")
    assert list(state) == list(tiny_state())
    assert torch.equal(state["conv1.bias"], tiny_state()["conv1.bias"])


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*nowhere\.pth: give a file"):
        read_state_dict(tmp_path / "nowhere.pth")


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PK\x03\x04 cut off", b"\x80\x02."])
def test_file_that_is_no_checkpoint_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "page.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"page\.pth must be a PyTorch checkpoint of tensors"):
        read_state_dict(tmp_path / "page.pth")


class Dangerous:
    """Runs code when unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        """Fail loudly should anybody unpickle this."""
        return exec, ("raise SystemExit('unpickled')",)


@pytest.mark.parametrize("legacy", [True, False])
def test_code_is_never_run(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "evil.pth"
    if legacy:
        path.write_bytes(pickle.dumps({"state_dict": Dangerous()}, protocol=2))
    else:
        torch.save({"state_dict": Dangerous()}, path)
    with pytest.raises(ValueError, match=r"evil\.pth must be a PyTorch checkpoint of tensors"):
        read_state_dict(path)


@pytest.mark.parametrize("content", [torch.ones(2), [1, 2], {}, {"meta": {"epoch": 1}}])
def test_checkpoint_without_a_state_dict_is_named(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth must hold a state dict, got (a|of shape)"):
        read_state_dict(tmp_path / "other.pth")


def test_reads_urls_through_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    torch.save(tiny_state(), tmp_path / "checkpoints/weights.pth")
    state = read_state_dict("https://example.invalid/weights.pth")
    assert list(state) == list(tiny_state())


def test_failed_download_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    message = r"could not download https://example\.invalid/a\.pth .*no route.* give the file"
    with pytest.raises(ConnectionError, match=message):
        read_state_dict("https://example.invalid/a.pth")
