"""House rules that can be checked: sizes, docstrings, and a test beside every source file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO_ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ("alignshift", "deeplesion", "tools")
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 40
MAX_FORWARD_LINES = 15
MAX_CONFIG_LINES = 25
Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources(*folders: str) -> list[Path]:
    """Python files below some folders, relative to the root of the repository."""
    files = (file for folder in folders for file in sorted((REPO_ROOT / folder).rglob("*.py")))
    return [file.relative_to(REPO_ROOT) for file in files]


def parse(path: Path) -> ast.Module:
    """Syntax tree of a file."""
    return ast.parse((REPO_ROOT / path).read_text(encoding="utf-8"))


def docstring_lines(node: Function) -> int:
    """Lines that the docstring of a function takes."""
    if ast.get_docstring(node) is None:
        return 0
    return (node.body[0].end_lineno or 0) - node.body[0].lineno + 1


def code_lines(node: Function) -> int:
    """Lines of a function from ``def`` to its end, without its docstring."""
    return (node.end_lineno or 0) - node.lineno + 1 - docstring_lines(node)


def functions(path: Path) -> Iterator[Function]:
    """Every function and method of a file."""
    return (node for node in ast.walk(parse(path)) if isinstance(node, Function))


def public_definitions(tree: ast.Module) -> Iterator[ast.ClassDef | Function]:
    """Public classes and functions at the top of a module, and public methods of those classes."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
            yield node
            for item in node.body if isinstance(node, ast.ClassDef) else []:
                if isinstance(item, Function) and not item.name.startswith("_"):
                    yield item


def mirrors(path: Path) -> list[Path]:
    """Where the tests of a source file may stand: its own file, or one for its whole package."""
    mirror = Path("tests") / path
    return [
        mirror.with_name(f"test_{path.name.lstrip('_')}"),
        mirror.parent.with_name(f"test_{path.parent.name}.py"),
    ]


@pytest.mark.parametrize("path", sources(*LIBRARY, "benchmarks"), ids=str)
def test_files_are_short(path: Path) -> None:
    lines = len((REPO_ROOT / path).read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_FILE_LINES, f"{path} has {lines} lines"


@pytest.mark.parametrize("path", sources(*LIBRARY, "benchmarks"), ids=str)
def test_functions_are_short(path: Path) -> None:
    long = {node.name: code_lines(node) for node in functions(path)}
    assert not {name: n for name, n in long.items() if n > MAX_FUNCTION_LINES}


@pytest.mark.parametrize("path", sources("alignshift/operators"), ids=str)
def test_forward_of_operators_is_short(path: Path) -> None:
    lines = [code_lines(node) for node in functions(path) if node.name == "forward"]
    assert all(n <= MAX_FORWARD_LINES for n in lines), lines


@pytest.mark.parametrize("path", sources(*LIBRARY, "benchmarks"), ids=str)
def test_public_definitions_have_docstrings(path: Path) -> None:
    tree = parse(path)
    assert ast.get_docstring(tree), f"{path} has no docstring"
    missing = [node.name for node in public_definitions(tree) if not ast.get_docstring(node)]
    assert not missing, f"{path}: {missing}"


# Files split off another one for their length, and what is no more than a definition.
TESTED_WITH = {
    "alignshift/models/block_pass.py": "tests/alignshift/models/test_fused_block.py",
    "alignshift/models/dense_block.py": "tests/alignshift/models/test_densenet.py",
    "alignshift/operators/folding.py": "tests/alignshift/operators/test_base.py",
    "deeplesion/components.py": "tests/deeplesion/test_registration.py",
    "deeplesion/datasets/data_infos.py": "tests/deeplesion/datasets/test_deeplesion.py",
    "deeplesion/datasets/lesion_record.py": "tests/deeplesion/datasets/test_dl_info.py",
    "deeplesion/datasets/slice_files.py": "tests/deeplesion/datasets/test_ct.py",
    "deeplesion/mmdet_parts.py": "tests/deeplesion/test_registration.py",
    "deeplesion/models/inputs.py": "tests/deeplesion/models/test_data_preprocessor.py",
}


@pytest.mark.parametrize("path", sources(*LIBRARY), ids=str)
def test_every_source_file_has_tests(path: Path) -> None:
    if path.name == "__init__.py":
        return
    files = mirrors(path)
    if path.as_posix() in TESTED_WITH:
        files = [Path(TESTED_WITH[path.as_posix()])]
    assert any((REPO_ROOT / file).is_file() for file in files), f"{path} has no {files[0]}"


@pytest.mark.parametrize("path", sources("configs"), ids=str)
def test_config_leaves_are_short(path: Path) -> None:
    lines = len((REPO_ROOT / path).read_text(encoding="utf-8").splitlines())
    assert "_base_" in path.parts or lines <= MAX_CONFIG_LINES, f"{path} has {lines} lines"
