"""What ``docker stack deploy`` makes of each option: a small table, and its use.

The Compose Specification's schema says what is correct (:mod:`labkit.compose.schema`); this
table says who acts on it. ``docker stack deploy`` has rules of its own, the closed format 3.x:
a test asks the real docker command about every option of the Specification, so that the table
cannot drift from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from labkit.compose.model import ComposeFile
from labkit.compose.schema import short
from labkit.documents import Step

__all__ = [
    "NEWEST",
    "SINCE",
    "TABLE",
    "Finding",
    "Option",
    "Verdict",
    "find",
    "finding",
    "matches",
    "minor_of",
]

NEWEST = 13  # of the versions 3.x that docker stack deploy knows


class Verdict(StrEnum):
    """Who acts on an option."""

    SWARM = "swarm"
    SHARED = "shared"
    IGNORED = "ignored"
    REJECTED = "rejected"
    NOTE = "note"

    @property
    def french(self) -> str:
        """The verdict in French, as a title."""
        return _TITLES[self]


_TITLES = {
    Verdict.REJECTED: "Refusé par docker stack deploy",
    Verdict.IGNORED: "Ignoré par docker stack deploy",
    Verdict.SWARM: "Propre à Swarm",
    Verdict.SHARED: "Suivi par Swarm et par docker compose",
    Verdict.NOTE: "À savoir",
}


@dataclass(frozen=True, slots=True)
class Option:
    """A row of the table.

    Attributes
    ----------
    pattern
        Path with ``*`` for any name and ``[]`` for any element: ``services.*.deploy.mode``.
    verdict
        Who acts on it.
    why
        In French.
    when
        Whether the row is about this value.
    """

    pattern: str
    verdict: Verdict
    why: str
    when: Callable[[Any], bool] = lambda value: True


@dataclass(frozen=True, slots=True)
class Finding:
    """An option of a file, with what becomes of it.

    Attributes
    ----------
    path
        In the file's data.
    line
        In the file; None when nothing in particular is to blame.
    verdict
        Who acts on it.
    option
        Its name, such as ``deploy.replicas``.
    place
        The service, network… that it is set on; empty for the whole file.
    value
        As written, shortened.
    why
        In French.
    """

    path: tuple[Step, ...]
    line: int | None
    verdict: Verdict
    option: str
    place: str
    value: str
    why: str


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _rows(verdict: Verdict, rows: Mapping[str, str], prefix: str = "services.*.") -> list[Option]:
    return [Option(prefix + key, verdict, why) for key, why in rows.items()]


_LIMITS = "Swarm prend les limites sous deploy.resources.limits"
_NODE = "Swarm ne transmet pas ce réglage aux nœuds"
_ALONE = "docker compose ne le suit pas"

_SWARM = {
    "deploy.mode": f"replicated : un nombre de tasks ; global : une par nœud. {_ALONE}.",
    "deploy.replicas": "le nombre de tasks que Swarm maintient, réparties sur les nœuds. "
    "docker compose lance aussi ce nombre de conteneurs, sur une seule machine.",
    "deploy.labels": f"des labels du service, que docker service inspect montre. {_ALONE}.",
    "deploy.update_config": f"comment une mise à jour remplace les tasks. {_ALONE}.",
    "deploy.rollback_config": f"comment un retour en arrière remplace les tasks. {_ALONE}.",
    "deploy.restart_policy": "quand Swarm remplace une task terminée. docker compose n’en suit "
    "que condition et max_attempts.",
    "deploy.placement": f"sur quels nœuds les tasks peuvent aller. {_ALONE}.",
    "deploy.endpoint_mode": "vip : une adresse virtuelle répartit les requêtes ; dnsrr : le DNS "
    f"donne les adresses des tasks. {_ALONE}.",
    "deploy.resources.reservations.generic_resources": "des ressources que les nœuds annoncent.",
    "ports.[].mode": "ingress : publié sur tous les nœuds (routing mesh) ; host : seulement sur "
    "le nœud de la task.",
    "credential_spec.config": "prend une config du cluster.",
}

_SHARED = {
    "deploy.resources.limits": "des maximums, que docker compose applique aussi.",
    "deploy.resources.reservations": "ce que Swarm garde libre sur un nœud pour placer la task ; "
    "docker compose n’en applique qu’une partie.",
    "healthcheck": "une task dont le test échoue est remplacée par Swarm.",
    "configs": "en Swarm, une config est gardée par les managers et ne change plus une fois créée.",
    "secrets": "en Swarm, un secret est gardé chiffré par les managers et monté dans "
    "/run/secrets ; avec docker compose, c’est un fichier monté.",
    "stop_grace_period": "le temps laissé à un conteneur pour s’arrêter.",
}

_IGNORED = {  # docker says so: « Ignoring unsupported options » or « deprecated options »
    "build": "Swarm ne construit rien : chaque nœud doit pouvoir télécharger l’image. "
    "Construisez-la, puis poussez-la dans un registry.",
    "cgroup_parent": f"{_NODE}.",
    "container_name": "Swarm nomme lui-même les conteneurs : un service peut en avoir plusieurs.",
    "devices": "un service n’a pas accès aux périphériques d’un nœud.",
    "domainname": f"{_NODE}.",
    "expose": "entre services d’un même réseau, tous les ports sont joignables.",
    "external_links": "les services d’un même réseau se trouvent par leur nom.",
    "ipc": f"{_NODE}.",
    "links": "les services d’un même réseau se trouvent par leur nom.",
    "mac_address": f"{_NODE}.",
    "network_mode": "en Swarm, un service est sur des réseaux overlay.",
    "pid": f"{_NODE}.",
    "privileged": "un service n’est jamais privilégié.",
    "restart": "dites-le avec deploy.restart_policy, que Swarm suit sur tous les nœuds (à défaut, "
    "docker reprend quand même la condition de restart).",
    "security_opt": f"{_NODE}.",
    "shm_size": "montez un tmpfs sur /dev/shm.",
    "userns_mode": f"{_NODE}.",
}

_SILENTLY = {  # docker stack deploy reads these and says nothing
    "depends_on": "une stack n’a pas d’ordre de démarrage : Swarm crée tous les services "
    "ensemble, l’application doit attendre ce dont elle a besoin.",
    "tmpfs": "écrivez un volume « type: tmpfs ».",
    "networks.*.ipv4_address": "Swarm choisit l’adresse de chaque task.",
    "networks.*.ipv6_address": "Swarm choisit l’adresse de chaque task.",
    "volumes.[].bind.create_host_path": "le dossier doit exister sur chaque nœud.",
    "volumes.[].bind.recursive": "absent du format 3.x.",
    "volumes.[].bind.selinux": "absent du format 3.x.",
    "volumes.[].tmpfs.mode": "absent du format 3.x.",
    "volumes.[].volume.labels": "mettez les labels sous volumes, au premier niveau.",
}

_REJECTED = {
    "annotations": "absent du format 3.x.",
    "attach": "absent du format 3.x : une stack n’affiche pas de journaux au démarrage.",
    "blkio_config": "absent du format 3.x.",
    "cgroup": "absent du format 3.x.",
    "cpu_count": f"{_LIMITS}.",
    "cpu_percent": f"{_LIMITS}.",
    "cpu_period": f"{_LIMITS}.",
    "cpu_quota": f"{_LIMITS}.",
    "cpu_rt_period": f"{_LIMITS}.",
    "cpu_rt_runtime": f"{_LIMITS}.",
    "cpu_shares": f"{_LIMITS}.",
    "cpus": f"{_LIMITS}.",
    "cpuset": f"{_LIMITS}.",
    "develop": "propre à docker compose watch.",
    "device_cgroup_rules": "absent du format 3.x.",
    "dns_opt": "absent du format 3.x.",
    "extends": "docker stack deploy ne suit pas extends : recopiez le service, ou passez "
    "plusieurs fichiers avec « -c ».",
    "gpus": "déclarez des ressources génériques (generic_resources).",
    "group_add": "absent du format 3.x.",
    "label_file": "absent du format 3.x : écrivez labels.",
    "mem_limit": f"{_LIMITS}.memory.",
    "mem_reservation": "Swarm prend deploy.resources.reservations.memory.",
    "mem_swappiness": "absent du format 3.x.",
    "memswap_limit": f"{_LIMITS}.",
    "models": "propre à docker compose.",
    "oom_kill_disable": "absent du format 3.x.",
    "pids_limit": f"{_LIMITS}.pids.",
    "platform": "c’est deploy.placement.constraints qui choisit les nœuds "
    "(node.platform.arch == …).",
    "post_start": "propre à docker compose.",
    "pre_start": "propre à docker compose.",
    "pre_stop": "propre à docker compose.",
    "profiles": "une stack est déployée entière : faites un fichier par variante.",
    "provider": "propre à docker compose.",
    "pull_policy": "Swarm vérifie l’image à chaque déploiement (--resolve-image).",
    "pull_refresh_after": "Swarm vérifie l’image à chaque déploiement (--resolve-image).",
    "runtime": "le runtime se règle sur chaque nœud.",
    "scale": "écrivez deploy.replicas.",
    "storage_opt": "absent du format 3.x.",
    "umask": "absent du format 3.x.",
    "use_api_socket": "propre à docker compose.",
    "uts": "absent du format 3.x.",
    "volumes_from": "déclarez un volume commun sous volumes.",
    "networks.*.gw_priority": "absent du format 3.x.",
    "networks.*.interface_name": "absent du format 3.x.",
    "networks.*.link_local_ips": "absent du format 3.x.",
    "networks.*.mac_address": "absent du format 3.x.",
    "networks.*.priority": "absent du format 3.x.",
    "networks.*.use_service_name_alias": "absent du format 3.x.",
    "deploy.resources.reservations.devices": "déclarez des ressources génériques "
    "(generic_resources).",
    "ports.[].app_protocol": "absent du format 3.x.",
    "ports.[].host_ip": "un port est publié sur toutes les adresses des nœuds.",
    "ports.[].name": "absent du format 3.x.",
}

_REJECTED_TOP = {
    "name": "une stack prend son nom sur la ligne de commande : docker stack deploy … NOM.",
    "include": "passez plusieurs fichiers avec « -c ».",
    "jobs": "propre à docker compose ; Swarm a deploy.mode: replicated-job et global-job.",
    "models": "propre à docker compose.",
    "configs.*.content": "absent du format 3.x : écrivez file.",
    "configs.*.environment": "absent du format 3.x : écrivez file.",
    "networks.*.enable_ipv4": "absent du format 3.x.",
    "networks.*.enable_ipv6": "absent du format 3.x.",
    "networks.*.ipam.config.[].aux_addresses": "absent du format 3.x.",
    "networks.*.ipam.config.[].gateway": "absent du format 3.x.",
    "networks.*.ipam.config.[].ip_range": "absent du format 3.x.",
    "networks.*.ipam.options": "absent du format 3.x.",
    "secrets.*.environment": "absent du format 3.x : écrivez file, ou external.",
}

_FORM = "le format 3.x veut un entier, sans guillemets."

# What the Specification takes in several forms and the format 3.x in one
_FORMS = [
    Option("services.*.depends_on", Verdict.REJECTED, "le format 3.x ne connaît que la liste, "
           "sans condition.", lambda v: isinstance(v, dict)),
    Option("services.*.env_file.[]", Verdict.REJECTED, "le format 3.x ne connaît que des chemins.",
           lambda v: isinstance(v, dict)),
    Option("services.*.devices.[]", Verdict.REJECTED, "le format 3.x ne connaît que des textes.",
           lambda v: isinstance(v, dict)),
    Option("services.*.volumes.[]", Verdict.REJECTED, "un volume « type: cluster » veut une "
           "source.", lambda v: isinstance(v, dict) and v.get("type") == "cluster"
           and not v.get("source")),
    *(Option(f"services.*.{key}", Verdict.REJECTED, _FORM, _text) for key in (
        "deploy.replicas",
        "deploy.update_config.parallelism",
        "deploy.rollback_config.parallelism",
        "deploy.restart_policy.max_attempts",
        "deploy.placement.max_replicas_per_node",
        "deploy.resources.limits.pids",
        "oom_score_adj",
        "ports.[].published",
        "ports.[].target",
        "volumes.[].tmpfs.size",
        "ulimits.*",
        "ulimits.*.hard",
        "ulimits.*.soft",
    )),
    *(Option(f"services.*.{key}", Verdict.REJECTED, "le format 3.x veut un nombre, sans "
             "guillemets.", _text) for key in (
        "configs.[].mode",
        "deploy.rollback_config.max_failure_ratio",
        "deploy.update_config.max_failure_ratio",
        "healthcheck.retries",
        "secrets.[].mode",
    )),
    *(Option(f"services.*.{key}", Verdict.REJECTED, "le format 3.x veut un texte : mettez le "
             "nombre entre guillemets.", _number) for key in (
        "deploy.resources.limits.cpus",
        "deploy.resources.reservations.cpus",
                "shm_size",
    )),
    *(Option(key, Verdict.REJECTED, "le format 3.x veut true ou false, sans guillemets.", _text)
      for key in (
        "services.*.init",
        "services.*.privileged",
        "services.*.read_only",
        "services.*.stdin_open",
        "services.*.tty",
        "services.*.healthcheck.disable",
        "services.*.volumes.[].read_only",
        "services.*.volumes.[].volume.nocopy",
        "networks.*.attachable",
        "networks.*.internal",
        "networks.*.external",
        "volumes.*.external",
        "secrets.*.external",
        "configs.*.external",
    )),
    *(Option(key, Verdict.REJECTED, "le format 3.x veut un texte : mettez true ou false entre "
             "guillemets.", _flag) for key in (
        "services.*.environment.*",
        "services.*.labels.*",
        "services.*.deploy.labels.*",
        "services.*.sysctls.*",
        "networks.*.labels.*",
        "volumes.*.labels.*",
        "secrets.*.labels.*",
        "configs.*.labels.*",
    )),
]  # fmt: skip

_SWARM_TOP = [
    Option("networks.*.attachable", Verdict.SWARM, "des conteneurs hors de Swarm peuvent rejoindre "
           "ce réseau overlay."),
    Option("networks.*.driver", Verdict.SWARM, "un réseau qui relie les conteneurs de plusieurs "
           "nœuds ; c’est celui de toute stack par défaut.", lambda v: v == "overlay"),
    Option("services.*.volumes.[].type", Verdict.SWARM, "un volume que le cluster place lui-même.",
           lambda v: v == "cluster"),
    Option("secrets.*.external", Verdict.SWARM, "le secret existe déjà dans le cluster : "
           "docker secret create.", lambda v: v not in (None, False)),
    Option("configs.*.external", Verdict.SWARM, "la config existe déjà dans le cluster : "
           "docker config create.", lambda v: v not in (None, False)),
]  # fmt: skip

TABLE: tuple[Option, ...] = (
    *_rows(Verdict.REJECTED, _REJECTED_TOP, ""),
    *_rows(Verdict.REJECTED, _REJECTED),
    *_FORMS,
    *_rows(Verdict.IGNORED, _IGNORED),
    *_rows(Verdict.IGNORED, {key: f"sans le dire : {why}" for key, why in _SILENTLY.items()}),
    *_rows(Verdict.SWARM, _SWARM),
    *_SWARM_TOP,
    *_rows(Verdict.SHARED, _SHARED),
)

# Options that the format 3.x has had only since 3.n; older files that have them are rejected
SINCE: Mapping[str, int] = {
    "configs": 3,
    "secrets": 1,
    "configs.*.name": 5,
    "configs.*.template_driver": 8,
    "networks.*.attachable": 2,
    "networks.*.name": 5,
    "secrets.*.driver": 8,
    "secrets.*.driver_opts": 8,
    "secrets.*.name": 5,
    "secrets.*.template_driver": 8,
    "services.*.configs": 3,
    "services.*.credential_spec": 3,
    "services.*.credential_spec.config": 8,
    "services.*.deploy.endpoint_mode": 2,
    "services.*.deploy.placement.max_replicas_per_node": 8,
    "services.*.deploy.placement.preferences": 3,
    "services.*.deploy.resources.limits.pids": 9,
    "services.*.deploy.resources.reservations.generic_resources": 5,
    "services.*.deploy.rollback_config": 7,
    "services.*.deploy.update_config.order": 4,
    "services.*.healthcheck.start_interval": 12,
    "services.*.healthcheck.start_period": 4,
    "services.*.init": 7,
    "services.*.isolation": 5,
    "services.*.networks.*.driver_opts": 13,
    "services.*.oom_score_adj": 13,
    "services.*.ports.[].target": 2,
    "services.*.secrets": 1,
    "services.*.volumes.[].tmpfs": 6,
    "services.*.volumes.[].type": 2,
    "volumes.*.name": 4,
}

_DURATION = re.compile(r"([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+|0")
_DURATIONS = re.compile(
    r"services\.\*\.(stop_grace_period|healthcheck\.(interval|timeout|start_period|start_interval)|"
    r"deploy\.((update|rollback)_config\.(delay|monitor)|restart_policy\.(delay|window)))"
)


# -- use ------------------------------------------------------------------------------------


def matches(path: tuple[Step, ...], pattern: str) -> bool:
    """Whether a path has the form of a pattern."""
    steps = pattern.split(".")
    return len(steps) == len(path) and all(
        (step == "*" and isinstance(at, str)) or step == ("[]" if isinstance(at, int) else at)
        for step, at in zip(steps, path, strict=True)
    )


def find(file: ComposeFile) -> list[Finding]:
    """Return what the table says of a file's options, in the order of their lines."""
    by_length: dict[int, list[Option]] = {}
    for option in TABLE:
        by_length.setdefault(option.pattern.count(".") + 1, []).append(option)
    minor = minor_of(file.version)
    findings = []
    for path, value in _walk(file.data, ()):
        for option in by_length.get(len(path), ()):
            if not matches(path, option.pattern):
                continue
            if option in _FORMS and path in file.substituted:
                continue  # Docker converts what a variable gave
            if option.when(value):
                findings.append(finding(file, path, option.verdict, option.why, value))
                if option.verdict is Verdict.REJECTED:
                    break
        if minor is not None:
            for pattern, since in SINCE.items():
                if since > minor and matches(path, pattern):
                    why = f"demande version 3.{since} ; le fichier déclare {file.version}."
                    findings.append(finding(file, path, Verdict.REJECTED, why, value))
        if (
            isinstance(value, str)
            and path not in file.substituted
            and _is_duration(path)
            and not _DURATION.fullmatch(value)
        ):
            why = "une durée s’écrit avec son unité : 10s, 1m30s."
            findings.append(finding(file, path, Verdict.REJECTED, why, value))
    return findings


