"""A container's options in the words of a compose file."""

from typing import Any

from labkit.documents import Table, table
from labkit.kubernetes.manifest import KubeObject, tables, word
from labkit.kubernetes.pods import quantity


def options_of(workload: KubeObject, pod: Table, container: Table) -> dict[str, Any]:
    """Return what a container says in the words of a compose file."""
    rights = {**table(pod.get("securityContext")), **table(container.get("securityContext"))}
    capabilities = table(rights.get("capabilities"))
    found: dict[str, Any] = {
        "entrypoint": container.get("command"),
        "command": container.get("args"),
        "environment": _environment(container),
        "working_dir": container.get("workingDir"),
        "user": rights.get("runAsUser"),
        "tty": container.get("tty"),
        "stdin_open": container.get("stdin"),
        "read_only": rights.get("readOnlyRootFilesystem"),
        "privileged": rights.get("privileged"),
        "cap_add": capabilities.get("add"),
        "cap_drop": capabilities.get("drop"),
        "hostname": pod.get("hostname"),
        "stop_grace_period": _seconds(pod.get("terminationGracePeriodSeconds")),
        "healthcheck": _healthcheck(container),
    }
    deploy = {
        "resources": _resources(table(container.get("resources"))),
        "update_config": _update(workload),
        "restart_policy": _restart(workload, pod),
    }
    found["deploy"] = {key: value for key, value in deploy.items() if value}
    return {key: value for key, value in found.items() if value not in (None, {}, [], False)}


def _environment(container: Table) -> dict[str, str]:
    found = {}
    for one in tables(container.get("envFrom")):
        for key, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
            if key in one:
                name = f"{kind} {table(one[key]).get('name')}"
                found[f"{one.get('prefix') or ''}*"] = name
    for one in tables(container.get("env")):
        value = one.get("value")
        for key, about in table(one.get("valueFrom")).items():
            about = table(about)
            what = about.get("key") or about.get("fieldPath") or about.get("resource")
            value = " ".join(str(w) for w in (key, about.get("name"), what) if w)
        found[str(one.get("name"))] = word(value)
    return found


def _seconds(value: Any) -> str | None:
    if not isinstance(value, int):
        return None
    return f"{value // 60}m" if value and value % 60 == 0 else f"{value}s"


def _healthcheck(container: Table) -> dict[str, Any]:
    """Return a probe as a test: the one that decides on visitors, else the one that restarts."""
    probe = table(container.get("readinessProbe") or container.get("livenessProbe"))
    if not probe:
        return {}
    http, tcp = table(probe.get("httpGet")), table(probe.get("tcpSocket"))
    command = table(probe.get("exec")).get("command")
    test: list[str] = []
    if isinstance(command, list):
        test = ["CMD", *map(str, command)]
    elif http:
        test = ["HTTP", f":{http.get('port')}{http.get('path') or '/'}"]
    elif tcp:
        test = ["TCP", f":{tcp.get('port')}"]
    found = {
        "test": test,
        "interval": _seconds(probe.get("periodSeconds")),
        "timeout": _seconds(probe.get("timeoutSeconds")),
        "start_period": _seconds(probe.get("initialDelaySeconds")),
        "retries": probe.get("failureThreshold"),
    }
    return {key: value for key, value in found.items() if value}


def _resources(resources: Table) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for section, option in (("limits", "limits"), ("requests", "reservations")):
        amounts = table(resources.get(section))
        one = {}
        if amounts.get("cpu") is not None:
            one["cpus"] = f"{quantity(amounts['cpu']):g}"
        if amounts.get("memory") is not None:
            one["memory"] = _memory(quantity(amounts["memory"]))
        if one:
            found[option] = one
    return found


def _memory(amount: float) -> str:
    """Write bytes as docker does, whose ``M`` is what Kubernetes calls ``Mi``."""
    for unit, size in (("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)):
        if amount and amount % size == 0:
            return f"{amount / size:.0f}{unit}"
    return f"{amount:.0f}b"


def _update(workload: KubeObject) -> dict[str, Any]:
    key = "updateStrategy" if workload.kind == "DaemonSet" else "strategy"
    rolling = table(workload.get("spec", key, "rollingUpdate"))
    out, more = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    if out in (0, "0%"):
        return {"order": "start-first"} | ({"parallelism": more} if isinstance(more, int) else {})
    return {"parallelism": out} if isinstance(out, int) else {}


def _restart(workload: KubeObject, pod: Table) -> dict[str, str]:
    """Return what a Pod or a Job says; all other workloads always start theirs again."""
    if workload.kind not in ("Pod", "Job", "CronJob"):
        return {}
    conditions = {"Always": "any", "OnFailure": "on-failure", "Never": "none"}
    found = conditions.get(word(pod.get("restartPolicy")))
    return {"condition": found} if found else {}
