"""Manifests: any number of YAML documents, each an object for Kubernetes, of whatever kind."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any, ClassVar

import yaml

from labkit.documents import (
    Reader,
    Step,
    Table,
    is_empty,
    line_of,
    nearest_line,
    read_text,
    value_at,
)
from labkit.errors import ManifestError
from labkit.text.tables import table_html, table_text


@dataclass(frozen=True, slots=True)
class KubeObject:
    """An object that a manifest describes."""

    # kind, api_version: such as ``Deployment`` and ``apps/v1``
    kind: str
    api_version: str
    name: str  # empty where the manifest gives none
    namespace: str  # empty where it is left to ``kubectl``
    line: int  # on which it begins
    # data, lines: the file's own words, and the line of each path in them
    data: Mapping[str, Any] = field(repr=False)
    lines: Mapping[tuple[Step, ...], int] = field(default_factory=dict, repr=False)

    def at(self, *path: Step) -> int:
        """Return the line of a path, or of the nearest thing around it."""
        return nearest_line(self.lines, path) or self.line

    def get(self, *path: str) -> Any:
        """Return what is at a path of keys; None where there is nothing, or another shape."""
        return value_at(self.data, *path)

    @property
    def title(self) -> str:
        """Its kind and its name."""
        return f"{self.kind} {self.name}".strip()

    @property
    def space(self) -> str:
        """The namespace that it ends up in, where ``kubectl`` is told of none."""
        return self.namespace or "default"


@dataclass(frozen=True, slots=True, repr=False)
class Manifest:
    """The objects of a file, in its order; a List is what it lists."""

    name: str  # of the file, without directory
    objects: tuple[KubeObject, ...] = ()  # all of them, known kinds or not

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
    biggest: ClassVar[int] = 10_000_000  # definitions of resources are long
    most: ClassVar[int] = 500_000
    deepest: ClassVar[int] = 100
    free_keys: ClassVar[bool] = True  # JSON, which YAML is made into first, has no other than texts

    def objects(self, text: str) -> Iterator[KubeObject]:
        for i, node in enumerate(self.each(text)):
            if node is None or is_empty(node):
                continue
            if not isinstance(node, yaml.MappingNode):
                kind = "une liste" if isinstance(node, yaml.SequenceNode) else "un texte"
                why = f"ce document contient {kind} au lieu des clés d’un objet."
                remedy = "Un objet commence par « apiVersion: » et « kind: »."
                raise self.wrong(max(self.starts[i], line_of(node)), why, remedy=remedy)
            self._check_apart(node)
            self.lines = {}
            data = self.mapping(node, (), ())
            yield from self._flat(data, self.lines, line_of(node))

    def _check_apart(self, node: yaml.MappingNode) -> None:
        """Refuse two objects in one document, which a line « --- » was to separate."""
        seen: set[str] = set()
        again = []
        for key, _ in node.value:
            if isinstance(key.value, str) and key.value in _HEADS:
                again += [key] if key.value in seen else []
                seen.add(key.value)
        if len({key.value for key in again}) > 1:
            why = f"un deuxième objet commence ici (« {again[0].value} »), sans « --- » avant lui."
            remedy = "Écrivez « --- », seul sur une ligne, au-dessus de celle-ci."
            raise self.wrong(again[0], why, remedy)

    def _flat(
        self, data: Any, lines: Mapping[tuple[Step, ...], int], line: int
    ) -> Iterator[KubeObject]:
        """Return an object, or the objects of a list: for kubectl, whatever has items."""
        if not isinstance(data, dict):
            remedy = "Chaque élément de « items » a ses clés « apiVersion: » et « kind: »."
            raise self.wrong(line, "un élément de cette liste n’est pas un objet.", remedy)
        kind, version = (self._needed(data, key, lines, line) for key in ("kind", "apiVersion"))
        items = data.get("items")
        if isinstance(items, list):
            inner: dict[Step, dict[tuple[Step, ...], int]] = defaultdict(dict)
            for where, number in lines.items():
                if len(where) > 1 and where[0] == "items":
                    inner[where[1]][where[2:]] = number
            single = kind.removesuffix("List")
            for i, item in enumerate(items):
                if single and isinstance(item, dict) and not item.get("kind"):
                    item = {**item, "apiVersion": version, "kind": single}
                yield from self._flat(item, inner[i], inner[i].get((), line))
            return
        metadata = data.get("metadata")
        about = metadata if isinstance(metadata, dict) else {}
        name = str(about.get("name") or about.get("generateName") or "")
        yield KubeObject(kind, version, name, str(about.get("namespace") or ""), line, data, lines)

    def _needed(
        self, data: dict[str, Any], key: str, lines: Mapping[tuple[Step, ...], int], line: int
    ) -> str:
        value = data.get(key)
        if isinstance(value, str) and value:
            return value
        missing = value in (None, "")
        raise self.wrong(
            lines.get((key,), line),
            f"il manque « {key} » à cet objet." if missing else f"« {key} » doit être un texte.",
            remedy="Un objet commence par « apiVersion: » et « kind: » ; « --- », seul sur une "
            "ligne, le sépare du suivant.",
        )


def read(path: str | Path) -> Manifest:
    """Read a manifest: any number of documents, of any kinds.

    Raises ``ManifestError`` when it is no YAML, or one of its documents is no object; with file,
    line and reason. What the objects hold is for :func:`labkit.kubernetes.validate`.
    """
    path = Path(path)
    return parse(read_text(path, _ManifestReader), path.name)


def parse(text: str, name: str = "manifeste.yml") -> Manifest:
    """Read the text of a manifest; ``name`` is for messages. See :func:`read`."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    try:
        parts = _json_parts(text) if text.lstrip().startswith("{") else [text]
        found = tuple(o for part in parts for o in _ManifestReader(name).objects(part))
    except ManifestError as error:
        raise _told(error, text) from None
    if not found:
        remedy = "Un objet commence par « apiVersion: » et « kind: »."
        raise ManifestError(name, None, "le fichier ne décrit aucun objet.", remedy=remedy)
    return Manifest(name, found)