def finding(
    file: ComposeFile, path: tuple[Step, ...], verdict: Verdict, why: str, value: Any = None
) -> Finding:
    """Make a finding about a path of a file."""
    keys = [str(step) for step in path if not isinstance(step, int)]
    inside = len(keys) > 1 and keys[0] in ("services", "networks", "volumes", "secrets", "configs")
    option = ".".join(keys[2:] if inside else keys)
    if inside and keys[0] != "services":
        option = ".".join((keys[0], *keys[2:]))
    place = keys[1] if inside else ""
    return Finding(path, file.line(*path), verdict, option, place, _written(value), why)


def minor_of(version: str) -> int | None:
    """Return n of a version 3.n, as docker stack deploy takes it; None if it knows it not."""
    if version in ("", "3"):
        return NEWEST
    found = re.fullmatch(r"3\.(\d{1,3})", version)
    return int(found[1]) if found else None


def _is_duration(path: tuple[Step, ...]) -> bool:
    text = ".".join(
        "*" if i == 1 and path[0] == "services" else str(step) for i, step in enumerate(path)
    )
    return _DURATIONS.fullmatch(text) is not None


def _walk(value: Any, path: tuple[Step, ...]) -> Iterator[tuple[tuple[Step, ...], Any]]:
    items: Iterator[tuple[Step, Any]]
    if isinstance(value, dict):
        items = iter(value.items())
    elif isinstance(value, list):
        items = iter(enumerate(value))
    else:
        return
    for step, inner in items:
        if isinstance(step, str) and step.startswith("x-"):
            continue
        yield (*path, step), inner
        yield from _walk(inner, (*path, step))


def _written(value: Any) -> str:
    """Return a value in a few words."""
    if value is None:
        return ""
    if isinstance(value, dict):
        parts = [
            str(key) if isinstance(inner, dict) else f"{key}: {_written(inner)}"
            for key, inner in value.items()
        ]
        return _cut(", ".join(parts))
    if isinstance(value, list):
        return _cut(", ".join(_written(inner) for inner in value))
    return short(value)


def _cut(text: str) -> str:
    return text if len(text) <= 90 else text[:89] + "…"
