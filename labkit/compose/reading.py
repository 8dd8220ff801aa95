"""From the text of a compose file to plain data, each value with the line it came from.

YAML is read as Docker reads it (YAML 1.2 scalars: ``22:22`` and ``yes`` are text), anchors and
merge keys are expanded, variables take their defaults, and the published schema of the Compose
Specification has the last word (:mod:`labkit.compose.schema`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from labkit.compose.schema import Problem, find_problems
from labkit.documents import Reader, Step, is_empty, line_of, nearest_line
from labkit.errors import ComposeError

__all__ = ["ComposeReader", "Raw", "Variable", "load"]


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
        return nearest_line(self.lines, path) or 1


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
    reader = ComposeReader(file, environment)
    data = reader.document(text)
    raw = Raw(
        file,
        data,
        reader.lines,
        tuple(reader.variables.values()),
        frozenset(reader.changed),
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


class ComposeReader(Reader):
    """Reads a compose file; ``environment`` has the values of variables."""

    title = "un fichier compose"
    fault = ComposeError

    def __init__(self, file: str, environment: Mapping[str, str]) -> None:
        super().__init__(file)
        self.environment = environment
        self.variables: dict[str, Variable] = {}

    def document(self, text: str) -> dict[str, Any]:
        """Return the data of the only document of a text."""
        nodes = self.nodes(text)
        if not nodes or (len(nodes) == 1 and is_empty(nodes[0])):
            raise ComposeError(
                self.file, None, "le fichier est vide.", remedy="Décrivez des « services: »."
            )
        node, *others = nodes
        if others:
            raise ComposeError(
                self.file,
                self.starts[1],
                "le fichier contient plusieurs documents YAML (« --- »).",
            )
        if not isinstance(node, yaml.MappingNode):
            kind = "une liste" if isinstance(node, yaml.SequenceNode) else "un texte"
            raise ComposeError(
                self.file,
                line_of(node) if node else None,
                f"le fichier contient {kind} au premier niveau au lieu de clés.",
                remedy="Un fichier compose commence par « services: ».",
            )
        return self.mapping(node, (), ())

    def _text(self, text: str, line: int, path: tuple[Step, ...]) -> str:
        return text if "$" not in text or self._free_key(path) else self._interpolate(text, line)

    def _free_key(self, path: tuple[Step, ...]) -> bool:
        return bool(path) and str(path[0]).startswith("x-")

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


def _closing(text: str) -> int:
    """Return where the brace that opens ``text`` is closed, or -1."""
    depth = 0
    for i, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return i
    return -1
