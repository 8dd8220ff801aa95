"""Ask the student a question about what a check found, before it tells the way out."""

from collections.abc import Iterator
from dataclasses import replace

from labkit.state import ClusterState
from labkit.verdict import Row, Verdict

_LEADS = ("Attendez", "Comparez", "Lisez", "Relancez")  # hints that give no answer
_SILENT = {"no-leader", "no-quorum", "unreachable", "locked"}  # no mistake in what was asked for
_asked: set[tuple[str, str]] = set()  # exercises and rows of which a verdict had no answer


def ask_first(exercise: str, verdict: Verdict, state: ClusterState | None) -> Verdict:
    """Return a verdict whose faults, the first time, have one question instead of their answers.

    A hint that only leads stays. Where nothing was checked, or the cluster does not answer, all
    hints are there at once.
    """
    if state is None or state.swarm in _SILENT or verdict.ok:
        return verdict
    return replace(verdict, rows=tuple(_led(exercise, verdict)))


def _led(exercise: str, verdict: Verdict) -> Iterator[Row]:
    asking = False
    for row in verdict.rows:
        key = (exercise, row.what)
        if row.ok or not row.hint or row.hint.startswith(_LEADS) or key in _asked:
            yield row
        else:
            yield replace(row, hint="" if asking else question(row))
            asking = True
            _asked.add(key)


def question(row: Row) -> str:
    """Return what to ask about a fault, from what was found."""
    if "→" in row.expected and "→" in row.found:
        asked = "De ces deux ports, lequel est celui du cluster, et lequel celui du conteneur ?"
    elif row.found[:1].isdigit() and row.expected[:1].isdigit():
        asked = "Trop, ou trop peu ? Quelle commande change ce nombre ?"
    elif row.found.startswith(("aucun", "absent", "inactif")):
        asked = "Quelle commande devait le faire, et l’avez-vous adressée au bon nœud ?"
    else:
        asked = "Qu’est-ce qui en décide, dans ce que vous avez tapé ?"
    return f"{asked} Si vous ne trouvez pas, vérifiez encore\u00a0: la réponse s’affichera ici."
