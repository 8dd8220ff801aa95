"""The effect of each option under ``docker stack deploy``: a small table, and its use.

The closed format of ``docker stack deploy`` (:mod:`labkit.compose.stack_format`) and what its
loader and its conversion refuse (:mod:`labkit.compose.stack_checks`) say what is rejected; this
table says why, what is ignored, and what is Swarm's own.
"""

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from labkit.compose.model import ComposeFile
from labkit.compose.reading import Unusable
from labkit.compose.schema import kind_of, short, types_in_words
from labkit.compose.stack_checks import refusals
from labkit.compose.stack_format import DOCKER, NEWEST, Unfit, minor_of, unfit
from labkit.documents import Step


class Verdict(StrEnum):
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
    Verdict.REJECTED: "Refusé par docker stack deploy",
    Verdict.IGNORED: "Ignoré par docker stack deploy",
    Verdict.SWARM: "Propre à Swarm",
    Verdict.SHARED: "Suivi par Swarm et par docker compose",
    Verdict.NOTE: "À savoir",
}


@dataclass(frozen=True, slots=True)
class Option:
    """A row of the table."""

    # path with ``*`` for any name and ``[]`` for any element: ``services.*.deploy.mode``
    pattern: str
    verdict: Verdict  # who acts on it
    why: str  # in French
    when: Callable[[Any], bool] = lambda value: True  # whether the row is about this value


@dataclass(frozen=True, slots=True)
class Finding:
    """An option of a file, with what becomes of it."""

    path: tuple[Step, ...]  # in the file's data
    line: int | None  # in the file; None when nothing in particular is to blame
    verdict: Verdict  # who acts on it
    option: str  # its name, such as ``deploy.replicas``
    place: str  # the service, network… that it is set on; empty for the whole file
    value: str  # as written, shortened
    why: str  # in French


def _rows(verdict: Verdict, rows: Mapping[str, str], prefix: str = "services.*.") -> list[Option]:
    return [Option(prefix + key, verdict, why) for key, why in rows.items()]


def _newer(major: int) -> str:
    """Say what a newer docker command does otherwise."""
    return f"La commande docker {major} le prend ; celle du cours est en {DOCKER}."


def _same(why: str, keys: str) -> dict[str, str]:
    """Return the rows of options of which the same is to be said."""
    return dict.fromkeys(keys.split(), why)


_ABSENT = "absent du format 3.x."
_COMPOSE = "propre à docker compose."
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
    **_same(
        f"{_NODE}.",
        "cgroup_parent cgroupns_mode domainname ipc mac_address pid security_opt userns_mode",
    ),
    "container_name": "Swarm nomme lui-même les conteneurs : un service peut en avoir plusieurs.",
    "devices": "un service n’a pas accès aux périphériques d’un nœud.",
    "expose": "entre services d’un même réseau, tous les ports sont joignables.",
    "external_links": "les services d’un même réseau se trouvent par leur nom.",
    "links": "les services d’un même réseau se trouvent par leur nom.",
    "network_mode": "en Swarm, un service est sur des réseaux overlay.",
    "privileged": "un service n’est jamais privilégié.",
    "restart": "dites-le avec deploy.restart_policy, que Swarm suit sur tous les nœuds (à défaut, "
    "docker reprend quand même la condition de restart).",
    "shm_size": "montez un tmpfs sur /dev/shm.",
}

_SILENTLY = {  # docker stack deploy reads these and says nothing
    "depends_on": "une stack n’a pas d’ordre de démarrage : Swarm crée tous les services "
    "ensemble, l’application doit attendre ce dont elle a besoin.",
    "tmpfs": "écrivez un volume « type: tmpfs ».",
    "networks.*.ipv4_address": "Swarm choisit l’adresse de chaque task.",
    "networks.*.ipv6_address": "Swarm choisit l’adresse de chaque task.",
    "volumes.[].bind.create_host_path": "le dossier doit exister sur chaque nœud.",
    **_same(_ABSENT, "volumes.[].bind.recursive volumes.[].bind.selinux volumes.[].tmpfs.mode"),
    "volumes.[].volume.labels": "mettez les labels sous volumes, au premier niveau.",
    "volumes.[].volume.subpath": f"absent du format 3.x. {_newer(28)}",
}

_REJECTED = {
    **_same(
        _ABSENT,
        "annotations blkio_config cgroup device_cgroup_rules dns_opt group_add mem_swappiness "
        "oom_kill_disable storage_opt umask uts networks.*.gw_priority networks.*.interface_name "
        "networks.*.link_local_ips networks.*.mac_address networks.*.priority "
        "networks.*.use_service_name_alias ports.[].app_protocol ports.[].name",
    ),
    "attach": "absent du format 3.x : une stack n’affiche pas de journaux au démarrage.",
    **_same(
        f"{_LIMITS}.",
        "cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpus "
        "cpuset memswap_limit",
    ),
    "develop": "propre à docker compose watch.",
    "extends": "docker stack deploy ne suit pas extends : recopiez le service, ou passez "
    "plusieurs fichiers avec « -c ».",
    "gpus": "déclarez des ressources génériques (generic_resources).",
    "label_file": "absent du format 3.x : écrivez labels.",
    "mem_limit": f"{_LIMITS}.memory.",
    "mem_reservation": "Swarm prend deploy.resources.reservations.memory.",
    **_same(_COMPOSE, "models post_start pre_start pre_stop provider use_api_socket"),
    "oom_score_adj": f"absent du format 3.{NEWEST}. {_newer(27)}",
    "networks.*.driver_opts": f"absent du format 3.{NEWEST}. {_newer(27)}",
    "pids_limit": f"{_LIMITS}.pids.",
    "platform": "c’est deploy.placement.constraints qui choisit les nœuds "
    "(node.platform.arch == …).",
    "profiles": "une stack est déployée entière : faites un fichier par variante.",
    "pull_policy": "Swarm vérifie l’image à chaque déploiement (--resolve-image).",
    "pull_refresh_after": "Swarm vérifie l’image à chaque déploiement (--resolve-image).",
    "runtime": "le runtime se règle sur chaque nœud.",
    "scale": "écrivez deploy.replicas.",
    "volumes.[].image": f"absent du format 3.{NEWEST}. {_newer(28)}",
    "volumes_from": "déclarez un volume commun sous volumes.",
    "deploy.resources.reservations.devices": "déclarez des ressources génériques "
    "(generic_resources).",
    "ports.[].host_ip": "un port est publié sur toutes les adresses des nœuds.",
}

