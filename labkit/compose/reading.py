"""From the text of a compose file to plain data, each value with the line it came from.

YAML is read as Docker reads it (YAML 1.2 scalars: ``22:22`` and ``yes`` are text), anchors and
merge keys are expanded, variables take their defaults, and the published schema of the Compose
Specification has the last word (:mod:`labkit.compose.schema`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml

from labkit.compose.schema import Problem, find_problems
from labkit.errors import ComposeError

__all__ = ["Raw", "Step", "Variable", "load", "read_text"]

Step = str | int  # a key, or an index of a list

_BIGGEST = 1_000_000  # bytes of a file
_MOST = 50_000  # values, once aliases are expanded
_DEEPEST = 60  # levels of nesting
_TOO_DEEP = "l’imbrication est trop profonde."


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable that a file refers to.

    Attributes
    ----------
    name
        Without dollar or braces.
    line
        Where it is first used.
    default
        What is used when it is not set; None if the file gives nothing.
    value
        What it was given; None if it was not set.
    required
        Docker refuses the file without it (``${A:?…}``), and it was not set.
    """

    name: str
    line: int
    default: str | None = None
    value: str | None = None
    required: bool = False

    @property
    def missing(self) -> bool:
        """Neither set nor with a default: it is left in the text as it stands."""
        return self.value is None and self.default is None


@dataclass(frozen=True, slots=True)
class Raw:
    """A file as plain data.

    Attributes
    ----------
    file
        Name, for messages.
    data
        Mappings, lists and scalars.
    lines
        Line, from 1, by path.
    variables
        By name.
    substituted
        Paths of values that a variable is part of.
    """

    file: str
    data: dict[str, Any]
    lines: Mapping[tuple[Step, ...], int]
    variables: tuple[Variable, ...]
    substituted: frozenset[tuple[Step, ...]]

    def line(self, path: tuple[Step, ...]) -> int:
        """Return the line of a path, or of the nearest thing around it."""
        while path not in self.lines and path:
            path = path[:-1]
        return self.lines.get(path, 1)


def read_text(path: Path) -> str:
    """Return a file's text.

    Raises
    ------
    ComposeError
        It does not exist, is no text, or is too long.
    """
    name = path.name
    try:
        size = path.stat().st_size
        if size > _BIGGEST:
            raise ComposeError(
                name,
                None,
                f"le fichier fait {size / 1e6:.1f} Mo : ce n’est pas un fichier compose.",
            )
        content = path.read_bytes()
    except FileNotFoundError:
        raise ComposeError(
            name, None, "le fichier n’existe pas.", remedy=f"Vérifiez le chemin « {path} »."
        ) from None
    except OSError as error:
        raise ComposeError(
            name, None, f"le fichier ne peut pas être lu ({error.strerror})."
        ) from None
    if b"\0" in content:
        raise ComposeError(name, None, "c’est un fichier binaire, pas du texte YAML.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ComposeError(
            name,
            line,
            "un caractère n’est pas en UTF-8.",
            remedy="Enregistrez le fichier en UTF-8.",
        ) from None


def load(text: str, file: str, environment: Mapping[str, str]) -> Raw:
    """Read the text of a compose file.

    Parameters
    ----------
    text
        YAML.
    file
        Its name, for messages.
    environment
        Values of variables.

    Raises
    ------
    ComposeError
    """
    reader = _Reader(file, environment)
    data = reader.document(text)
    raw = Raw(
        file,
        data,
        reader.lines,
        tuple(reader.variables.values()),
        frozenset(reader.substituted),
    )
    problems = find_problems(data)
    if problems:
        raise _error(raw, problems)
    return raw


def _error(raw: Raw, problems: list[Problem]) -> ComposeError:
    placed = sorted(((raw.line(p.path), p) for p in problems), key=lambda pair: pair[0])
    line, first = placed[0]
    others = tuple((n, p.reason) for n, p in placed[1:6])
    return ComposeError(raw.file, line, first.reason, remedy=first.remedy, others=others)


# -- YAML -----------------------------------------------------------------------------------


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Resolves plain scalars as YAML 1.2 and Docker do."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.nan",
     "-+.0123456789"),
    ("merge", r"<<", "<"),
):  # fmt: skip
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first)
    )

