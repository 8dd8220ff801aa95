"""YAML as plain data, each value with the line it came from; what is wrong is said in French.

Anchors and merge keys are expanded, within limits; a key written twice is an error unless the
reader says otherwise.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import yaml

from labkit.errors import FileError, reason_of

Step = str | int  # a key, or an index of a list

_TOO_DEEP = "l’imbrication est trop profonde."


def nearest_line(lines: Mapping[tuple[Step, ...], int], path: tuple[Step, ...]) -> int | None:
    """Return the line of a path, or of the nearest thing around it; None without any."""
    while path not in lines and path:
        path = path[:-1]
    return lines.get(path)


Table = Mapping[str, Any]


def table(value: Any) -> Table:
    """Return a table of keys; anything else, which a schema refuses, is an empty one."""
    return value if isinstance(value, Mapping) else {}


def value_at(value: Any, *path: str) -> Any:
    """Return what is at a path of keys; None where there is nothing, or another shape."""
    for key in path:
        value = table(value).get(key)
    return value


def below(value: Any, *path: str) -> Table:
    """Return the table at a path of keys; an empty one where there is none."""
    return table(value_at(value, *path))


def read_text(path: Path, reader: type[Reader]) -> str:
    """Return the text of a file that a reader is for.

    Raises the reader's own ``FileError`` when it does not exist, is no text, or is too long.
    """
    name = path.name
    try:
        with path.open("rb") as file:
            content = file.read(reader.biggest + 1)  # of a device, too, which has no size
        if len(content) > reader.biggest:
            size = max(path.stat().st_size, len(content))
            raise reader.fault(
                name, None, f"le fichier fait {size / 1e6:.1f} Mo : ce n’est pas {reader.title}."
            )
    except FileNotFoundError:
        raise reader.fault(
            name, None, "le fichier n’existe pas.", remedy=f"Vérifiez le chemin « {path} »."
        ) from None
    except OSError as error:
        raise reader.fault(
            name, None, f"le fichier ne peut pas être lu ({reason_of(error)})."
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


_FastLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def beside(module: str, **words: object) -> Any:
    """Read the YAML file beside a module of the same name; ``words`` are for its ``{names}``."""
    text = Path(module).with_suffix(".yml").read_text("utf-8")
    return yaml.load(text.format(**words) if words else text, _FastLoader)


class _Loader(_FastLoader):  # type: ignore[misc]
    """Resolves plain scalars as docker 26.1 and Kubernetes do: YAML 1.1, such as ``8_080``."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}


