"""The equivalents of Swarm in Kubernetes: one table, for the course and the code."""

from typing import NamedTuple

from labkit.documents import beside


class Equivalent(NamedTuple):
    """An option of a stack, and its equivalent in Kubernetes."""

    answer: str  # in a few French words
    hint: str  # where to look, for those who search
    kinds: tuple[str, ...] = ()  # objects that are this option


_TABLE = beside(__file__)
EQUIVALENTS = {
    option: Equivalent(one["answer"], one["hint"], tuple(one.get("kinds", ())))
    for option, one in _TABLE["equivalents"].items()
}
"""By option of a stack."""

ONLY_KUBERNETES: dict[str, str] = _TABLE["only-kubernetes"]
"""Objects that notebook 06 names as Kubernetes's alone, and what they are."""

KINDS = {kind for equivalent in EQUIVALENTS.values() for kind in equivalent.kinds}
"""Kinds of objects that do what an option of a stack does."""
