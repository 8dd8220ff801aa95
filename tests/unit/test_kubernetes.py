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
        ("      containers:", "      conteneurs:", "Deployment", "", "« containers »"),
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


def test_namespaces_tell_two_services_of_a_name_apart() -> None:
    one, two = (
        pod("Deployment", "w").replace("{name: w}", f"{{name: w, namespace: {n}}}", 1) for n in "ab"
    )
    assert [s.name for s in as_compose(parse(one + two)).services] == ["a/w", "b/w"]
    assert [s.name for s in as_compose(parse(one)).services] == ["w"]


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
