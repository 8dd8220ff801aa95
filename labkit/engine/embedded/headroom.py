"""The memory and the disk that this server leaves to a cluster."""

from labkit.engine.embedded.build.sealed import need_room
from labkit.engine.embedded.limits import MIB, gibibytes, limits
from labkit.engine.embedded.processes import process_of
from labkit.engine.embedded.record import Record
from labkit.engine.embedded.settings import STATE, Settings
from labkit.engine.progress import Report
from labkit.errors import NotEnoughMemory

RUN = 100_000_000  # bytes of disk that a cluster takes to start
ROOM = f"Faites de la place sur ce disque, ou placez l’état du cluster ailleurs avec {STATE}"
_CLOSE = "Fermez les notebooks dont vous ne vous servez plus, et leurs noyaux avec eux"


def roomy(settings: Settings) -> None:
    """Raise :class:`DiskFull` when a cluster has no room to start."""
    there = next(p for p in (settings.state, *settings.state.parents) if p.exists())
    need_room(there, RUN, f"{ROOM}, puis relancez.")


def within_limits(settings: Settings, report: Report) -> int:
    """Say what this server allows, and that the machine fits; return the kernel's kills so far.

    Raises ``NotEnoughMemory`` when other programs hold what the machine may need.
    """
    found = limits()
    if found.memory is not None:
        report.step(
            f"Ce serveur est limité à {found} : cluster de {settings.nodes} "
            f"nœud{'s' if settings.nodes > 1 else ''}, machine de {settings.guest_memory} Mio"
        )
        if settings.footprint * MIB > found.free:
            raise NotEnoughMemory(
                f"Il reste {gibibytes(found.free)} des {gibibytes(found.memory)} de mémoire de ce "
                f"serveur, et la machine peut en demander {gibibytes(settings.footprint * MIB)}.",
                remedy=f"{_CLOSE}, puis relancez.",
            )
    return found.kills


def crowded(settings: Settings) -> str:
    """Say in French that the machine may soon lack memory; "" where it has enough."""
    found, process = limits(), process_of(settings.run)
    if found.memory is None or process is None:
        return ""
    growth = settings.footprint * MIB - process.memory_info().rss
    if growth <= found.free:
        return ""
    return (
        f"⚠ Mémoire : il reste {gibibytes(found.free)} des {gibibytes(found.memory)} de ce "
        f"serveur, et le cluster peut encore en demander {gibibytes(growth)}. {_CLOSE} (menu "
        "Noyau)."
    )


def ended(what: str, record: Record) -> str:
    """Append a sentence on memory if the kernel has killed programs since the cluster started."""
    found = limits()
    if found.kills <= record.kills:
        return what
    return f"{what} La mémoire de ce serveur ({found}) a été dépassée. {_CLOSE}."
