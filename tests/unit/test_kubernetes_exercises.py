"""The exercises on Kubernetes: matched, set side by side, written and checked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from test_voting_exercises import RECORDED, deployed, out, swarm

from labkit import compose
from labkit.errors import ManifestError, SettingError
from labkit.exercises import (
    associer_equivalences,
    corriger,
    cote_a_cote,
    forms,
    preparer_manifeste,
    repondre,
    sans_equivalent,
    souffler,
)
from labkit.exercises.catalogue import judge
from labkit.exercises.course import nb06_kubernetes as kubernetes
from labkit.exercises.course.nb06_kubernetes import COPY, KEPT, Translation, equivalence_form
from labkit.kubernetes import EQUIVALENTS, ONLY_KUBERNETES, parse, validate
from labkit.state import ClusterState, from_raw


def recorded(moment: str) -> ClusterState:
    return from_raw(json.loads((RECORDED / f"{moment}.json").read_text()))


NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
STACK = compose.from_stack(recorded("guet"), "guet")
SHOWN = (NOTEBOOKS / "example-voting-app" / "kube-deployment.yml").read_text(encoding="utf-8")
GIVEN = (NOTEBOOKS / "kubernetes" / "kube-guet.yml").read_text(encoding="utf-8")
WATCHER = (NOTEBOOKS / "kubernetes" / "solution-guetteur.yml").read_text(encoding="utf-8")
OPENED = GIVEN.replace("replicas: 2", "replicas: 4").replace(
    "  ports:", "  type: LoadBalancer\n  ports:", 1
)
SOLVED = OPENED + WATCHER


@pytest.fixture(autouse=True)
def beside_the_notebooks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(forms, "_forms", {})
    monkeypatch.chdir(NOTEBOOKS)
    yield


# -- matching -------------------------------------------------------------------------------


def test_every_option_has_one_equivalent_and_a_hint() -> None:
    form = equivalence_form()
    assert set(form.rows) == set(EQUIVALENTS) and len(set(form.columns)) == len(EQUIVALENTS)
    assert all(len(form.truth[row]) == 1 and form.hints[row] for row in form.rows)
    for answer, hint, _ in EQUIVALENTS.values():
        assert answer not in hint


def test_the_equivalents_that_are_said_to_be_in_the_manifest_are() -> None:
    here = "nodeSelector strategy resources readinessProbe terminationGracePeriodSeconds args env"
    for word in (*here.split(), "PersistentVolumeClaim", "LoadBalancer", "128Mi", "POSTGRES_USER"):
        assert f"{word}" in SHOWN
    absent = ("kind: DaemonSet", "hostPort", "ConfigMap", "kind: Secret", "command:", "frontend")
    assert not any(word in SHOWN for word in absent)


def test_matching_is_answered_by_clicks_in_python_and_whispered(
    capsys: pytest.CaptureFixture[str],
) -> None:
    form = associer_equivalences("e")
    assert not corriger("e").ok and set(form.answer.values()) == {frozenset()}
    form._boxes["networks", ""].value = EQUIVALENTS["networks"].answer
    right = {row.what for row in corriger("e").rows if row.ok}
    assert right == {"networks"}
    repondre("e", {"ports": "un DaemonSet"})
    (row,) = (r for r in corriger("e").rows if r.what == "ports")
    assert (row.found, row.ok) == ("un DaemonSet", False) and row.hint
    assert associer_equivalences("e").answer["ports"] == {"un DaemonSet"}
    repondre("e", {})
    souffler("e")
    assert corriger("e").ok
    repondre("e", {})
    exec(capsys.readouterr().out, {"repondre": repondre})
    assert corriger("e").ok


@pytest.mark.parametrize(
    "answer",
    [{"port": "un DaemonSet"}, {"ports": "DaemonSet"}, {"ports": ["un DaemonSet", "un Secret"]}],
)
def test_an_answer_that_is_none_is_told(answer: dict[str, str]) -> None:
    associer_equivalences("e")
    with pytest.raises(SettingError):
        repondre("e", answer)


def test_a_matching_form_is_a_widget_with_a_static_fallback() -> None:
    data, _ = equivalence_form()._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert "stop_grace_period" in data["text/html"] and "un DaemonSet" in data["text/html"]


def test_the_notebook_shows_the_table_that_the_code_uses() -> None:
    shown = sans_equivalent()
    assert all(kind in repr(shown) and kind in shown._repr_html_() for kind in ONLY_KUBERNETES)
    text = (NOTEBOOKS / "06-introduction-a-kubernetes.ipynb").read_text(encoding="utf-8")
    sources = {kind: [] for kind in ("code", "markdown")}
    for cell in json.loads(text)["cells"]:
        sources[cell["cell_type"]].append("".join(cell["source"]))
    assert "sans_equivalent()" in sources["code"]
    for kind in ("StatefulSet", "HorizontalPodAutoscaler", "CronJob"):
        assert not [page for page in sources["markdown"] if kind in page]


# -- side by side ---------------------------------------------------------------------------


@pytest.mark.parametrize("service", ["vote", "redis", "db", "result", "worker"])
def test_side_by_side_shows_all_of_one_service_and_nothing_of_another(service: str) -> None:
    shown = cote_a_cote(service)
    left, right = ("\n".join(text for _, text in lines) for _, lines in (shown.left, shown.right))
    assert left.startswith(f"  {service}:") and left.count("image:") == 1
    assert right.count(f"name: {service}\n") >= 2 and right.count("image:") == 1
    assert "kind: Service" in right and "kind: Deployment" in right
    source = (NOTEBOOKS / "example-voting-app" / "docker-stack.yml").read_text("utf-8").splitlines()
    assert all(source[n - 1] == text for n, text in shown.left[1])
    assert "networks:" not in [text for _, text in shown.left[1]]  # that of the whole file
    assert "<pre" in shown._repr_html_() and service in repr(shown)


def test_side_by_side_needs_both_files() -> None:
    with pytest.raises(SettingError, match="visualizer") as caught:
        cote_a_cote("visualizer")
    assert "vote" in caught.value.remedy and "visualizer" not in caught.value.remedy


# -- the copy -------------------------------------------------------------------------------


def test_a_copy_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kubernetes").mkdir()
    (tmp_path / "kubernetes" / "kube-guet.yml").write_text(GIVEN, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LABKIT_FRESH", raising=False)
    assert "est écrit" in preparer_manifeste()
    Path(COPY).write_text("mon travail", encoding="utf-8")
    assert "conservé" in preparer_manifeste()
    assert Path(COPY).read_text(encoding="utf-8") == "mon travail"
    monkeypatch.setenv("LABKIT_FRESH", "1")
    assert "est écrit" in preparer_manifeste()
    assert Path(COPY).read_text(encoding="utf-8") == GIVEN
    assert Path(KEPT).read_text(encoding="utf-8") == "mon travail"


# -- the check ------------------------------------------------------------------------------


def verdict_of(text: str) -> list[tuple[str, str, str, bool, str]]:
    try:
        manifest = parse(text, COPY)
    except ManifestError as error:
        found = Translation(STACK, fault=error)
    else:
        found = Translation(STACK, manifest, validate(manifest))
    verdict = judge("manifeste", recorded("guet"), found)
    assert all(row.hint for row in verdict.rows if not row.ok)
    return [(r.what, r.expected, r.found, r.ok, r.hint) for r in verdict.rows]


def failed(text: str) -> dict[str, str]:
    return {what: found for what, _, found, ok, _ in verdict_of(text) if not ok}


def test_the_solution_is_right() -> None:
    rows = verdict_of(SOLVED)
    assert all(ok for *_, ok, _ in rows)
    said = {what: found for what, _, found, _, _ in rows}
    assert said["Service guetteur"] == "global, traefik/whoami, port 8000→80 (host)"
    assert said["Service accueil"] == "4 replicas, traefik/whoami, port 9999→80"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (GIVEN, {"Service accueil", "Service guetteur"}),
        (OPENED, {"Service guetteur"}),
        (GIVEN + WATCHER, {"Service accueil"}),
        (GIVEN.replace("replicas: 2", "replicas: 4") + WATCHER, {"Service accueil"}),
        (SOLVED.replace("kind: DaemonSet", "kind: Deployment"), {"Service guetteur"}),
        (SOLVED.replace("hostPort: 8000", "hostPort: 80"), {"Service guetteur"}),
        (OPENED + WATCHER.replace("traefik/whoami", "whoami"), {"Service guetteur"}),
        (SOLVED.replace("traefik/whoami", "traefik/whoami:latest"), set()),
        (SOLVED.replace("port: 9999", "port: 80"), {"Service accueil"}),
        (SOLVED.replace("type: LoadBalancer", "type: ClusterIP"), {"Service accueil"}),
        (SOLVED.replace("type: LoadBalancer", "type: NodePort"), {"Service accueil"}),
        (SOLVED.replace("replicas: 4", "replicas: '4'"), {"Ce que refuse Kubernetes 1.37"}),
        (SOLVED.replace("replicas: 4", "replicas:\t4"), set()),
        (SOLVED.replace("  replicas: 4", "\treplicas: 4"), {"Lecture de kube-a-vous.yml"}),
        (SOLVED.replace("replicas: 4", "replicas 4"), {"Lecture de kube-a-vous.yml"}),
        (SOLVED + WATCHER.replace("guetteur", "espion"), {"En plus"}),
        ("", {"Lecture de kube-a-vous.yml"}),
        # accepted by the schema alone, and refused by Kubernetes
        (
            SOLVED.replace("kind: DaemonSet", "kind: Daemonset"),
            {"Ce que refuse Kubernetes 1.37", "Service guetteur"},
        ),
        (OPENED + WATCHER.replace("apps/v1", "v1"), {"Ce que refuse Kubernetes 1.37"}),
        (
            OPENED + WATCHER.replace("apps/v1", "extensions/v1beta1"),
            {"Ce que refuse Kubernetes 1.37"},
        ),
        (
            OPENED + WATCHER.replace("apps/v1", "apps.exemple.fr/v1"),
            {"Objets connus", "Service guetteur"},
        ),
        (
            SOLVED.replace("LoadBalancer", "NodePort").replace(
                "port: 9999", "port: 9999\n      nodePort: 9999"
            ),
            {"Ce que refuse Kubernetes 1.37"},
        ),
        (
            OPENED + WATCHER.replace("app: guetteur\n  template", "app: accueil\n  template"),
            {"Ce que refuse Kubernetes 1.37"},
        ),
    ],
)
def test_what_is_wrong_is_pointed_at(text: str, wrong: set[str]) -> None:
    assert set(failed(text)) == wrong


def test_a_fault_says_its_line() -> None:
    found = failed(SOLVED.replace("  replicas: 4", "\treplicas: 4"))
    line = SOLVED[: SOLVED.index("replicas: 4")].count("\n") + 1
    assert found == {
        "Lecture de kube-a-vous.yml": f"ligne {line} : une tabulation sert à indenter."
    }
    found = failed(SOLVED.replace("replicas: 4", "replicas: quatre"))
    assert f"ligne {line}, Deployment accueil" in found["Ce que refuse Kubernetes 1.37"]


def test_what_is_asked_is_the_file_and_the_live_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kubernetes, "capture", lambda: recorded("guet"))
    asked = kubernetes._ask()
    assert asked.manifest is None and asked.fault is not None
    assert "n’existe pas" in asked.fault.reason
    (tmp_path / COPY).write_text(SOLVED, encoding="utf-8")
    asked = kubernetes._ask()
    assert asked.fault is None and asked.validation is not None and asked.validation.ok
    assert judge("manifeste", recorded("guet"), asked).ok


def test_the_live_stack_is_checked_first() -> None:
    right = recorded("guet")
    without = tuple(s for s in right.services if s.name != "guet_guetteur")
    stopped = tuple(replace(t, state="failed") for t in right.tasks)
    for name in ("deployer-guet", "manifeste"):
        assert judge(name, right).ok
        for state in (
            out(),
            swarm(),
            deployed(),
            recorded("guet_scaled"),
            recorded("quorum_lost"),
            replace(right, services=without),
            replace(right, tasks=stopped),
        ):
            verdict = judge(name, state)
            assert not verdict.ok and all(row.hint for row in verdict.rows if not row.ok)


def test_the_stack_has_to_be_gone() -> None:
    for state in (out(), swarm(), deployed(), recorded("vote_stack")):
        assert judge("retirer-guet", state).ok
    for state in (recorded("guet"), recorded("guet_scaled"), recorded("quorum_lost")):
        verdict = judge("retirer-guet", state)
        assert not verdict.ok and all(row.hint for row in verdict.rows)
