"""A question to the cluster: any command answers it whose output holds what the cluster says."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from labkit.engine import connect
from labkit.state import ClusterState, Task
from labkit.state.asking import manager
from labkit.text.french import enumerate_fr
from labkit.verdict import Row

if TYPE_CHECKING:
    from docker import APIClient

AGO = r"(?:\d+|[Aa]bout an?|[Ll]ess than a) (?:second|minute|hour|day)s?(?: ago)?"
DATE = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.\d]*"
_ALL, _ONE = "eux tous, et eux seuls", "lui, et lui seul"
_SHOWN = 60  # characters of an output that missed the answer


@dataclass(frozen=True, slots=True)
class Question:
    """A named question: its title for students, and the check of an output."""

    # name, title: for code, and for students
    name: str
    title: str
    # the rows for a state, an output, and what ``more`` found; pure, and it never raises
    check: Callable[[ClusterState, str, Any], Iterable[Row]]
    more: Callable[[], Any] | None = None  # asks for what the state has not


def seen(said: str, what: str, wanted: str, answer: object, hint: str, *forms: str) -> Row:
    """Return whether an output holds an answer: as a whole word, or in one of some patterns.

    ``wanted`` says what the question asks for, ``hint`` what to look at next. An answer of None is
    whatever a pattern finds; "" is none that the cluster could give.
    """
    if answer == "":
        return Row.fault(what, wanted, "le cluster n’en a pas", hint)
    matches = (re.search(form, said) for form in forms or (whole(str(answer)),))
    match = next(filter(None, matches), None)
    if match is None:
        return Row.fault(what, wanted, shown(said), hint)
    return Row.fine(what, wanted, match[0] if answer is None else str(answer))


def whole(word: str) -> str:
    """Return the pattern of a word that is no part of a longer one."""
    return rf"(?<![\w.-]){re.escape(word)}(?![\w-]|\.\w)"


def alone(number: object) -> str:
    """Return the pattern of a number that has a line to itself."""
    return rf"(?m)^\s*{number}\s*$"


def about(said: str, word: str) -> str:
    """Return the lines of an output that have a word; all of them where none has it."""
    lines = [line for line in said.splitlines() if re.search(whole(word), line)]
    return "\n".join(lines) or said


def listing(tasks: Iterable[Task]) -> str:
    """Return the pattern of an output with each of some tasks, by its id or its container's."""
    ids = ("|".join(filter(None, (t.id[:12], t.container_id[:12]))) for t in tasks)
    ahead = "".join(rf"(?=.*(?:{either}))" for either in ids)
    return rf"(?s)\A{ahead}" if ahead else "(?!)"


def only(said: str, what: str, wanted: list[str], among: list[str], source: str, hint: str) -> Row:
    """Return whether an output tells the wanted names from the others.

    It has all of them, and the others only beside ``source``, which says which is which.
    """
    expected = _ALL if len(wanted) > 1 else _ONE
    missing = [name for name in wanted if not re.search(whole(name), said)]
    more = [name for name in among if name not in wanted and re.search(whole(name), said)]
    if wanted and not missing and (not more or re.search(source, said)):
        return Row.fine(what, expected, enumerate_fr(wanted))
    if missing == wanted:
        return Row.fault(what, expected, shown(said), hint)
    found = f"il manque {enumerate_fr(missing)}" if missing else f"en plus : {enumerate_fr(more)}"
    return Row.fault(what, expected, found, hint)


def compact(text: str) -> str:
    """Return a text without the spaces around what compares."""
    return re.sub(r"\s*([=!]=)\s*", r"\1", text)


def shown(said: str) -> str:
    """Return the beginning of an output that missed the answer."""
    first = " ".join(said.strip().partition("\n")[0].split())
    if not first:
        return "votre commande n’affiche rien"
    return f"autre chose : « {first[:_SHOWN]}{'…' if len(first) > _SHOWN else ''} »"


def asked_of(node: str | None, doing: str, question: Callable[[APIClient], Any]) -> Any:
    """Ask an engine, or the first manager that answers, for what no snapshot has.

    ``doing`` is the docker command that does the same. Raises ``LabkitError`` when there is no
    answer.
    """
    from labkit.engine.clients import engine_errors, read

    fleet = connect()
    endpoint = fleet[node] if node else manager(fleet)
    with engine_errors(endpoint, doing):
        return read(endpoint, question)


def definition(service: str) -> Callable[[], dict[str, Any]]:
    """Return what asks for the definition of a service, as docker keeps it; empty without one."""

    def ask(api: APIClient) -> dict[str, Any]:
        found = api.services(filters={"name": service})
        return next((s for s in found if s["Spec"]["Name"] == service), {})

    return partial(asked_of, None, f"docker service inspect {service}", ask)


def virtual(service: Mapping[str, Any], state: ClusterState, network: str) -> str:
    """Return the virtual address of a service's definition in a network; "" where it has none."""
    found = state.network(network)
    pairs = ((service or {}).get("Endpoint") or {}).get("VirtualIPs") or ()
    addresses = (a["Addr"] for a in pairs if found and a["NetworkID"] == found.id and a.get("Addr"))
    return next(addresses, "").partition("/")[0]


def config(name: str) -> Callable[[], str]:
    """Return what asks for the text of a config; empty without one."""

    def ask(api: APIClient) -> str:
        found = api.configs(filters={"name": name})
        data = next((c["Spec"]["Data"] for c in found if c["Spec"]["Name"] == name), "")
        return b64decode(data).decode()

    return partial(asked_of, None, f"docker config inspect {name}", ask)


def config_rows(state: ClusterState, said: str, text: Any) -> Iterator[Row]:
    """Check that an output has all lines of a config's text."""
    lines = {" ".join(line.split()) for line in (text or "").splitlines()} - {""}
    there = len(lines & {" ".join(line.split()) for line in said.splitlines()})
    hint = "Une config se garde en base64 : quelle option d’inspect la rend lisible ?"
    yield Row.equal("Lignes de la config", len(lines) or "au moins une", there, hint)
