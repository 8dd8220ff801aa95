"""Add to the schema what Kubernetes asks of single values: names, ports, choices, quantities.

The published schema leaves it to words in its descriptions. It is written here as JSON schema, by
definition and key, and joined to the published one; each says in French what it wants.
"""

from typing import Any

_Schema = dict[str, Any]

SAID = "x-labkit-wants"
"""Key under which a constraint says what it wants, in French."""


def _pattern(regex: str, most: int, said: str) -> _Schema:
    return {"pattern": rf"\A(?:{regex})\Z", "maxLength": most, SAID: said}


def _choice(*values: str) -> _Schema:
    return {"enum": [*values, ""]}  # an empty text is for Kubernetes as good as none


_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_NAME = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_HOST = rf"{_LABEL}(\.{_LABEL})*"
LABEL = _pattern(
    _LABEL, 63, "des minuscules sans accent, des chiffres et « - », 63 caractères au plus"
)
SUBDOMAIN = _pattern(
    _HOST, 253, "des minuscules sans accent, des chiffres, « - » et « . », sans finir par un signe"
)
PATH_SEGMENT = _pattern(r"(?!\.\.?\Z)[^/%]+", 253, "un texte sans « / » ni « % »")
_QUALIFIED = _pattern(
    rf"({_HOST}/)?(?=[^/]{{1,63}}\Z){_NAME}",
    317,
    "des lettres sans accent, des chiffres, « - », « _ » et « . », 63 caractères au plus, après "
    "un domaine et « / » s’il y en a un",
)
_ANNOTATION = _QUALIFIED | {
    "pattern": _QUALIFIED["pattern"].replace(_HOST, _HOST.replace("a-z", "a-zA-Z"))
}
_VALUE = _pattern(
    rf"({_NAME})?", 63,
    "des lettres sans accent, des chiffres, « - », « _ » et « . », 63 caractères au plus",
)  # fmt: skip
_PORT_NAME = _pattern(
    r"(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]*[a-z0-9])?", 15,
    "des minuscules, des chiffres et « - », dont une lettre, 15 caractères au plus",
)  # fmt: skip
_PORT = {"minimum": 1, "maximum": 65535}
_COUNT = {"minimum": 0}
_SOME = {"minLength": 1}
_ANY_PORT = {"if": {"type": "string"}, "then": _PORT_NAME, "else": _PORT}
_TARGET_PORT = {
    "if": {"type": "string"},
    "then": {"if": _SOME, "then": _PORT_NAME},
    "else": {"minimum": 0, "maximum": 65535},
}
_SHARE = {
    "if": {"type": "string"},
    "then": {"pattern": r"\A[0-9]+%\Z", SAID: "un entier, ou un pourcentage comme « 25% »"},
    "else": _COUNT,
}
_LABELS = {"propertyNames": _QUALIFIED, "additionalProperties": _VALUE}
_PROTOCOL = _choice("TCP", "UDP", "SCTP")
_KEYS = {
    "propertyNames": _pattern(
        r"(?!\.\.?\Z)(?!\.\.)[-._a-zA-Z0-9]+", 253,
        "des lettres sans accent, des chiffres, « - », « _ » et « . »",
    )
}  # fmt: skip
ACCESS_MODES = ("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod")
_ACCESS = {"minItems": 1, "items": {"enum": ACCESS_MODES}}
_PATHS = _choice("Exact", "Prefix", "ImplementationSpecific")
_TIMES = "periodSeconds timeoutSeconds initialDelaySeconds failureThreshold successThreshold"
_PROBE = dict.fromkeys(_TIMES.split(), _COUNT) | {"terminationGracePeriodSeconds": {"minimum": 1}}
_POD = {
    "containers": {"minItems": 1},
    "restartPolicy": _choice("Always", "OnFailure", "Never"),
    "dnsPolicy": _choice("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
    "nodeSelector": _LABELS,
    "serviceAccountName": {"if": {"minLength": 1}, "then": SUBDOMAIN},
    "hostname": {"if": {"minLength": 1}, "then": LABEL},
    "subdomain": {"if": {"minLength": 1}, "then": LABEL},
    "terminationGracePeriodSeconds": _COUNT,
    "activeDeadlineSeconds": {"minimum": 1},
}
_UPDATE = {"maxUnavailable": _SHARE, "maxSurge": _SHARE}
_SCALED = {"maxReplicas": {"minimum": 1}, "minReplicas": _COUNT}

_CONSTRAINTS: dict[str, dict[str, _Schema]] = {
    "meta.v1.ObjectMeta": {
        "namespace": {"if": {"minLength": 1}, "then": LABEL},
        "labels": _LABELS,
        "annotations": {"propertyNames": _ANNOTATION},
    },
    "meta.v1.LabelSelector": {"matchLabels": _LABELS},
    "meta.v1.LabelSelectorRequirement": {
        "key": _QUALIFIED,
        "operator": {"enum": ["In", "NotIn", "Exists", "DoesNotExist"]},
    },
    "core.v1.NodeSelectorRequirement": {
        "key": _QUALIFIED,
        "operator": {"enum": ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]},
    },
    "core.v1.PodSpec": _POD,
    "core.v1.Container": {
        "name": LABEL,
        "image": _SOME,
        "imagePullPolicy": _choice("Always", "Never", "IfNotPresent"),
        "terminationMessagePolicy": _choice("File", "FallbackToLogsOnError"),
    },
    "core.v1.ContainerPort": {
        "name": {"if": {"minLength": 1}, "then": _PORT_NAME},
        "containerPort": _PORT,
        "hostPort": {"minimum": 0, "maximum": 65535},
        "protocol": _PROTOCOL,
    },
    "core.v1.EnvVar": {
        "name": _pattern(r"[ -<>-~]+", 1 << 20, "des caractères sans accent, autres que « = »")
    },
    "core.v1.Probe": _PROBE,
    "core.v1.HTTPGetAction": {"port": _ANY_PORT, "scheme": _choice("HTTP", "HTTPS")},
    "core.v1.TCPSocketAction": {"port": _ANY_PORT},
    "core.v1.VolumeMount": {"mountPath": _SOME},
    "core.v1.Volume": {"name": LABEL},
    "core.v1.HostPathVolumeSource": {
        "path": _pattern(r"(?!(.*/)?\.\.(/.*)?\Z).+", 1 << 20, "un chemin sans « .. »"),
        "type": _choice("DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket",
                        "CharDevice", "BlockDevice"),
    },
    "core.v1.NFSVolumeSource": {
        "server": _SOME,
        "path": _pattern("/.*", 1 << 20, "un chemin qui commence par « / »"),
    },
    "core.v1.PersistentVolumeClaimVolumeSource": {"claimName": _SOME},
    "core.v1.Toleration": {"effect": _choice("NoSchedule", "PreferNoSchedule", "NoExecute")},
    "core.v1.ServiceSpec": {
        "type": _choice("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"),
        "selector": _LABELS,
        "sessionAffinity": _choice("ClientIP", "None"),
        "externalTrafficPolicy": _choice("Cluster", "Local"),
        "internalTrafficPolicy": _choice("Cluster", "Local"),
    },
    "core.v1.ServicePort": {
        "port": _PORT, "targetPort": _TARGET_PORT, "protocol": _PROTOCOL,
        "name": {"if": {"minLength": 1}, "then": LABEL},
    },
    "core.v1.ConfigMap": {"data": _KEYS, "binaryData": _KEYS},
    "core.v1.Secret": {"data": _KEYS, "stringData": _KEYS},
    "core.v1.PersistentVolumeSpec": {
        "accessModes": _ACCESS,
        "persistentVolumeReclaimPolicy": _choice("Retain", "Delete", "Recycle"),
    },
    "core.v1.ReplicationControllerSpec": {"replicas": _COUNT, "minReadySeconds": _COUNT},
    "apps.v1.ReplicaSetSpec": {"replicas": _COUNT, "minReadySeconds": _COUNT},
    "apps.v1.StatefulSetSpec": {
        "replicas": _COUNT,
        "podManagementPolicy": _choice("OrderedReady", "Parallel"),
    },
    "apps.v1.StatefulSetUpdateStrategy": {"type": _choice("RollingUpdate", "OnDelete")},
    "apps.v1.DaemonSetUpdateStrategy": {"type": _choice("RollingUpdate", "OnDelete")},
    "apps.v1.DeploymentSpec": {
        "replicas": _COUNT, "minReadySeconds": _COUNT, "revisionHistoryLimit": _COUNT,
    },
    "apps.v1.DeploymentStrategy": {"type": _choice("RollingUpdate", "Recreate")},
    "apps.v1.RollingUpdateDeployment": _UPDATE,
    "apps.v1.RollingUpdateDaemonSet": _UPDATE,
    "batch.v1.JobSpec": {
        "parallelism": _COUNT, "completions": _COUNT, "backoffLimit": _COUNT,
        "activeDeadlineSeconds": _COUNT, "ttlSecondsAfterFinished": _COUNT,
        "completionMode": _choice("NonIndexed", "Indexed"),
    },
    "batch.v1.CronJobSpec": {
        "concurrencyPolicy": _choice("Allow", "Forbid", "Replace"),
        "startingDeadlineSeconds": _COUNT,
        "successfulJobsHistoryLimit": _COUNT, "failedJobsHistoryLimit": _COUNT,
    },
    "networking.v1.HTTPIngressPath": {"pathType": {"enum": _PATHS["enum"][:-1]}},
    "networking.v1.IngressRule": {
        "host": _pattern(rf"((\*\.)?{_HOST}|)", 253, "un nom de domaine en minuscules")
    },
    "networking.v1.ServiceBackendPort": {"number": {"minimum": 0, "maximum": 65535}},
    "networking.v1.NetworkPolicySpec": {"policyTypes": {"items": {"enum": ["Ingress", "Egress"]}}},
    "networking.v1.NetworkPolicyPort": {"port": _ANY_PORT, "protocol": _PROTOCOL},
    "autoscaling.v2.HorizontalPodAutoscalerSpec": _SCALED,
    "autoscaling.v1.HorizontalPodAutoscalerSpec": _SCALED,
    "policy.v1.PodDisruptionBudgetSpec": {"minAvailable": _SHARE, "maxUnavailable": _SHARE},
    "rbac.v1.PolicyRule": {"verbs": {"minItems": 1}},
    "rbac.v1.Subject": {"kind": {"enum": ["ServiceAccount", "User", "Group"]}},
    "rbac.v1.RoleRef": {"kind": {"enum": ["Role", "ClusterRole"]}, "name": _SOME},
}  # fmt: skip
_NEEDED = {
    "core.v1.Container": ["image"],
    "core.v1.PersistentVolumeSpec": ["accessModes", "capacity"],
    "core.v1.ConfigMapVolumeSource": ["name"],
    "core.v1.SecretVolumeSource": ["secretName"],
}
_QUANTITY = _pattern(
    r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?", 1 << 10,
    "une quantité, comme « 128Mi », « 1Gi » ou « 500m »",
)  # fmt: skip


def constrain(definitions: dict[str, Any]) -> None:
    """Join what is asked of values to the published definitions, in place.

    A definition that is not there is passed over.
    """
    known = {".".join(name.rsplit(".", 3)[1:]): about for name, about in definitions.items()}
    for short, keys in _CONSTRAINTS.items():
        about = known.get(short, {})
        for key, more in keys.items():
            if key in about.get("properties", {}):
                _join(about["properties"][key], more)
    for short, needed in _NEEDED.items():
        if short in known:
            known[short]["required"] = [*known[short].get("required", []), *needed]
    known["api.resource.Quantity"].update(_QUANTITY)


def _join(schema: _Schema, more: _Schema) -> None:
    for key, value in more.items():
        if isinstance(schema.get(key), dict) and isinstance(value, dict):
            _join(schema[key], value)
        else:
            schema[key] = value
