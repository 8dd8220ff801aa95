"""A fault of a Kubernetes object, and what the rules that find them share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from labkit.documents import Step
from labkit.kubernetes.manifest import Table

Fault = tuple[tuple[Step, ...], str, str]
"""A path in the object, the reason and the remedy, in French."""


def below(value: Any, path: Iterable[str]) -> Table:
    """Return the table at a path of keys; an empty one where there is none."""
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def both(path: tuple[Step, ...], one: str, other: str) -> Fault:
    """Say that of two keys one is too many."""
    return (*path, other), f"« {one} » et « {other} » s’excluent.", "Gardez l’un des deux."


def twice(items: Iterable[tuple[tuple[Step, ...], Any]], what: str, remedy: str) -> Iterator[Fault]:
    """Yield each value that is there for the second time; nothing is no value."""
    seen = set()
    for path, value in items:
        if value in seen:
            yield path, f"{what.format(value)} est là deux fois.", remedy
        elif value:
            seen.add(value)
