"""The effect of each option under ``docker stack deploy``: a small table, and its use.

The closed format of ``docker stack deploy`` (:mod:`labkit.compose.stack_format`) and what its
loader and its conversion refuse (:mod:`labkit.compose.stack_checks`) say what is rejected; the
table, ``swarm_options.yml``, says why, what is ignored, and what is Swarm's own.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from labkit.compose.model import ComposeFile
from labkit.compose.reading import Unusable
from labkit.compose.schema import kind_of, short, types_in_words, written
from labkit.compose.stack_checks import refusals
from labkit.compose.stack_format import DOCKER, NEWEST, Unfit, unfit
from labkit.documents import Step, beside


class Fate(StrEnum):
    """The program that acts on an option; the gravest comes first."""

    REJECTED = "rejected"
    IGNORED = "ignored"
    SWARM = "swarm"
    SHARED = "shared"
    NOTE = "note"

    @property
    def french(self) -> str:
        """The verdict in French, as a title."""
        return _TITLES[self]


_TITLES = {
    Fate.REJECTED: "Refusé par docker stack deploy",
    Fate.IGNORED: "Ignoré par docker stack deploy",
    Fate.SWARM: "Propre à Swarm",
    Fate.SHARED: "Suivi par Swarm et par docker compose",
    Fate.NOTE: "À savoir",
}


@dataclass(frozen=True, slots=True)
class Option:
    """A row of the table."""

    # path with ``*`` for any name and ``[]`` for any element: ``services.*.deploy.mode``
    pattern: str
    verdict: Fate  # who acts on it
    why: str  # in French
    value: str = ""  # the only one that it is about; ``!`` for any but null and false

    def about(self, value: Any) -> bool:
        """Whether the row is about a value."""
        return value not in (None, False) if self.value == "!" else self.value in ("", value)


@dataclass(frozen=True, slots=True)
class Finding:
    """An option of a file, with what becomes of it."""

    path: tuple[Step, ...]  # in the file's data
    line: int | None  # in the file; None when nothing in particular is to blame
    verdict: Fate  # who acts on it
    option: str  # its name, such as ``deploy.replicas``
    place: str  # the service, network… that it is set on; empty for the whole file
    value: str  # as written, shortened
    why: str  # in French


def _read_table() -> Iterator[Option]:
    for title, rows in beside(__file__, DOCKER=DOCKER, NEWEST=NEWEST).items():
        verdict, _, quietly = title.partition(" ")
        for option, why in _options(rows):
            pattern, _, value = option.replace("!", "=!").partition("=")
            why = f"sans le dire : {why}" if quietly else why
            yield Option(pattern, Fate(verdict), why, value)


def _options(rows: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for keys, why in rows.items():
        if isinstance(why, str):
            yield from ((prefix + key, why) for key in keys.split())
        else:
            yield from _options(why, f"{prefix}{keys}.")


TABLE = tuple(_read_table())

# What the Specification takes in several forms and the format 3.x in one
_FORMS = {
    "services.*.depends_on": "le format 3.x ne connaît que la liste, sans condition.",
    "services.*.env_file.[]": "le format 3.x ne connaît que des chemins.",
    "services.*.devices.[]": "le format 3.x ne connaît que des textes.",
}

_BY_LENGTH: dict[int, list[Option]] = {}  # what is not rejected, by the length of its path
for _row in TABLE:
    if _row.verdict is not Fate.REJECTED:
        _BY_LENGTH.setdefault(_row.pattern.count(".") + 1, []).append(_row)


# -- use ------------------------------------------------------------------------------------


def matches(path: tuple[Step, ...], pattern: str) -> bool:
    """Whether a path has the form of a pattern."""
    steps = pattern.split(".")
    return len(steps) == len(path) and all(
        (step == "*" and isinstance(at, str)) or step == ("[]" if isinstance(at, int) else at)
        for step, at in zip(steps, path, strict=True)
    )


def find(file: ComposeFile) -> list[Finding]:
    """Return what is to say of a file's options, in the order of their lines."""
    findings = _rejected(file)
    rejected = {one.path for one in findings}
    for path, value in _walk(file.data, ()):
        if path in rejected:
            continue
        for option in _BY_LENGTH.get(len(path), ()):
            if matches(path, option.pattern) and option.about(value):
                findings.append(finding(file, path, option.verdict, option.why, value))
    return findings