_TAG = "tag:yaml.org,2002:"


class _Reader:
    def __init__(self, file: str, environment: Mapping[str, str]) -> None:
        self.file = file
        self.environment = environment
        self.lines: dict[tuple[Step, ...], int] = {}
        self.variables: dict[str, Variable] = {}
        self.substituted: set[tuple[Step, ...]] = set()
        self._count = 0

    def document(self, text: str) -> dict[str, Any]:
        try:
            self._check_depth(text)
            node = yaml.compose(text, Loader=_Loader)
        except yaml.MarkedYAMLError as error:
            raise self._syntax(error, text) from None
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise ComposeError(
                self.file, line, f"un caractère est interdit (code {error.character})."
            ) from None
        if node is None or (isinstance(node, yaml.ScalarNode) and not node.value):
            raise ComposeError(
                self.file, None, "le fichier est vide.", remedy="Décrivez des « services: »."
            )
        if not isinstance(node, yaml.MappingNode):
            kind = "une liste" if isinstance(node, yaml.SequenceNode) else "un texte"
            raise ComposeError(
                self.file,
                _line(node),
                f"le fichier contient {kind} au premier niveau au lieu de clés.",
                remedy="Un fichier compose commence par « services: ».",
            )
        return self._mapping(node, (), ())

    def _check_depth(self, text: str) -> None:
        """Refuse what is nested so deep that libyaml's composer would break on it."""
        depth = 0
        for event in yaml.parse(text, Loader=_Loader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise ComposeError(self.file, _line(event), _TOO_DEEP)

    def _syntax(self, error: yaml.MarkedYAMLError, text: str) -> ComposeError:
        mark = error.problem_mark or error.context_mark
        if (error.context or "").startswith("while scanning"):  # it began there
            mark = error.context_mark
        line = mark.line + 1 if mark else None
        lines = text.splitlines()
        there = lines[line - 1] if line and line <= len(lines) else ""
        if "\t" in there[: len(there) - len(there.lstrip())]:
            return ComposeError(
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
        return ComposeError(self.file, line, reason, remedy=remedy)

    def _value(self, node: yaml.Node, path: tuple[Step, ...], around: tuple[yaml.Node, ...]) -> Any:
        self._count += 1
        if self._count > _MOST or len(path) > _DEEPEST:
            raise ComposeError(
                self.file, _line(node), "le fichier est trop grand une fois les ancres développées."
            )
        if any(node is outer for outer in around):
            raise ComposeError(
                self.file, _line(node), "une ancre se contient elle-même (alias « * » en boucle)."
            )
        self.lines.setdefault(path, _line(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, around)
        if isinstance(node, yaml.SequenceNode):
            inside = (*around, node)
            return [self._value(n, (*path, i), inside) for i, n in enumerate(node.value)]
        if not isinstance(node, yaml.ScalarNode):  # there is no other kind
            return None
        return self._scalar(node, path)

    def _mapping(
        self, node: yaml.MappingNode, path: tuple[Step, ...], around: tuple[yaml.Node, ...]
    ) -> dict[str, Any]:
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
                raise ComposeError(
                    self.file,
                    _line(key_node),
                    f"la clé « {key} » est déjà écrite ligne {first}.",
                    remedy="Gardez l’une des deux.",
                )
            self.lines[(*path, key)] = _line(key_node)
            own[key] = self._value(value_node, (*path, key), inside)
        below: dict[str, Any] = {}
        for source in merged:
            if any(source is outer for outer in inside):
                raise ComposeError(
                    self.file, _line(source), "une ancre se contient elle-même (« << » en boucle)."
                )
            if not isinstance(source, yaml.MappingNode):
                raise ComposeError(
                    self.file, _line(source), "« << » doit nommer une table « clé : valeur »."
                )
            # a path of its own while it is read: keys of the mapping itself win
            apart = _Reader(self.file, self.environment)
            apart._count = self._count
            apart.variables = self.variables
            values = apart._mapping(source, path, inside)
            self._count = apart._count
            for key, value in values.items():
                if key in own or key in below:
                    continue
                below[key] = value
                start = (*path, key)
                for where, line in apart.lines.items():
                    if where[: len(start)] == start:
                        self.lines[where] = line
                self.substituted |= {w for w in apart.substituted if w[: len(start)] == start}
        return {**below, **own}

    def _key(self, node: yaml.Node, path: tuple[Step, ...]) -> str:
        free = bool(path) and str(path[0]).startswith("x-")
        if not isinstance(node, yaml.ScalarNode) or (node.tag != f"{_TAG}str" and not free):
            text = node.value if isinstance(node, yaml.ScalarNode) else "…"
            raise ComposeError(
                self.file,
                _line(node),
                f"la clé « {text} » n’est pas un texte.",
                remedy=f'Mettez-la entre guillemets : "{text}".',
            )
        return str(node.value)

    def _scalar(self, node: yaml.ScalarNode, path: tuple[Step, ...]) -> Any:
        text: str = node.value
        tag = node.tag.removeprefix(_TAG)
        if tag == "null":
            return None
        if tag == "bool":
            return text.lower() == "true"
        if tag == "int":
            return _integer(text)
        if tag == "float":
            return float(re.sub(r"\.(inf|nan)$", r"\1", text.lower()))
        if "$" not in text or (path and str(path[0]).startswith("x-")):
            return text
        changed = self._interpolate(text, _line(node))
        if changed != text:
            self.substituted.add(path)
        return changed

    # -- variables --------------------------------------------------------------------------

    def _interpolate(self, text: str, line: int) -> str:
        """Replace ``$A``, ``${A}``, ``${A:-default}``… as Docker does; ``$$`` is a dollar."""
        out: list[str] = []
        at = 0
        while (dollar := text.find("$", at)) >= 0:
            out.append(text[at:dollar])
            rest = text[dollar + 1 :]
            if rest.startswith("$"):
                out.append("$")
                at = dollar + 2
            elif name := re.match(r"[A-Za-z_]\w*", rest):
                out.append(self._variable(name[0], "", "", line))
                at = dollar + 1 + name.end()
            elif found := re.match(r"\{([A-Za-z_]\w*)(:?[-?+])?", rest):
                end = _closing(rest)
                operator = found[2] or ""
                argument = rest[found.end() : end]
                if end < 0 or (argument and not operator):
                    raise self._bad_variable(text, line)
                out.append(self._variable(found[1], operator, argument, line))
                at = dollar + 1 + end + 1
            else:
                raise self._bad_variable(text, line)
        return "".join(out) + text[at:]

    def _variable(self, name: str, operator: str, argument: str, line: int) -> str:
        value = self.environment.get(name)
        set_ = bool(value) if operator.startswith(":") else value is not None
        default = self._interpolate(argument, line) if operator.endswith(("-", "+")) else None
        if operator.endswith("+"):
            result = (default or "") if set_ else ""
            default = ""
        elif set_:
            result = value or ""
        else:
            result = f"${{{name}}}" if default is None else default
        known = self.variables.get(name)
        if known is None or (known.default is None and default is not None):
            self.variables[name] = Variable(
                name,
                known.line if known else line,
                default,
                value if set_ else None,
                required=operator.endswith("?") and not set_,
            )
        return result

    def _bad_variable(self, text: str, line: int) -> ComposeError:
        return ComposeError(
            self.file,
            line,
            f"« {text[:60]} » : une variable est mal écrite.",
            remedy="Écrivez ${NOM} ou ${NOM:-défaut} ; un dollar seul s’écrit $$.",
        )


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


def _line(at: yaml.Node | yaml.Event) -> int:
    return at.start_mark.line + 1 if at.start_mark else 1


def _integer(text: str) -> int:
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text.lstrip("+"))
    if digits.startswith(("0o", "0x")):
        return sign * int(digits, 0)
    if len(digits) > 1 and digits.startswith("0") and not set(digits) & {"8", "9"}:
        return sign * int(digits, 8)  # as Docker's YAML reader, which keeps the old octals
    return sign * int(digits[:4000])


def _closing(text: str) -> int:
    """Return where the brace that opens ``text`` is closed, or -1."""
    depth = 0
    for i, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return i
    return -1
