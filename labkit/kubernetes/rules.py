"""Check what Kubernetes asks of an object's values taken together; no schema can say it.

They are rules of the API server's own checks, few, and each with a test: a selector and the labels
it is to find, names and ports that are there once, a volume that is mounted and exists, one way
and not two. What happens to an object that was accepted (no image, no node, no Pod behind a
Service) is not looked at here.
"""

import re
from collections.abc import Iterator, Mapping

from labkit.documents import Step, Table, below
from labkit.kubernetes.constraints import ACCESS_MODES
from labkit.kubernetes.pods import PODS, Fault, both, pod_faults, twice

_EMPTY = '""'
_NODE_PORTS = range(30000, 32768)


def faults(kind: str, data: Table) -> Iterator[Fault]:
    """Yield what Kubernetes refuses in an object that its schema allows."""
    spec = data.get("spec", {})
    if kind in PODS:
        way = PODS[kind]
        pod = below(data, *way)
        yield from _selector(kind, spec, pod)
        yield from pod_faults(kind, pod.get("spec", {}), (*way, "spec"), spec)
    match kind:
        case "Deployment":
            yield from _strategy(spec)
        case "DaemonSet":
            rolling = below(spec, "updateStrategy", "rollingUpdate")
            rolling = {"maxUnavailable": 1, "maxSurge": 0, **rolling}
            yield from _stuck(rolling, ("spec", "updateStrategy", "rollingUpdate"))
        case "Job":
            yield from _job(spec, ("spec",))
        case "CronJob":
            yield from _cron(spec)
            yield from _job(below(spec, "jobTemplate", "spec"), ("spec", "jobTemplate", "spec"))
        case "Service":
            yield from _service(spec)
        case "Ingress":
            yield from _ingress(spec)
        case "ConfigMap" | "Secret":
            yield from _texts(kind, data)
        case "PersistentVolumeClaim":
            yield from _claim(spec)
        case "HorizontalPodAutoscaler":
            least, most = spec.get("minReplicas", 1), spec.get("maxReplicas", 1)
            if least > most:
                why = f"« maxReplicas » ({most}) est plus petit que « minReplicas » ({least})."
                remedy = "Donnez à « maxReplicas » une valeur au moins égale."
                yield ("spec", "maxReplicas"), why, remedy
        case "PodDisruptionBudget":
            if {"minAvailable", "maxUnavailable"} <= spec.keys():
                yield both(("spec",), "minAvailable", "maxUnavailable")


# -- workloads ------------------------------------------------------------------------------


def _selector(kind: str, spec: Table, pod: Table) -> Iterator[Fault]:
    """Compare what a workload searches with the labels that it gives to its Pods."""
    if kind in ("Pod", "CronJob"):
        return
    selector = spec.get("selector", {})
    if kind == "Job":
        if selector and not spec.get("manualSelector"):
            why = "un Job choisit lui-même son « selector »."
            yield ("spec", "selector"), why, "Retirez « selector »."
        return
    labels = below(pod, "metadata", "labels")
    where: tuple[Step, ...] = ("spec", "selector")
    if kind == "ReplicationController":
        wanted = selector or labels
    else:
        wanted = selector.get("matchLabels", {})
        where = (*where, "matchLabels")
    rules = selector.get("matchExpressions", []) if kind != "ReplicationController" else []
    if not wanted and not rules:
        remedy = "Il y faut un label de « template.metadata.labels »" + (
            "." if kind == "ReplicationController" else ", sous « matchLabels »."
        )
        yield ("spec", "selector"), "« selector » est vide : il ne choisit aucun Pod.", remedy
        return
    for key, value in wanted.items():
        if labels.get(key, None) != value:
            there = f"« {key}: {labels[key] or _EMPTY} »" if key in labels else f"pas de « {key} »"
            yield (
                (*where, key),
                f"« selector » cherche « {key}: {value or _EMPTY} », mais les Pods du « template » "
                f"ont {there}.",
                "Écrivez le même label des deux côtés : ce sont ses propres Pods que l’objet "
                "doit trouver.",
            )
    for i, rule in enumerate(rules):
        if not _fits(rule, labels):
            why = f"« selector » ne choisit pas les Pods du « template » (« {rule['key']} »)."
            remedy = "Accordez-le avec « template.metadata.labels »."
            yield ("spec", "selector", "matchExpressions", i), why, remedy


def _fits(rule: Table, labels: Table) -> bool:
    there = rule.get("key", "") in labels
    chosen = labels.get(rule.get("key", "")) in rule.get("values", [])
    fits = {"In": chosen, "NotIn": not chosen, "Exists": there}
    return fits.get(rule.get("operator", ""), not there)


