"""Two files, or a file and a live stack, compared option by option."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from html import escape
from pathlib import PurePosixPath
from typing import Any

from labkit.compose import values
from labkit.compose.model import ComposeFile, ComposeMount, ComposeService
from labkit.compose.schema import short
from labkit.text.tables import table_html, table_text


@dataclass(frozen=True, slots=True)
class Difference:
    """An option that is not the same on both sides."""

    place: str  # ``service « web »``, ``réseau « front »``… or empty for the whole file
    option: str  # such as ``deploy.replicas``; empty when the whole place is on one side only
    # left, right: values in a few words; None where there is none
    left: str | None
    right: str | None


@dataclass(frozen=True, slots=True, repr=False)
class Comparison:
    """The differences between two files."""

    # left, right: what was compared
    left: ComposeFile
    right: ComposeFile
    differences: tuple[Difference, ...]  # by place, then option
    same: int  # number of options that are the same

    @property
    def equal(self) -> bool:
        """Nothing differs."""
        return not self.differences

    @property
    def conclusion(self) -> str:
        """The whole in a French sentence."""
        n = len(self.differences)
        alike = f"{self.same} option{'s' if self.same > 1 else ''} en commun"
        if not n:
            return f"Aucune différence ({alike})."
        return f"{n} différence{'s' if n > 1 else ''} ({alike})."

    def _rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = []
        last = None
        for one in self.differences:
            place = one.place if one.place != last else ""
            last = one.place
            rows.append((place, one.option, _shown(one.left), _shown(one.right)))
        return rows

    def _head(self) -> tuple[str, ...]:
        left, right = self.left.title, self.right.title
        if left == right:
            left, right = f"{left} (1)", f"{right} (2)"
        return ("", "Option", left, right)

    def __str__(self) -> str:
        title = f"{self.left.title} ↔ {self.right.title} : {self.conclusion}"
        return title if self.equal else f"{title}\n\n{table_text(self._head(), self._rows())}"

    __repr__ = __str__  # what a notebook keeps for those who see no table

    def _repr_html_(self) -> str:
        title = (
            f"<strong>{escape(self.left.title)}</strong> ↔ "
            f"<strong>{escape(self.right.title)}</strong> : {self.conclusion}"
        )
        if self.equal:
            return f"<p>{title}</p>"
        return table_html(title, self._head(), self._rows())


def compare(left: ComposeFile, right: ComposeFile) -> Comparison:
    """Compare two files, or a file and the stack that it was deployed as.

    The syntax does not matter: a short and a long port, a list and a mapping of labels are the
    same. Of a live stack, only what a cluster tells of it is compared: services, images
    (without digests), replicas, networks, ports, volumes (the last part of a machine's path),
    constraints.
    """
    live = left.live or right.live
    first, second = _facts(left, live=live), _facts(right, live=live)
    places = [*first, *(place for place in second if place not in first)]
    differences: list[Difference] = []
    same = 0
    for place in places:
        a, b = first.get(place), second.get(place)
        if a is None or b is None:
            differences.append(
                Difference(place, "", None if a is None else "présent",
                           None if b is None else "présent")
            )  # fmt: skip
            continue
        for option in [*a, *(o for o in b if o not in a)]:
            if _meaning(option, a.get(option)) == _meaning(option, b.get(option)):
                same += 1
            else:
                differences.append(Difference(place, option, a.get(option), b.get(option)))
    return Comparison(left, right, tuple(differences), same)


_DURATIONS = ("interval", "timeout", "start_period", "start_interval", "delay", "monitor", "window",
              "stop_grace_period")  # fmt: skip
_SIZES = ("memory", "shm_size", "size")


def _meaning(option: str, text: str | None) -> Any:
    """Return what a value stands for, however it is spelled: ``60s`` and ``1m`` are the same."""
    last = option.rpartition(".")[2]
    if text is None or option.startswith(("environment.", "labels.", "deploy.labels.")):
        return text
    read: Any = None
    if last in _DURATIONS:
        read = values.duration(text)
    elif last in _SIZES:
        read = values.size(text)
    elif last == "cpus":
        read = values.cpus(text)
    return text if read is None else read


def _shown(value: str | None) -> str:
    return "—" if value is None else value if value else "(vide)"


# -- facts ----------------------------------------------------------------------------------

_Facts = dict[str, dict[str, str]]

_PARSED = frozenset(
    {"image", "build", "networks", "ports", "volumes", "tmpfs", "depends_on", "network_mode",
     "scale", "deploy"}
)  # fmt: skip


def _facts(file: ComposeFile, *, live: bool) -> _Facts:
    """Return what there is to compare, by place and option, in a form free of syntax."""
    facts: _Facts = {}
    if not live:
        facts[""] = {
            key: short(value)
            for key, value in file.data.items()
            if isinstance(value, str | int) and not key.startswith("x-")
        }
    for service in file.services:
        facts[f"service « {service.name} »"] = _service(file, service, live=live)
    # « default » is declared by nobody, and where no service uses it it does not exist
    used = [n for n in file.networks if any(n.name in s.networks for s in file.services)]
    for section, title, parts in (
        ("networks", "réseau", used),
        ("volumes", "volume", file.volumes),
    ):
        for part in parts:
            if part.declared:
                own = {} if live else _options(file.data.get(section), part.name)
                outside = {"external": "true"} if part.external else {}
                facts[f"{title} « {part.label} »"] = outside | own
    if not live:
        for kind, title in (("secrets", "secret"), ("configs", "config")):
            for key in file.data.get(kind) or {}:
                facts[f"{title} « {key} »"] = _options(file.data[kind], key)
    return facts


def _options(section: Any, key: str) -> dict[str, str]:
    options = (section or {}).get(key) or {}
    return dict(
        _flat({k: _plain(k, v) for k, v in options.items() if k not in ("external", "name")})
    )


def _service(file: ComposeFile, service: ComposeService, *, live: bool) -> dict[str, str]:
    networks = {n.name: n.label for n in file.networks}
    volumes = {v.name: v.label for v in file.volumes}
    facts = {
        "image": _image(service.image, live=live),
        "deploy.mode": service.mode,
        "deploy.replicas": service.replicas or "",
        "deploy.placement.constraints": ", ".join(_tidy(c) for c in sorted(service.constraints)),
        "networks": ", ".join(sorted(networks[n] for n in service.networks)),
        "network_mode": service.network_mode,
        "ports": ", ".join(map(str, service.ports)),
        "volumes": ", ".join(str(_mount(m, volumes, live=live)) for m in service.mounts),
        "autres conteneurs": ", ".join(service.companions),
    }
    if not live:
        facts["build"] = service.build
        facts["depends_on"] = ", ".join(sorted(service.depends_on))
        facts |= dict(_flat(_details(service, networks)))
        for key, value in service.options.items():
            if key not in _PARSED and not key.startswith("x-"):
                facts |= dict(_flat(_plain(key, value), key))
        deploy = dict(service.options.get("deploy") or {})
        placement = dict(deploy.pop("placement", None) or {})
        placement.pop("constraints", None)
        deploy |= {"placement": placement, "mode": None, "replicas": None}
        labels = _plain("labels", deploy.pop("labels", None))
        facts |= dict(_flat({**deploy, "labels": labels}, "deploy"))
    return {key: value for key, value in facts.items() if value}


def _details(service: ComposeService, networks: Mapping[str, str]) -> dict[str, Any]:
    """Return what long forms tell beyond the short ones, under the option's name."""
    options = service.options
    build, used, before = (options.get(key) for key in ("build", "networks", "depends_on"))
    details: dict[str, Any] = {}
    if isinstance(build, dict):
        details["build"] = {k: _plain(k, v) for k, v in build.items() if k != "context"}
    if isinstance(used, dict):
        details["networks"] = {networks.get(k, k): v for k, v in used.items() if v}
    if isinstance(before, dict):
        details["depends_on"] = {
            name: {k: v for k, v in (more or {}).items() if (k, v) != _STARTED}
            for name, more in before.items()
        }
    volumes = details["volumes"] = {}
    for mount in options.get("volumes") or ():
        long = mount if isinstance(mount, dict) else values.long_mount(mount)
        volumes[long.get("target", "")] = {
            k: v for k, v in long.items() if k in ("bind", "volume", "tmpfs", "consistency")
        }
    return details


_STARTED = ("condition", "service_started")  # what a list of depends_on means


def _image(image: str, *, live: bool) -> str:
    """Write an image as Docker completes it; a cluster's tasks are told without digest."""
    name, at, digest = image.partition("@")
    if name and not at and ":" not in name.rpartition("/")[2] and "${" not in name:
        name += ":latest"
    return name if live else name + at + digest


def _mount(mount: ComposeMount, volumes: Mapping[str, str], *, live: bool) -> ComposeMount:
    """Name a volume as the engine does; docker makes a relative path absolute when it deploys."""
    source = mount.source
    if mount.kind == "volume":
        source = volumes.get(source, source)
    elif mount.kind == "bind" and live:
        source = f"…/{PurePosixPath(source).name}"
    return replace(mount, source=source)


def _tidy(constraint: str) -> str:
    """Write a constraint with the spaces that are usual."""
    return re.sub(r"^\s*(.*?)\s*([=!]=)\s*(.*?)\s*$", r"\1 \2 \3", constraint)


def _plain(key: str, value: Any) -> Any:
    """Bring the syntaxes of one option to the same form."""
    if key in ("environment", "labels", "sysctls", "args") and isinstance(value, list):
        pairs = (str(item).partition("=") for item in value)
        return {name: text if found else None for name, found, text in pairs}
    if key == "extra_hosts" and isinstance(value, list):
        parts = (re.split("[=:]", str(item), maxsplit=1) for item in value)
        return {part[0]: part[-1] for part in parts}
    if key in ("command", "entrypoint") and isinstance(value, str):
        words = values.words(value)
        return value if words is None else words
    if key == "healthcheck" and isinstance(value, dict) and isinstance(value.get("test"), str):
        return {**value, "test": ["CMD-SHELL", value["test"]]}
    if key in ("secrets", "configs") and isinstance(value, list):
        return [_reference(item) for item in value]
    if key == "ulimits" and isinstance(value, dict):
        return {name: _limit(limit) for name, limit in value.items()}
    if key in ("env_file", "dns", "dns_search") and isinstance(value, str):
        return [value]
    return value


def _reference(item: Any) -> Any:
    """Return a secret or a config without what is so anyhow; its name alone if nothing is left."""
    if not isinstance(item, dict):
        return item
    source = item.get("source")
    usual = {"target": source, "uid": "0", "gid": "0", "mode": 0o444}
    left = {k: v for k, v in item.items() if k not in usual or usual[k] != v}
    return source if left.keys() <= {"source"} else left


def _limit(limit: Any) -> Any:
    if isinstance(limit, dict) and limit.keys() == {"soft", "hard"}:
        return limit["soft"] if limit["soft"] == limit["hard"] else limit
    return limit


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            path = f"{prefix}.{key}" if prefix else str(key)
            if inner is None and prefix in ("environment", "labels"):
                yield path, "(sans valeur)"
            else:
                yield from _flat(inner, path)
    elif isinstance(value, list):
        yield prefix, ", ".join(_item(inner) for inner in value)
    elif value is not None:
        yield prefix, str(value).lower() if isinstance(value, bool) else str(value)


def _item(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {v}" for k, v in value.items()) + "}"
    return str(value)
