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
    "parallelism": _INTEGER,
    "delay": _DURATION,
    "failure_action": _TEXT,
    "monitor": _DURATION,
    "max_failure_ratio": _NUMBER,
}
_ORDER = _form("text", choices=("start-first", "stop-first"))

_DEPLOY = _form("null", {
    "mode": _TEXT,
    "endpoint_mode@2": _TEXT,
    "replicas": _INTEGER,
    "labels": _PAIRS,
    "rollback_config@7": _form(keys={**_UPDATE, "order": _ORDER}),
    "update_config": _form(keys={**_UPDATE, "order@4": _ORDER}),
    "resources": _form(keys={
        "limits": _form(keys={"cpus": _TEXT, "memory": _TEXT, "pids@9": _INTEGER}),
        "reservations": _form(keys={
            "cpus": _TEXT,
            "memory": _TEXT,
            "generic_resources@5": _form(items=_form(keys={
                "discrete_resource_spec": _form(keys={"kind": _TEXT, "value": _NUMBER}),
            })),
        }),
    }),
    "restart_policy": _form(keys={
        "condition": _TEXT,
        "delay": _DURATION,
        "max_attempts": _INTEGER,
        "window": _DURATION,
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
    "build": _form("text", {
        "context": _TEXT,
        "dockerfile": _TEXT,
        "args": _PAIRS,
        "labels@3": _PAIRS,
        "cache_from@2": _TEXTS,
        "network@4": _TEXT,
        "target@4": _TEXT,
        "shm_size@5": _SIZE_OR_TEXT,
        "extra_hosts@9": _PAIRS,
    }, open=11),
    "cap_add": _TEXTS,
    "cap_drop": _TEXTS,
    "cgroupns_mode@9": _TEXT,
    "cgroup_parent": _TEXT,
    "command": _COMMAND,
    "configs@3": _form(items=_FILE),
    "container_name": _TEXT,
    "credential_spec@3": _form(keys={"config@8": _TEXT, "file": _TEXT, "registry": _TEXT}),
    "depends_on": _TEXTS,
    "deploy": _DEPLOY,
    "devices": _TEXTS,
    "dns": _TEXT_OR_TEXTS,
    "dns_search": _TEXT_OR_TEXTS,
    "domainname": _TEXT,
    "entrypoint": _COMMAND,
    "env_file": _TEXT_OR_TEXTS,
    "environment": _PAIRS,
    "expose": _form(items=_form("text number"), unique=True),
    "external_links": _TEXTS,
    "extra_hosts": _PAIRS,
    "healthcheck": _form(keys={
        "disable": _FLAG,
        "interval": _DURATION_4,
        "retries": _NUMBER,
        "test": _COMMAND,
        "timeout": _DURATION_4,
        "start_period@4": _DURATION,
        "start_interval@12": _DURATION,
    }),
    "hostname": _TEXT,
    "image": _TEXT,
    "init@7": _FLAG,
    "ipc": _TEXT,
    "isolation@5": _TEXT,
    "labels": _PAIRS,
    "links": _TEXTS,
    "logging": _form(keys={"driver": _TEXT,
                           "options": _form(names=_form("text number null"))}),
    "mac_address": _TEXT,
    "network_mode": _TEXT,
    "networks": _form(
        names=_form("null", {"aliases": _TEXTS, "ipv4_address": _TEXT, "ipv6_address": _TEXT}),
        pattern=_NAME, items=_TEXT, unique=True,
    ),
    "pid": _form("text null"),
    "ports": _form(unique=True, items=_form("number text", {
        "mode@2": _TEXT,
        "target@2": _INTEGER,
        "published@2": _INTEGER,
        "protocol@2": _TEXT,
    })),
    "privileged": _FLAG,
    "read_only": _FLAG,
    "restart": _TEXT,
    "secrets@1": _form(items=_FILE),
    "security_opt": _TEXTS,
    "shm_size": _TEXT,
    "stdin_open": _FLAG,
    "stop_grace_period": _DURATION,
    "stop_signal": _TEXT,
    "sysctls": _PAIRS,
    "tmpfs": _TEXT_OR_TEXTS,
    "tty": _FLAG,
    "ulimits": _form(pattern="[a-z]+", names=_form("integer", {
        "hard": _INTEGER, "soft": _INTEGER,
    }, required=("soft", "hard"))),
    "user": _TEXT,
    "userns_mode": _TEXT,
    "volumes": _form(items=_form("text", {
        "type@2": _TEXT,
        "source@2": _TEXT,
        "target@2": _TEXT,
        "read_only@2": _FLAG,
        "consistency@2": _TEXT,
        "bind@2": _form(keys={"propagation": _TEXT}, open=0),
        "volume@2": _form(keys={"nocopy": _FLAG}, open=0),
        "tmpfs@6": _form(keys={"size": _form("integer", least=0)}, open=0),
    }, required=("type",))),
    "working_dir": _TEXT,
}, extensions=7)  # fmt: skip

_TOPOLOGY = _form(items=_form(keys={"segments": _PAIRS}, open=0))

_CLUSTER = _form(keys={
    "group": _TEXT,
    "access_mode": _form(keys={
        "scope": _TEXT,
        "sharing": _TEXT,
        "block_volume": _form(keys={}, open=0),
        "mount_volume": _form(keys={"fs_type": _TEXT, "mount_flags": _form(items=_TEXT)}, open=0),
    }, open=0),
    "accessibility_requirements": _form(
        keys={"requisite": _TOPOLOGY, "preferred": _TOPOLOGY}, open=0,
    ),
    "capacity_range": _form(keys={"required_bytes": _TEXT, "limit_bytes": _TEXT}, open=0),
    "availability": _TEXT,
}, open=0)  # fmt: skip

FORMAT = _form(keys={
    "version": _TEXT,
    "services": _form(pattern=_NAME, names=_SERVICE),
    "networks": _form(pattern=_NAME, open=0, names=_form("null", {
        "name@5": _TEXT,
        "driver": _TEXT,
        "driver_opts": _OPTIONS,
        "ipam": _form(keys={
            "driver": _TEXT,
            "config": _form(items=_form(keys={"subnet": _TEXT})),
        }),
        "external": _EXTERNAL,
        "internal": _FLAG,
        "attachable@2": _FLAG,
        "labels": _PAIRS,
    }, extensions=7)),
    "volumes": _form(pattern=_NAME, names=_form("null", {
        "name@4": _TEXT,
        "driver": _TEXT,
        "driver_opts": _OPTIONS,
        "external": _EXTERNAL,
        "labels": _PAIRS,
        "x-cluster-spec@10": _CLUSTER,
    }, extensions=7)),
    "secrets@1": _form(pattern=_NAME, names=_form(keys={
        "name@5": _TEXT,
        "file": _TEXT,
        "external": _EXTERNAL_OPEN,
        "labels": _PAIRS,
        "driver@8": _TEXT,
        "driver_opts@8": _OPTIONS,
        "template_driver@8": _TEXT,
    }, extensions=7)),
    "configs@3": _form(pattern=_NAME, names=_form(keys={
        "name@5": _TEXT,
        "file": _TEXT,
        "external": _EXTERNAL_OPEN,
        "labels": _PAIRS,
        "template_driver@8": _TEXT,
    }, extensions=7)),
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
        extension = (
            form.extensions is not None and minor >= form.extensions and key.startswith("x-")
        )
        if wanted is not None and since <= minor:
            yield from unfit(inner, minor, wanted, here)
        elif form.names is not None and re.fullmatch(form.pattern, key):
            yield from unfit(inner, minor, form.names, here)
        elif free or extension:
            continue
        elif wanted is not None:
            yield Unfit(here, "since", form, inner, since)
        else:
            yield Unfit(here, "unknown" if form.names is None else "name", form, inner)


def _is(value: Any, kind: str) -> bool:
    if kind == "text":
        return isinstance(value, str)
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "null":
        return value is None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return kind == "number" or value == int(value)


def _twice(items: list[Any]) -> int | None:
    """Return the index of the first element that came before; None if there is none."""
    seen: set[str] = set()
    for i, item in enumerate(items):
        written = json.dumps(item, sort_keys=True, default=str)
        if written in seen:
            return i
        seen.add(written)
    return None