def _rejected(file: ComposeFile) -> list[Finding]:
    """Return what docker stack deploy refuses; of a place, the first reason only."""
    reasons: dict[tuple[Step, ...], str] = {}
    for one in unfit(file.reading.stack):
        why = one.why or (_unknown_words(one) if one.unknown else _kind_words(file, one))
        reasons.setdefault(one.path, why)
    for path, why in refusals(file.reading.stack, file.directory):
        if not any(path[:n] in reasons for n in range(1, len(path) + 1)):
            reasons[path] = why
    reasons.pop(("version",), None)  # that the version is unknown is said elsewhere
    return [
        finding(file, path, Fate.REJECTED, why, _get(file.data, path))
        for path, why in reasons.items()
    ]


def _unknown_words(one: Unfit) -> str:
    for option in TABLE:
        if option.verdict is Fate.REJECTED and matches(one.path, option.pattern):
            return option.why
    key = str(one.path[-1])
    if key.startswith("x-"):
        return (
            "docker ne prend les clés « x- » qu’au premier niveau (depuis 3.4), et dans services, "
            "networks, volumes, secrets et configs (depuis 3.7)."
        )
    close = difflib.get_close_matches(key, one.form.keys or (), n=1, cutoff=0.7)
    return f"vouliez-vous écrire « {close[0]} » ?" if close else "absent du format 3.x."


def _kind_words(file: ComposeFile, one: Unfit) -> str:
    for pattern, why in _FORMS.items():
        if matches(one.path, pattern):
            return why
    scalars, value = one.form.scalars, one.value
    word = file.reading.words.get(one.path)
    wanted = types_in_words(one.form.kinds)
    if isinstance(value, Unusable):
        return f"docker veut {wanted}, et les variables donnent « {short(str(value))} »."
    if word is not None:
        return (
            f"docker {DOCKER} lit « {word} » comme {str(value).lower()} : mettez-le entre "
            "guillemets. docker 28 y lit un texte."
        )
    bare = scalars in (("integer",), ("number",)) or one.form.kinds == ("boolean",)
    if isinstance(value, str) and bare:
        return f"le format 3.x veut {wanted}, sans guillemets."
    if isinstance(value, bool) and "text" in scalars:
        return "le format 3.x veut un texte : mettez true ou false entre guillemets."
    if isinstance(value, int | float) and "text" in scalars:
        return "le format 3.x veut un texte : mettez le nombre entre guillemets."
    return f"docker veut {wanted}, pas {kind_of(value)}."


def _get(data: Any, path: tuple[Step, ...]) -> Any:
    for step in path:
        data = data[step]
    return data


def finding(
    file: ComposeFile, path: tuple[Step, ...], verdict: Fate, why: str, value: Any = None
) -> Finding:
    """Make a finding about a path of a file."""
    keys = [str(step) for step in path if not isinstance(step, int)]
    inside = len(keys) > 1 and keys[0] in ("services", "networks", "volumes", "secrets", "configs")
    option = ".".join(keys[2:] if inside else keys)
    if inside and keys[0] != "services":
        option = ".".join((keys[0], *keys[2:]))
    place = keys[1] if inside else ""
    return Finding(path, file.line(*path), verdict, option, place, written(value), why)


def _walk(value: Any, path: tuple[Step, ...]) -> Iterator[tuple[tuple[Step, ...], Any]]:
    items = value.items() if isinstance(value, dict) else ()
    for step, inner in enumerate(value) if isinstance(value, list) else items:
        if not str(step).startswith("x-"):
            yield (*path, step), inner
            yield from _walk(inner, (*path, step))
