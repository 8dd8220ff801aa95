"""What modules say that they offer, and the tree of errors, are what they hold."""

import importlib
import re
from pathlib import Path

import pytest

import labkit
from labkit import errors

ROOT = Path(labkit.__file__).parent
MODULES = {
    ".".join(["labkit", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__"): (
        path
    )
    for path in sorted(ROOT.rglob("*.py"))
    if "__all__ =" in path.read_text("utf-8")
}


@pytest.mark.parametrize("name", MODULES)
def test_all_of_a_module_is_there(name: str) -> None:
    module = importlib.import_module(name)
    assert [n for n in module.__all__ if not hasattr(module, n)] == []


def test_files_leave_lists_of_names_to_packages_unless_they_hand_names_on() -> None:
    files = {n for n, path in MODULES.items() if path.name != "__init__.py"}
    assert files == {f"labkit.{name}" for name in ("cockpit", "domains", "nodes", "services")}


def test_the_tree_of_errors_is_that_of_the_classes() -> None:
    above = ["LabkitError"]
    drawn = {}
    for mark, name in re.findall(r"^    ([│├└─ ]+)(\w+)", errors.__doc__ or "", re.MULTILINE):
        depth = len(mark) // 4
        drawn[name] = above[depth - 1]
        above[depth:] = [name]
    held = {
        name: cls.__mro__[1].__name__
        for name, cls in vars(errors).items()
        if isinstance(cls, type) and issubclass(cls, errors.LabkitError)
    }
    assert drawn == {k: v for k, v in held.items() if k != "LabkitError"}
