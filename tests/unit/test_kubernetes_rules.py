"""What Kubernetes refuses of manifests beyond their shape, and what comes close to it."""

from __future__ import annotations

import pytest

from labkit.kubernetes import parse, validate
from labkit.kubernetes.pods import quantity


def spec(kind: str, text: str, version: str = "v1", name: str = "a") -> str:
    return f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n  {text}\n"


def pod(text: str, more: str = "") -> str:
    return spec("Pod", f"{{containers: [{{name: c, image: i, {text}}}], {more}}}")


def workload(
    kind: str = "Deployment", text: str = "", labels: str = "app: a", selector: str = "app: a"
) -> str:
    version = "batch/v1" if kind == "Job" else "apps/v1"
    selected = f"selector: {{matchLabels: {{{selector}}}}}, " if selector else ""
    return spec(
        kind,
        f"{{{text}{selected}template: {{metadata: {{labels: {{{labels}}}}}, "
        "spec: {containers: [{name: c, image: i}]}}}",
        version,
    )


def service(text: str) -> str:
    return spec("Service", f"{{{text}}}")


def cron(schedule: str, name: str = "a") -> str:
    job = "spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}"
    text = f"{{schedule: '{schedule}', jobTemplate: {{{job}}}}}"
    return spec("CronJob", text, "batch/v1", name)


def claim(text: str) -> str:
    return spec("PersistentVolumeClaim", f"{{{text}}}")


def ingress(path: str) -> str:
    return spec(
        "Ingress", f"{{rules: [{{host: a.fr, http: {{paths: [{path}]}}}}]}}", "networking.k8s.io/v1"
    )


BACKEND = "backend: {service: {name: s, port: {number: 80}}}"
CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
SECRET = CONFIG.replace("ConfigMap", "Secret")
TEMPLATES = "volumeClaimTemplates: [{metadata: {name: d}}], "
VOLUMES = "volumes: [{name: v, emptyDir: {}}, {name: w, emptyDir: }]"