def _strategy(spec: Table) -> Iterator[Fault]:
    strategy = spec.get("strategy", {})
    rolling = strategy.get("rollingUpdate", {})
    path = ("spec", "strategy", "rollingUpdate")
    if strategy.get("type") == "Recreate" and "rollingUpdate" in strategy:
        yield path, "« rollingUpdate » n’a pas de sens avec « type: Recreate ».", "Retirez-le."
    else:
        yield from _stuck(rolling, path)


def _stuck(rolling: Table, path: tuple[Step, ...]) -> Iterator[Fault]:
    if all(rolling.get(key) in (0, "0%") for key in ("maxUnavailable", "maxSurge")):
        yield (
            path,
            "« maxUnavailable » et « maxSurge » sont nuls tous les deux : aucun Pod ne pourrait "
            "être remplacé.",
            "Donnez à l’un des deux une valeur d’au moins 1.",
        )


def _job(spec: Table, path: tuple[Step, ...]) -> Iterator[Fault]:
    if spec.get("completionMode") == "Indexed" and "completions" not in spec:
        why = "« completionMode: Indexed » demande « completions »."
        yield (*path, "completionMode"), why, "Ajoutez « completions »."


_MACROS = "@yearly @annually @monthly @weekly @daily @midnight @hourly".split()
_MONTHS = {m: i for i, m in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}
_DAYS = {d: i for i, d in enumerate("sun mon tue wed thu fri sat".split())}
_FIELDS: tuple[tuple[int, int, dict[str, int]], ...] = (
    (0, 59, {}), (0, 23, {}), (1, 31, {}), (1, 12, _MONTHS), (0, 6, _DAYS),
)  # fmt: skip


def _cron(spec: Table) -> Iterator[Fault]:
    schedule = spec.get("schedule", "")
    if schedule in _MACROS or re.fullmatch(r"@every ([0-9.]+(ns|us|µs|ms|s|m|h))+", schedule):
        return
    fields = schedule.split()
    if len(fields) != 5 or not all(map(_cron_field, fields, *zip(*_FIELDS, strict=True))):
        yield (
            ("spec", "schedule"),
            f"« {schedule[:40]} » n’est pas un horaire.",
            "Écrivez cinq champs : minute, heure, jour, mois, jour de la semaine ; "
            'par exemple "0 3 * * *".',
        )


def _cron_field(field: str, low: int, high: int, names: Mapping[str, int]) -> bool:
    for part in field.split(","):
        found = re.fullmatch(r"(\*|\?|(\w+)(?:-(\w+))?)(?:/(\d+))?", part)
        if not found:
            return False
        ends = [names.get(e.lower(), e) for e in (found[2], found[3]) if e]
        if not all(str(e).isdecimal() and low <= int(e) <= high for e in ends):
            return False
        if (len(ends) == 2 and int(ends[0]) > int(ends[1])) or (found[4] and not int(found[4])):
            return False
    return True


# -- Services and others --------------------------------------------------------------------


def _service(spec: Table) -> Iterator[Fault]:
    kind, ports = spec.get("type") or "ClusterIP", spec.get("ports", [])
    if kind == "ExternalName":
        if not spec.get("externalName"):
            why = "« type: ExternalName » demande « externalName »."
            yield ("spec", "type"), why, "Ajoutez « externalName », avec un nom de domaine."
        return
    headless = spec.get("clusterIP") == "None"
    if headless and kind != "ClusterIP":
        why = f"« clusterIP: None » est refusé avec « type: {kind} »."
        yield ("spec", "clusterIP"), why, "Retirez l’un des deux."
    if not ports and not headless:
        remedy = "Ajoutez « ports », et au moins un « port », ou écrivez « clusterIP: None »."
        yield ("spec",), "il manque « ports » à ce Service.", remedy
    for i, port in enumerate(ports):
        out = port.get("nodePort", 0)
        if out and kind == "ClusterIP":
            why = "« nodePort » est refusé dans un Service de type ClusterIP."
            remedy = "Ajoutez « type: NodePort » à « spec », ou retirez « nodePort »."
            yield ("spec", "ports", i, "nodePort"), why, remedy
        elif out and out not in _NODE_PORTS:
            yield (
                ("spec", "ports", i, "nodePort"),
                f"le « nodePort » {out} est hors de la plage 30000-32767.",
                "Choisissez un port de cette plage, ou un Service de type LoadBalancer : son "
                "« port » est libre.",
            )
        if len(ports) > 1 and not port.get("name"):
            why = "ce Service a plusieurs ports, et celui-ci n’a pas de nom."
            yield ("spec", "ports", i), why, "Donnez un « name » à chacun."
    listed = list(enumerate(ports))
    yield from twice(
        ((("spec", "ports", i, "name"), p.get("name")) for i, p in listed),
        "le nom de port « {} »",
        "Donnez à chaque port un nom à lui.",
    )
    yield from twice(
        ((("spec", "ports", i, "port"), (p.get("port"), p.get("protocol") or "TCP"))
         for i, p in listed),
        "le port {0[0]} ({0[1]})",
        "Un Service n’a qu’une fois le même port.",
    )  # fmt: skip
    yield from twice(
        ((("spec", "ports", i, "nodePort"), p.get("nodePort") and
          (p["nodePort"], p.get("protocol") or "TCP")) for i, p in listed),
        "le « nodePort » {0[0]}",
        "Donnez un autre « nodePort » à l’un des deux.",
    )  # fmt: skip


