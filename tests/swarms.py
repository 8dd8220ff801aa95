"""A swarm for a test, made on real engines whatever was left on them."""

from __future__ import annotations

import contextlib
import time

from actions import remove
from docker.errors import APIError

from labkit.engine.clients import talk
from labkit.engine.endpoint import Fleet
from labkit.state import capture


def swarm_addresses(fleet: Fleet) -> list[str]:
    """Addresses that the nodes use among themselves; 192.168.77.1N where the fleet does not say."""
    return [e.swarm_address or f"192.168.77.1{i}" for i, e in enumerate(fleet, 1)]


def leave_all(fleet: Fleet) -> None:
    """Remove every service, then make each engine leave its swarm, managers last."""
    state = capture(fleet)
    for service in state.services:
        remove(service.name, fleet)
    for engine in sorted(capture(fleet).engines, key=lambda e: e.manager):
        if engine.swarm != "inactive":
            with talk(fleet[engine.name], 60) as api:
                api.leave_swarm(force=True)


def make_swarm(fleet: Fleet) -> None:
    """Make a swarm of one manager and, for the other engines, workers."""
    first, *others = zip(fleet, swarm_addresses(fleet), strict=True)
    with talk(first[0], 60) as api:
        api.init_swarm(advertise_addr=first[1])
        token = api.inspect_swarm()["JoinTokens"]["Worker"]
    for endpoint, address in others:
        with talk(endpoint, 60) as api, contextlib.suppress(APIError):  # it goes on by itself
            api.join_swarm([f"{first[1]}:2377"], token, advertise_addr=address)
    limit = time.monotonic() + 180
    while sum(n.state == "ready" for n in capture(fleet).nodes) < len(fleet):
        assert time.monotonic() < limit, "the nodes are not ready"
        time.sleep(0.5)


def make_clean(fleet: Fleet) -> None:
    """Make the fleet a swarm of one manager and workers, all active, without services."""
    state = capture(fleet)
    sound = (
        state.active
        and len(state.nodes) == len(fleet)
        and [n.role for n in state.nodes].count("manager") == 1
        and all(n.state == "ready" and n.availability == "active" for n in state.nodes)
        and capture(fleet).asked == fleet.endpoints[0].name
    )
    if sound:
        for service in state.services:
            remove(service.name, fleet)
    else:
        leave_all(fleet)
        make_swarm(fleet)
