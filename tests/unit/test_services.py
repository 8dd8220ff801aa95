"""Commands, and how recorded answers of a real cluster are judged."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pytest

from labkit.convergence import Patience
from labkit.errors import ConvergenceTimeout, ImageNotFound, LabkitError, SettingError
from labkit.failures import failure
from labkit.nodes import Activate, Demote, Drain, Promote
from labkit.services import Scale, ServiceProgress, progress_of
from labkit.state import from_raw

RECORDED = Path(__file__).parent / "recorded"


def judged(moment: str, **options: object) -> ServiceProgress:
    raw = json.loads((RECORDED / f"{moment}.json").read_text())
    nodes = {node.id: node for node in from_raw(raw).nodes}
    (service,) = raw["services"]
    return progress_of(service, raw["tasks"], nodes, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("action", "command"),
    [
        (Scale("whoami", 8), "docker service scale whoami=8"),
        (Promote("node2"), "docker node promote node2"),
        (Demote("node2"), "docker node demote node2"),
        (Drain("node2"), "docker node update --availability drain node2"),
        (Activate("node2"), "docker node update --availability active node2"),
    ],
)
def test_every_action_says_its_command(action: Scale, command: str) -> None:
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


def test_a_negative_number_of_replicas_is_refused() -> None:
    with pytest.raises(SettingError):
        Scale("web", -1)


# -- waiting, fed with recorded moments -----------------------------------------------------


def after(*looks: tuple[float, str]) -> Patience:
    patience = Patience()
    for elapsed, moment in looks:
        patience = patience.look(judged(moment, elapsed=elapsed))
    return patience


def test_a_service_as_wanted_is_done_at_once() -> None:
    assert after((0.4, "scaling_up"), (0.8, "three_nodes_whoami_5")).done
    assert not after((0.4, "three_nodes_whoami_5"), (0.8, "scaling_up")).done


def test_a_service_that_had_failures_is_believed_after_a_while() -> None:
    good = judged("three_nodes_whoami_5")
    patience = Patience()
    for elapsed, done in ((1.0, False), (3.0, False), (5.9, False), (6.0, True)):
        patience = patience.look(replace(good, failed=1, elapsed=elapsed))
        assert patience.done is done
    patience = patience.look(judged("scaling_up", elapsed=6.5))
    assert not patience.look(replace(good, failed=1, elapsed=7.0)).done


def test_tasks_that_no_node_can_take_are_given_up_after_a_while() -> None:
    moment = "host_mode_pending"
    assert not after((1.0, moment), (6.9, moment)).over
    assert after((1.0, moment), (4.0, moment), (7.0, moment)).over
    assert not after((1.0, moment), (4.0, "scaling_up"), (7.0, moment)).over
    assert not after((1.0, "scaling_up"), (60.0, "scaling_up")).over


def failing(moment: str, *, lacking: bool, seen: Collection[str] = ()) -> LabkitError | None:
    raw = json.loads((RECORDED / f"{moment}.json").read_text())
    return failure(raw["services"][0], judged(moment), seen, lambda task, image: lacking)


def test_a_missing_image_is_named() -> None:
    error = failing("missing_image", lacking=True)
    assert isinstance(error, ImageNotFound)
    assert "nosuch/image:1" in error.message and "docker service rm absent" in error.remedy


def test_failures_are_given_up_when_one_task_fails_again_and_again() -> None:
    raw = json.loads((RECORDED / "missing_image.json").read_text())
    seen = judged("missing_image")
    one = next(t for t in seen.tasks if t.failed)
    others = [t for t in seen.tasks if t.starting]

    def told(times: int) -> LabkitError | None:
        failed = [replace(one, id=f"{i}", state="failed", error="exit 1") for i in range(times)]
        now = replace(seen, tasks=(*failed, *others))
        return failure(raw["services"][0], now, (), lambda *_: False)

    assert told(2) is None
    error = told(3)
    assert isinstance(error, ConvergenceTimeout) and "les unes après les autres" in error.message


def test_what_failed_before_or_goes_well_is_no_failure() -> None:
    old = [t.id for t in judged("missing_image").tasks]
    assert failing("missing_image", lacking=True, seen=old) is None
    assert failing("scaling_up", lacking=True) is None
