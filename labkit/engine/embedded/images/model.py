"""Describe the images of the course: layers, files and configuration."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Files = Mapping[str, str | Path]  # path in the image -> content: a text, or a file of this machine


@dataclass(frozen=True, slots=True)
class Wheel:
    """A program that PyPI has and Debian has not; ``sha256`` is that of the wheel, a zip file."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer that images share: Debian packages, and files of its own."""

    # names of the layers under it, lowest first; what they hold is not held again
    below: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()  # Debian packages; libraries that they depend on come too
    files: Files = field(default_factory=dict)  # files beside those of the packages
    # path in the image -> what the symbolic link there names
    links: Mapping[str, str] = field(default_factory=dict)
    python: tuple[str, ...] = ()  # directories whose Python modules are compiled
    wheels: tuple[Wheel, ...] = ()  # packages of PyPI whose programs go to ``/usr/local/bin``


@dataclass(frozen=True, slots=True)
class Image:
    """An image of the course."""

    name: str  # its name, with the tag
    layers: tuple[str, ...]  # names of its shared layers, lowest first
    # its configuration, in the words of the OCI image specification (``Cmd``, ``Env``…)
    config: Mapping[str, Any]
    # ``hub``: pulled from Docker Hub where that answers when the machine is built, else made here
    # as a stand-in. ``stand-in``: always made here, so that what students build upon it needs no
    # network. ``course``: of the course itself.
    origin: str = "hub"
    files: Files = field(default_factory=dict)  # files of a last layer of its own
    # a command that a stand-in runs once, when the machine is built; what it writes is part of the
    # image from then on
    prepare: tuple[str, ...] = ()
    # every engine has it from the start. Otherwise the machine's registry alone does, and a node
    # pulls it for its first task: what one notebook uses costs the others nothing.
    loaded: bool = True