for _tag, _pattern, _first in (
    ("bool", "true|True|TRUE|false|False|FALSE|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF|y|Y|n|N",
     "tTfFyYnNoO"),
    ("int", r"[-+]?(0[bB][01_]+|0[oO]?[0-7_]+|0[xX][0-9a-fA-F_]+|[0-9][0-9_]*)", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*\.[0-9_]*)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.nan",
     "-+.0123456789"),
    ("merge", r"<<", "<"),
):  # fmt: skip
    _Loader.add_implicit_resolver(f"{_TAG}{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))


# -- reading --------------------------------------------------------------------------------


class Reader:
    """Turns the text of one file into data; a subclass says what kind of file it is."""

    title: ClassVar[str] = "un fichier YAML"
    fault: ClassVar[type[FileError]] = FileError
    biggest: ClassVar[int] = 1_000_000  # bytes of a file
    most: ClassVar[int] = 50_000  # values, once aliases are expanded
    deepest: ClassVar[int] = 60  # levels of nesting
    only_first: ClassVar[bool] = False  # what follows the first document is not looked at
    repeats: ClassVar[bool] = False  # a key may be written twice, and the last one counts
    free_keys: ClassVar[bool] = False  # keys may be numbers and such; they are taken as texts

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[tuple[Step, ...], int] = {}  # from 1, by path
        # by path, what a subclass keeps of a scalar that is read as something else
        self.changed: dict[tuple[Step, ...], Any] = {}
        self.starts: list[int] = []  # lines on which documents begin
        # by path, the line on which a key was written before
        self.twice: dict[tuple[Step, ...], int] = {}
        # by path, the line of a key that a ``<<`` below it replaces, as Docker's YAML reader does
        self.merged: dict[tuple[Step, ...], int] = {}
        self._count = 0

    def each(self, text: str) -> Iterator[yaml.Node | None]:
        """Yield the documents of a text one by one; an empty one is a null or None."""
        try:
            self._check_depth(text)
            yield from yaml.compose_all(text, Loader=_Loader)
        except yaml.MarkedYAMLError as error:
            raise self._syntax(error, text) from None
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise self.wrong(line, f"un caractère est interdit (code {error.character}).") from None

    def wrong(
        self, at: yaml.Node | yaml.Event | int | None, reason: str, remedy: str = ""
    ) -> FileError:
        """Return the error of something at a line of the file, or of the whole."""
        line = line_of(at) if isinstance(at, yaml.Node | yaml.Event) else at
        return self.fault(self.file, line, reason, remedy=remedy)

    def _text(self, node: yaml.ScalarNode, path: tuple[Step, ...]) -> str:
        """Return what a text stands for."""
        return str(node.value)

    def _check_depth(self, text: str) -> None:
        """Refuse what is nested so deep that libyaml's composer would break on it, or too long.

        It takes note of where documents begin.
        """
        depth = 0
        for count, event in enumerate(yaml.parse(text, Loader=_Loader)):
            if count > 4 * self.most:  # keys, values, ends, documents: no file that is read later
                raise self.wrong(event, "le fichier est trop grand.")
            if isinstance(event, yaml.DocumentStartEvent):
                self.starts.append(line_of(event))
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if self.only_first and len(self.starts) > 1:
                return
            if depth > self.deepest:
                raise self.wrong(event, _TOO_DEEP)

    def _syntax(self, error: yaml.MarkedYAMLError, text: str) -> FileError:
        mark = error.problem_mark or error.context_mark
        if (error.context or "").startswith("while scanning"):  # it began there
            mark = error.context_mark
        line = mark.line + 1 if mark else None
        lines = text.split("\n")
        # a block that a tab ends has begun above it
        for at in [m for m in (mark, error.problem_mark) if m and m.line < len(lines)]:
            there = lines[at.line]
            if "\t" in there[: len(there) - len(there.lstrip())]:
                return self.wrong(
                    at.line + 1,
                    "une tabulation sert à indenter.",
                    "YAML n’accepte que des espaces : remplacez les tabulations.",
                )
        problem = error.problem or ""
        reason = next((fr for en, fr in _SYNTAX if en in problem), "ce n’est pas du YAML correct.")
        remedy = ""
        if "indentation" in reason or " : " in reason:
            remedy = "Comparez l’indentation et les « : » de cette ligne et de la précédente."
        return self.wrong(line, reason, remedy)

    def _value(self, node: yaml.Node, path: tuple[Step, ...], around: tuple[yaml.Node, ...]) -> Any:
        self._spend(node, around)
        if any(node is outer for outer in around):
            raise self.wrong(node, "une ancre se contient elle-même (alias « * » en boucle).")
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
            raise self.wrong(node, "le fichier est trop grand une fois les ancres développées.")

    def mapping(
        self, node: yaml.MappingNode, path: tuple[Step, ...], around: tuple[yaml.Node, ...]
    ) -> dict[str, Any]:
        """Return what a node of keys stands for, merge keys expanded."""
        inside = (*around, node)
        values: dict[str, Any] = {}
        written: dict[str, int] = {}  # lines of the mapping's own keys
        for key_node, value_node in node.value:
            if key_node.tag == f"{_TAG}merge":
                several = isinstance(value_node, yaml.SequenceNode)
                for source in reversed(value_node.value if several else [value_node]):
                    self._merge(source, path, inside, values, written)
                continue
            key = self._key(key_node, path)
            here, line = (*path, key), line_of(key_node)
            if key in written:
                if not self.repeats:
                    why = f"la clé « {key} » est déjà écrite ligne {written[key]}."
                    raise self.wrong(line, why, "Gardez l’une des deux.")
                self.twice[here] = written[key]
            if key in values:
                self._forget(here, values[key])
            written[key] = self.lines[here] = line
            values[key] = self._value(value_node, here, inside)
        return values

    def _merge(
        self,
        source: yaml.Node,
        path: tuple[Step, ...],
        inside: tuple[yaml.Node, ...],
        values: dict[str, Any],
        written: Mapping[str, int],
    ) -> None:
        """Add what a ``<<`` names to the values of a mapping; it wins over what is above it."""
        if any(source is outer for outer in inside):
            raise self.wrong(source, "une ancre se contient elle-même (« << » en boucle).")
        if not isinstance(source, yaml.MappingNode):
            raise self.wrong(source, "« << » doit nommer une table « clé : valeur ».")
        self._spend(source, inside)
        apart = copy.copy(self)
        apart.lines, apart.changed = {}, {}
        merged = apart.mapping(source, path, inside)
        self._count = apart._count
        for key in values.keys() & merged.keys():
            self._forget((*path, key), values[key])
            if key in written:
                self.merged[*path, key] = written[key]
        values |= merged
        self.lines |= apart.lines
        self.changed |= apart.changed

    def _forget(self, path: tuple[Step, ...], value: Any) -> None:
        """Drop what is known of a value that another replaces."""
        self.lines.pop(path, None)
        self.changed.pop(path, None)
        steps: Iterable[Step] = value if isinstance(value, dict) else ()
        for step in range(len(value)) if isinstance(value, list) else steps:
            self._forget((*path, step), value[step])

    def _key(self, node: yaml.Node, path: tuple[Step, ...]) -> str:
        text_key = isinstance(node, yaml.ScalarNode) and node.tag == f"{_TAG}str"
        if not isinstance(node, yaml.ScalarNode) or not (text_key or self.free_keys):
            text = node.value if isinstance(node, yaml.ScalarNode) else "…"
            read = ""
            if node.tag == f"{_TAG}bool" and text.lower() not in ("true", "false"):
                read = ", mais " + ("true" if text.lower() in ("yes", "on", "y") else "false")
            raise self.wrong(
                node,
                f"la clé « {text} » n’est pas un texte{read}.",
                f'Mettez-la entre guillemets : "{text}".',
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
                raise self.wrong(node, f"« {text[:60]} » n’est pas un nombre.") from None
        return self._text(node, path)


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
    digits = digits.replace("_", "").lower()
    if digits.startswith(("0o", "0x", "0b")):
        return sign * int(digits[:3000], 0)  # Python writes no number of more than 4,300 digits
    if len(digits) > 1 and digits.startswith("0") and not set(digits) & {"8", "9"}:
        return sign * int(digits[:4000], 8)  # as Docker's YAML reader, which keeps the old octals
    return sign * int(digits[:4000])


def _float(text: str) -> float:
    return float(re.sub(r"\.(inf|nan)$", r"\1", text.replace("_", "").lower()))
