"""Kubernetes manifests: any of them read, checked with the published schema, drawn."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from labkit import compose, kubernetes
from labkit.compose import ComposePort, ComposeVolume
from labkit.errors import FileError, ManifestError
from labkit.kubernetes import Manifest, as_compose, parse, read, validate, without_equivalent

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
APP = NOTEBOOKS / "example-voting-app"
MANIFEST = read(APP / "kube-deployment.yml")
STACK = compose.read(APP / "docker-stack.yml")
CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"


def wrong(text: str) -> ManifestError:
    with pytest.raises(ManifestError) as caught:
        parse(text, "kube.yml")
    assert isinstance(caught.value, FileError) and caught.value.code == "manifest-error"
    assert caught.value.file == "kube.yml" and str(caught.value).startswith("kube.yml")
    return caught.value


def names(manifest: Manifest) -> list[str]:
    return [o.title for o in manifest.objects]


# -- reading --------------------------------------------------------------------------------


def test_documents_that_are_empty_are_no_objects() -> None:
    text = f"---\n# rien\n---\n{CONFIG}---\n---\n~\n---\n{CONFIG}...\n---\n"
    manifest = parse(text)
    assert names(manifest) == ["ConfigMap a"] * 2
    assert [o.line for o in manifest.objects] == [4, 11]
    assert parse("\ufeff" + CONFIG).objects[0].name == "a"
    assert parse(CONFIG.replace("\n", "\r\n")).objects[0].name == "a"


def test_a_list_is_what_it_lists() -> None:
    text = """apiVersion: v1
kind: List
items:
  - apiVersion: v1
    kind: Secret
    metadata: {name: s, namespace: prod}
  - apiVersion: v1
    kind: ConfigMapList
    items:
      - apiVersion: v1
        kind: ConfigMap
        metadata: {generateName: c-}
"""
    manifest = parse(text)
    assert names(manifest) == ["Secret s", "ConfigMap c-"]
    secret, config = manifest.objects
    assert secret.namespace == "prod" and secret.line == 4 and secret.at("metadata", "name") == 6
    assert config.line == 10 and config.at("metadata") == 12
    empty = text[: text.index("items")] + "items: []\n" + "---\n" + CONFIG
    assert names(parse(empty)) == ["ConfigMap a"]


def test_any_kind_is_kept() -> None:
    text = """apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: crontabs.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: crontabs, singular: crontab, kind: CronTab}
  versions:
    - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}
