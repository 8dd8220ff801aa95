"""The log of a node's engine: what ``systemctl status docker`` shows, read from the machine."""

import json
import re
import shlex
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from labkit.engine.embedded.faults import embedded, in_guest, number
from labkit.engine.endpoint import Endpoint, Fleet
from labkit.errors import SettingError
from labkit.masking import mask

LOG_BYTES = 4_000_000  # of the end of a log, at most
FOLLOW_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of an engine's log."""

    # when it was written, UTC; None for what is not one of the engine's own messages
    when: datetime | None
    level: str  # ``info``, ``warning``, ``error``…, or ""
    text: str  # the message, join tokens masked, each Raft member followed by its node's name
    module: str = ""  # the part of the engine that says it, such as ``raft``, or ""

    def __str__(self) -> str:
        if self.when is None:
            return self.text
        module = f"{self.module}: " if self.module else ""
        return f"{self.when.astimezone():%H:%M:%S} {self.level:<7} {module}{self.text}"


@dataclass(frozen=True, slots=True)
class Log:
    """The lines of a node's engine, oldest first; printed as they would be in a terminal."""

    node: str
    lines: tuple[LogLine, ...] = field(repr=False)
    election: bool = False  # only what tells of elections

    def __iter__(self) -> Iterator[LogLine]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)

    def __str__(self) -> str:
        what = "aucune élection dans le journal ; seuls les managers votent."
        if not self.election:
            what = "rien dans le journal."
        return "\n".join(map(str, self.lines)) or f"{self.node} : {what}"

    def _repr_pretty_(self, printer: object, cycle: bool) -> None:
        printer.text(str(self))  # type: ignore[attr-defined]


ELECTION = (  # for the guest's grep
    "new election|became (candidate|follower|leader)|(elected|lost|changed) leader"
    "|leadership changed|MsgVote|MsgTimeoutNow"
)
_FIELD = re.compile(r'([\w.-]+)=("(?:[^"\\]|\\.)*"|\S*)')
_GOSSIP = re.compile(r"Keys:\[\[.*?\]\]")  # the keys of the overlay networks' control plane
_BORN = re.compile(r"/run/(node\d+)\.log:newRaft ([0-9a-f]+)")  # a node's number in Raft
_MEMBER = re.compile(r"\b[0-9a-f]{8,16}\b")
_AGO = re.compile(r"(\d+)\s*([smhj])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "j": "days"}


def logs(
    name: str,
    *,
    election: bool = False,
    since: str | datetime | timedelta | None = None,
    fleet: Fleet | None = None,
) -> Log:
    """Return the log of a node's engine, which ``systemctl status docker`` shows the end of.

    A node that is killed, stopped or cut has one, too. With ``election``, only what tells of
    candidates, votes and leaders; with ``since``, only what is younger: a time, an age, or either
    as text, such as ``"90s"``, ``"10m"`` or ``"2026-01-31T14:05"`` (local time). Raises
    ``NoSuchNode``, ``MachineFailed``, or ``SettingError`` for a ``since`` that is no time and for
    engines that are not the embedded cluster's.
    """
    start = moment(since)
    fleet = embedded(fleet, _JOURNAL)
    endpoint = fleet[name]
    lines, _ = _read(fleet, endpoint, 0, election)
    kept, on = [], start is None
    for line in lines:  # what has no time belongs to what stands above it
        on = on if line.when is None or start is None else line.when >= start
        if on:
            kept.append(line)
    return Log(name, tuple(kept), election)


def follow(name: str, *, election: bool = False, fleet: Fleet | None = None) -> Iterator[LogLine]:
    """Yield what a node's engine writes from now on, without an end.

    Parameters and errors are those of :func:`logs`.
    """
    fleet = embedded(fleet, _JOURNAL)
    endpoint = fleet[name]
    _, offset = _read(fleet, endpoint, None, election)
    while True:
        time.sleep(FOLLOW_SECONDS)
        lines, offset = _read(fleet, endpoint, offset, election)
        yield from lines


_JOURNAL = "sudo journalctl -u docker"


def moment(since: str | datetime | timedelta | None) -> datetime | None:
    """Return the time that a student means by ``since``."""
    if isinstance(since, str):
        ago = _AGO.fullmatch(since.strip())
        try:
            since = (
                timedelta(**{_UNITS[ago[2]]: int(ago[1])})
                if ago
                else datetime.fromisoformat(since.strip())
            )
        except (ValueError, OverflowError):
            raise SettingError(
                f"« {since} » n’est ni une durée ni une date.",
                remedy="Écrivez par exemple 90s, 10m, 2h, ou 2026-01-31T14:05.",
            ) from None
    if isinstance(since, timedelta):
        return datetime.now(UTC) - since
    return since.astimezone(UTC) if since else None


def _read(
    fleet: Fleet, endpoint: Endpoint, offset: int | None, election: bool
) -> tuple[list[LogLine], int]:
    """Return the log from a byte on (None: nothing of it), and where its last whole line ends."""
    file = f"/run/node{number(endpoint)}.log"
    begin = "$size" if offset is None else str(offset)
    said = in_guest(
        f"size=$(wc -c <{file}) && echo $size || exit 1\n"
        f"grep -o 'newRaft [0-9a-f]*' /dev/null /run/node?.log\n"
        "echo\n"
        f"from={begin}; [ $from -le $size ] || from=0\n"  # it began again
        f"tail -c +$((from + 1)) {file} | head -c $((size - from)) |\n"
        f"{f'grep -E {shlex.quote(ELECTION)}' if election else 'cat'} | tail -c {LOG_BYTES}\n"
        "true",
        timeout=60,
    )
    head, _, text = said.partition("\n\n")
    if len(text.encode()) >= LOG_BYTES:  # its first line was cut
        text = text.partition("\n")[2]
    members = {member: node for node, member in _BORN.findall(head)}
    lines = [parse(line, members) for line in text.splitlines() if line]
    return lines, int(head.partition("\n")[0])


def parse(line: str, members: Mapping[str, str]) -> LogLine:
    """Read one line of a log as an engine writes it; no secret comes through.

    ``members`` are names of nodes by their number in Raft, in hexadecimal.

    >>> parse('time="2026-01-31T14:05:06Z" level=info msg="2f became leader" module=raft', {}).text
    '2f became leader'
    """
    line = _GOSSIP.sub("Keys:•••", mask(line))
    fields = {key: _unquote(value) for key, value in _FIELD.findall(line)}
    if "time" not in fields or "msg" not in fields:
        return LogLine(None, "", line)
    text = fields["msg"].strip()
    if "error" in fields:
        text += f" : {fields['error']}"
    return LogLine(
        datetime.fromisoformat(fields["time"]),
        fields.get("level", ""),
        _MEMBER.sub(lambda m: f"{m[0]} ({members[m[0]]})" if m[0] in members else m[0], text),
        fields.get("module", ""),
    )


def _unquote(value: str) -> str:
    if not value.startswith('"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:  # Go has escapes that JSON has not
        return value[1:-1]
