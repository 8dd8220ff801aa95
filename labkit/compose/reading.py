"""From the text of a compose file to plain data, each value with the line it came from.

YAML is read as the course's docker command reads it: the YAML 1.1 of ``yes`` and ``on``, ``22:22``
is text, only the first document counts, and of a key written twice the last. Variables take their
defaults by docker's rules. Then both the closed format of ``docker stack deploy``
(:mod:`labkit.compose.stack_format`) and the published schema of the Compose Specification
(:mod:`labkit.compose.schema`) are asked: a file that neither takes is an error.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import yaml

from labkit.compose.model import ComposeFile, Fault, Reading, Variable
from labkit.compose.schema import Problem, find_problems
from labkit.compose.stack_checks import refusals
from labkit.compose.stack_format import form_at, unfit
from labkit.documents import Reader, Step, is_empty, line_of
from labkit.errors import ComposeError


class Unusable(str):
    """Text from a variable where docker wants a number or a boolean: it refuses the file."""

    __slots__ = ()


def load(text: str, name: str, environment: Mapping[str, str]) -> ComposeFile:
    """Read the text of a compose file as plain data; its parts are made of them elsewhere.

    Raises ``ComposeError`` when neither docker stack deploy nor docker compose would take it.
    """
    reader = ComposeReader(name, environment)
    data = reader.document(text)
    texts = {p: t for p, t in reader.changed.items() if isinstance(t, _Text)}
    words = {p: w for p, w in reader.changed.items() if isinstance(w, str)}
    stack = _overlaid(data, {p: _cast(p, t) for p, t in texts.items()})
    faults = tuple(fault for path, t in texts.items() for fault in t.faults(path))
    rest = reader.starts[1] if len(reader.starts) > 1 else None
    reading = Reading(stack, words, faults, reader.twice, reader.merged, rest)
    for fault in faults:
        if fault.rule == "wrong" and not re.search(r"\$\{\w+:?\+", fault.excerpt):
            # docker compose has "${A:+b}", and takes nothing else of the kind
            why = f"« {fault.excerpt} » : une variable est mal écrite."
            remedy = "Écrivez ${NOM} ou ${NOM:-défaut} ; un dollar seul s’écrit $$."
            raise ComposeError(name, fault.line, why, remedy=remedy)
    unfitting = {one.path for one in unfit(stack)}
    # where docker wants a text, « yes » is one for a reader
    read = _overlaid(data, {path: word for path, word in words.items() if path in unfitting})
    file = ComposeFile(
        name,
        version=read.get("version", ""),
        variables=_variables(texts.values()),
        data=read,
        lines=reader.lines,
        reading=reading,
    )
    problems = find_problems(_overlaid(data, words))
    if problems:
        refused = unfitting | {path for path, _ in refusals(stack, None)}
        shared = [p for p in problems if any(_along(p.path, path) for path in refused)]
        if shared:
            raise _error(file, shared)
    return file


def _along(one: tuple[Step, ...], other: tuple[Step, ...]) -> bool:
    """Whether one of two paths is the beginning of the other."""
    shortest = min(len(one), len(other))
    return one[:shortest] == other[:shortest]


def _error(file: ComposeFile, problems: list[Problem]) -> ComposeError:
    placed = sorted(((file.line(*p.path) or 1, p) for p in problems), key=lambda pair: pair[0])
    line, first = placed[0]
    others = tuple((n, p.reason) for n, p in placed[1:6])
    return ComposeError(file.name, line, first.reason, remedy=first.remedy, others=others)


def _overlaid(data: Any, other: Mapping[tuple[Step, ...], Any]) -> Any:
    """Return data with other values at some paths; what does not change is shared."""
    below: dict[Step, dict[tuple[Step, ...], Any]] = {}
    for path, value in other.items():
        if not path:
            return value
        below.setdefault(path[0], {})[path[1:]] = value
    if not below:
        return data
    copy: Any = dict(data) if isinstance(data, dict) else list(data)
    for step, inner in below.items():
        copy[step] = _overlaid(copy[step], inner)
    return copy


# -- YAML -----------------------------------------------------------------------------------


class ComposeReader(Reader):
    """Reads a compose file; ``environment`` has the values of variables."""

    title = "un fichier compose"
    fault = ComposeError
    only_first = True
    repeats = True

    def __init__(self, file: str, environment: Mapping[str, str]) -> None:
        super().__init__(file)
        self.environment = environment

    def document(self, text: str) -> dict[str, Any]:
        """Return the data of the first document of a text; docker reads no other."""
        self.source = text
        node = next(self.each(text), None)
        if is_empty(node):
            raise self.wrong(None, "le fichier est vide.", "Décrivez des « services: ».")
        if not isinstance(node, yaml.MappingNode):
            kind = "une liste" if isinstance(node, yaml.SequenceNode) else "un texte"
            why = f"le fichier contient {kind} au premier niveau au lieu de clés."
            raise self.wrong(node, why, "Un fichier compose commence par « services: ».")
        return self.mapping(node, (), ())

    def _scalar(self, node: yaml.ScalarNode, path: tuple[Step, ...]) -> Any:
        value = super()._scalar(node, path)
        if isinstance(value, bool) and node.value.lower() not in ("true", "false"):
            self.changed[path] = node.value
        return value

    def _text(self, node: yaml.ScalarNode, path: tuple[Step, ...]) -> str:
        if "$" not in node.value:
            return super()._text(node, path)
        text = _Text(node, self.source, self.environment)
        if not text.plain or text.shown != node.value:
            self.changed[path] = text
        return text.shown


# -- variables ------------------------------------------------------------------------------

_NAME = r"[_a-z][_a-z0-9]*(?::?[-?][^}]*)?"
_VARIABLE = re.compile(
    rf"\$(?:(?P<escaped>\$)|(?P<named>{_NAME})|\{{(?P<braced>{_NAME})\}}|)", re.IGNORECASE
)
_OPERATORS = (":-", "-", ":?", "?")  # in the order in which docker looks for them


class _Text:
    """A text with variables, as docker's rules substitute them."""

    def __init__(self, node: yaml.ScalarNode, source: str, environment: Mapping[str, str]) -> None:
        self.node = node
        self.source = source
        self.environment = environment
        self.used: list[Variable] = []
        self._dollars = [m.start() for m in re.finditer(r"\$", node.value)]
        self._lines = self._written_at()
        self._problems: list[tuple[int, str]] = []
        self._needed: dict[int, str] = {}  # the variable by the offset of its dollar
        shown: list[str] = []
        given: list[str] = []
        at = 0
        for found in _VARIABLE.finditer(node.value):
            between, at, inside = node.value[at : found.start()], found.end(), found[2] or found[3]
            if found["escaped"]:
                pair = "$", "$"
            elif inside:
                pair = self._variable(inside, found.start())
            else:
                pair = "$", ""
                self._problems.append((found.start(), "wrong"))
            if not found["escaped"]:
                self._last = found.start()
            shown += between, pair[0]
            given += between, pair[1]
        rest = node.value[at:]
        self.shown: str = "".join(shown) + rest  # for a reader: variables without value stand
        self.given: str = "".join(given) + rest  # for docker: they are empty

    @property
    def plain(self) -> bool:
        """Docker reads it as it stands."""
        return self.given == self.node.value and not self._problems

    def faults(self, path: tuple[Step, ...]) -> Iterator[Fault]:
        """Yield what is wrong with the variables; docker forgets all but the last one's fault."""
        fatal = bool(self._problems) and self._problems[-1][0] == self._last
        told: set[tuple[int, str]] = set()  # one of a line is enough
        for offset, rule in self._problems:
            place = (self._line(offset), self._needed.get(offset, rule))
            if (fatal or rule == "wrong") and place not in told:
                told.add(place)
                start = self.node.value.rfind("\n", 0, offset) + 1
                excerpt = self.node.value[max(start, offset - 20) :].partition("\n")[0]
                said = excerpt if len(excerpt) <= 60 else excerpt[:59] + "…"
                if rule == "needed":
                    said = self._needed[offset]
                yield Fault(path, self._line(offset), said.strip(), rule if fatal else "lost")

    def _variable(self, inside: str, offset: int) -> tuple[str, str]:
        operator = next((o for o in _OPERATORS if o in inside), "")
        name, _, argument = inside.partition(operator) if operator else (inside, "", "")
        value = self.environment.get(name)
        is_set = bool(value) if operator.startswith(":") else value is not None
        default = argument if operator.endswith("-") else None
        required = operator.endswith("?") and not is_set
        given = value if is_set else None
        self.used.append(Variable(name, self._line(offset), default, given, required=required))
        if required:
            self._problems.append((offset, "needed"))
            self._needed[offset] = f"${{{name}}}"
        if is_set:
            return value or "", value or ""
        return (f"${{{name}}}", "") if default is None else (default, default)

    def _written_at(self) -> list[int]:
        """Return the line of each dollar in the file; nothing if some are written otherwise."""
        at, line = self.node.start_mark.index, line_of(self.node)
        lines = []
        for found in re.finditer(r"\$", self.source[at : self.node.end_mark.index]):
            line += self.source.count("\n", at, self.node.start_mark.index + found.start())
            at = self.node.start_mark.index + found.start()
            lines.append(line)
        return lines if len(lines) == len(self._dollars) else []

    def _line(self, offset: int) -> int:
        if not self._lines:
            return line_of(self.node)
        return self._lines[bisect_left(self._dollars, offset)]


