"""Traefik's exercises: each check accepts what is right and refuses what is not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from labkit import compose
from labkit.errors import SettingError
from labkit.exercises.catalogue import EXERCISES, judge
from labkit.exercises.course import nb07_traefik as proxies
from labkit.exercises.course.nb07_traefik import (
    PROXY_EXERCISES,
    STICKY,
    ProxyDoors,
    preparer_traefik,
)
from labkit.exercises.measures.access import Addresses
from labkit.state import ClusterState, Port, Service, from_raw
from labkit.traffic import Sample

RECORDED = Path(__file__).parent / "recorded"
TRAEFIK = Path(__file__).parents[2] / "notebooks" / "traefik"
OPEN = ProxyDoors(service=200, unknown=404, closed=401, opened=200)


def recorded(name: str) -> ClusterState:
    return from_raw(json.loads((RECORDED / f"{name}.json").read_text()))


def with_service(state: ClusterState, name: str, **changes: object) -> ClusterState:
    changed = replace(state.service(name), **changes)  # type: ignore[arg-type]
    return replace(state, services=tuple(changed if s.name == name else s for s in state.services))


def sample(state: ClusterState, service: str, answering: Sequence[str | None]) -> Sample:
    """Return a sample of the requests that these replicas answered."""
    frame = pd.DataFrame({"replica": pd.Series(answering, dtype=object)})
    return Sample(
        frame, 8000, "/api", ("node1",), 1, False, len(answering), 1.0, state.running(service), 1
    )


def names(state: ClusterState, service: str) -> list[str]:
    return [t.container_id[:12] for t in state.running(service)]


@pytest.mark.parametrize(
    ("exercise", "right", "wrong"),
    [
        ("traefik", "web_stack", ["no_swarm", "three_nodes_empty", "vote_stack", "web_removed"]),
        ("traefik-bonjour", "web_bonjour", ["no_swarm", "web_stack", "three_nodes_whoami_5"]),
        ("traefik-cookie", "web_sticky", ["no_swarm", "web_stack", "web_bonjour"]),
        ("traefik-ranger", "web_removed", ["web_stack", "web_bonjour", "quorum_lost"]),
    ],
)
def test_a_check_accepts_what_is_right_alone(exercise: str, right: str, wrong: list[str]) -> None:
    assert judge(exercise, recorded(right)).ok
    for state in wrong:
        verdict = judge(exercise, recorded(state))
        assert not verdict.ok, state
        assert all(row.hint for row in verdict.rows if not row.ok), state


def test_no_state_makes_a_check_raise() -> None:
    for path in RECORDED.glob("*.json"):
        for exercise in PROXY_EXERCISES:
            assert judge(exercise.name, recorded(path.stem)).rows


def test_a_published_port_is_not_what_was_asked() -> None:
    port = (Port(80, 8081),)
    for exercise, moment, service in (
        ("traefik", "web_stack", "web_whoami"),
        ("traefik-bonjour", "web_bonjour", "bonjour"),
    ):
        verdict = judge(exercise, with_service(recorded(moment), service, ports=port))
        assert [row.found for row in verdict.rows if not row.ok] == ["8081"]


@pytest.mark.parametrize(
    "change",
    [{"networks": ("ingress",)}, {"labels": {}}, {"replicas": 5}],
    ids=lambda change: next(iter(change)),
)
def test_a_service_that_traefik_cannot_reach_is_refused(change: dict[str, object]) -> None:
    state = with_service(recorded("web_bonjour"), "bonjour", **change)
    assert not judge("traefik-bonjour", state).ok


@pytest.mark.parametrize(
    ("label", "value", "ok"),
    [(STICKY, "true", True), (f"{STICKY}.name", "who", True), (STICKY, "false", False),
     ("traefik.http.services.essai.loadbalancer.sticky.cookie", "true", False)],
)  # fmt: skip
def test_a_cookie_may_be_asked_for_in_two_ways(label: str, value: str, ok: bool) -> None:
    state = with_service(recorded("web_stack"), "web_whoami", labels={label: value})
    assert judge("traefik-cookie", state).ok is ok


@pytest.mark.parametrize(
    ("doors", "wrong"),
    [
        (OPEN, []),
        (replace(OPEN, service="connexion refusée"), ["whoami.localhost"]),
        (replace(OPEN, unknown=200), ["Un domaine que rien ne nomme"]),
        (replace(OPEN, closed=200), ["Tableau de bord, sans mot de passe"]),
        (replace(OPEN, opened=401), ["Tableau de bord, avec le mot de passe"]),
    ],
)
def test_every_door_is_tried(doors: ProxyDoors, wrong: list[str]) -> None:
    verdict = judge("traefik", recorded("web_stack"), doors)
    assert [row.what for row in verdict.rows if not row.ok] == wrong


def test_the_replicas_that_answer_are_those_of_the_service() -> None:
    state = recorded("web_sticky")
    bonjour, whoami = names(state, "bonjour"), names(state, "web_whoami")
    assert not judge("traefik-bonjour", state, None).ok
    assert not judge("traefik-cookie", state, None).ok
    for answering, ok in ((bonjour, True), (bonjour[:1], False), (whoami[:2], False)):
        assert judge("traefik-bonjour", state, sample(state, "bonjour", answering)).ok is ok
    for answering, ok in ((whoami[:1] * 3, True), (whoami[:2], False), ([None], False)):
        assert judge("traefik-cookie", state, sample(state, "web_whoami", answering)).ok is ok


def test_a_password_is_made_once_and_only_its_hash_goes_to_the_stack(tmp_path: Path) -> None:
    first = preparer_traefik(tmp_path)
    password = (tmp_path / "mot-de-passe.txt").read_text().strip()
    hashed = (tmp_path / "tableau.htpasswd").read_text()
    assert password not in first
    assert password not in hashed
    assert hashed.startswith("ada:{SHA}")
    assert {p.stat().st_mode & 0o777 for p in tmp_path.iterdir()} == {0o600}
    assert "n’a pas changé" in preparer_traefik(tmp_path)
    assert (tmp_path / "mot-de-passe.txt").read_text().strip() == password
    with pytest.raises(SettingError):
        preparer_traefik(tmp_path / "absent")


def test_the_stack_gives_the_socket_to_the_guard_alone_and_opens_one_port() -> None:
    stack = compose.read(TRAEFIK / "stack-traefik.yml")
    assert {s.name for s in stack.services} == set(proxies.NAMES)
    holders = {s.name for s in stack.services if any("docker.sock" in str(m) for m in s.mounts)}
    assert holders == {"gardien"}
    published = [(s.name, int(p.published or 0)) for s in stack.services for p in s.ports]
    assert published == [("traefik", proxies.PORT)]


def test_domains_are_links_of_this_machine_and_through_the_notebook_server() -> None:
    urls = (("a.localhost/x/", "http://a.localhost:8000/x/"),)
    through = "/user/alice/domaines/8000/a.localhost/x/"
    shown = Addresses(8000, urls, (through,))._repr_html_()
    assert "href='http://a.localhost:8000/x/'" in shown
    assert f"href='{through}'" in shown
    assert "domaines/" not in Addresses(8000, urls, ())._repr_html_()


def test_every_exercise_is_in_the_catalogue() -> None:
    assert {e.name for e in PROXY_EXERCISES} <= set(EXERCISES)
    assert isinstance(recorded("web_stack").service("web_whoami"), Service)