REFUSED = [
    # selectors
    (workload(selector="app: b"), "cherche « app: b »"),
    (workload(selector="app: a, tier: x"), "pas de « tier »"),
    (workload("DaemonSet", selector=""), "il manque « selector »"),
    (workload("StatefulSet", selector=" "), "est vide"),
    (workload("ReplicaSet", selector="app: b"), "cherche « app: b »"),
    (spec("ReplicationController", "{selector: {a: b}, template: {metadata: {labels: {a: c}}, "
          "spec: {containers: [{name: c, image: i}]}}}"), "cherche « a: b »"),
    (workload(text="selector: {matchExpressions: [{key: app, operator: NotIn, values: [a]}]}, ",
              selector=""), "ne choisit pas"),
    (workload("Job").replace("spec: {cont", "spec: {restartPolicy: Never, cont"),
     "choisit lui-même"),
    # Pods and their workloads
    (workload("Job", selector=""), "« restartPolicy » doit être écrit"),
    (workload().replace("spec: {containers", "spec: {restartPolicy: Never, containers"), "relance"),
    (workload(text="replicas: -1, "), "ne peut pas valoir -1"),
    (workload(text="replicas: 3000000000, "), "trop grand"),
    (workload(text="strategy: {type: recreate}, "), "Écrivez « Recreate »"),
    (workload(text="strategy: {type: Recreate, rollingUpdate: {}}, "), "n’a pas de sens"),
    (workload(text="strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 0%}}, "), "nuls"),
    (workload(text="strategy: {rollingUpdate: {maxSurge: beaucoup}}, "), "un pourcentage"),
    (workload("DaemonSet", "updateStrategy: {rollingUpdate: {maxUnavailable: 0}}, "), "nuls"),
    (workload("DaemonSet", "replicas: 3, "), "n’est pas une option"),
    (spec("Pod", "{containers: []}"), "est vide"),
    (spec("Pod", "{containers: [{name: c}]}"), "il manque « image »"),
    (spec("Pod", "{containers: [{name: C_, image: i}]}"), "minuscules"),
    (spec("Pod", "{containers: [{name: c, image: i}, {name: c, image: i}]}"), "est là deux fois"),
    (spec("Pod", "{initContainers: [{name: c, image: i}], containers: [{name: c, image: i}]}"),
     "est là deux fois"),
    (spec("Pod", "{restartPolicy: Oui, containers: [{name: c, image: i}]}"), "Valeurs possibles"),
    (spec("Pod", "{containers: [{name: c, image: ' i'}]}"), "une espace"),
    (pod("imagePullPolicy: always"), "Écrivez « Always »"),
    (pod("ports: [{containerPort: 70000}]"), "1 à 65535"),
    (pod("ports: [{containerPort: 80, protocol: tcp}]"), "Écrivez « TCP »"),
    (pod("ports: [{containerPort: 80, name: trop-long-pour-un-port}]"), "15 caractères"),
    (pod("ports: [{containerPort: 1, name: a}, {containerPort: 2, name: a}]"), "est là deux fois"),
    (pod("ports: [{containerPort: 1, hostPort: 8}, {containerPort: 2, hostPort: 8}]"), "le port 8"),
    (pod("ports: [{containerPort: 1, hostPort: 8}]", "hostNetwork: true"), "hostNetwork"),
    (pod("env: [{name: A, value: 8080}]"), "entre guillemets"),
    (pod("env: [{name: A, value: yes}]"), "entre guillemets"),
    (pod("env: [{name: 'A=B', value: x}]"), "autres que « = »"),
    (pod("env: [{name: A, value: x, valueFrom: {fieldRef: {fieldPath: a}}}]"), "s’excluent"),
    (pod("env: [{name: A, valueFrom: {}}]"), "une source"),
    (pod("volumeMounts: [{name: x, mountPath: /a}]", VOLUMES), "pas parmi ceux du Pod"),
    (pod("volumeMounts: [{name: v, mountPath: /a}, {name: w, mountPath: /a}]", VOLUMES), "« /a »"),
    (pod("volumeMounts: [{name: v, mountPath: /a, subPath: ../b}]", VOLUMES), "« .. »"),
    (pod("", "volumes: [{name: v, emptyDir: {}}, {name: v, emptyDir: {}}]"), "est là deux fois"),
    (pod("", "volumes: [{name: v, emptyDir: {}, hostPath: {path: /a}}]"), "s’excluent"),
    (pod("", "volumes: [{name: v, hostPath: {path: /a/../b}}]"), "sans « .. »"),
    (pod("", "volumes: [{name: v, configMap: {}}]"), "il manque « name »"),
    (pod("resources: {limits: {memory: 128Mo}}"), "128Mi"),
    (pod("resources: {limits: {memory: 1Gi}, requests: {memory: 2G}}"), "dépasse"),
    (pod("resources: {limits: {cpu: -1}}"), "négatif"),
    (pod("resources: {limits: {ram: 1Gi}}"), "n’est pas une ressource"),
    (pod("readinessProbe: {periodSeconds: 3}"), "une façon de sonder"),
    (pod("livenessProbe: {tcpSocket: {port: 1}, exec: {command: [a]}}"), "une seule"),
    (pod("livenessProbe: {tcpSocket: {port: 1}, successThreshold: 2}"), "vaut toujours 1"),
    (pod("livenessProbe: {tcpSocket: {port: Web_}}"), "15 caractères"),
    (pod("", "initContainers: [{name: d, image: i, livenessProbe: {tcpSocket: {port: 1}}}]"),
     "initialisation"),
    # Services
    (service("ports: [{port: 80, nodePort: 30080}]"), "type ClusterIP"),
    (service("type: NodePort, ports: [{port: 80, nodePort: 9999}]"), "30000-32767"),
    (service("type: nodeport, ports: [{port: 80}]"), "Écrivez « NodePort »"),
    (service("selector: {a: b}"), "il manque « ports »"),
    (service("type: ExternalName"), "externalName"),
    (service("type: NodePort, clusterIP: None, ports: [{port: 1}]"), "clusterIP: None"),
    (service("ports: [{port: 80, name: a}, {port: 81}]"), "pas de nom"),
    (service("ports: [{port: 80, name: a}, {port: 81, name: a}]"), "« a » est là deux fois"),
    (service("ports: [{port: 80, name: a}, {port: 80, name: b}]"), "le port 80 (TCP)"),
    (service("ports: [{port: 0}]"), "1 à 65535"),
    (service("ports: [{port: 80, targetPort: 70000}]"), "0 à 65535"),
    (service("ports: [{port: 80, targetPort: http_server}]"), "15 caractères"),
    (service("type: NodePort, ports: [{port: 1, name: a, nodePort: 30001}, "
             "{port: 2, name: b, nodePort: 30001}]"), "30001"),
    # names, labels, data
    (CONFIG.replace("{name: a}", "{}"), "il manque un nom"),
    (CONFIG.replace("metadata: {name: a}\n", ""), "il manque un nom"),
    (CONFIG.replace("name: a", "name: Majuscule"), "n’est pas un nom possible"),
    (CONFIG.replace("name: a", "name: a_b"), "n’est pas un nom possible"),
    (CONFIG.replace("name: a", "name: '{{ .Values.nom }}'"), "expression de modèle"),
    (spec("Service", "{ports: [{port: 1}]}", name="a.b"), "n’est pas un nom possible"),
    (CONFIG.replace("name: a", "name: a, namespace: A"), "minuscules"),
    (CONFIG.replace("name: a", "name: a, labels: {'a b': c}"), "la clé « a b »"),
    (CONFIG.replace("name: a", "name: a, labels: {a: 'b c'}"), "« b c »"),
    (CONFIG.replace("name: a", "name: a, labels: {version: 2}"), "entre guillemets"),
    (CONFIG.replace("name: a", f"name: a, labels: {{a: {'x' * 64}}}"), "63 caractères"),
    (CONFIG + "data: {'a b': c}\n", "la clé « a b »"),
    (CONFIG + "data: {a: b}\nbinaryData: {a: YQ==}\n", "aussi sous « data »"),
    (CONFIG + f"data: {{a: {'x' * (1 << 20)}y}}\n", "1 Mio"),
    (SECRET + "data: {a: pas du base64}\n", "base64"),
    (SECRET + "type: kubernetes.io/tls\nstringData: {tls.crt: x}\n", "« tls.key »"),
    # others
    (cron("tous les jours"), "pas un horaire"),
    (cron("0 3 * *"), "cinq champs"),
    (cron("60 3 * * *"), "pas un horaire"),
    (cron("0 3 * * 7"), "pas un horaire"),
    (cron("*/0 * * * *"), "pas un horaire"),
    (cron("@daily", "n" * 53), "52 caractères"),
    (claim("accessModes: [ReadWriteOnce]"), "la place"),
    (claim("accessModes: [], resources: {requests: {storage: 1Gi}}"), "il manque « accessModes »"),
    (claim("accessModes: [RWO], resources: {requests: {storage: 1Gi}}"), "ReadWriteOnce"),
    (claim("accessModes: [ReadWriteOnce], resources: {}"), "la place"),
    (ingress(f"{{path: a, pathType: Prefix, {BACKEND}}}"), "commencer par « / »"),
    (ingress(f"{{path: /, {BACKEND}}}"), "il manque « pathType »"),
    (ingress(f"{{path: /, pathType: prefix, {BACKEND}}}"), "Écrivez « Prefix »"),
    (ingress("{path: /, pathType: Prefix, backend: {serviceName: s}}"), "option"),
    (ingress("{path: /, pathType: Prefix, backend: {service: {name: s}}}"), "par son numéro"),
    (spec("Ingress", "{}", "networking.k8s.io/v1"), "ni « rules » ni"),
    (spec("HorizontalPodAutoscaler", "{minReplicas: 3, maxReplicas: 2, scaleTargetRef: {kind: "
          "Deployment, name: a}}", "autoscaling/v2"), "plus petit"),
    (spec("PodDisruptionBudget", "{minAvailable: 1, maxUnavailable: 1}", "policy/v1"),
     "s’excluent"),
    ("apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: a/b}\n", "« / »"),
    # keys that only compose has, and shapes
    (service("x-truc: 1, ports: [{port: 80}]"), "« x-truc » n’est pas une option"),
    ("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: a}\nsecrets: [{name: 3}]\n",
     "« secrets.name » doit être un texte"),
    ("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n", "« spec » à cet objet"),
    ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: 3\n", "pas le nombre 3"),
    (spec("Pod", "{containers: [{name: c, image: i}], services: {}}"), "une option de « spec »"),
    ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nweb: {image: x}\n", "option de cet objet"),
    (pod("env: [~]"), "il manque « name »"),
    (pod("args: [a, 3]"), "« spec.containers.args » (élément 2)"),
    (service("ports: [{port: 80, targetPort: [1]}]"), "un texte ou un entier"),
]  # fmt: skip

