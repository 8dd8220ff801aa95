"""YAML as plain data, each value with the line it came from; what is wrong is said in French.

Anchors and merge keys are expanded, within limits; a key written twice is an error. What the
scalars are is the reader's choice: Docker reads YAML 1.2, Kubernetes YAML 1.1.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import yaml

from labkit.errors import FileError

__all__ = ["Reader", "Step", "Yaml11", "Yaml12", "is_empty", "line_of", "nearest_line", "read_text"]

Step = str | int  # a key, or an index of a list

_TOO_DEEP = "l’imbrication est trop profonde."


def nearest_line(lines: Mapping[tuple[Step, ...], int], path: tuple[Step, ...]) -> int | None:
    """Return the line of a path, or of the nearest thing around it; None without any."""
    while path not in lines and path:
        path = path[:-1]
    return lines.get(path)


def read_text(path: Path, reader: type[Reader]) -> str:
    """Return the text of a file that a reader is for.

    Raises
    ------
    FileError
        The reader's own: it does not exist, is no text, or is too long.
    """
    name = path.name
    try:
        size = path.stat().st_size
        if size > reader.biggest:
            raise reader.fault(
                name,
                None,
                f"le fichier fait {size / 1e6:.1f} Mo : ce n’est pas {reader.title}.",
            )
        content = path.read_bytes()
    except FileNotFoundError:
        raise reader.fault(
            name, None, "le fichier n’existe pas.", remedy=f"Vérifiez le chemin « {path} »."
        ) from None
    except OSError as error:
        raise reader.fault(
            name, None, f"le fichier ne peut pas être lu ({error.strerror})."
        ) from None
    if b"\0" in content:
        raise reader.fault(name, None, "c’est un fichier binaire, pas du texte YAML.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise reader.fault(
            name,
            line,
            "un caractère n’est pas en UTF-8.",
            remedy="Enregistrez le fichier en UTF-8.",
        ) from None


# -- scalars --------------------------------------------------------------------------------

_TAG = "tag:yaml.org,2002:"
_Resolvers = dict[str, list[tuple[str, re.Pattern[str]]]]
_NUMBERS = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.nan",
     "-+.0123456789"),
    ("merge", r"<<", "<"),
)  # fmt: skip


class Yaml12(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Resolves plain scalars as YAML 1.2 and Docker do."""

    yaml_implicit_resolvers: ClassVar[_Resolvers] = {}


