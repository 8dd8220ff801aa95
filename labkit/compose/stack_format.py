"""The closed format 3.x of ``docker stack deploy``, as the course's docker command reads it.

What is written here was found by asking that command, and ``tests/compose`` asks it again about
every option and every kind of value: a newer command shows there what it does otherwise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from labkit.compose import values
from labkit.documents import Step

DOCKER = "26.1"  # the docker command that labkit provides
NEWEST = 12  # of the versions 3.x that it knows


@dataclass(frozen=True, slots=True)
class Form:
    """The forms that a value may have."""

    # some of ``text``, ``integer``, ``number``, ``boolean``, ``null``
    scalars: tuple[str, ...] = ()
    # keys of a table, each with the first version 3.n that has it; None if it may be no table
    keys: Mapping[str, tuple[int, Form]] | None = None
    # the form of what has any other name that matches; None if there are none
    names: Form | None = None
    pattern: str = ".+"  # of these names; what does not match is an error, unless ``open``
    # first version 3.n in which a table may have other keys too; None for never
    open: int | None = None
    # first version 3.n with keys that begin with ``x-``; None for never
    extensions: int | None = None
    items: Form | None = None  # the form of a list's elements; None if it may be no list
    unique: bool = False  # no element comes twice
    required: tuple[str, ...] = ()  # keys that a table must have
    choices: tuple[str, ...] = ()  # what a text may be; empty for anything
    duration: int | None = None  # a text is a duration, from this version 3.n on; None if it is not
    least: int | None = None  # smallest number

    @property
    def kinds(self) -> tuple[str, ...]:
        """Everything that a value may be, tables and lists included."""
        table = ("object",) if self.keys is not None or self.names else ()
        return (*self.scalars, *table, *(("array",) if self.items else ()))


def _form(scalars: str = "", keys: Mapping[str, Form] | None = None, **options: Any) -> Form:
    """Return a form; a key ``name@7`` is there since version 3.7."""
    table = None
    if keys is not None:
        split = {key.partition("@")[::2]: form for key, form in keys.items()}
        table = {name: (int(since or 0), form) for (name, since), form in split.items()}
    return Form(tuple(scalars.split()), table, **options)


def _each(names: str, form: Form) -> dict[str, Form]:
    """Return keys that have the same form."""
    return dict.fromkeys(names.split(), form)


_TEXT, _INTEGER, _NUMBER, _FLAG = map(_form, ("text", "integer", "number", "boolean"))
_DURATION = _form("text", duration=0)
_DURATION_4 = _form("text", duration=4)
_TEXTS = _form(items=_TEXT, unique=True)
_TEXT_OR_TEXTS = _form("text", items=_TEXT, unique=True)
_COMMAND = _form("text", items=_TEXT)
_PAIRS = _form(names=_form("text number null"), items=_TEXT, unique=True)
_OPTIONS = _form(names=_form("text number"))
_NAME = "[a-zA-Z0-9._-]+"
_EXTERNAL = _form("boolean", {"name": _TEXT})
_EXTERNAL_OPEN = _form("boolean", {"name": _TEXT}, open=0)
_SIZE_OR_TEXT = _form("integer text")

_UPDATE = {
    **_each("delay monitor", _DURATION),
    "parallelism": _INTEGER,
    "failure_action": _TEXT,
    "max_failure_ratio": _NUMBER,
}
_ORDER = _form("text", choices=("start-first", "stop-first"))

_DEPLOY = _form("null", {
    **_each("mode endpoint_mode@2", _TEXT),
    "replicas": _INTEGER,
    "labels": _PAIRS,
    "rollback_config@7": _form(keys={**_UPDATE, "order": _ORDER}),
    "update_config": _form(keys={**_UPDATE, "order@4": _ORDER}),
    "resources": _form(keys={
        "limits": _form(keys={"cpus": _TEXT, "memory": _TEXT, "pids@9": _INTEGER}),
        "reservations": _form(keys={
            **_each("cpus memory", _TEXT),
            "generic_resources@5": _form(items=_form(keys={
                "discrete_resource_spec": _form(keys={"kind": _TEXT, "value": _NUMBER}),
            })),
        }),
    }),
    "restart_policy": _form(keys={
        "condition": _TEXT,
        "max_attempts": _INTEGER,
        **_each("delay window", _DURATION),
    }),
    "placement": _form(keys={
        "constraints": _form(items=_TEXT),
        "preferences@3": _form(items=_form(keys={"spread": _TEXT})),
        "max_replicas_per_node@8": _INTEGER,
    }),
})  # fmt: skip

_FILE = _form("text", {"source": _TEXT, "target": _TEXT, "uid": _TEXT, "gid": _TEXT,
                       "mode": _NUMBER}, open=0)  # fmt: skip

_SERVICE = _form(keys={
    **_each("cgroupns_mode@9 cgroup_parent container_name domainname hostname image ipc "
            "isolation@5 mac_address network_mode restart shm_size stop_signal user userns_mode "
            "working_dir", _TEXT),
    **_each("cap_add cap_drop depends_on devices external_links links security_opt", _TEXTS),
    **_each("dns dns_search env_file tmpfs", _TEXT_OR_TEXTS),
    **_each("command entrypoint", _COMMAND),
    **_each("environment extra_hosts labels sysctls", _PAIRS),
    **_each("init@7 privileged read_only stdin_open tty", _FLAG),
    **_each("configs@3 secrets@1", _form(items=_FILE)),
    "build": _form("text", {
        **_each("context dockerfile network@4 target@4", _TEXT),
        **_each("args labels@3 extra_hosts@9", _PAIRS),
        "cache_from@2": _TEXTS,
        "shm_size@5": _SIZE_OR_TEXT,
    }, open=11),
    "credential_spec@3": _form(keys=_each("config@8 file registry", _TEXT)),
    "deploy": _DEPLOY,
    "expose": _form(items=_form("text number"), unique=True),
    "healthcheck": _form(keys={
        **_each("interval timeout", _DURATION_4),
        **_each("start_period@4 start_interval@12", _DURATION),
        "disable": _FLAG,
        "retries": _NUMBER,
        "test": _COMMAND,
    }),
    "logging": _form(keys={"driver": _TEXT,
                           "options": _form(names=_form("text number null"))}),
    "networks": _form(
        names=_form("null", {"aliases": _TEXTS, **_each("ipv4_address ipv6_address", _TEXT)}),
        pattern=_NAME, items=_TEXT, unique=True,
    ),
    "pid": _form("text null"),
    "ports": _form(unique=True, items=_form("number text", {
        **_each("mode@2 protocol@2", _TEXT),
        **_each("target@2 published@2", _INTEGER),
    })),
    "stop_grace_period": _DURATION,
    "ulimits": _form(pattern="[a-z]+", names=_form(
        "integer", _each("hard soft", _INTEGER), required=("soft", "hard"),
    )),
    "volumes": _form(items=_form("text", {
        **_each("type@2 source@2 target@2 consistency@2", _TEXT),
        "read_only@2": _FLAG,
        "bind@2": _form(keys={"propagation": _TEXT}, open=0),
        "volume@2": _form(keys={"nocopy": _FLAG}, open=0),
        "tmpfs@6": _form(keys={"size": _form("integer", least=0)}, open=0),
    }, required=("type",))),
}, extensions=7)  # fmt: skip

_TOPOLOGY = _form(items=_form(keys={"segments": _PAIRS}, open=0))

_CLUSTER = _form(keys={
    **_each("group availability", _TEXT),
    "access_mode": _form(keys={
        **_each("scope sharing", _TEXT),
        "block_volume": _form(keys={}, open=0),
        "mount_volume": _form(keys={"fs_type": _TEXT, "mount_flags": _form(items=_TEXT)}, open=0),
    }, open=0),
    "accessibility_requirements": _form(keys=_each("requisite preferred", _TOPOLOGY), open=0),
    "capacity_range": _form(keys=_each("required_bytes limit_bytes", _TEXT), open=0),
}, open=0)  # fmt: skip

_STORED = {  # of a secret and of a config
    **_each("name@5 file template_driver@8", _TEXT),
    "external": _EXTERNAL_OPEN,
    "labels": _PAIRS,
}

FORMAT = _form(keys={
    "version": _TEXT,
    "services": _form(pattern=_NAME, names=_SERVICE),
    "networks": _form(pattern=_NAME, open=0, names=_form("null", {
        **_each("name@5 driver", _TEXT),
        **_each("internal attachable@2", _FLAG),
        "driver_opts": _OPTIONS,
        "ipam": _form(keys={
            "driver": _TEXT,
            "config": _form(items=_form(keys={"subnet": _TEXT})),
        }),
        "external": _EXTERNAL,
        "labels": _PAIRS,
    }, extensions=7)),
    "volumes": _form(pattern=_NAME, names=_form("null", {
        **_each("name@4 driver", _TEXT),
        "driver_opts": _OPTIONS,
        "external": _EXTERNAL,
        "labels": _PAIRS,
        "x-cluster-spec@10": _CLUSTER,
    }, extensions=7)),
    "secrets@1": _form(pattern=_NAME, names=_form(
        keys={**_STORED, "driver@8": _TEXT, "driver_opts@8": _OPTIONS}, extensions=7,
    )),
    "configs@3": _form(pattern=_NAME, names=_form(keys=_STORED, extensions=7)),
}, extensions=4)  # fmt: skip


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
    # ``unknown`` key, ``name`` of a service…, ``since``, ``kind``, ``missing`` key, ``twice``,
    # ``choice``, ``duration`` or ``least``
    rule: str
    # what was wanted there: of the table that has the key, for ``unknown`` and ``since``
    form: Form
    value: Any = None  # what was found
    since: int = 0  # the first version 3.n that has it, for ``since``
    key: str = ""  # what is missing


def unfit(
    value: Any, minor: int, form: Form = FORMAT, path: tuple[Step, ...] = ()
) -> Iterator[Unfit]:
    """Yield what of a value the format 3.``minor`` does not have."""
    if isinstance(value, dict) and "object" in form.kinds:
        yield from _table(value, minor, form, path)
    elif isinstance(value, list) and form.items:
        for i, item in enumerate(value):
            yield from unfit(item, minor, form.items, (*path, i))
        if form.unique and (twice := _twice(value)) is not None:
            yield Unfit((*path, twice), "twice", form, value[twice])
    elif not any(_is(value, kind) for kind in form.scalars):
        yield Unfit(path, "kind", form, value)
    elif form.choices and value not in form.choices:
        yield Unfit(path, "choice", form, value)
    elif form.duration is not None and minor >= form.duration and values.duration(value) is None:
        yield Unfit(path, "duration", form, value)
    elif form.least is not None and value < form.least:
        yield Unfit(path, "least", form, value)


def _table(
    value: Mapping[str, Any], minor: int, form: Form, path: tuple[Step, ...]
) -> Iterator[Unfit]:
    for key in form.required:
        if key not in value:
            yield Unfit(path, "missing", form, value, key=key)
    for key, inner in value.items():
        here = (*path, key)
        since, wanted = (form.keys or {}).get(key, (0, None))
        free = form.open is not None and minor >= form.open
        extended = form.extensions is not None and minor >= form.extensions
        if wanted is not None and since <= minor:
            yield from unfit(inner, minor, wanted, here)
        elif form.names is not None and re.fullmatch(form.pattern, key):
            yield from unfit(inner, minor, form.names, here)
        elif free or (extended and key.startswith("x-")):
            continue
        elif wanted is not None:
            yield Unfit(here, "since", form, inner, since)
        else:
            yield Unfit(here, "unknown" if form.names is None else "name", form, inner)


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