def _claim(spec: Table) -> Iterator[Fault]:
    """Look at a claim of its own; those of a StatefulSet are looked at when they are made."""
    modes = ", ".join(ACCESS_MODES)
    if not spec.get("accessModes"):
        yield ("spec",), "il manque « accessModes » à ce volume.", f"Choisissez parmi : {modes}."
    for i, mode in enumerate(spec.get("accessModes", [])):
        if mode not in ACCESS_MODES:
            why = f"« {mode} » n’est pas un mode d’accès."
            yield ("spec", "accessModes", i), why, f"Choisissez parmi : {modes}."
    if "storage" not in below(spec, "resources", "requests"):
        remedy = "Ajoutez « requests » à « resources », et dessous « storage: 1Gi » par exemple."
        yield ("spec", "resources"), "il manque la place que ce volume demande.", remedy


def _ingress(spec: Table) -> Iterator[Fault]:
    rules = spec.get("rules", [])
    if not rules and "defaultBackend" not in spec:
        why = "cet Ingress n’a ni « rules » ni « defaultBackend »."
        yield ("spec",), why, "Ajoutez l’un d’eux."
    backends: list[tuple[tuple[Step, ...], Table]] = []
    if "defaultBackend" in spec:
        backends.append((("spec", "defaultBackend"), spec["defaultBackend"]))
    for i, rule in enumerate(rules):
        for j, one in enumerate(below(rule, "http").get("paths", [])):
            at: tuple[Step, ...] = ("spec", "rules", i, "http", "paths", j)
            backends.append(((*at, "backend"), one["backend"]))
            path = one.get("path", "/" if one["pathType"] == "ImplementationSpecific" else "")
            if not path.startswith("/"):
                why = f"« path » doit commencer par « / » avec « pathType: {one['pathType']} »."
                yield (*at, "path"), why, "Écrivez par exemple « path: / »."
    for at, backend in backends:
        if ("service" in backend) == ("resource" in backend):
            yield at, "ce chemin ne mène à aucun Service, ou à deux choses.", "Gardez « service »."
        elif "service" in backend:
            port = below(backend, "service", "port")
            if bool(port.get("name")) == bool(port.get("number")):
                why = "le port du Service se dit par son nom ou par son numéro."
                remedy = "Écrivez « port: » et dessous « number: 80 » par exemple."
                yield (*at, "service"), why, remedy


def _texts(kind: str, data: Table) -> Iterator[Fault]:
    if kind == "ConfigMap":
        for key in data.get("data", {}).keys() & data.get("binaryData", {}).keys():
            yield ("binaryData", key), f"la clé « {key} » est aussi sous « data ».", "Gardez l’une."
    plain = ("stringData", "data") if kind == "ConfigMap" else ("stringData",)
    size = sum(
        len(str(value).encode("utf-8", "replace")) * (1 if section in plain else 0.75)  # of base64
        for section in ("data", "binaryData", "stringData")
        for value in data.get(section, {}).values()
    )
    if size > 1 << 20:
        why = f"ses données font {size / (1 << 20):.1f} Mio : la limite est de 1 Mio."
        yield (), why, "Séparez-les en plusieurs objets, ou mettez-les dans un volume."
    needed = {"kubernetes.io/tls": ("tls.crt", "tls.key"),
              "kubernetes.io/dockerconfigjson": (".dockerconfigjson",)}  # fmt: skip
    there = data.get("data", {}).keys() | data.get("stringData", {}).keys()
    for key in needed.get(data.get("type", ""), ()) if kind == "Secret" else ():
        if key not in there:
            why = f"un Secret de type « {data['type']} » demande la clé « {key} »."
            yield ("type",), why, f"Ajoutez « {key} » sous « data »."