class Yaml11(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The same with the booleans of YAML 1.1, as Kubernetes: ``yes``, ``on`` and ``n`` too."""

    yaml_implicit_resolvers: ClassVar[_Resolvers] = {}


for _loader, _words in (
    (Yaml12, "true True TRUE false False FALSE"),
    (Yaml11, "true True TRUE false False FALSE yes Yes YES no No NO on On ON off Off OFF y Y n N"),
):
    for _tag, _pattern, _first in (("bool", _words.replace(" ", "|"), "tTfFyYnNoO"), *_NUMBERS):
        _loader.add_implicit_resolver(
            f"{_TAG}{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first)
        )


# -- reading --------------------------------------------------------------------------------


class Reader:
    """Turns the text of one file into data; a subclass says what kind of file it is.

    Parameters
    ----------
    file
        Its name, for messages.

    Attributes
    ----------
    lines
        Line, from 1, by path.
    changed
        Paths of texts that :meth:`_text` changed.
    starts
        Line on which each document begins.
    """

    title: ClassVar[str] = "un fichier YAML"
    fault: ClassVar[type[FileError]] = FileError
    loader: ClassVar[type[yaml.SafeLoader]] = Yaml12
    biggest: ClassVar[int] = 1_000_000  # bytes of a file
    most: ClassVar[int] = 50_000  # values, once aliases are expanded
    deepest: ClassVar[int] = 60  # levels of nesting

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[tuple[Step, ...], int] = {}
        self.changed: set[tuple[Step, ...]] = set()
        self.starts: list[int] = []
        self._count = 0

    def nodes(self, text: str) -> list[yaml.Node | None]:
        """Return the documents of a text; an empty one is a null or None."""
        try:
            self._check_depth(text)
            return list(yaml.compose_all(text, Loader=self.loader))
        except yaml.MarkedYAMLError as error:
            raise self._syntax(error, text) from None
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise self.fault(
                self.file, line, f"un caractère est interdit (code {error.character})."
            ) from None

    def _text(self, text: str, line: int, path: tuple[Step, ...]) -> str:
        """Return what a text stands for."""
        return text

    def _free_key(self, path: tuple[Step, ...]) -> bool:
        """Whether keys there may be numbers and such; they are taken as texts."""
        return False

    def _check_depth(self, text: str) -> None:
        """Refuse what is nested so deep that libyaml's composer would break on it, or too long.

        It takes note of where documents begin.
        """
        depth = 0
        for count, event in enumerate(yaml.parse(text, Loader=self.loader)):
            if count > 4 * self.most:  # keys, values, ends, documents: no file that is read later
                raise self.fault(self.file, line_of(event), "le fichier est trop grand.")
            if isinstance(event, yaml.DocumentStartEvent):
                self.starts.append(line_of(event))
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > self.deepest:
                raise self.fault(self.file, line_of(event), _TOO_DEEP)

    def _syntax(self, error: yaml.MarkedYAMLError, text: str) -> FileError:
        mark = error.problem_mark or error.context_mark
        if (error.context or "").startswith("while scanning"):  # it began there
            mark = error.context_mark
        line = mark.line + 1 if mark else None
        lines = text.splitlines()
        there = lines[line - 1] if line and line <= len(lines) else ""
        if "\t" in there[: len(there) - len(there.lstrip())]:
            return self.fault(
                self.file,
                line,
                "une tabulation sert à indenter.",
                remedy="YAML n’accepte que des espaces : remplacez les tabulations.",
            )
        problem = error.problem or ""
        reason = next((fr for en, fr in _SYNTAX if en in problem), f"YAML incorrect ({problem}).")
        remedy = ""
        if "indentation" in reason or " : " in reason:
            remedy = "Comparez l’indentation et les « : » de cette ligne et de la précédente."
        return self.fault(self.file, line, reason, remedy=remedy)

    def _value(self, node: yaml.Node, path: tuple[Step, ...], around: tuple[yaml.Node, ...]) -> Any:
        self._spend(node, around)
        if any(node is outer for outer in around):
            raise self.fault(
                self.file, line_of(node), "une ancre se contient elle-même (alias « * » en boucle)."
            )
        self.lines.setdefault(path, line_of(node))
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path, around)
        if isinstance(node, yaml.SequenceNode):
            inside = (*around, node)
            return [self._value(n, (*path, i), inside) for i, n in enumerate(node.value)]
        if not isinstance(node, yaml.ScalarNode):  # there is no other kind
            return None
        return self._scalar(node, path)

    def _spend(self, node: yaml.Node, around: tuple[yaml.Node, ...]) -> None:
        self._count += 1
        if self._count > self.most or len(around) > self.deepest:
            raise self.fault(
                self.file,
                line_of(node),
                "le fichier est trop grand une fois les ancres développées.",
            )

    def mapping(
        self, node: yaml.MappingNode, path: tuple[Step, ...], around: tuple[yaml.Node, ...]
    ) -> dict[str, Any]:
        """Return what a node of keys stands for, merge keys expanded.

        Parameters
        ----------
        node
            From :meth:`nodes`.
        path
            Where it is; lines are kept under it.
        around
            Nodes that it is in.
        """
        inside = (*around, node)
        own: dict[str, Any] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            if key_node.tag == f"{_TAG}merge":
                several = isinstance(value_node, yaml.SequenceNode)
                merged += value_node.value if several else [value_node]
                continue
            key = self._key(key_node, path)
            if key in own:
                first = self.lines[(*path, key)]
                raise self.fault(
                    self.file,
                    line_of(key_node),
                    f"la clé « {key} » est déjà écrite ligne {first}.",
                    remedy="Gardez l’une des deux.",
                )
            self.lines[(*path, key)] = line_of(key_node)
            own[key] = self._value(value_node, (*path, key), inside)
        below: dict[str, Any] = {}
        for source in merged:
            if any(source is outer for outer in inside):
                raise self.fault(
                    self.file,
                    line_of(source),
                    "une ancre se contient elle-même (« << » en boucle).",
                )
            if not isinstance(source, yaml.MappingNode):
                raise self.fault(
                    self.file, line_of(source), "« << » doit nommer une table « clé : valeur »."
                )
            self._spend(source, inside)
            # a path of its own while it is read: keys of the mapping itself win
            apart = copy.copy(self)
            apart.lines, apart.changed = {}, set()
            values = apart.mapping(source, path, inside)
            self._count = apart._count
            new = values.keys() - own.keys() - below.keys()
            below |= {key: value for key, value in values.items() if key in new}
            at = len(path)  # of the key
            self.lines |= {w: line for w, line in apart.lines.items() if w[at] in new}
            self.changed |= {w for w in apart.changed if w[at] in new}
        return {**below, **own}

    def _key(self, node: yaml.Node, path: tuple[Step, ...]) -> str:
        text_key = isinstance(node, yaml.ScalarNode) and node.tag == f"{_TAG}str"
        if not isinstance(node, yaml.ScalarNode) or not (text_key or self._free_key(path)):
            text = node.value if isinstance(node, yaml.ScalarNode) else "…"
            raise self.fault(
                self.file,
                line_of(node),
                f"la clé « {text} » n’est pas un texte.",
                remedy=f'Mettez-la entre guillemets : "{text}".',
            )
        if node.tag == f"{_TAG}bool":  # « n: 1 » is « false: 1 » for YAML 1.1
            return str(self._scalar(node, path)).lower()
        return str(node.value)

    def _scalar(self, node: yaml.ScalarNode, path: tuple[Step, ...]) -> Any:
        text: str = node.value
        tag = node.tag.removeprefix(_TAG)
        if tag == "null":
            return None
        if tag == "bool":
            return text.lower() in ("true", "yes", "on", "y")
        if tag in ("int", "float"):
            try:
                number = _integer if tag == "int" else _float
                return number(text)
            except ValueError:  # the tag was written: !!int x
                raise self.fault(
                    self.file, line_of(node), f"« {text[:60]} » n’est pas un nombre."
                ) from None
        changed = self._text(text, line_of(node), path)
        if changed != text:
            self.changed.add(path)
        return changed


_SYNTAX = (  # PyYAML's own words, and ours
    ("maximum nesting depth", _TOO_DEEP),
    ("mapping values are not allowed",
     "un « : » est mal placé, ou l’indentation est fausse."),
    ("expected <block end>", "l’indentation est fausse, ou une ligne n’est pas « clé : valeur »."),
    ("could not find expected ':'", "il manque un « : » après une clé."),
    ("did not find expected node content", "une valeur manque, ou un crochet n’est pas fermé."),
    ("found undefined alias", "un alias « * » ne correspond à aucune ancre « & »."),
    ("found unexpected end of stream", "un guillemet n’est jamais fermé."),
    ("but found another document", "le fichier contient plusieurs documents YAML (« --- »)."),
    ("found character that cannot start any token", "un caractère ne peut pas commencer une "
     "valeur : mettez-la entre guillemets."),
    ("did not find expected key", "l’indentation est fausse, ou une clé manque."),
    ("block sequence entries are not allowed",
     "un « - » est mal placé, ou l’indentation est fausse."),
    ("tab character", "une tabulation sert à indenter."),
    ("directive name", "un « % » ne peut pas commencer une ligne."),
    ("did not find expected <document start>",
     "l’indentation est fausse : ceci n’appartient à rien."),
    ("did not find expected '-' indicator", "l’indentation d’une liste est fausse."),
    ("did not find expected ',' or", "un « ] » ou un « } » manque."),
)  # fmt: skip


def is_empty(node: yaml.Node | None) -> bool:
    """Whether a document holds nothing, or comments only."""
    if not isinstance(node, yaml.ScalarNode):
        return node is None
    return not node.value or node.tag == f"{_TAG}null"


def line_of(at: yaml.Node | yaml.Event) -> int:
    """Return the line, from 1, on which something begins."""
    return at.start_mark.line + 1 if at.start_mark else 1


def _integer(text: str) -> int:
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text.lstrip("+"))
    if digits.startswith(("0o", "0x")):
        return sign * int(digits, 0)
    if len(digits) > 1 and digits.startswith("0") and not set(digits) & {"8", "9"}:
        return sign * int(digits, 8)  # as Docker's YAML reader, which keeps the old octals
    return sign * int(digits[:4000])


def _float(text: str) -> float:
    return float(re.sub(r"\.(inf|nan)$", r"\1", text.lower()))