---
apiVersion: stable.example.com/v1
kind: CronTab
metadata: {name: mine}
spec: {8080: x, on: z, anything: [1, {deep: ~}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec: {defaultBackend: {service: {name: vote, port: {number: 80}}}}
"""
    manifest = parse(text)
    assert names(manifest)[1:] == ["CronTab mine", "Ingress web"]
    assert without_equivalent(manifest) == manifest.objects
    assert manifest.objects[1].get("spec") == {
        "8080": "x", "true": "z", "anything": [1, {"deep": None}],
    }  # fmt: skip
    checked = validate(manifest)
    assert checked.ok and [o.kind for o in checked.unknown] == ["CronTab"]
    assert "CronTab mine" in checked.conclusion
    assert as_compose(manifest).services == ()


def test_scalars_are_read_as_kubectl_reads_them() -> None:
    """What kubectl 1.37 made of the same text."""
    text = CONFIG + (
        "data: {a: yes, b: y, c: 0123, e: 22:22, f: 0o17, g: 1e3, h: 2020-01-01, i: ~, j: on, "
        "k: .5, l: +1, n: 0x1F, p: !!str 1, r: off, s: N, t: '=', u: =, v: $HOME}\n"
    )
    assert parse(text).objects[0].data["data"] == {
        "a": True, "b": True, "c": 83, "e": "22:22", "f": 15, "g": 1000, "h": "2020-01-01",
        "i": None, "j": True, "k": 0.5, "l": 1, "false": 31, "p": "1", "r": False, "s": False,
        "t": "=", "u": "=", "v": "$HOME",
    }  # fmt: skip


def test_anchors_merge_and_lines() -> None:
    text = """apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: &labels {app: web}}
spec:
  selector: {matchLabels: *labels}
  template:
    metadata: {labels: {<<: *labels, tier: front}}
    spec:
      containers: [{name: web, image: nginx}]
"""
    one = parse(text).objects[0]
    assert one.get("spec", "template", "metadata", "labels") == {"app": "web", "tier": "front"}
    assert one.at("spec", "template", "metadata", "labels", "app") == 3
    assert one.at("spec", "template", "nowhere", 3) == 6
    assert validate(parse(text)).ok
    # an anchor ends with its document
    assert "ancre" in wrong(text + "---\n" + CONFIG + "data: *labels\n").reason


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("", None, "aucun objet"),
        ("---\n---\n# rien\n", None, "aucun objet"),
        (CONFIG + "---\n- a\n", 5, "une liste"),
        (CONFIG + "---\nbonjour\n", 5, "un texte"),
        (CONFIG + "---\nmetadata: {name: b}\n", 5, "il manque « kind »"),
        (CONFIG + "---\nkind: Secret\n", 5, "il manque « apiVersion »"),
        ("apiVersion: v1\nkind: [Pod]\n", 2, "« kind » doit être un texte"),
        ("apiVersion: 1\nkind: Pod\n", 1, "« apiVersion » doit être un texte"),
        ("apiVersion: v1\nkind: List\nitems: [3]\n", 3, "n’est pas un objet"),
        ("apiVersion: v1\nkind: List\nitems:\n- kind: Pod\n", 4, "il manque « apiVersion »"),
        (CONFIG + "data:\n\ta: 1\n", 5, "tabulation"),
        (CONFIG + "data: {a: 1, a: 2}\n", 4, "déjà écrite ligne 4"),
        (CONFIG + "kind: Pod\n", 4, "est déjà écrite ligne 2"),
        (CONFIG + "data: {a: [1, 2}\n", 4, ""),
        (CONFIG + "data: {a: ", 5, "crochet"),
        (CONFIG + " data: x\n", 4, "indentation"),
        (CONFIG + "data: a: b\n", 4, "est mal placé"),
        (CONFIG + "data: *absent\n", 4, "aucune ancre"),
        (CONFIG + "data: &a {b: *a}\n", 4, "se contient elle-même"),
        (CONFIG + "data: !!int x\n", 4, "n’est pas un nombre"),
        (CONFIG + "data: 'sans fin\n", 4, "guillemet"),
        (CONFIG + "data: \x07\n", 4, "interdit"),
        (CONFIG + "data: " + "[" * 200 + "]" * 200 + "\n", 4, "imbrication"),
        (CONFIG + "data: " + "{a: " * 5000 + "}" * 5000 + "\n", 4, "imbrication"),
        (CONFIG + "data: {[a, b]: c}\n", 4, "n’est pas un texte"),
        ("kind: Pod\n? - a\n: b\n", 2, "n’est pas un texte"),
    ],
)
def test_what_is_wrong_says_file_line_and_reason(text: str, line: int | None, reason: str) -> None:
    error = wrong(text)
    assert reason in error.reason
    assert error.line == line


TWO = CONFIG + CONFIG.replace("ConfigMap", "Secret")


@pytest.mark.parametrize(
    ("text", "line", "reason", "remedy"),
    [
        (TWO, 4, "un deuxième objet commence ici", "« --- »"),
        (CONFIG + "kind: Pod\nmetadata: {name: b}\n", 4, "un deuxième objet", "« --- »"),
        (CONFIG + "----\n" + CONFIG, 4, "« ---- » ne sépare pas", "trois tirets"),
        (CONFIG + "--\n" + CONFIG, 4, "« -- » ne sépare pas", "trois tirets"),
        (CONFIG + "—\n" + CONFIG, 4, "« — » ne sépare pas", "trois tirets"),
        (CONFIG + "---apiVersion: v1\nkind: Pod\n", 4, "ne sépare pas", "trois tirets"),
        (
            CONFIG.replace("{name: a}", "\n  name: {{ .Values.nom }}"),
            4,
            "de modèle",
            "helm template",
        ),
        ("{{- if .Values.x }}\n" + CONFIG + "{{- end }}\n", 1, "expression de modèle", "helm"),
        (CONFIG + "data:\n  {{- toYaml .Values.data | nindent 2 }}\n", 5, "de modèle", "helm"),
        (CONFIG + 'data: {a: {{ include "x" . }} }\n', 4, "de modèle", "helm"),
        (CONFIG + "data: {a: b}\nx: {{nom}}\n", 5, "de modèle", "helm"),
        (CONFIG + "data:\n  s: |\n    un\n\tdeux\n  t: x\n", 7, "une tabulation", "espaces"),
        (CONFIG + "data:\n  a: 'x\n", 5, "guillemet", ""),
        ('{"apiVersion": "v1",\n\t"kind": "Pod",\n\t"metadata": ]', 3, "", ""),
        ('{"apiVersion": "v1", "kind": "Pod"}\n{"kind": "Pod"}', 2, "« apiVersion »", ""),
    ],
)
def test_what_is_no_yaml_is_named(text: str, line: int, reason: str, remedy: str) -> None:
    error = wrong(text)
    assert error.line == line and reason in error.reason and remedy in error.remedy


def test_templates_inside_of_values_are_no_templates() -> None:
    text = CONFIG + "data:\n  a: |\n    {{ if .Values.x }}\n  b: 'x {{ $y }}'\n"
    assert validate(parse(text)).ok
    assert "modèle" not in wrong(text + "\n\n\n  c: [\n").reason  # a fault elsewhere


def test_json_is_read_as_json() -> None:
    one = (
        '{"apiVersion": "v1",\n\t"kind": "ConfigMap",\n\t"metadata": {"name": "a"},\n'
        '\t"data": {"s": "\\ud83d\\ude00 \\/ \\u00e9\\t\\u007f\\ud800", "t": "{{ .x }}:\\t, # x"}}'
    )
    first, second, third = parse(f"{one}{one}\n\n{one}\n").objects
    assert first.data["data"] == {"s": "😀 / é\t\x7f\ufffd", "t": "{{ .x }}:\t, # x"}
    assert first.data == second.data == third.data
    assert [o.line for o in (first, second, third)] == [1, 4, 9]
    assert [o.at("data", "t") for o in (first, second, third)] == [4, 7, 12]
    assert parse("{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}").objects  # YAML


def test_integers_of_yaml_1_1_are_read_as_kubectl_reads_them() -> None:
    """What kubectl 1.37 made of the same text."""
    text = CONFIG + (
        "data: {a: 8_080, b: 0b1010, c: 1_0.5, d: 0B11, e: _1, f: 0o17, g: -0x1, h: 1__0, i: 089}\n"
    )
    assert parse(text).objects[0].data["data"] == {
        "a": 8080, "b": 10, "c": 10.5, "d": 3, "e": "_1", "f": 15, "g": -1, "h": 10, "i": 89,
    }  # fmt: skip


@pytest.mark.parametrize(
    "number", ["0x" + "f" * 9000, "9" * 9000, "0b" + "1" * 20000, "0" + "7" * 9000]
)
def test_a_number_of_any_length_is_answered(number: str) -> None:
    text = f"apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec: {{priority: {number}, x: 1}}\n"
    assert "trop grand" in repr(validate(parse(text)))


def test_items_of_a_list_have_its_kind() -> None:
    """As kubectl has it: whatever has items is a list."""
    item = "- metadata: {name: a}\n- {kind: Secret, apiVersion: v1, metadata: {name: b}}\n"
    manifest = parse(f"apiVersion: apps/v1\nkind: DeploymentList\nitems:\n{item}")
    assert [(o.title, o.api_version, o.line) for o in manifest.objects] == [
        ("Deployment a", "apps/v1", 4), ("Secret b", "v1", 5),
    ]  # fmt: skip
    assert names(parse("apiVersion: x.fr/v1\nkind: Foo\nitems: [{metadata: {name: b}}]\n")) == [
        "Foo b"
    ]
    assert "il manque « kind »" in wrong("apiVersion: v1\nkind: List\nitems: [{x: 1}]\n").reason


def test_a_bomb_of_aliases_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert "trop grand" in wrong(CONFIG + "\n".join(lines)).reason


def test_files_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "kube.yml"
    with pytest.raises(ManifestError, match="n’existe pas"):
        read(path)
    path.write_bytes(CONFIG.encode() + b"data: {a: caf\xe9}\n")
    with pytest.raises(ManifestError, match=r"kube\.yml, ligne 4 : .*UTF-8"):
        read(path)
    path.write_bytes(b"\0\1\2")
    with pytest.raises(ManifestError, match="binaire"):
        read(path)
    path.write_bytes(b"#" * 11_000_000)
    with pytest.raises(ManifestError, match="ce n’est pas un manifeste Kubernetes"):
        read(path)
    with pytest.raises(ManifestError):
        read(tmp_path)


def test_definitions_as_long_as_real_ones_are_read() -> None:
    schema = "{type: object, properties: {" + ", ".join(
        f"p{i}: {{type: string, description: texte}}" for i in range(4000)
    ) + "}}"  # fmt: skip
    text = (
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n"
        f"metadata: {{name: x}}\nspec: {{versions: [{{schema: {{openAPIV3Schema: {schema}}}}}]}}\n"
    )
    assert len(parse(text * 1 + "---\n" + text).objects) == 2


def test_whatever_is_cut_out_of_a_manifest_ends_in_an_answer_or_a_manifest_error() -> None:
    text = (APP / "kube-deployment.yml").read_text(encoding="utf-8")
    chance = random.Random(5)
    answered = refused = 0
    for _ in range(150):
        start = chance.randrange(len(text))
        cut = text[:start] + text[start + chance.randrange(1, 60) :]
        try:
            manifest = parse(cut, "cut.yml")
        except ManifestError as error:
            refused += 1
            assert error.reason and str(error).startswith("cut.yml")
        else:
            answered += 1
            kubernetes.draw(manifest)
            assert len(manifest.objects) >= len(without_equivalent(manifest))
    assert answered > 20 and refused > 20


# -- the schema -----------------------------------------------------------------------------


def test_what_the_course_ships_is_valid() -> None:
    assert validate(MANIFEST).ok and not validate(MANIFEST).unknown
    assert "12 objets vérifiés" in validate(MANIFEST).conclusion
    for name in ("kube-guet", "solution-guetteur"):
        checked = validate(read(NOTEBOOKS / "kubernetes" / f"{name}.yml"))
        assert checked.ok and not checked.unknown


@pytest.mark.parametrize(
    ("old", "new", "where", "reason", "remedy"),
    [
        ("replicas: 2", "replicas: deux", "Deployment vote", "doit être un entier", ""),
        ("replicas: 2", "replica: 2", "Deployment vote", "n’est pas une option", "replicas"),
        (
            "  selector:\n    matchLabels:\n      app: vote\n",
            "",
            "Deployment vote",
            "il manque",
            "",
        ),
        ("containerPort: 6379", "containerPort: '6379'", "redis", "doit être un entier", ""),
        ("value: postgres", "value: 3", "Deployment db", "doit être un texte", ""),
        ("storage: 1Gi", "storage: [1Gi]", "PersistentVolumeClaim", "doit être", ""),
        ("      containers:", "      conteneurs:", "Deployment", "", "« containers »"),
    ],
)
def test_the_schema_speaks_french_and_names_the_line(
    old: str, new: str, where: str, reason: str, remedy: str
) -> None:
    text = (APP / "kube-deployment.yml").read_text(encoding="utf-8")
    assert old in text
    checked = validate(parse(text.replace(old, new, 1)))
    assert not checked.ok
    problem = next(iter(checked))
    assert where in problem.where and reason in problem.reason and remedy in problem.remedy
    begin = text[: text.index(old)].count("\n") + 1
    assert abs(problem.line - begin) < 30 and str(problem.line) in str(checked)
    if new and "conteneurs" not in new:  # what is missing has no line of its own
        assert problem.line == begin
    assert "1 erreur" in checked.conclusion and "<table" in checked._repr_html_()


@pytest.mark.parametrize("kind", ["x" * 300, "../x", "/etc/passwd", "Foo/Bar", "é", "%s"])
def test_a_kind_that_is_no_name_is_refused(kind: str) -> None:
    (problem,) = validate(parse(CONFIG.replace("ConfigMap", f"'{kind}'")))
    assert problem.line == 2 and kind[:40] in problem.reason and problem.remedy


@pytest.mark.parametrize("version", ["a/b/c/d", "v1/", "/", "x" * 300, "v1.2.3", "v2", "App/v1"])
def test_an_api_version_that_is_none_is_refused(version: str) -> None:
    (problem,) = validate(parse(CONFIG.replace("v1", f"'{version}'", 1)))
    assert problem.line == 1 and "apiVersion: v1 »" in problem.remedy


@pytest.mark.parametrize(
    ("version", "kind", "right"),
    [
        ("v1", "Deployment", "apiVersion: apps/v1 »"),
        ("extensions/v1beta1", "Deployment", "apiVersion: apps/v1 »"),
        ("extensions/v1beta1", "Ingress", "apiVersion: networking.k8s.io/v1 »"),
        ("apps/v1beta2", "DaemonSet", "apiVersion: apps/v1 »"),
        ("batch/v1beta1", "CronJob", "apiVersion: batch/v1 »"),
        ("policy/v1beta1", "PodDisruptionBudget", "apiVersion: policy/v1 »"),
        ("apps/v1", "Service", "apiVersion: v1 »"),
        ("rbac.authorization.k8s.io/v1beta1", "Role", "rbac.authorization.k8s.io/v1 »"),
        ("autoscaling/v2beta2", "HorizontalPodAutoscaler", "apiVersion: autoscaling/v2 »"),
        ("apps/v1", "Deployement", "kind: Deployment »"),
        ("apps/v1", "deployment", "kind: Deployment »"),
        ("v1", "DaemonSets", "kind: DaemonSet » ? Son « apiVersion » est « apps/v1 »"),
        ("policy/v1beta1", "PodSecurityPolicy", "ne l’a pas, ou plus"),
        ("machin/v1", "Machin", "a un domaine"),
        ("apps/v1", "DeploymentSpec", ""),
        ("v1", "Status", ""),
    ],
)
def test_a_kind_is_looked_for_in_its_version(version: str, kind: str, right: str) -> None:
    checked = validate(parse(f"kind: {kind}\napiVersion: {version}\nmetadata: {{name: a}}\n"))
    (problem,) = checked
    assert right in problem.remedy and not checked.unknown
    assert problem.line == (2 if right.startswith("api") or "k8s.io" in right else 1)


def test_a_group_of_somebody_else_is_not_known() -> None:
    text = CONFIG.replace("v1", "exemple.fr/v1").replace("ConfigMap", "Deployment")
    manifest = parse(text)
    assert [o.title for o in validate(manifest).unknown] == ["Deployment a"]
    assert as_compose(manifest).services == () and without_equivalent(manifest)


# -- in the terms of a stack ----------------------------------------------------------------


def test_the_voting_app_is_the_same_in_both_files() -> None:
    translated = as_compose(MANIFEST)
    assert without_equivalent(MANIFEST) == ()
    for service in translated.services:
        same = STACK.service(service.name)
        assert same is not None
        assert (service.image, service.scale, service.ports) == (
            same.image, same.scale, same.ports,
        )  # fmt: skip
        assert [str(m) for m in service.mounts] == [str(m) for m in same.mounts]
        assert bool(service.constraints) == bool(same.constraints)
    assert {s.name for s in STACK.services} - {s.name for s in translated.services} == {
        "visualizer"
    }
    assert [n.name for n in translated.networks] == ["cluster"]
    assert "vote (2 replicas)" in str(kubernetes.draw(MANIFEST))
    assert kubernetes.draw(MANIFEST, dark=True).svg() != kubernetes.draw(MANIFEST).svg()


def pod(kind: str, name: str, spec: str = "", template: str = "", more: str = "") -> str:
    version = {"CronJob": "batch/v1", "Job": "batch/v1", "Pod": "v1"}.get(kind, "apps/v1")
    made = f"{{metadata: {{labels: {{app: {name}}}}}, spec: {{{template}containers: [{{name: c, "
    made += f"image: i{more}}}]}}}}"
    if kind == "Pod":
        return (
            f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\n"
            f"spec: {made[made.index('spec: ') + 6 : -1]}\n---\n"
        )
    body = f"{spec}template: {made}"
    if kind == "CronJob":
        body = f"schedule: '* * * * *', jobTemplate: {{spec: {{{body}}}}}"
    return (
        f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{body}}}\n---\n"
    )


@pytest.mark.parametrize(
    ("kind", "spec", "scale"),
    [
        ("Deployment", "", "1 replica"),
        ("Deployment", "replicas: 0, ", "0 replica"),
        ("StatefulSet", "replicas: 3, ", "3 replicas"),
        ("ReplicaSet", "replicas: 2, ", "2 replicas"),
        ("DaemonSet", "", "global"),
        ("Job", "completions: 4, ", "4 jobs"),
        ("CronJob", "", "1 job"),
        ("Pod", "", "1 replica"),
    ],
)
def test_every_workload_is_a_service(kind: str, spec: str, scale: str) -> None:
    file = as_compose(parse(pod(kind, "w", spec)))
    assert [(s.name, s.image, s.scale) for s in file.services] == [("w", "i", scale)]


def service(name: str, spec: str, app: str = "w", namespace: str = "") -> str:
    about = f"name: {name}" + (f", namespace: {namespace}" if namespace else "")
    return (
        f"apiVersion: v1\nkind: Service\nmetadata: {{{about}}}\n"
        f"spec: {{selector: {{app: {app}}}, {spec}}}\n---\n"
    )


@pytest.mark.parametrize(
    ("spec", "ports"),
    [
        ("ports: [{port: 80}]", []),
        ("clusterIP: None", []),
        ("type: LoadBalancer, ports: [{port: 80}]", [ComposePort("80", "80")]),
        ("type: LoadBalancer, ports: [{port: 80, targetPort: web}]", [ComposePort("8080", "80")]),
        ("type: LoadBalancer, ports: [{port: 80, targetPort: absent}]",
         [ComposePort("absent", "80")]),
        ("type: NodePort, ports: [{port: 80, targetPort: 8080, nodePort: 30080}]",
         [ComposePort("8080", "30080")]),
        ("type: NodePort, ports: [{port: 53, protocol: UDP}]", [ComposePort("53", "", "udp")]),
    ],
)  # fmt: skip
def test_a_service_publishes(spec: str, ports: list[ComposePort]) -> None:
    text = pod("Deployment", "w", more=", ports: [{name: web, containerPort: 8080}]")
    manifest = parse(text + service("s", spec))
    assert list(as_compose(manifest).services[0].ports) == ports
    assert without_equivalent(manifest) == ()


def test_a_service_that_selects_nobody_is_listed() -> None:
    text = pod("Deployment", "w") + service("s", "type: LoadBalancer, ports: [{port: 1}]", "v")
    text += service("elsewhere", "type: LoadBalancer, ports: [{port: 2}]", "w", "other")
    manifest = parse(text)
    assert [o.name for o in without_equivalent(manifest)] == ["s", "elsewhere"]
    assert as_compose(manifest).services[0].ports == ()


def test_host_ports_and_host_networks() -> None:
    text = pod("DaemonSet", "a", more=", ports: [{containerPort: 80, hostPort: 8000}]")
    text += pod("DaemonSet", "b", template="hostNetwork: true, ")
    a, b = as_compose(parse(text)).services
    assert [str(p) for p in a.ports] == ["8000→80 (host)"]
    assert (b.networks, b.network_mode) == ((), "host")


def test_volumes_of_every_sort() -> None:
    volumes = (
        "volumes: [{name: a, persistentVolumeClaim: {claimName: known}}, "
        "{name: b, persistentVolumeClaim: {claimName: there}}, {name: c, hostPath: {path: /etc}}, "
        "{name: d, emptyDir: {}}, {name: e, emptyDir: {medium: Memory}}, "
        "{name: f, configMap: {name: cfg}}, {name: g, secret: {secretName: s}}], "
    )
    mounts = ", volumeMounts: [" + ", ".join(
        f"{{name: {n}, mountPath: /{n}}}" for n in "abcdefg"
    ) + "]"  # fmt: skip
    claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: known}\n---\n"
    file = as_compose(parse(claim + pod("Deployment", "w", template=volumes, more=mounts)))
    assert [str(m) for m in file.services[0].mounts] == [
        "known→/a", "there→/b", "/etc→/c", "volume anonyme→/d", "tmpfs→/e",
        "configMap cfg→/f", "secret s→/g",
    ]  # fmt: skip
    assert file.volumes == (
        ComposeVolume("known", "known", line=1),
        ComposeVolume("there", "there", external=True),
    )
    made = "volumeClaimTemplates: [{metadata: {name: data}}], "
    more = ", volumeMounts: [{name: data, mountPath: /d}]"
    stateful = as_compose(parse(pod("StatefulSet", "w", made, more=more)))
    assert stateful.volumes == (ComposeVolume("data-w-0", "data-w-0"),)
    assert "data-w-0" in kubernetes.draw(parse(pod("StatefulSet", "w", made, more=more))).svg()


def test_volumes_have_their_kind_and_are_drawn_with_a_legend() -> None:
    volumes = (
        "volumes: [{name: a, nfs: {server: s, path: /x, readOnly: true}}, "
        "{name: b, gcePersistentDisk: {pdName: disk}}, {name: c, csi: {driver: d}}, "
        "{name: d, projected: {sources: [{configMap: {name: m}}, {secret: {name: s}}]}}, "
        "{name: e, downwardAPI: {}}, {name: f, ephemeral: {}}, "
        "{name: g, persistentVolumeClaim: {claimName: x, readOnly: true}}, {name: h}, "
        "{name: i, image: {reference: r}}], "
    )
    mounts = ", volumeMounts: [" + ", ".join(
        f"{{name: {n}, mountPath: /{n}}}" for n in "abcdefghi"
    ) + "]"  # fmt: skip
    manifest = parse(pod("Deployment", "w", template=volumes, more=mounts))
    found = [(m.kind, str(m)) for m in as_compose(manifest).services[0].mounts]
    assert found == [
        ("nfs", "nfs s:/x→/a (ro)"), ("gcePersistentDisk", "gcePersistentDisk disk→/b"),
        ("csi", "csi d→/c"), ("config", "configMap m, secret s→/d"),
        ("config", "downwardAPI→/e"), ("volume", "volume anonyme→/f"), ("volume", "x→/g (ro)"),
        ("volume", "volume anonyme→/h"), ("image", "r→/i (ro)"),
    ]  # fmt: skip
    assert "Volume en tirets : une image ou une configuration." in kubernetes.draw(manifest).svg()


def test_each_replica_of_each_stateful_set_has_a_volume_of_its_own() -> None:
    made = "replicas: 3, volumeClaimTemplates: [{metadata: {name: data}}], "
    more = ", volumeMounts: [{name: data, mountPath: /d}]"
    text = pod("StatefulSet", "a", made, more=more) + pod("StatefulSet", "b", made, more=more)
    text += pod("StatefulSet", "a", made, more=more).replace(
        "name: a}", "name: a, namespace: ns}", 1)  # fmt: skip
    file = as_compose(parse(text))
    assert [v.name for v in file.volumes] == [
        "default/data-a-0…2", "default/data-b-0…2", "ns/data-a-0…2",
    ]  # fmt: skip
    assert [o.kind for o in without_equivalent(parse(text))] == ["StatefulSet"] * 3
    claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: c, namespace: %s}\n---\n"
    used = "volumes: [{name: v, persistentVolumeClaim: {claimName: c}}], "
    more = ", volumeMounts: [{name: v, mountPath: /d}]"
    one, two = (
        pod("Deployment", "w", template=used, more=more).replace(
            "name: w}", f"name: w, namespace: {n}}}", 1)
        for n in ("x", "z")
    )  # fmt: skip
    assert [(v.name, v.external) for v in as_compose(parse(claim % "x" + one + two)).volumes] == [
        ("x/c", False), ("z/c", True),
    ]  # fmt: skip


def test_the_other_containers_of_a_pod_are_said_and_drawn() -> None:
    text = """apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      initContainers:
      - {name: migrate, image: flyway}
      - {name: proxy, image: envoy, restartPolicy: Always, ports: [{containerPort: 15, name: px}]}
      containers: [{name: web, image: nginx}, {name: log, image: fluentd}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: px, nodePort: 30080}]}
