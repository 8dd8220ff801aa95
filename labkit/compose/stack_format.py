"""The closed format 3.x of ``docker stack deploy``, as the course's docker command reads it.

What ``stack_format.yml`` says was found by asking that command, and ``tests/compose`` asks it again
about every option and every kind of value: a newer command shows there what it does otherwise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from labkit.compose import values
from labkit.compose.schema import written
from labkit.documents import Step, beside

DOCKER = "26.1"  # the docker command that labkit provides
NEWEST = 12  # of the versions 3.x that it knows


@dataclass(frozen=True, slots=True)
class ValueForm:
    """The forms that a value may have."""

    # some of ``text``, ``integer``, ``number``, ``boolean``, ``null``
    scalars: tuple[str, ...] = ()
    # keys of a table, each with the first version 3.n that has it; None if it may be no table
    keys: Mapping[str, tuple[int, ValueForm]] | None = None
    # the form of what has any other name that matches; None if there are none
    names: ValueForm | None = None
    pattern: str = ".+"  # of these names; what does not match is an error, unless ``open``
    # first version 3.n in which a table may have other keys too; None for never
    open: int | None = None
    # first version 3.n with keys that begin with ``x-``; None for never
    extensions: int | None = None
    items: ValueForm | None = None  # the form of a list's elements; None if it may be no list
    unique: bool = False  # no element comes twice
    required: tuple[str, ...] = ()  # keys that a table must have
    choices: tuple[str, ...] = ()  # what a text may be; empty for anything
    # what docker makes of a text in which it replaced a variable: ``integer``, ``number`` or
    # ``flag``; empty for what leaves it a text
    cast: str = ""
    text: str = ""  # what a text is read as, of _TEXTS; empty for what it is
    since: int = 0  # first version 3.n that reads it so
    least: int | None = None  # smallest number
    why: str = "un nombre négatif n’a pas de sens ici."  # said of a smaller one

    @property
    def kinds(self) -> tuple[str, ...]:
        """Everything that a value may be, tables and lists included."""
        table = ("object",) if self.keys is not None or self.names else ()
        return (*self.scalars, *table, *(("array",) if self.items else ()))


def _form(told: Any) -> ValueForm:
    """Return a form as ``stack_format.yml`` tells it."""
    told = {"scalars": told} if isinstance(told, str) else told
    return ValueForm(**{key: _READ.get(key, lambda v: v)(value) for key, value in told.items()})


def _keys(told: Mapping[str, Any]) -> dict[str, tuple[int, ValueForm]]:
    keys = ((*key.partition("@")[::2], form) for same, form in told.items() for key in same.split())
    return {name: (int(since or 0), _form(form)) for name, since, form in keys}


_READ: dict[str, Callable[[Any], Any]] = {  # what is not taken as it is
    "scalars": lambda kinds: tuple(kinds.split()),
    "keys": _keys,
    **dict.fromkeys(("names", "items"), _form),
    **dict.fromkeys(("required", "choices"), tuple),
}
FORMAT = _form(beside(__file__))


def form_at(path: tuple[Step, ...]) -> ValueForm | None:
    """Return the form of what is at a path, in the newest version; None for what has none."""
    form: ValueForm | None = FORMAT
    for step in path:
        if form is not None:
            named = (form.keys or {}).get(step, (0, form.names)) if isinstance(step, str) else None
            form = named[1] if named else form.items
    return form


def minor_of(version: Any) -> int | None:
    """Return n of a version 3.n, as docker stack deploy takes it; None for an unknown one."""
    if version in ("", "3"):
        return NEWEST
    found = re.fullmatch(r"3\.(0|[1-9][0-9]?)", version) if isinstance(version, str) else None
    return int(found[1]) if found and int(found[1]) <= NEWEST else None


# -- use ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unfit:
    """A value that the format does not have."""

    path: tuple[Step, ...]  # in the data
    form: ValueForm  # what was wanted there; of the table that has the key, for an unknown key
    value: Any  # what was found
    why: str = ""  # in French; empty for another kind of value, and for an unknown key
    unknown: bool = False  # nothing of the format has that key there


def unfit(data: Mapping[str, Any]) -> Iterator[Unfit]:
    """Yield what of a file the format has not in the version that it declares.

    That of a file whose version is unknown is the newest.
    """
    minor = minor_of(data.get("version", ""))
    yield from _unfit(data, NEWEST if minor is None else minor, FORMAT, ())


def _unfit(value: Any, minor: int, form: ValueForm, path: tuple[Step, ...]) -> Iterator[Unfit]:
    if isinstance(value, dict) and "object" in form.kinds:
        yield from _table(value, minor, form, path)
    elif isinstance(value, list) and form.items:
        for i, item in enumerate(value):
            yield from _unfit(item, minor, form.items, (*path, i))
        if form.unique and (twice := _twice(value)) is not None:
            why = f"« {written(value[twice])} » y est deux fois : gardez-en une."
            yield Unfit((*path, twice), form, value[twice], why)
    elif not any(_is(value, kind) for kind in form.scalars):
        yield Unfit(path, form, value)
    elif form.choices and value not in form.choices:
        why = f"les valeurs possibles sont {', '.join(form.choices)}."
        yield Unfit(path, form, value, why)
    elif form.text and minor >= form.since and isinstance(value, str):
        read, why = _TEXTS[form.text]
        if read(value) is None:
            yield Unfit(path, form, value, why)
    elif form.least is not None and value < form.least:
        yield Unfit(path, form, value, form.why)


_TEXTS: dict[str, tuple[Callable[[str], Any], str]] = {
    "duration": (values.duration, "une durée s’écrit avec son unité : 10s, 1m30s."),
    "size": (values.size, "une taille est un nombre et son unité : 512M, 1G."),
    "cpus": (lambda share: values.cpus(share or "0"),
             'un nombre de processeurs s’écrit "0.5", au milliardième près.'),
    "command": (values.words, "un guillemet n’est jamais fermé."),
}  # fmt: skip


def _table(
    value: Mapping[str, Any], minor: int, form: ValueForm, path: tuple[Step, ...]
) -> Iterator[Unfit]:
    for key in form.required:
        if key not in value:
            yield Unfit(path, form, value, f"il manque « {key} ».")
    for key, inner in value.items():
        here = (*path, key)
        since, wanted = (form.keys or {}).get(key, (0, None))
        free = form.open is not None and minor >= form.open
        extended = form.extensions is not None and minor >= form.extensions
        if wanted is not None and since <= minor:
            yield from _unfit(inner, minor, wanted, here)
        elif form.names is not None and re.fullmatch(form.pattern, key):
            yield from _unfit(inner, minor, form.names, here)
        elif free or (extended and key.startswith("x-")):
            continue
        elif wanted is not None:
            why = f"demande version 3.{since} ; le fichier déclare 3.{minor}."
            yield Unfit(here, form, inner, why)
        elif form.names is not None:
            why = "un nom est fait de lettres sans accent, de chiffres, de « . », « _ » et « - »."
            yield Unfit(here, form, inner, why)
        else:
            yield Unfit(here, form, inner, unknown=True)


_PLAIN = {"text": str, "boolean": bool, "null": type(None)}


def _is(value: Any, kind: str) -> bool:
    if kind in _PLAIN:
        return isinstance(value, _PLAIN[kind])
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and (kind == "number" or value == int(value))


def _twice(items: list[Any]) -> int | None:
    """Return the index of the first element that came before; None if there is none."""
    seen: set[str] = set()
    for i, item in enumerate(items):
        written = json.dumps(item, sort_keys=True, default=str)
        if written in seen:
            return i
        seen.add(written)
    return None
