"""Check a file against the Compose Specification's published schema, in French.

The schema is the one that ``check-jsonschema`` carries and renews with each of its releases;
it is read as a file, because importing that package takes a second.
"""

from __future__ import annotations

import difflib
import functools
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that the schema does not allow."""

    path: tuple[str | int, ...]
    reason: str
    remedy: str = ""


_SCHEMA = "check_jsonschema/builtin_schemas/vendor/compose-spec.json"


@functools.cache
def published_schema() -> dict[str, Any]:
    """Return the Compose Specification's schema."""
    path = distribution("check-jsonschema").locate_file(_SCHEMA)
    schema: dict[str, Any] = json.loads(Path(str(path)).read_text())
    return schema


@functools.cache
def _validator() -> Any:
    # imported here, because jsonschema takes a second
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for

    schema = published_schema()
    return validator_for(schema, default=Draft202012Validator)(schema)


def find_problems(data: Mapping[str, Any]) -> list[Problem]:
    """Return what the schema does not allow in a file; nothing is good."""
    found: dict[tuple[tuple[str | int, ...], str], Problem] = {}
    for error in _validator().iter_errors(data):
        for problem in problems_of(error):
            found.setdefault((problem.path, problem.reason), problem)
    return list(found.values())


def problems_of(error: ValidationError) -> Iterator[Problem]:
    """Say in French what an error of ``jsonschema`` means, for any schema."""
    path = tuple(error.absolute_path)
    if error.validator in ("additionalProperties", "unevaluatedProperties"):
        allowed = _allowed(error.schema)
        for key in error.instance:
            if key not in allowed and not key.startswith("x-"):
                yield _unknown(key, path, allowed, error)
    elif error.validator in ("oneOf", "anyOf"):
        yield from _alternatives(error)
    else:
        yield Problem(path, *_words(error, path))


def _unknown(
    key: str, path: tuple[str | int, ...], allowed: set[str], error: ValidationError
) -> Problem:
    patterns = [p for p in error.schema.get("patternProperties", {}) if p != "^x-"]
    if patterns:  # names of services, networks…
        remedy = "Un nom est fait de lettres sans accent, de chiffres, de « . », « _ » et « - »."
        return Problem((*path, key), f"le nom « {key} » n’est pas possible.", remedy)
    value = error.instance[key]
    if not path and isinstance(value, dict) and value.keys() & {"image", "build"}:
        why = f"« {key} » est un service écrit au premier niveau (ancien format 1)."
        return Problem((key,), why, "Mettez les services sous une clé « services: ».")
    remedy = spelling(key, allowed)
    if remedy == _SPELLING and not path:
        remedy = f"Clés possibles : {', '.join(sorted(allowed))}."
    return Problem((*path, key), f"« {key} » n’est pas une option {place(path)}.", remedy)


_SPELLING = "Vérifiez l’orthographe, et l’indentation : à quoi cette clé appartient-elle ?"


def spelling(key: str, allowed: Collection[str]) -> str:
    """Say what to look at where a key is none of those allowed: the one it resembles, if any."""
    close = difflib.get_close_matches(key[:60], allowed, n=1, cutoff=0.7)
    return f"Vouliez-vous écrire « {close[0]} » ?" if close else _SPELLING


def _alternatives(error: ValidationError) -> Iterator[Problem]:
    """Say what is wrong in the one form that the value was meant to have."""
    here = tuple(error.absolute_path)
    branches: dict[int, list[ValidationError]] = {}
    for inner in error.context or ():
        branches.setdefault(int(inner.schema_path[0]), []).append(inner)
    meant = [
        errors
        for errors in branches.values()
        if not any(e.validator == "type" and tuple(e.absolute_path) == here for e in errors)
    ]
    if len(meant) == 1:
        for inner in meant[0]:
            yield from problems_of(inner)
        return
    if not meant:
        wanted = sorted(types_asked(error.context or ()))
        yield Problem(here, _type_words(wanted, error.instance, here))
        return
    from jsonschema.exceptions import best_match

    best = best_match([error])
    yield from (
        problems_of(best)
        if best is not None and best is not error
        else iter([Problem(here, f"{_option(here)} n’a pas une forme possible.")])
    )


