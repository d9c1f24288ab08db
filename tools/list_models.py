"""List operators, backbones, detectors and configs; or print parameters and FLOPs of configs.

Without a config, says what there is to choose from. With configs, prints for each the parameters
of its parts and the FLOPs of one input. Nothing is downloaded and no weights are loaded.
"""

from __future__ import annotations

import argparse
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmengine.config import DictAction
from tqdm import tqdm

import deeplesion  # noqa: F401  (registers everything)
from deeplesion.engine import catalog
from deeplesion.engine.cli import run_tool
from deeplesion.engine.complexity import Complexity, measure
from deeplesion.engine.config import UsageError, load_config
from deeplesion.engine.flops import Parts
from deeplesion.io import write_json

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
PARTS = ("backbone", "neck", "heads", "total")
MILLION, GIGA = 10**6, 10**9
NOT_KNOWN, NONE = "?", "-"
INDENT = "  "
EXAMPLE = """examples:
  python tools/list_models.py
  python tools/list_models.py --timm 'convnext*'
  python tools/list_models.py configs/*/retinanet_*-r50-*.py --markdown
  CONFIG=configs/alignshift/mask-rcnn_alignshift-densenet121_7x2mm_20e_deeplesion.py
  python tools/list_models.py $CONFIG --slices 3 --size 256
"""
# Where an operator has nothing to take the place of.
SLICES_ALONE = "(transformers whose only convolution is the first, such as Swin, mix no slices)"
CONVENTIONS = (
    "A multiply-add counts as 2 FLOPs (papers that count it as 1 have half as many).",
    "FLOPs are those of the forward pass of one input at test time: convolutions, matrix products "
    "and attention. Not counted: mixing of slices by shifts or weights (AlignShift, TSM, A3D), "
    "norms, activations, poolings, resizing, RoIAlign, the sampling of deformable attention, NMS.",
    "Heads are all that comes after the neck, a DETR's encoder and decoder too. Those for RoIs "
    "are counted for as many boxes / masks as test_cfg allows, in every stage of a cascade.",
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", nargs="*", help="config files to measure")
    listing = parser.add_argument_group("without a config")
    listing.add_argument("--timm", metavar="PATTERN", help="list timm's networks of such names")
    listing.add_argument(
        "--configs", type=Path, default=CONFIGS, help="folder of configs to list (default: ours)"
    )
    measuring = parser.add_argument_group("with configs")
    measuring.add_argument(
        "--slices", type=int, help="slices of the input (default: the config's num_slices)"
    )
    size = "height and width of the input in px, or one number (default: the config's Resize)"
    measuring.add_argument("--size", type=int, nargs="+", metavar="PX", help=size)
    measuring.add_argument(
        "--cfg-options", nargs="+", action=DictAction, help="override settings: key=value ..."
    )
    parser.add_argument("--markdown", action="store_true", help="print tables in Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write it as JSON, too")
    args = parser.parse_args(argv)
    if args.size is not None and len(args.size) > 2:
        parser.error("--size takes one number or two")
    if args.config and args.timm is not None:
        parser.error("--timm lists names, it takes no config")
    unused = (args.slices, args.size, args.cfg_options) if not args.config else ()
    if any(option is not None for option in unused):
        parser.error("--slices, --size and --cfg-options need a config")
    return args


def table(header: Sequence[str], rows: Sequence[Sequence[str]], markdown: bool) -> Iterator[str]:
    """Lines of a table; columns of numbers go to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    right = [
        all(cell.replace(".", "").isdigit() or cell in (NONE, NOT_KNOWN) for cell in column)
        for column in zip(*rows, strict=True)
    ]
    rules = [
        "-" * (width - 1) + (":" if to_right else "-")
        for width, to_right in zip(widths, right, strict=True)
    ]
    for row in [header, *([rules] if markdown else []), *rows]:
        cells = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        yield f"| {' | '.join(cells)} |" if markdown else f"{INDENT}{'  '.join(cells)}".rstrip()


def section(title: str, lines: Iterable[str], markdown: bool) -> None:
    """Print a heading, some lines, and an empty one."""
    print(f"### {title}\n" if markdown else title, *lines, "", sep="\n")


def names(entries: Sequence[catalog.Entry]) -> str:
    """Names, comma-separated, on lines of 100 characters."""
    text = ", ".join(entry.name for entry in entries)
    return textwrap.fill(text, 100, initial_indent=INDENT, subsequent_indent=INDENT)


def shown(path: str, folder: Path) -> str:
    """A path below a folder."""
    return Path(path).relative_to(folder).as_posix()


def print_timm(pattern: str, json_file: Path | None) -> None:
    """Print the names of timm's networks that match a pattern, one a line."""
    found = catalog.list_timm(pattern)
    if not found:
        why = "timm is not installed: pip install 'deeplesion-alignshift[timm]'"
        raise UsageError(why if found is None else f"timm has no network {pattern!r}")
    print("\n".join(found))
    if json_file:
        write_json(json_file, {"timm_networks": found}, indent=2)


def print_catalog(folder: Path, markdown: bool, json_file: Path | None) -> None:
    """Print what there is to choose from."""
    operators = catalog.list_operators()
    ours = catalog.list_registered(catalog.OUR_BACKBONES)
    theirs = catalog.list_registered(catalog.MMDET_BACKBONES)
    detectors = catalog.list_registered(catalog.MMDET_DETECTORS)
    configs = catalog.list_configs(folder)
    timm = catalog.list_timm()
    rows: list[tuple[str, ...]] = [(o.name, o.settings, o.summary) for o in operators]
    lines: Iterable[str] = table(("name", "settings", "what it is"), rows, markdown)
    section("Operators: operator=dict(type=NAME, SETTING=VALUE)", lines, markdown)
    rows = [(entry.name, entry.summary) for entry in ours]
    lines = table(("name", "what it is"), rows, markdown)
    section("Backbones: backbone=dict(type=NAME, ...)", lines, markdown)
    lines = [names(theirs), INDENT + SLICES_ALONE]
    section("2D backbones of mmdetection for SliceBackbone", lines, markdown)
    count = f"{len(timm or ())} networks, --timm PATTERN lists them"
    count = INDENT + ("timm is not installed" if timm is None else count)
    section("2D backbones of timm for SliceBackbone: TimmBackbone", [count], markdown)
    section("Detectors registered with mmdetection", [names(detectors)], markdown)
    rows = [(shown(c.path, folder), c.detector, c.operator, c.backbone) for c in configs]
    lines = table(("config", "detector", "operator", "backbone"), rows, markdown)
    section(f"Configs in {folder}", lines, markdown)
    if json_file:
        lists = {"operators": operators, "backbones": ours, "mmdetection_backbones": theirs}
        lists["detectors"] = detectors
        content = {key: [asdict(entry) for entry in entries] for key, entries in lists.items()}
        content["configs"] = [asdict(entry) for entry in configs]
        write_json(json_file, {**content, "timm_networks": timm}, indent=2)


def measure_all(args: argparse.Namespace) -> list[tuple[catalog.ConfigEntry, Complexity]]:
    """Measure every config; shows on stderr how far it is."""
    size = args.size * 2 if args.size is not None and len(args.size) == 1 else args.size
    cfgs = [load_config(path, args.cfg_options, None) for path in args.config]
    measured = []
    bar = tqdm(cfgs, unit="config", leave=False, disable=len(cfgs) == 1)
    for path, cfg in zip(args.config, bar, strict=True):
        bar.set_postfix_str(Path(path).stem)
        try:
            # torch and mmdetection remark on names that mmdetection uses; no user can act on it.
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", category=UserWarning, module=r"torch|mmdet")
                complexity = measure(cfg, args.slices, size)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from error
        measured.append((catalog.describe_config(path, cfg), complexity))
    return measured


def figures(parts: Parts, unit: int, digits: int) -> list[str]:
    """Cells of the parts and their total, in some unit."""
    values = (getattr(parts, part) for part in PARTS)
    return [NOT_KNOWN if value is None else f"{value / unit:.{digits}f}" for value in values]


def print_measured(args: argparse.Namespace) -> None:
    """Print parameters and FLOPs of configs."""
    measured = measure_all(args)
    header = ["config", "detector", "operator", "backbone", "input", "RoIs"]
    header += [f"{part} {unit}" for unit in ("M", "GFLOPs") for part in PARTS]
    rows = []
    for entry, complexity in measured:
        rois = complexity.counted.rois
        limits = f"{rois.boxes} / {rois.masks}" if rois else NONE
        what = [Path(entry.path).stem, entry.detector, entry.operator, entry.backbone]
        seen = [" x ".join(map(str, complexity.input_size)), limits]
        millions = figures(complexity.parameters, MILLION, digits=2)
        gigaflops = figures(complexity.counted.flops, GIGA, digits=1)
        rows.append([*what, *seen, *millions, *gigaflops])
    print(*table(header, rows, args.markdown), sep="\n")
    unknown = [
        f"{Path(entry.path).stem}: FLOPs of the heads are not known, {complexity.counted.unknown}."
        for entry, complexity in measured
        if complexity.counted.unknown
    ]
    input_line = (
        "Input: slices x height x width in px, padding included. M: millions of parameters."
    )
    print("", input_line, *CONVENTIONS, *unknown, sep="\n")
    if args.json:
        write_json(args.json, [as_record(*one) for one in measured], indent=2)


def as_record(entry: catalog.ConfigEntry, complexity: Complexity) -> dict[str, Any]:
    """One config for JSON; numbers are not rounded, a multiply-add counts as 2 FLOPs."""
    counted = complexity.counted
    return {
        **asdict(entry),
        "input": complexity.input_size._asdict(),
        "parameters": {part: getattr(complexity.parameters, part) for part in PARTS},
        "flops": {part: getattr(counted.flops, part) for part in PARTS},
        "rois": counted.rois and asdict(counted.rois),
        "unknown": counted.unknown,
    }


def list_models(args: argparse.Namespace) -> None:
    """List or measure as the arguments say."""
    if args.config:
        print_measured(args)
    elif args.timm is not None:
        print_timm(args.timm, args.json)
    else:
        print_catalog(args.configs, args.markdown, args.json)


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    args = parse_args(argv)
    return run_tool(lambda: list_models(args))


if __name__ == "__main__":
    raise SystemExit(main())