_REJECTED_TOP = {
    "name": "une stack prend son nom sur la ligne de commande : docker stack deploy … NOM.",
    "include": "passez plusieurs fichiers avec « -c ».",
    "jobs": "propre à docker compose ; Swarm a deploy.mode: replicated-job et global-job.",
    "models": _COMPOSE,
    "configs.*.content": "absent du format 3.x : écrivez file.",
    "configs.*.environment": "absent du format 3.x : écrivez file.",
    **_same(
        _ABSENT,
        "networks.*.enable_ipv4 networks.*.enable_ipv6 networks.*.ipam.config.[].aux_addresses "
        "networks.*.ipam.config.[].gateway networks.*.ipam.config.[].ip_range "
        "networks.*.ipam.options",
    ),
    "secrets.*.environment": "absent du format 3.x : écrivez file, ou external.",
}

# What the Specification takes in several forms and the format 3.x in one
_FORMS = {
    "services.*.depends_on": "le format 3.x ne connaît que la liste, sans condition.",
    "services.*.env_file.[]": "le format 3.x ne connaît que des chemins.",
    "services.*.devices.[]": "le format 3.x ne connaît que des textes.",
}

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
    *_rows(Verdict.IGNORED, _IGNORED),
    *_rows(Verdict.IGNORED, {key: f"sans le dire : {why}" for key, why in _SILENTLY.items()}),
    *_rows(Verdict.SWARM, _SWARM),
    *_SWARM_TOP,
    *_rows(Verdict.SHARED, _SHARED),
)

_BY_LENGTH: dict[int, list[Option]] = {}  # what is not rejected, by the length of its path
for _row in TABLE:
    if _row.verdict is not Verdict.REJECTED:
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
            if matches(path, option.pattern) and option.when(value):
                findings.append(finding(file, path, option.verdict, option.why, value))
    return findings


def _rejected(file: ComposeFile) -> list[Finding]:
    """Return what docker stack deploy refuses; of a place, the first reason only."""
    data = file.reading.stack
    minor = minor_of(data.get("version", ""))
    if minor is None:
        minor = NEWEST  # that the version is unknown is said elsewhere
    reasons: dict[tuple[Step, ...], str] = {}
    for one in unfit(data, minor):
        reasons.setdefault(one.path, _unfit_words(file, one))
    for path, why in refusals(data, file.directory):
        if not any(path[:n] in reasons for n in range(1, len(path) + 1)):
            reasons[path] = why
    reasons.pop(("version",), None)
    return [
        finding(file, path, Verdict.REJECTED, why, _get(file.data, path))
        for path, why in reasons.items()
    ]


def _unfit_words(file: ComposeFile, one: Unfit) -> str:
    """Say in French why the format has no such value."""
    match one.rule:
        case "since":
            return f"demande version 3.{one.since} ; le fichier déclare {file.version}."
        case "missing":
            return f"il manque « {one.key} »."
        case "twice":
            return f"« {_written(one.value)} » y est deux fois : gardez-en une."
        case "choice":
            return f"les valeurs possibles sont {', '.join(one.form.choices)}."
        case "least":
            return "un nombre négatif n’a pas de sens ici."
        case "duration":
            return "une durée s’écrit avec son unité : 10s, 1m30s."
        case "name":
            return "un nom est fait de lettres sans accent, de chiffres, de « . », « _ » et « - »."
        case "unknown":
            return _unknown_words(one)
    return _kind_words(file, one)


def _unknown_words(one: Unfit) -> str:
    for option in TABLE:
        if option.verdict is Verdict.REJECTED and matches(one.path, option.pattern):
            return option.why
    key = str(one.path[-1])
    if key.startswith("x-"):
        return (
            "docker ne prend les clés « x- » qu’au premier niveau (depuis 3.4), et dans services, "
            "networks, volumes, secrets et configs (depuis 3.7)."
        )
    close = difflib.get_close_matches(key, one.form.keys or (), n=1, cutoff=0.7)
    return f"vouliez-vous écrire « {close[0]} » ?" if close else _ABSENT


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


def _walk(value: Any, path: tuple[Step, ...]) -> Iterator[tuple[tuple[Step, ...], Any]]:
    items = value.items() if isinstance(value, dict) else ()
    for step, inner in enumerate(value) if isinstance(value, list) else items:
        if not str(step).startswith("x-"):
            yield (*path, step), inner
            yield from _walk(inner, (*path, step))


def _written(value: Any) -> str:
    """Return a value in a few words."""
    if value is None:
        return ""
    if isinstance(value, dict):
        parts = [k if isinstance(v, dict) else f"{k}: {_written(v)}" for k, v in value.items()]
        return short(", ".join(parts), 90)
    return short(", ".join(map(_written, value)), 90) if isinstance(value, list) else short(value)
