"""environment.yml, binder/ and pyproject.toml must ask for the same packages."""

import re
import tomllib
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]
CONDA_NAMES = {
    "jupyter-server": "jupyter_server",
    "docker-py": "docker",
    "matplotlib-base": "matplotlib",
}


def requirement(text: str) -> tuple[str, str]:
    found = re.fullmatch(r"\s*(?:- )?([A-Za-z0-9_.-]+?)\s*>=\s*([0-9.]+)\s*", text)
    assert found, text
    return CONDA_NAMES.get(found[1], found[1]).lower(), found[2]


def conda() -> dict[str, str]:
    lines = (ROOT / "environment.yml").read_text().splitlines()
    return dict(requirement(line) for line in lines if ">=" in line)


def test_conda_and_pyproject_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert conda() == dict(requirement(d) for d in project["dependencies"])


def test_binder_reads_the_same_environment() -> None:
    here = (ROOT / "environment.yml").read_text()
    assert (ROOT / "binder/environment.yml").read_text() == here


def test_python_is_pinned_and_new_enough() -> None:
    found = re.search(r"python=3\.(\d+)", (ROOT / "environment.yml").read_text())
    assert found
    assert int(found[1]) >= 11


def test_binder_can_find_a_mirror_and_run_its_steps() -> None:
    assert "debootstrap" in (ROOT / "binder/apt.txt").read_text().split()
    for name in ("postBuild", "start"):
        assert (ROOT / "binder" / name).stat().st_mode & 0o111


def test_a_wheel_holds_all_of_labkit() -> None:
    """What git ignores is left out of it: an ignored name may not be one of labkit's rooms."""
    packed = {file.relative_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "labkit").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert len(files) > 100
    assert files - packed == set()