def _variables(texts: Iterable[_Text]) -> tuple[Variable, ...]:
    """Return the variables by name, each with its first line and a default if it has one."""
    known: dict[str, Variable] = {}
    for variable in (v for text in texts for v in text.used):
        first = known.get(variable.name)
        if first is None:
            known[variable.name] = variable
        elif first.default is None and variable.default is not None:
            known[variable.name] = replace(variable, line=first.line)
    return tuple(known.values())


# -- what docker converts after a variable is replaced --------------------------------------


def _integer(text: str) -> int:
    if not re.fullmatch(r"[-+]?[0-9]{1,19}", text):
        raise ValueError
    return int(text)


def _flag(text: str) -> bool:
    return {"y": True, "yes": True, "true": True, "on": True,
            "n": False, "no": False, "false": False, "off": False}[text.lower()]  # fmt: skip


_CASTS: dict[str, Callable[[str], Any]] = {"integer": _integer, "flag": _flag, "number": float}


def _cast(path: tuple[Step, ...], text: _Text) -> Any:
    """Return what docker makes of a text in which it replaced a variable."""
    # docker looks for them by names joined with dots: a service "a.b" is none of these
    found = None if any("." in str(step) for step in path) else form_at(path)
    if text.given == text.node.value or not found or not found.cast:
        return text.given
    try:
        return _CASTS[found.cast](text.given)
    except (KeyError, ValueError):
        return Unusable(text.given)