"""
    manifest = parse(text)
    assert validate(manifest).ok and without_equivalent(manifest) == ()
    file = as_compose(manifest)
    (web,) = file.services
    assert web.image == "nginx"
    assert web.companions == ("avant : flyway", "à côté : envoy", "à côté : fluentd")
    assert [str(p) for p in web.ports] == ["30080→15"]
    drawn = kubernetes.draw(manifest)
    for said in web.companions:
        assert said in drawn.svg() and said in str(drawn) and said in str(file)
    alone = compose.parse("services: {web: {image: nginx}}")
    places = {d.option for d in compose.compare(alone, file).differences}
    assert "autres conteneurs" in places and "image" not in places
    many = text.replace("{name: log, image: fluentd}", ", ".join(
        f"{{name: l{i}, image: i{i}}}" for i in range(9)))  # fmt: skip
    assert "+ 7 autres conteneurs" in kubernetes.draw(parse(many)).svg()


def test_nodes_are_chosen_in_the_words_of_swarm() -> None:
    wanted = (
        "nodeSelector: {role: manager, kubernetes.io/os: linux, kubernetes.io/arch: amd64, "
        "kubernetes.io/hostname: node2}, affinity: {nodeAffinity: {"
        "requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: "
        "[{key: disk, operator: In, values: [ssd]}, {key: zone, operator: NotIn, values: [a, b]}, "
        "{key: node-role.kubernetes.io/control-plane, operator: Exists}]}]}}}, "
    )
    assert as_compose(parse(pod("Deployment", "w", template=wanted))).services[0].constraints == (
        "node.labels.role == manager", "node.platform.os == linux",
        "node.platform.arch == x86_64", "node.hostname == node2", "node.labels.disk == ssd",
        "node.labels.zone != a", "node.labels.zone != b",
    )  # fmt: skip


def test_what_a_container_says_is_compared() -> None:
    stack = compose.parse("""services:
  web:
    image: nginx
    entrypoint: [nginx]
    command: [-g, daemon off;]
    environment: {A: b, C: ''}
    stop_grace_period: 1m
    working_dir: /srv
    user: '1000'
    read_only: true
    cap_add: [NET_ADMIN]
    deploy:
      resources: {limits: {memory: 128M, cpus: '0.5'}, reservations: {memory: 1G}}
      update_config: {parallelism: 2}
    networks: [cluster]
