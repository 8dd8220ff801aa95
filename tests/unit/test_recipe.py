"""What the key of the built machine counts, and what it does not."""

import ast
import hashlib
import inspect
import re
import shutil
import textwrap
from pathlib import Path

import pytest

from labkit.engine.embedded import images
from labkit.engine.embedded.build import debian, recipe
from labkit.engine.embedded.build import guest as build
from labkit.engine.embedded.build.recipe import RECIPE, guest_key
from labkit.engine.embedded.images import making, wheels

MAKERS = (
    build._build, build._images, build._image_packages, build._initrd,
    build.merged, build._modules, build._mke2fs, build._root, build._slim, build.loader,
    debian.unpack, debian.Archive.closure, making.compile_modules, making.compile_whoami,
    making.fill_registry, making.installed, making.repository, making._entries, making._pack,
    making._push, wheels.unpack,
)  # fmt: skip
VALUES = (
    making.STAND_IN_LABEL, making.STAND_INS, sorted(making.MERGED), recipe.LIBRARIES.as_posix(),
    sorted(recipe.ALWAYS),
)  # fmt: skip
MADE = {1: "a8b2ead8aa22"}  # RECIPE, and the fingerprint of the functions that follow it


def code(function):
    """Return a function's source without docstring, comments and spaces."""
    source = textwrap.dedent(inspect.getsource(function))
    lines, first = source.splitlines(), ast.parse(source).body[0].body[0]
    if isinstance(first, ast.Expr):
        del lines[first.lineno - 1 : first.end_lineno]
    return "".join("".join(re.sub(r"(^|\s)# .*", "", line).split()) for line in lines)


def test_what_is_made_of_the_same_parts_is_the_same_machine():
    parts = "\n".join([*map(code, MAKERS), *map(str, VALUES)])
    now = hashlib.sha256(parts.encode()).hexdigest()[:12]
    assert {RECIPE: now} == MADE, (
        "A function that makes the machine changed. If it makes another one of the same parts, "
        "raise recipe.RECIPE; in any case write the new fingerprint here."
    )


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the files that go into the machine, which may be edited."""
    shutil.copytree(Path(recipe.__file__).parents[1], tmp_path / "embedded")
    monkeypatch.setattr(recipe, "files", lambda package: tmp_path / "embedded")
    return tmp_path / "embedded"


def test_an_edit_of_a_docstring_keeps_the_key(package):
    before = guest_key("trixie")
    for path in package.rglob("*.py"):
        path.write_text(path.read_text().replace('"""', '"""Again: ', 1))
    assert guest_key("trixie") == before


@pytest.mark.parametrize("name", ["guest/node", "guest/initrd-init", "images/whoami.c"])
def test_a_file_of_the_machine_counts(package, name):
    before = guest_key("trixie")
    (package / name).write_text((package / name).read_text() + "\n")
    assert guest_key("trixie") != before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ROOT", (*recipe.ROOT, "strace")),
        ("LATE", recipe.LATE[1:]),
        ("DROP", re.compile("usr/share")),
        ("DISK", recipe.DISK * 2),
        ("FILES", {**recipe.FILES, "etc/motd": "Bonjour"}),
        ("RECIPE", RECIPE + 1),
    ],
)
def test_a_changed_part_counts(monkeypatch, name, value):
    before = guest_key("trixie")
    monkeypatch.setattr(recipe, name, value)
    assert guest_key("trixie") != before


def test_a_changed_layer_counts(monkeypatch):
    before = guest_key("trixie")
    monkeypatch.setitem(images.LAYERS, "haproxy", images.Layer(packages=("haproxy", "vim")))
    assert guest_key("trixie") != before


def test_what_an_image_copies_counts(tmp_path, monkeypatch):
    before = guest_key("trixie")
    drawn = tmp_path / "drawing.py"
    (image,) = (i for i in images.catalogue() if "visualizer" in i.name)
    name, source = next((n, p) for n, p in image.files.items() if str(p).endswith("state/model.py"))
    drawn.write_text(source.read_text() + "\n")
    monkeypatch.setitem(image.files, name, drawn)
    assert guest_key("trixie") != before
