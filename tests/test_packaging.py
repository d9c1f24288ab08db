"""Packaging: metadata, constraints, make and the script of continuous integration agree."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import alignshift

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")


@pytest.fixture(scope="module")
def project(repo_root: Path) -> dict:
    """The ``project`` table of pyproject.toml."""
    return tomllib.loads((repo_root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def pins(repo_root: Path) -> dict[str, Requirement]:
    """Constraints by canonical name."""
    lines = (repo_root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(pin.name): pin for pin in found}


def requirements(project: dict) -> list[Requirement]:
    """Everything that the project asks for, its extras included."""
    extras = project["optional-dependencies"].values()
    return [Requirement(text) for group in (project["dependencies"], *extras) for text in group]


def check_python(repo_root: Path, python: str) -> subprocess.CompletedProcess[str]:
    """Run the script that judges an interpreter."""
    return subprocess.run(
        [repo_root / ".ci/check_python", python], capture_output=True, text=True, check=False
    )


def fake_python(folder: Path, version: str) -> Path:
    """A script that passes for an interpreter of some version without the venv module."""
    script = folder / f"python{version}"
    script.write_text(f'#!/bin/sh\ncase "$2" in *print*) echo {version};; *) exit 1;; esac\n')
    script.chmod(0o755)
    return script


def test_version_has_one_source(project: dict) -> None:
    assert project["dynamic"] == ["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.?\w+)?", alignshift.__version__)


def test_installed_version_is_ours(project: dict) -> None:
    try:
        installed = metadata.version(project["name"])
    except metadata.PackageNotFoundError:
        pytest.skip("this checkout is not installed")
    assert installed == alignshift.__version__


def test_every_requirement_is_pinned_and_allowed(
    project: dict, pins: dict[str, Requirement]
) -> None:
    for requirement in requirements(project):
        pin = pins[canonicalize_name(requirement.name)]
        (specifier,) = pin.specifier
        assert specifier.operator == "=="
        assert requirement.specifier.contains(specifier.version), f"{requirement} excludes {pin}"


def test_opencv_twins_are_pinned_alike(pins: dict[str, Requirement]) -> None:
    assert pins["opencv-python"].specifier == pins["opencv-python-headless"].specifier


def test_license_is_apache(repo_root: Path, project: dict) -> None:
    assert project["license"] == "Apache-2.0"
    text = (repo_root / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text


def test_citation_is_valid_yaml(repo_root: Path, project: dict) -> None:
    citation = yaml.safe_load((repo_root / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["license"] == project["license"]
    assert len(citation["references"]) == 3


def test_pre_commit_config_is_valid(repo_root: Path) -> None:
    pre_commit = pytest.importorskip("pre_commit.clientlib")
    pre_commit.load_config(repo_root / ".pre-commit-config.yaml")


def test_check_python_accepts_this_one(repo_root: Path) -> None:
    result = check_python(repo_root, sys.executable)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("3.9", "is Python 3.9; 3.10 to 3.12 is needed"),
        ("3.13", "is Python 3.13; 3.10 to 3.12 is needed"),
        ("3.11", "lacks the venv module.*apt-get install python3.11-venv"),
    ],
)
def test_check_python_refuses(repo_root: Path, tmp_path: Path, version: str, message: str) -> None:
    result = check_python(repo_root, str(fake_python(tmp_path, version)))
    assert result.returncode == 1
    assert re.search(message, result.stderr)


def test_check_python_names_what_does_not_run(repo_root: Path) -> None:
    result = check_python(repo_root, "no-such-python")
    assert result.returncode == 1
    assert "PYTHON=no-such-python does not run" in result.stderr


def test_make_passes_the_refusal_on(repo_root: Path, tmp_path: Path) -> None:
    python = fake_python(tmp_path, "3.13")
    command = ["make", "setup", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}"]
    environment = {key: value for key, value in os.environ.items() if key != "MAKEFLAGS"}
    result = subprocess.run(
        command, cwd=repo_root, capture_output=True, text=True, env=environment, check=False
    )
    assert result.returncode != 0
    assert "3.10 to 3.12 is needed" in result.stderr
    assert not (tmp_path / "venv").exists()


def test_scripts_are_executable_bash(repo_root: Path) -> None:
    scripts = [path for path in (repo_root / ".ci").iterdir() if path.is_file()]
    for script in [*scripts, *repo_root.glob("tools/*.sh"), *repo_root.glob("deeplesion/*.sh")]:
        assert os.access(script, os.X_OK), f"{script} is not executable"
        subprocess.run(["bash", "-n", str(script)], check=True)
