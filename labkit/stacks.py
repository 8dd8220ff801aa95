"""Stacks: the services that one stack file made."""

from labkit.state import ClusterState, Service


def services_of(state: ClusterState, stack: str) -> tuple[Service, ...]:
    """Return the services of a stack, by name; none if there is no such stack."""
    return tuple(s for s in state.services if s.stack == stack)
