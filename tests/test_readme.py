"""README and docs: their Python runs, commands know their options, links lead somewhere."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
from functools import cache
from pathlib import Path

import cv2
import pytest

from alignshift import OPERATORS
from benchmarks.context_ablation import STRATA, VARIANTS
from tests.forked import python

REPO_ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    REPO_ROOT / "README.md",
    REPO_ROOT / "CONTRIBUTING.md",
    *sorted((REPO_ROOT / "docs").rglob("*.md")),
]
# Its blocks build on each other, see tests/test_tutorial.py.
ONE_BY_ONE = [page for page in PAGES if page.name != "tutorial.md"]
OPERATOR_PAGES = sorted((REPO_ROOT / "docs/operators").glob("*.md"))
# The tools find the library where it is not installed, too.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPO_ROOT)}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
TIMEOUT_S = 300
# Titles of operators' pages that are not their names without "Conv".
TITLES = {"SliceConv": "SliceConv"}
MEAN_DIFFERENCE = 2.0  # of 255


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of one language."""
    return [
        code for tag, code in FENCE.findall(page.read_text(encoding="utf-8")) if tag == language
    ]


def commands() -> list[str]:
    """Lines of all shell blocks, continued lines joined, each once and in order."""
    text = "\n".join(block for page in PAGES for block in blocks(page, "bash"))
    lines = text.replace("\\\n", " ").splitlines()
    return list(dict.fromkeys(line.strip() for line in lines if line.strip()))


def python_tools() -> list[list[str]]:
    """Words after ``python`` of every command that calls one of our tools."""
    pattern = re.compile(r"^(?:\w+=\S+ )*python ((?:tools|benchmarks)/.*)")
    return [match[1].split() for match in map(pattern.match, commands()) if match]


def paths_in_text() -> list[str]:
    """Paths of this repository that stand in backticks."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    pattern = r"`((?:alignshift|benchmarks|configs|deeplesion|tests|tools)/[\w./-]*)"
    return sorted(set(re.findall(pattern, text)))


@cache
def help_of(tool: str) -> str:
    """What a tool prints for ``--help``."""
    command = [python(), str(REPO_ROOT / tool), "--help"]
    return subprocess.run(
        command,
        cwd=REPO_ROOT, check=True, capture_output=True, text=True, timeout=TIMEOUT_S,
        env=ENVIRONMENT,
    ).stdout  # fmt: skip


@pytest.mark.parametrize(
    ("page", "code"),
    [
        pytest.param(page, code, id=page.name)
        for page in ONE_BY_ONE
        for code in blocks(page, "python")
    ],
)
def test_python_blocks_run(page: Path, code: str, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(code, encoding="utf-8")
    result = subprocess.run(
        [python(), str(script)],
        cwd=REPO_ROOT, capture_output=True, text=True, timeout=TIMEOUT_S,
        env=ENVIRONMENT,
    )  # fmt: skip
    assert result.returncode == 0, f"{page.name}:\n{code}\n{result.stderr}"


@pytest.mark.parametrize("words", python_tools(), ids=" ".join)
def test_tools_in_commands_know_their_options(words: list[str]) -> None:
    tool, *arguments = words
    known = set(re.findall(r"--[\w-]+", help_of(tool)))
    assert {word.split("=")[0] for word in arguments if word.startswith("--")} <= known
    for config in (word for word in arguments if word.startswith("configs/")):
        assert (REPO_ROOT / config).is_file(), config


@pytest.mark.parametrize(
    "command",
    [command for command in commands() if command.startswith(("bash ", "./"))],
)
def test_scripts_in_commands_exist(command: str) -> None:
    script, *arguments = command.removeprefix("bash ").split()
    assert (REPO_ROOT / script).is_file()
    for config in (word for word in arguments if word.startswith("configs/")):
        assert (REPO_ROOT / config).is_file(), config


@pytest.mark.parametrize("command", [line for line in commands() if line.startswith("make ")])
def test_make_targets_exist(command: str) -> None:
    targets = [word for word in command.split()[1:] if "=" not in word]
    result = subprocess.run(
        ["make", "--dry-run", "VENV=no-such-venv", *targets],
        cwd=REPO_ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("page", "target"),
    [
        pytest.param(page, target, id=f"{page.name}-{target}")
        for page in PAGES
        for target in LINK.findall(page.read_text(encoding="utf-8"))
        if "://" not in target
    ],
)
def test_links_lead_somewhere(page: Path, target: str) -> None:
    path, _, _ = target.partition("#")
    assert not path or (page.parent / path).exists()


def test_every_operator_has_a_page() -> None:
    titles = {page.read_text(encoding="utf-8").partition("\n")[0] for page in OPERATOR_PAGES}
    assert titles == {f"# {TITLES.get(name, name.removesuffix('Conv'))}" for name in OPERATORS}


@pytest.mark.parametrize("page", OPERATOR_PAGES, ids=lambda page: page.stem)
def test_pages_of_operators_are_alike_and_name_every_setting(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings[:5] == ["Formula", "Settings", "When to use it", "Cost", "Example"]
    title = text.partition("\n")[0].removeprefix("# ")
    operator = OPERATORS[title if title in OPERATORS else f"{title}Conv"]
    defaults = inspect.signature(operator.configure).parameters
    rows = dict(re.findall(r"^\| `(\w+)` \| `?([^|`]*)`? \|", text, re.MULTILINE))
    expected = {name: defaults[name].default for name in operator.setting_names()}
    assert {name: ast.literal_eval(value.strip()) for name, value in rows.items()} == expected


def test_drawings_are_those_of_the_script(tmp_path: Path) -> None:
    script = REPO_ROOT / "docs/images/draw_operators.py"
    command = [python(), str(script), "--out", str(tmp_path)]
    subprocess.run(command, check=True, timeout=TIMEOUT_S, env=ENVIRONMENT)
    drawn = sorted((tmp_path / "operators").glob("*.png"))
    committed = sorted((script.parent / "operators").glob("*.png"))
    assert [file.name for file in drawn] == [file.name for file in committed]
    for new, old in zip(drawn, committed, strict=True):
        images = [cv2.imread(str(file)) for file in (new, old)]
        assert images[0].shape == images[1].shape
        # Other releases of matplotlib set text a little differently.
        assert cv2.absdiff(*images).mean() < MEAN_DIFFERENCE, new.name


@pytest.mark.parametrize("path", paths_in_text())
def test_paths_in_text_exist(path: str) -> None:
    assert (REPO_ROOT / path).exists()


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_results_have_a_row_for_each_variant_of_the_benchmark(page: str) -> None:
    text = (REPO_ROOT / page).read_text(encoding="utf-8")
    for variant in VARIANTS:
        row = rf"^\| {re.escape(variant)} \|( \d+\.\d \(\d+\.\d-\d+\.\d\) \|){{{len(STRATA)}}}$"
        assert re.search(row, text, re.MULTILINE), f"{page} has no figures of {variant}"


def test_speed_is_told_alike_in_both_places(repo_root: Path) -> None:
    begin, end = "<!-- speed: begin -->", "<!-- speed: end -->"
    readme, page = (
        (repo_root / name).read_text(encoding="utf-8").partition(begin)[2].partition(end)[0]
        for name in ("README.md", "docs/speed.md")
    )
    assert "| trunk, evaluation" in readme
    lines = page.splitlines()
    # The README has what there is an aim for.
    aimed = [line for line in lines if not line.startswith("|") or line.split("|")[5].strip()]
    assert readme.splitlines() == aimed
