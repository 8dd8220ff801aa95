"""The cockpit on recorded states: what happens is told, keys act, the launcher finds the page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nbformat
import pytest

from labkit import commands
from labkit.cockpit import Cockpit
from labkit.engine.endpoint import Endpoint, Fleet
from labkit.errors import EngineUnreachable
from labkit.state import ClusterState, from_raw
from labkit.views.events import events, events_html

RECORDED = Path(__file__).parent / "recorded"
NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "cockpit" / "cockpit.ipynb"


def state(name: str) -> ClusterState:
    return from_raw(json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8")))


def told(before: ClusterState | None, now: ClusterState) -> list[str]:
    return [("✖ " if e.alarm else "") + e.text for e in events(before, now)]


# -- what happens ---------------------------------------------------------------------------


def test_nothing_happens_at_the_first_look_nor_between_equal_ones() -> None:
    now = state("three_nodes_whoami_5")
    assert told(None, now) == told(now, now) == []


def test_a_swarm_comes_and_goes() -> None:
    none, some = state("no_swarm"), state("three_nodes_empty")
    assert told(none, some) == ["le Swarm répond"]
    assert told(some, none) == ["il n’y a plus de Swarm"]
    assert told(some, state("quorum_lost")) == ["✖ le quorum est perdu"]


def test_a_service_is_made_scaled_and_removed() -> None:
    empty, five = state("three_nodes_empty"), state("three_nodes_whoami_5")
    said = told(replace(empty, nodes=five.nodes), five)
    assert said[0] == "service whoami créé"
    assert len(said) == 6 and all("whoami." in text and "sur node" in text for text in said[1:])
    assert "service whoami supprimé" in told(five, replace(empty, nodes=five.nodes))
    more = replace(five, services=(replace(five.services[0], replicas=8),))
    assert told(five, more) == ["whoami : 5 → 8 replicas"]


def test_a_node_changes_and_fails() -> None:
    whole = state("three_nodes_whoami_5")
    one, two, three = whole.nodes
    assert told(whole, replace(whole, nodes=(one, replace(two, availability="drain"), three))) == [
        f"{two.name} passe en drain"
    ]
    assert told(whole, replace(whole, nodes=(one, replace(two, state="down"), three))) == [
        f"✖ {two.name} est down"
    ]
    assert told(whole, replace(whole, nodes=(one, two))) == [
        f"{three.name} n’est plus dans le Swarm"
    ]
    assert told(replace(whole, nodes=(one, two)), whole) == [f"{three.name} rejoint le Swarm"]
    led = replace(one, leader=False), replace(two, leader=True, role="manager"), three
    old = replace(one, leader=True), replace(two, leader=False, role="worker"), three
    assert told(replace(whole, nodes=old), replace(whole, nodes=led)) == [
        f"{two.name} devient manager",
        f"{two.name} est élu leader",
    ]


def test_a_task_that_fails_is_an_alarm() -> None:
    whole = state("three_nodes_whoami_5")
    first, *others = whole.tasks
    (event,) = events(whole, replace(whole, tasks=(replace(first, state="failed"), *others)))
    assert event.alarm and first.label in event.text and event.at == whole.captured_at


def test_events_are_listed_the_newest_first_and_escaped() -> None:
    whole = state("three_nodes_whoami_5")
    odd = replace(whole, services=(replace(whole.services[0], name="<b>", replicas=9),))
    later = replace(odd, captured_at=whole.captured_at + timedelta(seconds=5), services=())
    html = events_html([*events(whole, odd), *events(odd, later)])
    assert html.index("supprimé") < html.index("replicas") and "&lt;b&gt;" in html
    assert "Rien encore" in events_html([])


# -- the last commands ----------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("LABKIT_CLUSTER", "essai")
    folder = tmp_path / "labkit" / "essai"
    folder.mkdir(parents=True)
    yield folder


def test_commands_are_kept_beside_the_cluster_without_tokens(run: Path) -> None:
    commands.note("docker swarm join --token SWMTKN-1-0a1b-2c3d 192.168.77.11:2377")
    commands.note("# rien\nx=$(docker info)\ndocker service create \\\n   --name web nginx\nls")
    assert [c.text for c in commands.last()] == [
        "docker swarm join --token SWMTKN-1-••• 192.168.77.11:2377",
        "docker service create --name web nginx",
    ]
    assert commands.last()[0].at <= datetime.now(UTC)
    for number in range(60):
        commands.note(f"labkit node kill node{number}")
    assert [c.text for c in commands.last(1)] == ["labkit node kill node59"]
    assert len(commands.last(1000)) == 50


def test_without_a_cluster_nothing_is_kept(run: Path) -> None:
    run.rmdir()
    commands.note("docker ps")
    assert commands.last() == () and not run.exists()
    run.mkdir()
    (run / "commands.json").write_text("[[1]]")
    assert commands.last() == ()


# -- the page -------------------------------------------------------------------------------


@pytest.fixture
def cockpit(run: Path) -> Iterator[Cockpit]:
    cockpit = Cockpit(Fleet("host", (Endpoint.parse("tcp://127.0.0.1:1", "node1"),)))
    yield cockpit
    cockpit.close()


def show(cockpit: Cockpit, seen: ClusterState) -> None:
    cockpit.show(seen)
    cockpit._view.show(seen)
    if cockpit._scaler:
        cockpit._scaler.show(seen)


def test_it_follows_a_service_and_the_next_one(cockpit: Cockpit) -> None:
    assert "docker service create" in cockpit._side.children[0].value
    show(cockpit, state("three_nodes_whoami_5"))
    assert cockpit._scaler and cockpit._scaler.service == "whoami"
    assert cockpit._traffic and cockpit._traffic.port == 9999
    scaler = cockpit._scaler
    show(cockpit, state("three_nodes_whoami_5"))
    assert cockpit._scaler is scaler  # the same widget as long as nothing changed
    show(cockpit, state("vote_stack"))
    names = []
    for _ in range(len(cockpit._services) + 1):
        assert cockpit._scaler
        names.append(cockpit._scaler.service)
        cockpit.press("s")
    assert names[0] == names[-1] and len(set(names)) == len(names) - 1 > 3
    show(cockpit, EngineUnreachable("Rien ne répond."))  # type: ignore[arg-type]
    assert cockpit._scaler
    show(cockpit, state("three_nodes_empty"))
    assert cockpit._scaler is None and cockpit._traffic is None


def test_what_happens_and_the_last_commands_are_shown(cockpit: Cockpit) -> None:
    show(cockpit, state("three_nodes_empty"))
    commands.note("docker service create --name whoami traefik/whoami")
    show(cockpit, state("three_nodes_whoami_5"))
    assert "service whoami créé" in cockpit._news.value
    assert "docker service create --name whoami" in cockpit._commands.value


def test_keys_choose_a_node_and_act_on_it(cockpit: Cockpit) -> None:
    cockpit.press("d")  # no node yet: nothing to do
    show(cockpit, state("three_nodes_whoami_5"))
    cockpit.press("3")
    assert cockpit._view.controls.node == "node3"
    cockpit.press("7")  # there is none
    assert cockpit._view.controls.node == "node3"
    cockpit.press("d")
    assert "docker node update --availability drain node3" in cockpit._view.controls._command.value
    cockpit.press("k")
    assert cockpit.wait(30)
    assert "labkit-alarm" in cockpit._status.value  # nobody answers, and it says so
    cockpit.press("+")
    assert cockpit._scaler and cockpit._scaler.value == 6
    cockpit.press("é")


def test_everything_is_erased_only_at_the_second_press(
    cockpit: Cockpit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_ENGINE", "tcp://127.0.0.1:1")  # of which nothing is ever erased
    cockpit.press("z")
    assert "pour confirmer" in cockpit._status.value
    assert not cockpit._latest.busy
    cockpit.press("z")
    assert cockpit.wait(30)
    assert "ne remet jamais à zéro" in cockpit._status.value


def test_dark_and_light(cockpit: Cockpit) -> None:
    show(cockpit, state("three_nodes_whoami_5"))
    assert "labkit-dark" in cockpit._dom_classes
    cockpit.press("t")
    assert "labkit-light" in cockpit._dom_classes and "labkit-dark" not in cockpit._dom_classes
    assert not cockpit._view.dark and cockpit._traffic and not cockpit._traffic.dark


def test_every_key_has_a_button(cockpit: Cockpit) -> None:
    bar = next(c for c in cockpit.children if "labkit-bar" in c._dom_classes)
    said = " ".join(getattr(c, "description", "") for c in bar.children)
    assert all(f"({key})" in said for key, _, _ in Cockpit.KEYS)


def test_the_page_is_one_cell_whose_output_is_of_no_machine() -> None:
    (cell,) = nbformat.read(NOTEBOOK, as_version=4).cells
    assert "Cockpit()" in cell.source
    assert [o.data for o in cell.outputs] == [
        {"text/plain": "Cockpit du cluster : relancez cette cellule pour le retrouver."}
    ]
