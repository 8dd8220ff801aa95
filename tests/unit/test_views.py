"""Pictures of constructed states and samples, and the threads behind live widgets."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from large import large
from matplotlib.text import Text as MplText
from ports import free_port

import labkit.views
from labkit.engine.endpoint import Endpoint, Fleet
from labkit.errors import EngineUnreachable, LabkitError
from labkit.state import ClusterState, EngineState, Node, Port, Service, Task, from_raw
from labkit.traffic import Sample
from labkit.views import (
    ClusterView,
    Repartition,
    Scaler,
    cluster_picture,
    cluster_svg,
    distribution_figure,
    distribution_html,
    tasks_html,
)
from labkit.views.live import Latest, Seen, Watch
from labkit.views.palette import SIGNS, node_colours, sign_of
from labkit.views.picture import Text, fit, png, text_width, wrap

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


def node(i: int, **changes: object) -> Node:
    one = Node(f"id{i}", f"node{i}", "worker", "active", "ready")
    if i == 1:
        one = replace(one, role="manager", leader=True, reachability="reachable")
    return replace(one, **changes)  # type: ignore[arg-type]


def task(slot: int, on: int, state: str = "running", **changes: object) -> Task:
    one = Task(
        id=f"t{slot}{state}",
        service_id="s1",
        service="whoami",
        slot=slot,
        node_id=f"id{on}" if on else "",
        node=f"node{on}" if on else None,
        state=state,
        desired="running",
        container_id=f"c{slot:011d}",
        since=NOW - timedelta(seconds=slot),
    )
    return replace(one, **changes)  # type: ignore[arg-type]


def cluster(*tasks: Task, nodes: tuple[Node, ...] = (node(1), node(2), node(3))) -> ClusterState:
    service = Service("s1", "whoami", "traefik/whoami", "replicated", 5, (Port(80, 9999),))
    return ClusterState(NOW, "active", "node1", (), nodes, (service,), tasks)


def texts(svg: str) -> list[str]:
    return [e.text or "" for e in ET.fromstring(svg).iter() if e.tag.endswith("text")]


def rects(svg: str) -> list[dict[str, str]]:
    return [e.attrib for e in ET.fromstring(svg).iter() if e.tag.endswith("rect")]


def sample(
    hits: list[int],
    *,
    failures: int = 0,
    keep_alive: bool = False,
    requested: int = 0,
    service: str = "whoami",
) -> Sample:
    replicas = tuple(
        replace(task(i, 1 + (i - 1) % 3), service=service) for i in range(1, len(hits) + 1)
    )
    rows: list[tuple[object, ...]] = []
    for one, count in zip(replicas, hits, strict=True):
        who = (one.container_id, one.slot, one.label, one.node)
        rows += [(0.1, "node1", *who, 2.0, 200, None)] * count
    rows += [(0.2, "node2", None, None, None, None, 5.0, None, "connexion refusée")] * failures
    columns = "time_s node replica slot task replica_node latency_ms status error".split()
    frame = pd.DataFrame(rows, columns=columns).astype({"slot": "Int64", "status": "Int64"})
    asked = requested or len(frame)
    return Sample(frame, 9999, "/api", ("node1",), 4, keep_alive, asked, 1.0, replicas, 4)


# -- the cluster ----------------------------------------------------------------------------


def test_every_current_task_is_shown_with_its_state() -> None:
    said = texts(cluster_svg(cluster(task(1, 1), task(2, 2, "preparing"), task(3, 3, "starting"))))
    for word in ("whoami.1", "running", "whoami.2", "preparing", "whoami.3", "starting"):
        assert word in said
    assert "★ manager leader" in said
    assert any("whoami 1/5 :9999" in t for t in said)


def test_a_stack_has_its_name_once_and_its_services_fit() -> None:
    recorded = Path(__file__).parent / "recorded" / "vote_scaled.json"
    state = from_raw(json.loads(recorded.read_text()))
    alone = replace(state.services[0], id="alone", name="seul", stack=None)
    for one, said in ((state, "vote : db"), (replace(state, services=(alone,)), "seul ")):
        line = next(t for t in texts(cluster_svg(one)) if t.startswith(said))
        assert "…" not in line
    assert "vote : db 1/1 · redis 1/1 · result 1/1 :5001" in next(
        t for t in texts(cluster_svg(state)) if t.startswith("vote : db")
    )


def test_failures_and_the_past_are_shown_and_folded() -> None:
    past = [task(i, 2, "shutdown", desired="shutdown") for i in range(10, 16)]
    bad = task(1, 2, "rejected", desired="shutdown", error="No such image: traefik/whomai")
    said = texts(cluster_svg(cluster(*past, bad)))
    assert "rejected" in said
    assert any("No such image" in t for t in said)
    assert said.count("shutdown") == 2  # the most recent two beside the failure
    assert "whoami.10" in said
    assert "+ 4 shutdown" in said


def test_many_tasks_are_folded_but_counted() -> None:
    said = texts(cluster_svg(cluster(*(task(i, 1) for i in range(1, 31)))))
    assert "+ 18 running" in said


def tips(svg: str) -> list[str]:
    """What a pointer is told, box by box."""
    boxes = [e for e in ET.fromstring(svg).iter() if e.tag.endswith("rect")]
    return [t.text or "" for box in boxes for t in box if t.tag.endswith("title")]


def test_beyond_those_with_a_box_each_task_is_a_sign_with_its_name() -> None:
    told = tips(cluster_svg(cluster(*(task(i, 1) for i in range(1, 31)))))
    assert [t.split(" · ")[0] for t in told] == [f"whoami.{i}" for i in range(1, 31)]


def test_a_large_cluster_is_drawn_whole() -> None:
    state = from_raw(large(50, 1000))
    assert len(state.nodes) == 50 and len([t for t in state.tasks if t.current]) == 1000
    picture = cluster_picture(state)
    svg = picture.svg()
    assert {f"node{i}" for i in range(1, 51)} <= set(texts(svg))
    labels = {f"whoami{k}.{slot}" for k in range(1, 21) for slot in range(1, 51)}
    told = [t.split(" · ")[0] for t in tips(svg)]
    assert len(told) == 1000 and set(told) == labels
    for name in (*labels, "node50 (worker, ready, active)"):
        assert name in picture.description
    for shape in picture.shapes:
        right = shape.x + getattr(shape, "width", 0)
        assert 0 <= shape.x <= right <= picture.width and 0 <= shape.y < picture.height
    # one node more or less moves none of the others
    places = {s.text: (s.x, s.y) for s in picture.shapes if isinstance(s, Text)}
    fewer = cluster_picture(replace(state, nodes=state.nodes[:-1]))
    assert all(
        places[s.text] == (s.x, s.y)
        for s in fewer.shapes
        if isinstance(s, Text) and s.text.startswith("node")
    )


def test_a_task_without_a_node_waits_in_its_own_column_with_the_reason() -> None:
    said = texts(cluster_svg(cluster(task(9, 0, "pending", error="no suitable node (1 node)"))))
    assert {"Sans nœud", "1 en attente", "whoami.9", "pending"} <= set(said)
    assert any("no suitable node" in t for t in said)


def test_down_and_drain_are_marked_without_colour() -> None:
    svg = cluster_svg(
        cluster(nodes=(node(1), node(2, availability="drain"), node(3, state="down")))
    )
    said = texts(svg)
    assert "drain" in said
    assert "✖ down" in said
    assert sum("labkit-hatch" in r["fill"] for r in rects(svg)) == 2


def test_a_stopping_task_says_where_it_goes() -> None:
    assert "running → shutdown" in texts(cluster_svg(cluster(task(1, 1, desired="shutdown"))))


def test_states_differ_by_symbol_and_border_not_only_by_colour() -> None:
    assert len({sign.symbol for sign in SIGNS}) == len(SIGNS)
    assert sign_of(task(1, 1)).border == "solid"
    assert sign_of(task(1, 1, "preparing")).border == "dashed"
    assert sign_of(task(1, 1, "failed", desired="shutdown")).border == "thick"
    assert sign_of(task(1, 0, "pending")).kind == "pending"
    assert sign_of(task(1, 1, "complete", desired="shutdown")).kind == "complete"
    assert sign_of(task(1, 1, "shutdown", desired="shutdown")).kind == "over"


def test_all_text_is_escaped() -> None:
    evil = "<script>alert(1)</script>&\x1b"
    state = cluster(
        task(1, 0, "pending", service=evil, error=evil), nodes=(node(1, name=evil), node(2))
    )
    svg = cluster_svg(state)
    assert "<script" not in svg
    ET.fromstring(svg)
    assert "<script" not in tasks_html(state.tasks)


def test_the_layout_is_deterministic_and_holds_still() -> None:
    few, more = cluster(task(1, 1)), cluster(task(1, 1), task(2, 2))
    assert cluster_svg(few) == cluster_svg(replace(few, captured_at=NOW + timedelta(hours=1)))
    assert cluster_picture(few).height == cluster_picture(more).height
    assert cluster_svg(few) != cluster_svg(few, dark=True)


@pytest.mark.parametrize("count", [1, 3, 5])
def test_nothing_leaves_the_picture(count: int) -> None:
    names = {"service": "un-tres-long-nom-de-service_dans-une-pile"}
    state = cluster(
        *(task(i, 1 + i % count, **names) for i in range(1, 9)),
        task(9, 0, "pending", error="no suitable node " * 20, **names),
        nodes=tuple(node(i) for i in range(1, count + 1)),
    )
    picture = cluster_picture(state)
    for shape in picture.shapes:
        right = shape.x + getattr(shape, "width", 0)
        if (text := getattr(shape, "text", None)) and shape.anchor == "start":
            right = shape.x + text_width(text, shape.size, bold=shape.bold)
        assert 0 <= shape.x <= right <= picture.width


def test_without_a_swarm_it_says_what_to_type() -> None:
    engines = tuple(EngineState(f"node{i}", True, "28.5.2") for i in (1, 2, 3))
    said = texts(cluster_svg(ClusterState(NOW, "inactive", None, engines)))
    assert "Pas encore de swarm" in said
    assert any("docker swarm init" in t for t in said)
    assert {"node1", "node2", "node3"} <= set(said)


def test_silent_engines_and_a_lost_quorum_say_the_remedy() -> None:
    silent = tuple(EngineState(f"node{i}", False, error="connexion refusée") for i in (1, 2))
    assert "Le cluster ne répond plus" in texts(
        cluster_svg(ClusterState(NOW, "unreachable", None, silent))
    )
    alone = (EngineState("node1", True, "28", "active", "id1", True, "no leader"), *silent)
    said = " ".join(texts(cluster_svg(ClusterState(NOW, "no-quorum", None, alone))))
    assert "quorum" in said
    assert "--force-new-cluster" in said and "redémarrez son moteur" in said


def test_the_static_picture_is_the_same_png_each_time() -> None:
    picture = cluster_picture(cluster(task(1, 1), task(2, 2, "failed", error="a $ and a _")))
    first = png(picture.figure(), dpi=40)
    assert first.startswith(b"\x89PNG")
    assert first == png(picture.figure(), dpi=40)


def test_a_node_keeps_its_colour() -> None:
    three = node_colours(["node3", "node1", "node2"])
    assert len(set(three.values())) == 3
    assert node_colours(["node3"])["node3"] == three["node3"]
    assert list(node_colours(["b", "a"])) == ["a", "b"]
    assert len(set(node_colours(["web1", "db1"]).values())) == 2


def test_text_is_fitted_and_wrapped() -> None:
    assert fit("whoami.3", 19, 500) == "whoami.3"
    short = fit("un-tres-long-service.12", 19, 120)
    assert short.endswith(".12")
    assert text_width(short, 19) <= 120
    lines = wrap("un deux trois quatre cinq six", 15, 70, 2)
    assert len(lines) == 2
    assert lines[-1].endswith("…")


# -- who answered ---------------------------------------------------------------------------


def test_bars_have_the_colour_of_their_node_and_failures_a_bar() -> None:
    one = sample([10, 11, 9], failures=3)
    (ax,) = distribution_figure([one]).axes
    labels = [t.get_text() for t in ax.get_yticklabels()]
    assert labels == ["whoami.1 · node1", "whoami.2 · node2", "whoami.3 · node3", "échecs"]
    bars = ax.patches
    assert [b.get_width() for b in bars] == [10, 11, 9, 3]
    assert bars[3].get_hatch()
    assert len({b.get_facecolor() for b in bars}) == 4
    assert any("part attendue : 10" in t.get_text() for t in ax.texts)


def test_two_panels_share_a_scale_and_a_replica_without_hits_is_there() -> None:
    figure = distribution_figure([sample([30, 30, 30]), sample([60, 0, 30], keep_alive=True)])
    left, right = figure.axes
    assert left.get_xlim() == right.get_xlim()
    assert [b.get_width() for b in right.patches] == [60, 0, 30]
    assert "Keep-alive" in right.get_title(loc="left")


@pytest.mark.parametrize("service", ["a", "whoami", "vote_vote", "a-service_of-a-long-name"])
def test_a_title_stays_within_its_panel(service: str) -> None:
    samples = [sample([30, 30], service=service), sample([20] * 4, service=service)]
    figure = distribution_figure(samples)
    figure.draw_without_rendering()
    for ax in figure.axes:
        (title,) = (t for t in ax.findobj(MplText) if t.get_text().startswith("Nouvelle"))
        assert title.get_window_extent().x1 <= ax.bbox.x1 + 1
        assert (title.get_fontsize() == 17) == (service == "a")


def test_bars_grow_towards_what_is_expected_at_the_end() -> None:
    (ax,) = distribution_figure([sample([5, 5], requested=100)]).axes
    assert any("part attendue : 50" in t.get_text() for t in ax.texts)
    assert "10 sur 100" in ax.get_title(loc="left")
    assert ax.get_xlim()[1] > 50


def test_a_sample_without_any_answer_can_be_drawn() -> None:
    nothing = sample([], failures=4)
    assert png(distribution_figure([nothing]), dpi=30)
    assert "connexion refusée" in distribution_html([nothing])


def test_the_table_says_what_the_bars_say() -> None:
    html = distribution_html([sample([10, 10]), sample([15, 5], failures=2, keep_alive=True)])
    assert re.search(r"whoami\.1 · node1</th><td class='n'>10 \(50\s%\)</td>", html)
    assert "<th scope='row'>échecs</th><td class='n'>0</td><td class='n'>—</td>" in html
    assert "2 fois" in html


def test_tasks_as_a_list() -> None:
    html = tasks_html(
        [
            task(1, 1),
            task(2, 2, "preparing"),
            task(3, 3, "failed", desired="shutdown", error="task: non-zero exit (1)"),
            task(4, 3, "shutdown", desired="shutdown"),
        ]
    )
    assert html.count("<li") == 3
    assert "non-zero exit" in html
    assert "whoami.4" not in html


# -- threads --------------------------------------------------------------------------------


def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_only_the_last_value_of_a_burst_is_acted_upon() -> None:
    done: list[int] = []
    latest: Latest[int] = Latest(lambda value, _: done.append(value), quiet=0.1)
    for value in range(9):
        latest.ask(value)
    assert latest.busy
    assert latest.wait(5)
    assert done == [8]
    assert not latest.busy


def test_what_comes_during_an_action_overtakes_it_and_goes_after_it() -> None:
    done: list[tuple[int, bool]] = []
    started, go = threading.Event(), threading.Event()

    def action(value: int, overtaken: Callable[[], bool]) -> None:
        started.set()
        assert go.wait(5)
        done.append((value, overtaken()))

    latest: Latest[int] = Latest(action, quiet=0.0)
    latest.ask(1)
    assert started.wait(5)
    for value in (2, 3, 4):
        latest.ask(value)
    go.set()
    assert latest.wait(5)
    assert done == [(1, True), (4, False)]


def test_an_action_that_fails_does_not_end_the_others(caplog: pytest.LogCaptureFixture) -> None:
    done: list[int] = []

    def action(value: int, _: object) -> None:
        done.append(value)
        raise ValueError(value)

    latest: Latest[int] = Latest(action, quiet=0.0)
    for value in (1, 2):
        latest.ask(value)
        assert latest.wait(5)
    assert done == [1, 2]
    assert "failed" in caplog.text


def test_a_closed_one_does_nothing_more() -> None:
    done: list[int] = []
    latest: Latest[int] = Latest(lambda value, _: done.append(value), quiet=0.2)
    latest.ask(1)
    latest.close()
    assert latest.wait(5)
    latest.ask(2)
    assert latest.wait(5)
    assert done == []
    assert latest.overtaken()


def test_a_watch_looks_only_while_somebody_listens() -> None:
    looks: list[int] = []

    def look() -> Seen:
        looks.append(1)
        return cluster()

    watch = Watch(look, interval=0.01)
    assert not watch.alive
    heard: list[Seen] = []
    also: list[Seen] = []
    watch.add(heard.append)
    watch.add(heard.append)  # changes nothing
    watch.add(also.append)
    until(lambda: len(heard) > 2 and len(also) > 2)
    watch.remove(also.append)
    assert watch.alive
    watch.remove(heard.append, join=True)
    assert not watch.alive
    count = len(looks)
    time.sleep(0.1)
    assert len(looks) == count
    watch.add(heard.append)  # and again
    assert watch.alive
    until(lambda: len(looks) > count)
    watch.remove(heard.append, join=True)


def test_a_broken_view_does_not_blind_the_others(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Seen] = []

    def broken(seen: Seen) -> None:
        raise RuntimeError("broken")

    watch = Watch(cluster, interval=0.01)
    watch.add(broken)
    watch.add(heard.append)
    until(lambda: len(heard) > 2)
    watch.remove(broken)
    watch.remove(heard.append, join=True)
    assert "could not be refreshed" in caplog.text


# -- widgets, without a cluster ---------------------------------------------------------------


@pytest.fixture
def silent() -> Fleet:
    """An engine at a port where really nobody listens."""
    return Fleet("host", (Endpoint.parse(f"tcp://127.0.0.1:{free_port()}", "node1"),))


def test_a_view_of_a_silent_cluster_says_so_and_starts_and_stops(silent: Fleet) -> None:
    view = ClusterView(silent, interval=0.05)
    assert "Le cluster ne répond plus" in view._html.value
    view.start()
    view.start()
    assert view._watch.alive
    view.stop()
    view.stop()
    assert not view._watch.alive
    view.close()
    view.refresh()  # of a closed view: nothing happens


def test_a_view_shows_the_last_state_under_an_error_and_recovers(silent: Fleet) -> None:
    view = ClusterView(silent)
    view.show(cluster(task(1, 1)))
    good = view._html.value
    view.show(EngineUnreachable("Aucun moteur ne répond.", remedy="Lancez « labkit up »."))
    assert "Aucun moteur ne répond." in view._html.value
    assert "Dernier état connu" in view._html.value
    assert "whoami.1" in view._html.value
    view.show(ClusterState(NOW, "inactive", None))
    assert "whoami.1" not in view._html.value
    view.show(cluster(task(1, 1)))
    assert view._html.value == good
    view.close()


def test_an_unchanged_state_sets_no_trait(silent: Fleet) -> None:
    view = ClusterView(silent)
    view.show(cluster(task(1, 1)))
    changes: list[object] = []
    view._html.observe(changes.append, names="value")
    view.show(replace(cluster(task(1, 1)), captured_at=NOW + timedelta(seconds=1)))
    assert changes == []
    view.show(cluster(task(1, 2)))
    assert len(changes) == 1
    view.close()


def test_a_view_is_watched_while_a_browser_shows_it_and_not_paused(silent: Fleet) -> None:
    view = ClusterView(silent, interval=0.05)
    assert not view._watch.alive
    view._view_count = 1
    assert view._watch.alive
    view._pause.value = True
    assert not view._watch.alive
    view._view_count = 2
    assert not view._watch.alive
    view._pause.value = False
    assert view._watch.alive
    view._view_count = 0
    until(lambda: not view._watch.alive)
    view.close()


def test_the_table_is_shown_on_demand(silent: Fleet) -> None:
    view = ClusterView(silent)
    view._tabular.value = True
    assert "<table>" in view._table.value
    assert view._table.layout.display == ""
    view.close()


def test_a_view_offers_the_nodes_and_keeps_the_choice(silent: Fleet) -> None:
    view = ClusterView(silent)
    controls = view._controls
    assert controls._node.disabled and all(b.disabled for b in controls._buttons)
    view.show(cluster())
    assert not controls._node.disabled
    assert controls._node.options[0] == ("node1 — leader, active, ready", "node1")
    controls._node.value = "node2"
    promoted = node(2, role="manager", reachability="unreachable", state="down")
    view.show(cluster(nodes=(node(1), promoted, node(3, availability="drain"))))
    assert controls._node.value == "node2"
    labels = [label for label, _ in controls._node.options]
    assert labels[1:] == [
        "node2 — manager unreachable, active, down",
        "node3 — worker, drain, ready",
    ]
    controls._say("ok", "node2 : manager")
    controls._done = NOW - timedelta(seconds=1), promoted
    view.show(cluster(nodes=(node(1), promoted, node(3))))
    assert "node2" in controls._status.value
    view.show(cluster(nodes=(node(1),)))
    assert controls._node.value == "node1"  # the chosen one is gone
    assert controls._status.value == ""  # what was said is so no more
    view.show(EngineUnreachable("coupé"))
    assert not controls._node.disabled  # the error that an action meets says more
    view.show(ClusterState(NOW, "inactive", None))
    assert controls._node.disabled and controls._node.options == ()
    view.close()


@pytest.mark.parametrize(
    ("button", "command"),
    [
        ("Promouvoir", "docker node promote node3"),
        ("Rétrograder", "docker node demote node3"),
        ("Vider (drain)", "docker node update --availability drain node3"),
        ("Activer", "docker node update --availability active node3"),
    ],
)
def test_a_button_says_its_command_and_why_it_failed(
    silent: Fleet, button: str, command: str
) -> None:
    view = ClusterView(silent)
    view.show(cluster())
    controls = view._controls
    controls._node.value = "node3"
    next(b for b in controls._buttons if b.description == button).click()
    assert command in controls._command.value
    assert controls.wait(30)
    assert "role='status'" in controls._status.value and "labkit-alarm" in controls._status.value
    assert "Aucun moteur" in controls._status.value and "labkit up" in controls._status.value
    view.close()


def test_a_scaler_follows_its_service_and_asks_nothing_by_itself(silent: Fleet) -> None:
    scaler = Scaler("whoami", silent, maximum=4)
    assert scaler._slider.disabled
    assert "labkit up" in scaler._status.value
    scaler.show(cluster(task(1, 1)))
    assert scaler.value == 5  # what the service wants, beyond the maximum
    assert not scaler._slider.disabled
    assert "1 sur 5" in scaler._status.value
    assert "docker service scale whoami=5" in scaler._command.value
    assert not scaler._latest.busy
    scaler.show(replace(cluster(), services=()))
    assert "n’existe pas" in scaler._status.value
    assert scaler._slider.disabled
    gone = replace(cluster().services[0], mode="global", replicas=None)
    scaler.show(replace(cluster(), services=(gone,)))
    assert "ne se met pas à l’échelle" in scaler._status.value
    scaler.close()


def test_a_scaler_says_that_it_failed_and_offers_to_try_again(silent: Fleet) -> None:
    scaler = Scaler("whoami", silent)
    scaler.show(cluster())
    scaler.value = 7
    scaler.value = 8
    assert "whoami=8" in scaler._command.value
    assert scaler.wait(20)
    assert "✖" in scaler._status.value
    assert "labkit up" in scaler._status.value
    assert scaler._again.layout.display == ""
    scaler.close()


def test_a_look_older_than_the_last_action_is_no_news(silent: Fleet) -> None:
    scaler = Scaler("whoami", silent)
    scaler.show(cluster())
    scaler.value = 2
    assert scaler.wait(20)
    assert scaler.value == 2
    scaler.show(cluster())  # captured in the past
    assert scaler.value == 2
    scaler.close()


def test_a_repartition_shows_and_raises_its_error(silent: Fleet) -> None:
    spread = Repartition(9999, silent)
    with pytest.raises(LabkitError):
        spread.run()
    assert "✖" in spread._status.value
    assert not spread._start.disabled
    spread._start.click()  # the button shows it and raises nothing
    assert spread.wait(20)
    assert "✖" in spread._status.value
    spread.close()


def test_a_saved_notebook_keeps_a_picture_or_a_sentence(silent: Fleet) -> None:
    view, scaler, spread = ClusterView(silent), Scaler("whoami", silent), Repartition(80, silent)
    for widget, text in ((view, "ClusterView()"), (scaler, "replicas de « whoami » : relancez"),
                         (spread, "au port 80 : relancez")):  # fmt: skip
        bundle = widget._repr_mimebundle_()
        assert text in bundle["text/plain"]
        assert "image/png" in bundle or bundle["text/plain"].endswith(
            "."
        )  # a picture or a sentence
        assert set(bundle) <= {
            "text/plain", "image/png", "application/vnd.jupyter.widget-view+json"
        }  # fmt: skip
        widget.close()


def test_no_pyplot_and_every_name_is_there() -> None:
    code = "import sys, labkit.views; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert all(hasattr(labkit.views, name) for name in labkit.views.__all__)
