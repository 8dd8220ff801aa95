"""Fixtures of the engine tests: a real fleet, and a fresh three-node swarm on it."""

from __future__ import annotations

import pytest
from swarms import leave_all, make_clean

import labkit.engine
from labkit.engine.endpoint import Fleet


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    return labkit.engine.up()


@pytest.fixture
def no_swarm(fleet: Fleet) -> Fleet:
    """The fleet with no swarm at all."""
    leave_all(fleet)
    return fleet


@pytest.fixture
def clean_swarm(fleet: Fleet) -> Fleet:
    """The fleet as a swarm of one manager and two workers, all active, without services."""
    make_clean(fleet)
    return fleet


@pytest.fixture(scope="module")
def swarm(fleet: Fleet) -> Fleet:
    """The same, once for the tests of a module."""
    make_clean(fleet)
    return fleet
