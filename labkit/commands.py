"""The last commands given to the cluster, kept beside it while it runs: the cockpit shows them."""

import contextlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from labkit.engine.embedded.ownership import ours
from labkit.engine.embedded.settings import Settings
from labkit.masking import mask

_KEPT = 50
_WORDS = ("docker ", "labkit ")


@dataclass(frozen=True, slots=True)
class Command:
    """A ``docker`` or ``labkit`` command, join tokens masked, and when it was given, UTC."""

    at: datetime
    text: str


def note(text: str) -> None:
    """Keep the commands among the lines of a text, as long as the embedded cluster runs.

    What cannot be written is left out: a command matters more than its trace.
    """
    now = datetime.now(UTC).isoformat()
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    new = [[now, mask(" ".join(line.split()))] for line in lines if line.startswith(_WORDS)]
    path = _file()
    if not new or not ours(path.parent):
        return
    with contextlib.suppress(OSError):
        kept = [[c.at.isoformat(), c.text] for c in last(_KEPT)]
        written = path.with_suffix(".new")
        written.write_text(json.dumps([*kept, *new][-_KEPT:]), encoding="utf-8")
        written.replace(path)


def last(count: int = 5) -> tuple[Command, ...]:
    """Return the last commands, the newest at the end; none where no cluster runs."""
    try:
        rows = json.loads(_file().read_text(encoding="utf-8"))
        return tuple(Command(datetime.fromisoformat(at), str(text)) for at, text in rows)[-count:]
    except (OSError, ValueError, TypeError):
        return ()


def _file() -> Path:
    return Settings.read().run / "commands.json"
