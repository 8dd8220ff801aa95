"""Every option with every kind of value, as small files: what docker and labkit are asked about.

The options are those of the Compose Specification's published schema and those of the format 3.x;
the answers that docker gave are recorded in ``answers.tsv``, one line for each option and one
letter for each value: ``+`` it takes it, ``-`` it refuses.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.compose.schema import published_schema
from labkit.compose.stack_format import FORMAT, ValueForm

ANSWERS = Path(__file__).with_name("answers.tsv")

VALUES = {  # as they are written in YAML
    "null": "null",
    "flag": "true",
    "word": "yes",
    "negative": "-1",
    "integer": "3",
    "decimal": "1.5",
    "text": "x",
    "digits": '"3"',
    "duration": "5s",
    "size": "64m",
    "list": "[x]",
    "twice": "[x, x]",
    "table": "{k: x}",
    "flags": "{k: true}",
    "unset": "${LABKIT_UNSET}",
    "number": "${LABKIT_UNSET:-3}",
    "nothing": '""',
    "empty": "{}",
}

_MOUNT = {"bind": "bind", "tmpfs": "tmpfs", "image": "image"}
_DECLARED = {
    "networks": {"k": None},
    "volumes": {"x": None},
    "secrets": {"x": {"external": True}},
    "configs": {"x": {"external": True}},
}


@dataclass(frozen=True, slots=True)
class Raw:
    """YAML that is written as it stands."""

    text: str


def options() -> list[str]:
    """Return every option, as ``services.*.deploy.replicas``."""
    found: dict[str, None] = {}
    schema = published_schema()
    for path in [*_of_schema(schema, schema, ()), *_of_form(FORMAT, ())]:
        found[".".join(path)] = None
    return sorted(found)


def _of_schema(
    node: Any, whole: dict[str, Any], path: tuple[str, ...], seen: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    if not isinstance(node, dict) or len(path) > 8:
        return
    if "$ref" in node:
        if node["$ref"] in seen:
            return
        target: Any = whole
        for step in node["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        yield from _of_schema(target, whole, path, (*seen, node["$ref"]))
    if path:
        yield path
    for key, inner in node.get("properties", {}).items():
        yield from _of_schema(inner, whole, (*path, key), seen)
    for pattern, inner in node.get("patternProperties", {}).items():
        if pattern != "^x-":
            yield from _of_schema(inner, whole, (*path, "*"), seen)
    yield from _of_schema(node.get("additionalProperties"), whole, (*path, "*"), seen)
    yield from _of_schema(node.get("items"), whole, (*path, "[]"), seen)
    for key in ("oneOf", "anyOf", "allOf"):
        for inner in node.get(key, ()):
            yield from _of_schema(inner, whole, path, seen)


def _of_form(form: ValueForm, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if path:
        yield path
    for key, (_, inner) in (form.keys or {}).items():
        yield from _of_form(inner, (*path, key))
    if form.names:
        yield from _of_form(form.names, (*path, "*"))
    if form.items:
        yield from _of_form(form.items, (*path, "[]"))


def file_with(option: str, value: str) -> str:
    """Return a file in which an option has a value."""
    data: dict[str, Any] = {"services": {"a": {"image": "x"}, "b": {"image": "x"}}}
    _put(data, option.split("."), Raw(value), ())
    used = data.get("services")
    for kind, declared in _DECLARED.items():
        if kind not in data and isinstance(used, dict):
            data[kind] = declared
    return written(data)


def _put(data: Any, steps: list[str], value: Any, path: tuple[str, ...]) -> None:
    """Put a value into a table, with what must be beside it."""
    step, *rest = steps
    key = step
    if step == "*":
        key = "a" if path == ("services",) else "k"
    here = (*path, step)
    if not rest:
        data[key] = value
    elif rest[0] == "[]":
        if len(rest) == 1:
            data[key] = [value]
            return
        item: dict[str, Any] = {}
        data[key] = [item]
        _put(item, rest[1:], value, (*here, "[]"))
    else:
        inner = data.setdefault(key, {})
        if not isinstance(inner, dict):
            inner = data[key] = {}
        _put(inner, rest, value, here)
    _beside(data, path, key)


def _beside(data: dict[str, Any], path: tuple[str, ...], key: str) -> None:
    """Add what docker wants beside an option."""
    if path[-2:] == ("volumes", "[]"):
        data.setdefault("type", _MOUNT.get(key, "volume"))
        if data["type"] in ("bind", "image"):
            data.setdefault("source", "/x")
    if path[-2:-1] == ("ulimits",):
        data.setdefault("soft", 1)
        data.setdefault("hard", 2)
    if path[-1:] == ("[]",) and path[-2] in ("secrets", "configs"):
        data.setdefault("source", "x")
    if path in (("secrets", "*"), ("configs", "*")) and key not in ("external", "file", "driver"):
        data.setdefault("external", True)


def written(data: Any) -> str:
    """Write data as YAML in one line, which is JSON but for what is raw."""
    if isinstance(data, Raw):
        return data.text
    if isinstance(data, dict):
        return "{" + ", ".join(f"{json.dumps(k)}: {written(v)}" for k, v in data.items()) + "}"
    if isinstance(data, list):
        return "[" + ", ".join(map(written, data)) + "]"
    return json.dumps(data)


def recorded() -> dict[str, str]:
    """Return the recorded answers by option."""
    lines = ANSWERS.read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t") for line in lines if not line.startswith("#"))


def known(option: str) -> bool:
    """Whether the format has an option, in any of its versions."""
    form: ValueForm | None = FORMAT
    for step in option.split("."):
        if form is None:
            return False
        if step == "[]":
            form = form.items
        elif step == "*":
            form = form.names
        elif step in (form.keys or {}):
            form = (form.keys or {})[step][1]
        else:
            return form.open is not None
    return form is not None


def asked(option: str) -> list[str]:
    """Return the values that are tried: of an option that the format has not, one is enough."""
    return list(VALUES) if known(option) else ["text"]
