"""Looks over this installation and a data root, and says what to do about each problem."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import json
import os
import platform
import sys
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

DISTRIBUTION = "deeplesion-alignshift"
DEFAULT_DATA_ROOT = "data/deeplesion"
DATA_ROOT_VARIABLE = "DEEPLESION_ROOT"
SUPPORTED_PYTHON = ((3, 10), (3, 12))
MODULES = (
    "torch", "torchvision", "numpy", "cv2", "pycocotools", "matplotlib", "mmengine", "mmcv",
    "mmdet", "alignshift", "deeplesion",
)  # fmt: skip
INSTALL = "python -m pip install -c constraints.txt -e . (in the root of the clone)"
# What may stand in for a distribution that we ask for: the packages that OneDL's are forks of.
STAND_INS = {
    "onedl-mmengine": ("mmengine",),
    "onedl-mmcv": ("mmcv", "mmcv-lite"),
    "onedl-mmdetection": ("mmdet",),
    "opencv-python-headless": ("opencv-python",),
}
CV2_REMEDY = (
    "python -m pip install --force-reinstall --no-deps opencv-python-headless, "
    "or install the system library that the error names (libGL: apt-get install libgl1)"
)
CUDA_REMEDY = (
    "look at nvidia-smi and CUDA_VISIBLE_DEVICES; update the driver for torch's CUDA, or install a "
    "build of torch for an older one"
)
DATA_REMEDY = (
    f"give --data-root or set {DATA_ROOT_VARIABLE} (DeepLesion: docs/data.md), or make a synthetic "
    "data set: python tools/make_synthetic.py --out DIR"
)
GIB = 2**30
EXAMPLE = """example:
  python tools/doctor.py --data-root data/deeplesion --deep
"""


@dataclass(frozen=True)
class Problem:
    """Something that keeps the project from working, and what to do about it."""

    what: str
    remedy: str


@dataclass
class Report:
    """What the doctor found: sections of names and values, problems, and remarks."""

    sections: dict[str, dict[str, str]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, section: str, name: str, value: object) -> None:
        """Put one line into a section."""
        self.sections.setdefault(section, {})[name] = str(value)

    def problem(self, what: str, remedy: str) -> None:
        """Record a problem and its remedy."""
        self.problems.append(Problem(what, remedy))


def try_import(name: str) -> ModuleType | Exception:
    """Import a module quietly; returns it, or whatever importing it raised.

    Any exception counts: a broken shared library raises other things than ImportError, too.
    """
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except Exception as error:
            return error


def installed_version(distribution: str) -> str | None:
    """Version of an installed distribution, None where it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def first_line(error: Exception) -> str:
    """The type of an exception and the first line of its text."""
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"


def check_python(report: Report) -> None:
    """Report the interpreter, and whether it is one of those supported."""
    low, high = (".".join(map(str, version)) for version in SUPPORTED_PYTHON)
    report.add("versions", "python", f"{platform.python_version()} ({sys.executable})")
    if not SUPPORTED_PYTHON[0] <= sys.version_info[:2] <= SUPPORTED_PYTHON[1]:
        report.problem(
            f"Python {platform.python_version()} is not supported",
            f"make the environment with Python {low} to {high}: make setup PYTHON=python{high}",
        )


def check_modules(report: Report, names: tuple[str, ...] = MODULES) -> None:
    """Import each module; report its version and distributions, or why it fails."""
    distributions = importlib.metadata.packages_distributions()
    for name in names:
        found = sorted(set(distributions.get(name, ())))
        pins = [f"{dist} {importlib.metadata.version(dist)}" for dist in found]
        module = try_import(name)
        if isinstance(module, Exception):
            report.add("versions", name, "does not import")
            report.problem(
                f"{name} does not import: {first_line(module)}",
                CV2_REMEDY if name == "cv2" and found else INSTALL,
            )
        else:
            version = getattr(module, "__version__", "imports")
            report.add("versions", name, version + (f" ({', '.join(pins)})" if pins else ""))


def check_distributions(report: Report) -> None:
    """Compare what is installed with what this project asks for."""
    try:
        requirements = importlib.metadata.requires(DISTRIBUTION) or []
        from packaging.requirements import Requirement
    except ImportError as error:
        report.problem(f"{DISTRIBUTION} is not fully installed: {first_line(error)}", INSTALL)
        return
    for requirement in map(Requirement, requirements):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = installed_version(requirement.name)
        if version is None:
            if not any(map(installed_version, STAND_INS.get(requirement.name, ()))):
                report.problem(f"{requirement.name} is not installed", INSTALL)
        elif not requirement.specifier.contains(version, prereleases=True):
            report.problem(f"{requirement.name} is {version}, {requirement} is needed", INSTALL)


def check_opencv_twins(report: Report) -> None:
    """OpenCV's two distributions write into one folder; two versions there break each other."""
    twins = ("opencv-python", "opencv-python-headless")
    versions = {name: version for name in twins if (version := installed_version(name))}
    if len(set(versions.values())) > 1:
        both = " and ".join(f"{name} {version}" for name, version in versions.items())
        report.problem(
            f"{both} share the folder cv2/ but differ in version",
            f"python -m pip install -c constraints.txt {' '.join(versions)}",
        )


