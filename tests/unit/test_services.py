"""Commands, and how recorded answers of a real cluster are judged."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from labkit.errors import SettingError
from labkit.nodes import Activate, Demote, Drain, Promote
from labkit.services import Create, Progress, Remove, Scale, Update, progress_of
from labkit.state import from_raw

RECORDED = Path(__file__).parent / "recorded"


def judged(moment: str, **options: object) -> Progress:
    raw = json.loads((RECORDED / f"{moment}.json").read_text())
    nodes = {node.id: node for node in from_raw(raw).nodes}
    (service,) = raw["services"]
    return progress_of(service, raw["tasks"], nodes, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("action", "command"),
    [
        (
            Create("whoami", "traefik/whoami", replicas=5),
            "docker service create --name whoami --replicas 5 --publish 9999:80 traefik/whoami",
        ),
        (
            Create("web", "traefik/whoami", publish=((80, 80),), publish_mode="host"),
            "docker service create --name web --replicas 1 "
            "--publish mode=host,published=80,target=80 traefik/whoami",
        ),
        (
            Create("g", "i", mode="global", publish=(), networks=("n",), args=("-c", "a b")),
            "docker service create --name g --mode global --network n i -c 'a b'",
        ),
        (
            Create("c", "i", publish=(), constraints=("node.role == worker",), env=("A=1 2",)),
            "docker service create --name c --replicas 1 --constraint 'node.role == worker' "
            "--env 'A=1 2' i",
        ),
        (Scale("whoami", 8), "docker service scale whoami=8"),
        (Update("web", image="i:2"), "docker service update --image i:2 web"),
        (Update("web", force=True), "docker service update --force web"),
        (Remove("whoami"), "docker service rm whoami"),
        (Promote("node2"), "docker node promote node2"),
        (Demote("node2"), "docker node demote node2"),
        (Drain("node2"), "docker node update --availability drain node2"),
        (Activate("node2"), "docker node update --availability active node2"),
    ],
)
def test_every_action_says_its_command(action: Create, command: str) -> None:
    assert action.command == command
    assert shlex.split(action.command)[0] == "docker"


@pytest.mark.parametrize(
    ("moment", "running", "starting", "stopping", "failed", "done"),
    [
        ("three_nodes_whoami_5", 5, 0, 0, 0, True),
        ("scaling_up", 5, 3, 0, 0, False),
        ("scaling_down", 5, 0, 3, 0, False),
        ("node2_drained", 5, 0, 0, 0, True),
        ("host_mode_pending", 3, 2, 0, 0, False),
        ("global_service", 3, 0, 0, 0, True),
    ],
)
def test_progress(
    moment: str, running: int, starting: int, stopping: int, failed: int, done: bool
) -> None:
    p = judged(moment)
    assert (p.running, p.starting, p.stopping, p.failed, p.done) == (
        running,
        starting,
        stopping,
        failed,
        done,
    )
    assert p.message.startswith(f"{running}/{p.wanted} en marche")


def test_tasks_of_a_former_version_do_not_count() -> None:
    p = judged("updating")
    assert p.running == 0 and p.wanted == 5 and not p.done
    assert "à remplacer" in p.message


def test_failures_count_unless_they_are_from_before() -> None:
    p = judged("missing_image")
    assert p.running == 0 and p.failed >= 2 and not p.done and "échecs" in p.message
    old = [t.id for t in judged("missing_image").tasks if t.failed]
    assert judged("missing_image", seen=old).failed == 0


def test_values_that_cannot_be_meant() -> None:
    for make in (
        lambda: Scale("web", -1),
        lambda: Create("web", "i", replicas=-1),
        lambda: Create("web", "i", mode="partout"),
        lambda: Create("web", "i", publish_mode="maison"),
        lambda: Update("web"),
    ):
        with pytest.raises(SettingError):
            make()