networks: {cluster: }
""")
    text = """apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  strategy: {rollingUpdate: {maxUnavailable: 2}}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 60
      securityContext: {runAsUser: 1000}
      containers:
      - name: web
        image: nginx
        command: [nginx]
        args: [-g, daemon off;]
        workingDir: /srv
        env: [{name: A, value: b}, {name: C}]
        securityContext: {readOnlyRootFilesystem: true, capabilities: {add: [NET_ADMIN]}}
        resources: {limits: {memory: 128Mi, cpu: 500m}, requests: {memory: 1Gi}}
"""
    assert list(compose.compare(stack, as_compose(parse(text))).differences) == []
    # what docker calls 128M is not what Kubernetes calls so
    (one,) = compose.compare(stack, as_compose(parse(text.replace("128Mi", "128M")))).differences
    assert (one.option, one.left, one.right) == (
        "deploy.resources.limits.memory",
        "128M",
        "125000K",
    )
    probes = text.replace(
        "image: nginx",
        "image: nginx\n        readinessProbe: {httpGet: {port: 80, "
        "path: /x}, periodSeconds: 5}\n        envFrom: [{secretRef: {name: s}}]",
    )
    more = {
        d.option: d.right for d in compose.compare(stack, as_compose(parse(probes))).differences
    }
    assert more == {"healthcheck.test": "HTTP, :80/x", "healthcheck.interval": "5s",
                    "environment.*": "Secret s"}  # fmt: skip


def test_what_has_no_equivalent_is_what_the_course_says() -> None:
    kinds = [kind for one in kubernetes.EQUIVALENTS.values() for kind in one.kinds]
    assert len(kinds) == len(set(kinds)) and not set(kinds) & set(kubernetes.ONLY_KUBERNETES)
    version = {"CronJob": "batch/v1", "Job": "batch/v1", "StatefulSet": "apps/v1"}
    for kind in (*kinds, *kubernetes.ONLY_KUBERNETES):
        text = f"apiVersion: {version.get(kind, 'v1')}\nkind: {kind}\nmetadata: {{name: a}}\n"
        if kind != "Service":  # this one selects nobody
            assert bool(without_equivalent(parse(text))) == (kind in kubernetes.ONLY_KUBERNETES)
    file = as_compose(parse(f"{CONFIG}---\n{CONFIG.replace('ConfigMap', 'Secret')}"))
    stack = compose.parse("{services: {}, configs: {a: {}}, secrets: {a: {}}}")
    assert compose.compare(stack, file).equal


def test_two_services_that_publish_one_port() -> None:
    text = pod("Deployment", "v") + pod("Deployment", "w")
    text += service("v", "type: LoadBalancer, ports: [{port: 80}]", "v")
    text += service("w", "type: LoadBalancer, ports: [{port: 80}]", "w")
    manifest = parse(text)
    assert validate(manifest).ok or all("selector" in p.reason for p in validate(manifest))
    (note,) = as_compose(manifest).notes
    assert "Port 80 publié par v, w" in note and "Port 80 publié" in kubernetes.draw(manifest).svg()


def test_two_workloads_of_one_name_are_told_apart() -> None:
    text = pod("Deployment", "w") + pod("CronJob", "w")
    assert [s.name for s in as_compose(parse(text)).services] == ["w (Deployment)", "w (CronJob)"]


def test_namespaces_tell_two_services_of_a_name_apart() -> None:
    one, two = (
        pod("Deployment", "w").replace("{name: w}", f"{{name: w, namespace: {n}}}", 1) for n in "ab"
    )
    assert [s.name for s in as_compose(parse(one + two)).services] == ["a/w", "b/w"]
    assert [s.name for s in as_compose(parse(one)).services] == ["w"]
    there = pod("Deployment", "w").replace("{name: w}", "{name: w, namespace: default}", 1)
    opened = service("s", "type: LoadBalancer, ports: [{port: 80}]")
    (same,) = as_compose(parse(there + opened)).services  # default is where none is said
    assert same.name == "w" and same.ports == (ComposePort("80", "80"),)


@pytest.mark.parametrize(
    "text",
    [
        "spec: 3",
        "spec: {template: [1]}",
        "spec: {template: {spec: {containers: 3, volumes: {a: b}}}, replicas: {}}",
        "spec: {template: {spec: {containers: [3, {image: 3, ports: x, volumeMounts: [3]}]}}}",
        "spec: {template: {spec: {containers: [{ports: [{name: a}, {hostPort: x}]}]}}}",
        "metadata: 4",
        "metadata: {name: [x]}",
    ],
)
def test_what_the_schema_refuses_can_be_drawn_all_the_same(text: str) -> None:
    manifest = parse(f"apiVersion: apps/v1\nkind: Deployment\n{text}\n")
    assert not validate(manifest).ok
    assert len(as_compose(manifest).services) == 1
    assert kubernetes.draw(manifest).svg().startswith("<svg")


def test_it_shows_itself() -> None:
    assert "12 objets (5 Service, 2 PersistentVolumeClaim, 5 Deployment)" in repr(MANIFEST)
    assert "<table" in MANIFEST._repr_html_()
    hostile = parse(CONFIG.replace("{name: a}", "{name: <b>}"))
    assert "<b>" not in hostile._repr_html_()
