"""Manifests: any number of YAML documents, each an object for Kubernetes, of whatever kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any, ClassVar

import yaml

from labkit.compose.text import table_html, table_text
from labkit.documents import Reader, Step, Yaml11, is_empty, line_of, nearest_line, read_text
from labkit.errors import ManifestError

__all__ = ["KubeObject", "Manifest", "parse", "read"]


@dataclass(frozen=True, slots=True)
class KubeObject:
    """An object that a manifest describes.

    Attributes
    ----------
    kind, api_version
        Such as ``Deployment`` and ``apps/v1``.
    name
        Empty where the manifest gives none.
    namespace
        Empty where it is left to ``kubectl``.
    line
        On which it begins.
    data, lines
        The file's own words, and the line of each path in them.
    """

    kind: str
    api_version: str
    name: str
    namespace: str
    line: int
    data: Mapping[str, Any] = field(repr=False)
    lines: Mapping[tuple[Step, ...], int] = field(default_factory=dict, repr=False)

    def at(self, *path: Step) -> int:
        """Return the line of a path, or of the nearest thing around it."""
        return nearest_line(self.lines, path) or self.line

    def get(self, *path: str) -> Any:
        """Return what is at a path of keys; None where there is nothing, or another shape."""
        value: Any = self.data
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    @property
    def title(self) -> str:
        """Its kind and its name."""
        return f"{self.kind} {self.name}".strip()


@dataclass(frozen=True, slots=True, repr=False)
class Manifest:
    """The objects of a file, in its order; a List is what it lists.

    Attributes
    ----------
    name
        Of the file, without directory.
    objects
        All of them, known kinds or not.
    """

    name: str
    objects: tuple[KubeObject, ...] = ()

    def of(self, *kinds: str) -> tuple[KubeObject, ...]:
        """Return the objects of these kinds."""
        return tuple(o for o in self.objects if o.kind in kinds)

    def object(self, kind: str, name: str) -> KubeObject | None:
        """Return the object of that kind and name, or None."""
        return next((o for o in self.of(kind) if o.name == name), None)

    @property
    def summary(self) -> str:
        """How many objects of each kind, in French."""
        kinds = list(dict.fromkeys(o.kind for o in self.objects))
        plural = "s" if len(self.objects) > 1 else ""
        counts = ", ".join(f"{len(self.of(kind))} {kind}" for kind in kinds)
        return f"{len(self.objects)} objet{plural}" + (f" ({counts})" if counts else "")

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (str(o.line), o.kind, o.name or "—", o.api_version, o.namespace or "—")
            for o in self.objects
        ]

    def __str__(self) -> str:
        return f"{self.name} : {self.summary}\n\n{table_text(_HEAD, self._rows())}"

    __repr__ = __str__  # what a notebook keeps for those who see no table

    def _repr_html_(self) -> str:
        return table_html(f"{escape(self.name)} : {escape(self.summary)}", _HEAD, self._rows())


_HEAD = ("Ligne", "Objet (kind)", "Nom", "apiVersion", "Namespace")


class _ManifestReader(Reader):
    title = "un manifeste Kubernetes"
    fault = ManifestError
    loader = Yaml11
    biggest: ClassVar[int] = 10_000_000  # definitions of resources are long
    most: ClassVar[int] = 500_000
    deepest: ClassVar[int] = 100

    def _free_key(self, path: tuple[Step, ...]) -> bool:
        return True  # JSON, which YAML is made into first, has no other keys than texts

    def objects(self, text: str) -> Iterator[KubeObject]:
        for node, start in zip(self.nodes(text), self.starts, strict=True):
            if node is None or is_empty(node):
                continue
            if not isinstance(node, yaml.MappingNode):
                kind = "une liste" if isinstance(node, yaml.SequenceNode) else "un texte"
                raise ManifestError(
                    self.file,
                    max(start, line_of(node)),
                    f"ce document contient {kind} au lieu des clés d’un objet.",
                    remedy="Un objet commence par « apiVersion: » et « kind: ».",
                )
            self.lines = {}
            data = self.mapping(node, (), ())
            yield from self._flat(data, self.lines, line_of(node))

    def _flat(
        self, data: Any, lines: Mapping[tuple[Step, ...], int], line: int
    ) -> Iterator[KubeObject]:
        """Return an object, or the objects of a List."""
        if not isinstance(data, dict):
            raise ManifestError(self.file, line, "un élément de cette liste n’est pas un objet.")
        kind, version = (self._needed(data, key, lines, line) for key in ("kind", "apiVersion"))
        items = data.get("items")
        if kind.endswith("List") and isinstance(items, list):
            for i, item in enumerate(items):
                start = ("items", i)
                inner = {w[2:]: n for w, n in lines.items() if w[:2] == start}
                yield from self._flat(item, inner, inner.get((), line))
            return
        metadata = data.get("metadata")
        about = metadata if isinstance(metadata, dict) else {}
        yield KubeObject(
            kind,
            version,
            str(about.get("name") or about.get("generateName") or ""),
            str(about.get("namespace") or ""),
            line,
            data,
            lines,
        )

    def _needed(
        self, data: dict[str, Any], key: str, lines: Mapping[tuple[Step, ...], int], line: int
    ) -> str:
        value = data.get(key)
        if isinstance(value, str) and value:
            return value
        missing = value in (None, "")
        raise ManifestError(
            self.file,
            lines.get((key,), line),
            f"il manque « {key} » à cet objet." if missing else f"« {key} » doit être un texte.",
            remedy="Un objet commence par « apiVersion: » et « kind: » ; « --- », seul sur une "
            "ligne, le sépare du suivant.",
        )


def read(path: str | Path) -> Manifest:
    """Read a manifest: any number of documents, of any kinds.

    Parameters
    ----------
    path
        Of the file.

    Raises
    ------
    ManifestError
        It is no YAML, or one of its documents is no object; with file, line and reason. What the
        objects hold is for :func:`labkit.kubernetes.validate`.
    """
    path = Path(path)
    return parse(read_text(path, _ManifestReader), path.name)


def parse(text: str, name: str = "manifeste.yml") -> Manifest:
    """Read the text of a manifest; ``name`` is for messages. See :func:`read`."""
    found = tuple(_ManifestReader(name).objects(text.removeprefix("\ufeff")))
    if not found:
        raise ManifestError(name, None, "le fichier ne décrit aucun objet.")
    return Manifest(name, found)