# -- what is no YAML ------------------------------------------------------------------------

_HEADS = frozenset({"apiVersion", "kind", "metadata"})
_TEMPLATE = re.compile(r"\{\{-?\s*[\w.$/\"`]")
_GAP = re.compile(r"\s*")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\t')


def _told(error: ManifestError, text: str) -> ManifestError:
    """Name what a text is that is no YAML: a template, or objects that are badly separated."""
    lines = text.split("\n")
    near = range(max((error.line or 1) - 2, 1), min((error.line or 1) + 2, len(lines) + 1))
    first = next((n for n in near if _TEMPLATE.search(lines[n - 1])), None)
    if first:
        why = "« {{ … }} » est une expression de modèle, comme en écrit Helm : ce n’est pas un "
        why += "manifeste, cela sert à en fabriquer."
        remedy = "Fabriquez d’abord le manifeste, par exemple avec « helm template »."
        return ManifestError(error.file, first, why, remedy=remedy)
    there = range(min(error.line or 1, len(lines)), 0, -1)  # it may end after the last one
    for n in [*there[:2], *range(len(there) + 1, min(len(there) + 3, len(lines) + 1))]:
        if re.fullmatch(r"\s*(--|-{4,}|—+|–+)\s*|\s+---\s*|---[^\s-].*", lines[n - 1]):
            why = f"« {lines[n - 1].strip()[:20]} » ne sépare pas deux objets."
            remedy = "Écrivez « --- », trois tirets au début d’une ligne, et rien d’autre."
            return ManifestError(error.file, n, why, remedy=remedy)
    return error


def _json_parts(text: str) -> list[str]:
    """Return a text of JSON objects, one after the other, as texts of YAML on the same lines.

    What is no JSON is left as it is: YAML has braces, too.
    """
    decoder = json.JSONDecoder()
    at, parts = 0, [""]
    try:
        while at < len(text):
            start = _GAP.match(text, at).end()  # type: ignore[union-attr]  # it may be empty
            if start == len(text):
                break
            _, end = decoder.raw_decode(text, start)
            gap = text[at:start]
            if at and "\n" not in gap:  # on the same line as the one before
                parts.append("\n" * text.count("\n", 0, start))
            piece = _TOKEN.sub(_as_yaml, text[start:end])
            parts[-1] += gap.replace("\t", " ") + ("--- " if at else "") + piece
            at = end
    except (ValueError, RecursionError):
        return [text]
    return parts


def _as_yaml(token: re.Match[str]) -> str:
    """Return a JSON text with the escapes that YAML knows, and a tab as a space."""
    if token[0] == "\t":
        return " "
    value = json.loads(token[0]).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    written = json.dumps(value, ensure_ascii=False)
    return re.sub(
        r"[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]", lambda c: f"\\u{ord(c[0]):04x}", written
    )


# -- shapes: nothing of a manifest is sure before it is validated -------------------------------


def tables(value: Any) -> list[Table]:
    """Return the tables of a list; anything else is left out."""
    return [v for v in value if isinstance(v, Mapping)] if isinstance(value, list) else []


def word(value: Any) -> str:
    """Return a value as text; nothing is empty."""
    return "" if value is None else str(value)