ACCEPTED = [
    workload(),
    workload(labels="app: a, tier: x"),
    workload(text="replicas: 0, strategy: {type: Recreate, rollingUpdate: }, "),
    workload(text="strategy: {rollingUpdate: {maxSurge: 25%, maxUnavailable: 0}}, "),
    workload(text="selector: {matchExpressions: [{key: app, operator: In, values: [a]}]}, ",
             selector=""),
    workload("StatefulSet", TEMPLATES).replace(
        "image: i", "image: i, volumeMounts: [{name: d, mountPath: /d}]"),
    workload("DaemonSet"),
    spec("ReplicationController", "{template: {metadata: {labels: {a: c}}, spec: {containers: "
         "[{name: c, image: i}]}}}"),
    pod("ports: [{containerPort: 8_080}, {containerPort: 0b1010}, {containerPort: 8}]"),
    pod("ports: [{containerPort: 53, hostPort: 53}, {containerPort: 53, hostPort: 53, "
        "protocol: UDP}]"),
    pod("ports: [{containerPort: 80, hostPort: 80}]", "hostNetwork: true"),
    pod("args: [a, ~], env: [{name: A, value: }, {name: a.b-c, value: '8'}, {name: D, value: ~}]"),
    pod("env: [{name: A, value: '', valueFrom: {fieldRef: {fieldPath: metadata.name}}}]"),
    pod("volumeMounts: [{name: v, mountPath: /a}, {name: w, mountPath: /b}]", VOLUMES),
    pod("resources: {limits: {memory: 128M, cpu: 1, nvidia.com/gpu: 1}, requests: {cpu: 999m}}"),
    pod("resources: {limits: {memory: 1e9, cpu: '.5', hugepages-2Mi: 2Mi}}"),
    pod("livenessProbe: {httpGet: {port: web}}, readinessProbe: {grpc: {port: 1}}"),
    pod("", "initContainers: [{name: d, image: i, restartPolicy: Always, startupProbe: "
        "{tcpSocket: {port: 1}}}]"),
    service("ports: [{port: 80, targetPort: }]"),
    service("ports: [{port: 80, targetPort: 0}, {port: 80, protocol: UDP, name: b}]")
    .replace("targetPort: 0", "name: a"),
    service("clusterIP: None, selector: {a: b}"),
    service("type: '', ports: [{port: 80}]"),
    service("type: ExternalName, externalName: exemple.fr"),
    service("type: LoadBalancer, ports: [{port: 9999}]"),
    service("type: NodePort, ports: [{port: 80, nodePort: 32767}, {port: 81, name: b, "
            "nodePort: 0}]").replace("32767}", "32767, name: a}"),
    spec("Service", "{ports: [{port: 1}]}", name="1a"),
    spec("Service", "{selector: {app: personne}, ports: [{port: 1}]}"),
    CONFIG.replace("name: a", "generateName: a-"),
    CONFIG.replace("name: a", "name: a.b, labels: {exemple.fr/A_b: '', c: }"),
    CONFIG.replace("name: a", "name: a, annotations: {Exemple.fr/x: 'n’importe quoi'}"),
    CONFIG + "data: {a: , b: '1', .c_d: x}\n",
    SECRET + "data: {a: YWJj}\nstringData: {b: pas du base64}\n",
    cron("*/5 0-6 1,15 JAN-Mar sun"),
    cron("@every 1h30m"),
    claim("accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}"),
    ingress(f"{{path: /, pathType: Prefix, {BACKEND}}}"),
    ingress(f"{{pathType: ImplementationSpecific, {BACKEND}}}"),
    "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: 'system:A_b'}\n",
    "apiVersion: authentication.k8s.io/v1\nkind: TokenReview\nspec: {token: x}\n",
]  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_what_kubernetes_refuses_is_refused_with_its_reason(text: str, reason: str) -> None:
    checked = validate(parse(text))
    (problem,) = checked
    assert reason in f"{problem.reason} {problem.remedy}"
    assert problem.reason[-1] == "." and problem.remedy[-1] in ".?"
    assert "  " not in problem.reason and ", pas" not in problem.reason.partition(" être ")[2][:6]
    assert 1 <= problem.line <= text.count("\n") and "aucune erreur" not in repr(checked)