def check_devices(report: Report) -> None:
    """Report processors, CUDA devices and whether they compute in bfloat16."""
    report.add("devices", "CPU", f"{platform.machine()}, {os.cpu_count()} logical cores")
    torch = try_import("torch")
    if isinstance(torch, Exception):
        return
    report.add("devices", "torch threads", torch.get_num_threads())
    report.add("devices", "CPU instructions", torch.backends.cpu.get_cpu_capability())
    report.add("devices", "CUDA of torch", torch.version.cuda or "none, built for CPU")
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        bf16 = "bf16" if card.major >= 8 else "no fast bf16"
        text = f"{card.name}, {card.total_memory / GIB:.1f} GiB, {bf16}"
        report.add("devices", f"CUDA device {index}", text)
        try:
            torch.ones(1, device=f"cuda:{index}").add_(1).item()
        except RuntimeError as error:
            report.problem(
                f"CUDA device {index} does not compute: {first_line(error)}", CUDA_REMEDY
            )
    if not torch.cuda.device_count():
        report.add("devices", "CUDA devices", "none; everything runs on the CPU")
        if torch.version.cuda and Path("/proc/driver/nvidia/version").exists():
            report.notes.append(
                f"an NVIDIA driver is loaded but torch has no device: {CUDA_REMEDY}"
            )


def check_kernels(report: Report) -> None:
    """Report what serves ``mmcv.ops``: mmcv's compiled extension or torchvision's kernels."""
    modules = {name: try_import(name) for name in ("mmcv", "deeplesion", "deeplesion.mmcv_ops")}
    broken = [name for name, module in modules.items() if isinstance(module, Exception)]
    if broken:
        report.add("kernels", "mmcv.ops", f"unknown: {', '.join(broken)} does not import")
        return
    source = importlib.import_module("deeplesion.mmcv_ops").kernel_source()
    report.add("kernels", "mmcv.ops", source)
    if source == "none":
        report.problem("nothing serves mmcv.ops: deeplesion did not register", INSTALL)


def data_root_of(argument: str | None) -> tuple[Path, str | None]:
    """The data root, and who named it: ``--data-root``, a variable, or None for the default."""
    if argument is not None:
        return Path(argument), "--data-root"
    if variable := os.environ.get(DATA_ROOT_VARIABLE):
        return Path(variable), DATA_ROOT_VARIABLE
    return Path(DEFAULT_DATA_ROOT), None


def check_data(report: Report, argument: str | None, deep: bool) -> None:
    """Report where the data root is, what each split holds, and all that is wrong with it."""
    root, named_by = data_root_of(argument)
    report.add("data", "data root", f"{root} ({named_by or 'default'})")
    if not root.is_dir():
        report.add("data", "found", "no")
        if named_by is None:
            report.notes.append(f"no data root is configured: {DATA_REMEDY}")
        else:
            report.problem(f"data root {root} ({named_by}) is not a folder", DATA_REMEDY)
        return
    checks = try_import("deeplesion.datasets.checks")
    if isinstance(checks, Exception):
        report.problem(f"cannot check {root}: {first_line(checks)}", INSTALL)
        return
    for problem in checks.check_data_root(root, deep=deep):
        row = "" if problem.row is None else f" (row {problem.row} of {Path(problem.path).name})"
        report.problem(problem.message + row, problem.remedy)
    if (root / checks.INFO_FILE).is_file():
        report_splits(report, root, checks.count_splits(root))


def report_splits(report: Report, root: Path, counts: dict[str, Any]) -> None:
    """Report what each split holds; one that is empty, and absent masks for training, are noted."""
    for split, count in counts.items():
        report.add("data", split, f"{count.key_slices} key slices, {count.lesions} lesions")
        if not count.key_slices:
            report.notes.append(f"split {split} of {root} is empty: it cannot be run on")
    train = counts["train"]
    if train.key_slices and not train.has_masks:
        command = f"python tools/make_masks.py --data-root {root} --split train"
        report.notes.append(f"{root} has no masks_train.json, training needs it: {command}")


def examine(argument: str | None = None, deep: bool = False) -> Report:
    """Look at everything; ``argument`` is ``--data-root``, ``deep`` reads every image, too."""
    report = Report()
    check_python(report)
    check_modules(report)
    check_distributions(report)
    check_opencv_twins(report)
    check_devices(report)
    check_kernels(report)
    check_data(report, argument, deep)
    return report


def as_text(report: Report) -> str:
    """The report for people."""
    width = max((len(name) for lines in report.sections.values() for name in lines), default=0)
    parts = []
    for section, lines in report.sections.items():
        parts.append(section)
        parts += [f"  {name:<{width}}  {value}" for name, value in lines.items()]
    parts += [f"note: {note}" for note in report.notes]
    parts += [f"problem: {item.what}\n  what to do: {item.remedy}" for item in report.problems]
    count = len(report.problems)
    parts.append(f"{count} problem{'s' * (count != 1)} found" if count else "no problem found")
    return "\n".join(parts)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data-root",
        help=f"folder of the data set (default: {DATA_ROOT_VARIABLE}, or {DEFAULT_DATA_ROOT})",
    )
    deep = "decode key slices and what is stored of the slices that their lesions span, too"
    parser.add_argument("--deep", action="store_true", help=deep)
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns 0 where there is no problem, else 1."""
    args = parse_args(argv)
    report = examine(args.data_root, args.deep)
    print(json.dumps(asdict(report), indent=2) if args.json else as_text(report))
    return 1 if report.problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
