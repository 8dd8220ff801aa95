"""labkit: a real Docker Swarm in a notebook, its state as data, its traffic measured."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labkit.engine import Fleet, Status, connect, down, reset, status, up

__all__ = ["Fleet", "Status", "connect", "down", "reset", "status", "up"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import the engine when it is first asked for: with docker, it takes a third of a second."""
    if name in (*__all__, "engine"):
        engine = import_module("labkit.engine")
        return engine if name == "engine" else getattr(engine, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