@pytest.mark.parametrize("text", ACCEPTED)
def test_what_kubernetes_accepts_is_accepted(text: str) -> None:
    checked = validate(parse(text))
    assert list(checked) == [] and checked.unknown == ()


def test_every_error_of_an_object_is_told_on_its_line() -> None:
    text = (
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  type: nodeport\n"
        "  ports:\n    - port: quatre-vingts\n    - porte: 81\n"
    )
    assert [(p.line, p.reason) for p in validate(parse(text))] == [
        (5, "« spec.type » ne peut pas valoir « nodeport »."),
        (7, "« spec.ports.port » doit être un entier, pas le texte « quatre-vingts »."),
        (8, "« porte » n’est pas une option de « spec.ports » (élément 2)."),
    ]


def test_two_services_want_one_port_of_the_nodes() -> None:
    one, two = (
        spec("Service", "{type: NodePort, ports: [{port: 80, nodePort: 30080}]}", name=name)
        for name in "ab"
    )
    (problem,) = validate(parse(f"{one}---\n{two}"))
    assert problem.where == "Service b" and problem.line == 11 and "« a »" in problem.reason
    assert validate(parse(f"{one}---\n{two.replace('30080', '30081')}")).ok
    assert validate(parse(f"{one}---\n{two.replace('nodePort: 30080', 'protocol: UDP')}")).ok


@pytest.mark.parametrize(
    ("text", "amount"),
    [("128Mi", 128 * 2**20), ("1k", 1000), ("500m", 0.5), (".5", 0.5), (2, 2), ("1e3", 1000),
     ("1E", 1e18), ("1Ei", 2**60), ("x", 0), ("1.2.3", 0), ("", 0)],
)  # fmt: skip
def test_quantities(text: object, amount: float) -> None:
    assert quantity(text) == pytest.approx(amount)