def _words(error: ValidationError, path: tuple[str | int, ...]) -> tuple[str, str]:
    value, wanted = error.instance, error.validator_value
    option = _option(path)
    match error.validator:
        case "type":
            kinds = types_asked([error])
            return _type_words(kinds, value, path), _type_remedy(kinds, value, path)
        case "required":
            missing = [k for k in wanted if k not in value]
            return f"il manque « {' », « '.join(missing)} » à {option}.", ""
        case "enum":
            choices = ", ".join(map(str, wanted))
            return f"{option} ne peut pas valoir « {short(value)} ».", f"Valeurs : {choices}."
        case "const":
            return f"{option} ne peut pas valoir « {short(value)} ».", f"Valeur : {wanted}."
        case "pattern":
            return f"{option} : « {short(value)} » n’a pas la forme voulue ({wanted}).", ""
        case "uniqueItems":
            return f"{option} contient deux fois la même valeur.", "Gardez-en une."
        case "minItems" | "minLength" | "minProperties":
            return f"{option} est vide.", ""
        case "minimum" | "exclusiveMinimum":
            return f"{option} est trop petit ({short(value)}).", f"Minimum : {wanted}."
        case "maximum" | "exclusiveMaximum":
            return f"{option} est trop grand ({short(value)}).", f"Maximum : {wanted}."
        case _:
            return f"{option} n’est pas correct ({error.message[:120]}).", ""


_TYPES = {
    "object": "une table « clé : valeur »",
    "array": "une liste",
    "string": "un texte",
    "text": "un texte",
    "integer": "un entier",
    "number": "un nombre",
    "boolean": "true ou false",
    "null": "rien",
}


def _type_words(kinds: list[str], value: Any, path: tuple[str | int, ...]) -> str:
    return f"{_option(path)} doit être {types_in_words(kinds)}, pas {kind_of(value)}."


def types_asked(errors: Iterable[ValidationError]) -> list[str]:
    """Return the types of values that errors of ``jsonschema`` ask for, each once."""
    asked = (e.validator_value for e in errors if e.validator == "type")
    return list(dict.fromkeys(t for one in asked for t in ([one] if isinstance(one, str) else one)))


def types_in_words(kinds: Collection[str]) -> str:
    """Name types of values in French: « un texte ou une liste »."""
    said = (_TYPES.get(k, k) for k in kinds if k != "null" or len(kinds) == 1)
    return " ou ".join(dict.fromkeys(said))


def _type_remedy(kinds: list[str], value: Any, path: tuple[str | int, ...]) -> str:
    if kinds == ["string"] and isinstance(value, int | float):
        return f'Mettez la valeur entre guillemets : "{short(value)}".'
    if value is None and path:
        return f"Donnez une valeur à « {path[-1]} », en l’indentant dessous, ou ôtez-le."
    return ""


def kind_of(value: Any) -> str:
    """Name a value in French: « le texte « x » », « une liste »."""
    if value is None:
        return "vide"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"le nombre {short(value)}"
    if isinstance(value, str):
        return f"le texte « {short(value)} »"
    return "une liste" if isinstance(value, list) else "une table « clé : valeur »"


def short(value: Any, most: int = 50) -> str:
    """Return a value as it would be written, cut if it is long."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= most else text[: most - 1] + "…"


def written(value: Any) -> str:
    """Return a value in a few words."""
    if value is None:
        return ""
    if isinstance(value, dict):
        parts = [k if isinstance(v, dict) else f"{k}: {written(v)}" for k, v in value.items()]
        return short(", ".join(parts), 90)
    return short(", ".join(map(written, value)), 90) if isinstance(value, list) else short(value)


def _option(path: tuple[str | int, ...]) -> str:
    if not path:
        return "le fichier"
    keys = [str(step) for step in path if not isinstance(step, int)]
    number = f" (élément {path[-1] + 1})" if isinstance(path[-1], int) else ""
    if len(keys) == 2 and keys[0] in _SECTIONS:
        return f"{_SECTIONS[keys[0]]} « {keys[1]} »{number}"
    if len(keys) > 2 and keys[0] in _SECTIONS:
        return f"« {'.'.join(keys[2:])} » {place((keys[0], keys[1]))}{number}"
    return f"« {'.'.join(keys)} »{number}"


_SECTIONS = {
    "services": "le service",
    "networks": "le réseau",
    "volumes": "le volume",
    "secrets": "le secret",
    "configs": "la config",
}


def place(path: tuple[str | int, ...]) -> str:
    """Say in French of what a path is a part: « du service « web » »."""
    keys = [str(step) for step in path if not isinstance(step, int)]
    if not keys:
        return "de premier niveau"
    if len(keys) == 1 or keys[0] not in _SECTIONS:
        return f"de « {'.'.join(keys)} »"
    article = re.sub(r"^le ", "du ", _SECTIONS[keys[0]])
    owner = f"{article if article.startswith('du') else 'de ' + article} « {keys[1]} »"
    inner = ".".join(keys[2:])
    return f"de « {inner} » {owner}" if inner else owner


def _allowed(schema: Mapping[str, Any]) -> set[str]:
    """Return the keys that a schema knows, through ``allOf`` and ``$ref``."""
    keys = set(schema.get("properties", {}))
    if "$ref" in schema:
        target: Any = published_schema()
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        keys |= _allowed(target)
    for part in schema.get("allOf", ()):
        keys |= _allowed(part)
    return keys
