"""The cluster as a picture: nodes as columns, tasks as boxes; pure and deterministic."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from labkit.errors import LabkitError
from labkit.state import ClusterState, EngineState, Node, Service, Task
from labkit.views.palette import DARK, FAILURE, LIGHT, SIGNS, Sign, Theme, node_colours, sign_of
from labkit.views.picture import Box, Picture, Text, fit, join, text_width, wrap

WIDTH = 1200.0
_MARGIN = 16.0
_GAP = 12.0
_PAD = 10.0  # inside a column
_TOP = 92.0  # where columns begin
_HEAD = 76.0  # height of a column's head
_MIN_BODY = 186.0  # height that is kept even when there are few tasks
_ROW_GAP = 6.0
_NAME, _BODY, _SMALL, _TINY = 25.0, 19.0, 17.0, 15.0  # sizes of type
_ACROSS = 8  # columns side by side; more nodes than that are drawn small, in several bands
_MOST = 12  # current tasks shown in a column as boxes, the others are chips
_NARROW = 137.0  # columns less wide than this have smaller heads
_CHIP, _CHIP_GAP = 21.0, 4.0  # a task as its sign alone
_HISTORY = 3  # tasks of the past shown in a column

_AVAILABILITY = {"drain": "drain", "pause": "pause"}


def cluster_svg(state: ClusterState, *, dark: bool = False) -> str:
    """Draw any state as SVG, also without a swarm or without an answer."""
    return cluster_picture(state, dark=dark).svg()


def cluster_picture(state: ClusterState, *, dark: bool = False) -> Picture:
    """Lay the cluster out; equal states of a cluster give equal pictures.

    Each node is a column with its role, availability and state. Its current tasks come first,
    by service and slot, then failures and the most recent tasks that are over. Tasks that no
    node has taken have a column of their own, with the reason. Where there are too many for
    boxes, a task is its sign alone, with its name for the pointer and in the description.
    """
    theme = DARK if dark else LIGHT
    if not state.active:
        return _without_swarm(state, theme)
    colours = node_colours(n.name for n in state.nodes)
    known = {n.id for n in state.nodes}
    small = len(state.nodes) >= _ACROSS
    most = 0 if small else _MOST
    here: defaultdict[str, list[Task]] = defaultdict(list)
    for task in state.tasks:
        here[task.node_id].append(task)
    locked = {e.name for e in state.engines if e.swarm == "locked"}
    columns = [
        _node_column(
            n,
            colours[n.name],
            here[n.id],
            theme,
            most,
            badge="verrouillé" if n.name in locked else "",
            role=f"ancien : {n.id[:12]}" if n in state.stale else "",
        )
        for n in state.nodes
    ]
    columns.append(_waiting_column(state.tasks, known, theme, most))
    across = min(len(columns), _ACROSS)
    width = (WIDTH - 2 * _MARGIN - _GAP * (across - 1)) / across

    shapes: list[Box | Text] = []
    shapes += _title(_cluster_line(state), _services_line(state), theme)
    bottom = _TOP
    for first in range(0, len(columns), across):
        band = columns[first : first + across]
        body = max(0 if small else _MIN_BODY, *(c.height(width) for c in band), 40)
        for i, column in enumerate(band):
            shapes += column.draw(_MARGIN + i * (width + _GAP), bottom, width, body, theme)
        bottom += _HEAD + body + _GAP
    shapes += _legend(bottom + 24, theme)
    return Picture(
        WIDTH, bottom + 42, theme.paper, tuple(shapes), _cluster_line(state), _in_words(state)
    )


def error_picture(error: LabkitError, *, dark: bool = False) -> Picture:
    """Show an error and its remedy where the cluster would be."""
    theme = DARK if dark else LIGHT
    shapes, y = _message(error.message, error.remedy, theme)
    return Picture(WIDTH, y + 12, theme.paper, tuple(shapes), error.message, error.remedy)


# -- columns --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Row:
    """One box of a column."""

    sign: Sign | None
    label: str
    word: str  # the state, in Swarm's own word
    colour: str
    note: str = ""
    tip: str = ""
    small: bool = False

    def _lines(self, width: float) -> list[str]:
        return wrap(self.note, _TINY, width - 2 * _PAD - 14, 3) if self.note else []

    def _two(self, width: float) -> bool:
        """Whether label and state need a line each."""
        size = _SMALL if self.small else _BODY
        need = text_width(self.label, size, bold=True) + text_width(self.word, _SMALL)
        return bool(self.word) and need + 58 > width - 2 * _PAD

    def height(self, width: float) -> float:
        base = 30.0 if self.small else 37.0
        return base + (22 if self._two(width) else 0) + 19 * len(self._lines(width))

    def draw(self, x: float, y: float, width: float, theme: Theme) -> list[Box | Text]:
        height = self.height(width)
        inner = width - 2 * _PAD
        if self.sign is None:  # a line that stands for folded tasks
            text = fit(self.label, _SMALL, inner)
            return [Text(x + _PAD + 4, y + 21, text, _SMALL, theme.faint)]
        kind = self.sign.kind
        size = _SMALL if self.small else _BODY
        ink = theme.faint if kind in ("over", "complete") else theme.ink
        shapes: list[Box | Text] = [
            _task_box(x + _PAD, y, inner, height, self.sign, self.colour, self.tip, theme)
        ]
        base = y + (21 if self.small else 25)
        mark = FAILURE if kind == "failed" else ink
        shapes.append(Text(x + _PAD + 9, base, self.sign.symbol, size, mark))
        room = inner - 44
        if not self._two(width):
            room -= text_width(self.word, _SMALL) + 8
        label = fit(self.label, size, room, bold=True)
        shapes.append(Text(x + _PAD + 33, base, label, size, ink, bold=True))
        word_ink = theme.alarm if kind == "failed" else ink
        if self._two(width):
            base += 22
            shapes.append(Text(x + _PAD + 33, base, self.word, _SMALL, word_ink))
        else:
            shapes.append(Text(x + width - _PAD - 9, base, self.word, _SMALL, word_ink,
                               anchor="end"))  # fmt: skip
        for line in self._lines(width):
            base += 19
            shapes.append(Text(x + _PAD + 9, base, line, _TINY, theme.ink))
        return shapes


@dataclass(frozen=True, slots=True)
class _Chips:
    """Tasks of a column as their signs alone, in as many lines as it takes."""

    chips: tuple[tuple[Sign, str], ...]  # sign and tip
    colour: str

    @staticmethod
    def _across(width: float) -> int:
        return max(1, int((width - 2 * _PAD + _CHIP_GAP) // (_CHIP + _CHIP_GAP)))

    def height(self, width: float) -> float:
        lines = -(-len(self.chips) // self._across(width))
        return lines * (_CHIP + _CHIP_GAP) - _CHIP_GAP

    def draw(self, x: float, y: float, width: float, theme: Theme) -> list[Box | Text]:
        shapes: list[Box | Text] = []
        for i, (sign, tip) in enumerate(self.chips):
            line, place = divmod(i, self._across(width))
            left = x + _PAD + place * (_CHIP + _CHIP_GAP)
            top = y + line * (_CHIP + _CHIP_GAP)
            mark = FAILURE if sign.kind == "failed" else theme.ink
            shapes.append(_task_box(left, top, _CHIP, _CHIP, sign, self.colour, tip, theme))
            shapes.append(Text(left + _CHIP / 2, top + 15, sign.symbol, 13, mark, anchor="middle"))
        return shapes


def _task_box(
    x: float, y: float, width: float, height: float, sign: Sign, colour: str, tip: str, theme: Theme
) -> Box:
    """Return the box of a task; ``colour`` is that of its node."""
    fill, opacity, hatch, stroke = theme.paper, 1.0, "", colour
    if sign.kind == "running":
        fill, opacity = colour, 0.32
    elif sign.kind == "failed":
        hatch, stroke = FAILURE, FAILURE
    elif sign.kind in ("over", "complete", "pending"):
        stroke = theme.line
    return Box(x, y, width, height, fill, stroke, sign.border, hatch, tip=tip, opacity=opacity)


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    role: str
    badge: str
    colour: str
    rows: tuple[_Row | _Chips, ...]
    alarm: bool = False  # the badge is about a failure
    hatch: bool = False  # nothing new is placed here
    empty: str = "aucune task"

    def height(self, width: float) -> float:
        return 10 + sum(r.height(width) + _ROW_GAP for r in self.rows)

    def draw(self, x: float, y: float, width: float, body: float, theme: Theme) -> list[Box | Text]:
        stroke = theme.alarm if self.alarm else theme.line
        hatch = FAILURE if self.alarm else theme.line if self.hatch else ""
        height = _HEAD + body
        shapes: list[Box | Text] = [
            Box(x, y, width, height, theme.card, stroke, "thick" if self.alarm else "solid",
                hatch, radius=8),
        ]  # fmt: skip
        if self.colour:
            shapes.append(Box(x + 2, y + 2, width - 4, 10, self.colour, radius=4))
        badge_width = text_width(self.badge, _SMALL, bold=True) + 18 if self.badge else 0
        size = _NAME if width >= _NARROW else _BODY
        name = fit(self.name, size, width - 2 * _PAD - badge_width, bold=True)
        shapes.append(Text(x + _PAD + 2, y + 40, name, size, theme.ink, bold=True))
        if self.badge:
            colour = theme.alarm if self.alarm else theme.ink
            left = x + width - _PAD - badge_width
            shapes.append(Box(left, y + 19, badge_width, 27, theme.paper, colour, "solid"))
            shapes.append(Text(left + badge_width / 2, y + 39, self.badge, _SMALL, colour,
                               bold=True, anchor="middle"))  # fmt: skip
        role = fit(self.role, _SMALL, width - 2 * _PAD)
        shapes.append(Text(x + _PAD + 2, y + 65, role, _SMALL, theme.ink))
        top = y + _HEAD + 4
        for row in self.rows:
            shapes += row.draw(x, top, width, theme)
            top += row.height(width) + _ROW_GAP
        if not self.rows:
            shapes.append(Text(x + width / 2, y + _HEAD + 34, self.empty, _SMALL, theme.faint,
                               anchor="middle"))  # fmt: skip
        return shapes


def _node_column(
    node: Node,
    colour: str,
    here: Sequence[Task],
    theme: Theme,
    most: int,
    *,
    badge: str = "",
    role: str = "",
) -> _Column:
    """Return the column of a node; ``badge`` and ``role`` say more than what the swarm says."""
    alarm = bool(badge) or node.state != "ready"
    badge = f"✖ {badge or node.state}" if alarm else _AVAILABILITY.get(node.availability, "")
    if node.leader:
        standing = "★ manager leader" if most else "★ leader"
    elif node.role == "manager" and node.reachability == "reachable" and not most:
        standing = "manager"
    elif node.role == "manager":
        standing = f"manager {node.reachability or ''}".strip()
    else:
        standing = "worker"
    role = role or standing
    if alarm and node.availability != "active":
        role += f" · {node.availability}"
    name = node.name or node.id[:12]
    hatch = node.availability != "active"
    return _Column(
        name, role, badge, colour, tuple(_rows(here, colour, most)), alarm=alarm, hatch=hatch
    )


def _waiting_column(tasks: Sequence[Task], known: set[str], theme: Theme, most: int) -> _Column:
    waiting = [t for t in tasks if t.current and not t.node_id]
    lost = [t for t in tasks if t.node_id and t.node_id not in known and (t.current or t.stopping)]
    role = f"{len(waiting) + len(lost)} en attente" if waiting or lost else "tasks à placer"
    return _Column(
        "Sans nœud", role, "", "", tuple(_rows([*waiting, *lost], theme.line, most)), empty="aucune"
    )


def _rows(tasks: Sequence[Task], colour: str, most: int) -> list[_Row | _Chips]:
    """Return the boxes of one column: what is, then what failed lately, then what is over.

    Beyond the first ``most``, what is are chips.
    """
    now = [t for t in tasks if t.current or t.stopping]
    past = [t for t in tasks if not (t.current or t.stopping) and t.node_id]
    past.sort(key=lambda t: (t.failed, t.since.timestamp() if t.since else 0.0), reverse=True)
    shown, small = now[:most], now[most:]
    rows: list[_Row | _Chips] = [_row(t, colour) for t in shown]
    if small:
        rows.append(
            _fold(small, colour) if shown else _Row(None, _plural(len(now), "task"), "", colour)
        )
        rows.append(_Chips(tuple((sign_of(t), _tip(t)) for t in small), colour))
    rows += [_row(t, colour, small=True) for t in past[:_HISTORY]]
    if past[_HISTORY:]:
        rows.append(_fold(past[_HISTORY:], colour))
    return rows


def _row(task: Task, colour: str, *, small: bool = False) -> _Row:
    sign = sign_of(task)
    note = task.error if sign.kind in ("failed", "pending", "starting") else ""
    return _Row(sign, task.label, _word(task), colour, note, _tip(task), small)


def _word(task: Task) -> str:
    return f"{task.state} → {task.desired}" if task.stopping and not task.failed else task.state


def _tip(task: Task) -> str:
    return join((task.label, task.image, _word(task), task.error or task.message))


def _fold(tasks: Sequence[Task], colour: str) -> _Row:
    counts = Counter(t.state for t in tasks)
    text = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    return _Row(None, f"+ {text}", "", colour)


# -- lines above and below ------------------------------------------------------------------


def _title(first: str, second: str, theme: Theme) -> list[Box | Text]:
    room = WIDTH - 2 * _MARGIN
    return [
        Text(_MARGIN + 2, 36, fit(first, 24, room, bold=True), 24, theme.ink, bold=True),
        Text(_MARGIN + 2, 70, fit(second, 20, room), 20, theme.ink),
    ]


def _plural(count: int, word: str) -> str:
    return f"{count} {word}{'s' if count > 1 else ''}"


def _cluster_line(state: ClusterState) -> str:
    return join(
        (
            _plural(len(state.nodes), "nœud"),
            f"{_plural(len(state.voters), 'manager')} (quorum {state.quorum})",
            f"leader : {state.leader.name}" if state.leader else "pas de leader",
        )
    )


def _services_line(state: ClusterState) -> str:
    if not state.services:
        return "Aucun service"
    stacks: dict[str, list[str]] = {}  # one stack has its name once, before its services
    for service in sorted(state.services, key=lambda s: s.stack or ""):
        stacks.setdefault(service.stack or "", []).append(_service_text(service, state))
    return " · ".join(
        f"{stack} : {' · '.join(texts)}" if stack else " · ".join(texts)
        for stack, texts in stacks.items()
    )


def _service_text(service: Service, state: ClusterState) -> str:
    ports = " ".join(
        f":{p.published}" + ("" if p.mode == "ingress" else " (host)")
        for p in service.ports
        if p.published
    )
    name = service.name.removeprefix(f"{service.stack}_") if service.stack else service.name
    text = f"{name} {state.tally(service.id)}"
    return f"{text} {ports}" if ports else text


def _legend(y: float, theme: Theme) -> list[Box | Text]:
    shapes: list[Box | Text] = []
    x = _MARGIN + 2
    for sign in SIGNS:
        colour = FAILURE if sign.kind == "failed" else theme.faint
        shapes.append(Text(x, y, sign.symbol, _TINY + 2, colour))
        shapes.append(Text(x + 22, y, sign.meaning, _TINY + 1, theme.faint))
        x += 22 + text_width(sign.meaning, _TINY + 1) + 22
    return shapes


def _in_words(state: ClusterState) -> str:
    """Say the picture for those who hear it."""
    parts = [_services_line(state)]
    here: defaultdict[str, list[Task]] = defaultdict(list)
    for task in state.tasks:
        if task.current or task.stopping:
            here[task.node_id].append(task)
    for node in state.nodes:
        said = ", ".join(f"{t.label} {t.state}" for t in here[node.id]) or "aucune task"
        parts.append(f"{node.name} ({node.role}, {node.state}, {node.availability}) : {said}")
    waiting = [t for t in state.tasks if t.current and not t.node_id]
    if waiting:
        parts.append("Sans nœud : " + ", ".join(t.label for t in waiting))
    return ". ".join(parts) + "."


# -- no swarm, no answer --------------------------------------------------------------------


def _why(state: ClusterState) -> tuple[str, str]:
    if state.swarm == "inactive":
        return "Pas encore de swarm", "Créez-le dans un terminal : docker swarm init"
    if state.swarm == "unreachable":
        return (
            "Le cluster ne répond plus",
            "Regardez « labkit status », puis relancez « labkit up ». Cette vue reprendra seule.",
        )
    try:
        state.require()
    except LabkitError as error:
        return error.message, error.remedy
    return "", ""


def _message(
    what: str, remedy: str, theme: Theme, *, alarm: bool = True
) -> tuple[list[Box | Text], float]:
    colour = theme.alarm if alarm else theme.ink
    shapes: list[Box | Text] = []
    y = 44.0
    for line in wrap(what, 26, WIDTH - 2 * _MARGIN - 40, 3, bold=True):
        shapes.append(Text(_MARGIN + 20, y, line, 26, colour, bold=True))
        y += 34
    for line in wrap(f"→ {remedy}" if remedy else "", 21, WIDTH - 2 * _MARGIN - 40, 3):
        shapes.append(Text(_MARGIN + 20, y, line, 21, theme.ink))
        y += 29
    return [Box(_MARGIN, 8, WIDTH - 2 * _MARGIN, y - 24, theme.card, colour), *shapes], y


def _without_swarm(state: ClusterState, theme: Theme) -> Picture:
    what, remedy = _why(state)
    shapes, y = _message(what, remedy, theme, alarm=state.swarm != "inactive")
    engines = state.engines
    colours = node_colours(e.name for e in engines)
    if engines:
        width = (WIDTH - 2 * _MARGIN - _GAP * (len(engines) - 1)) / len(engines)
        for i, engine in enumerate(engines):
            column = _engine_column(engine, colours[engine.name])
            shapes += column.draw(_MARGIN + i * (width + _GAP), y + 4, width, 14, theme)
        y += _HEAD + 14 + _GAP
    described = ". ".join([remedy, *(f"{e.name} : {_engine_says(e)}" for e in engines)])
    return Picture(WIDTH, y + 8, theme.paper, tuple(shapes), what, described)


def _engine_says(engine: EngineState) -> str:
    if not engine.reachable:
        return join(("ne répond pas", engine.error))
    version = f"Docker {engine.version}" if engine.version else ""
    if engine.swarm == "locked":
        return join((version, "swarm verrouillé"))
    swarm = "hors swarm" if engine.swarm == "inactive" else f"swarm : {engine.swarm}"
    return join((version, swarm, engine.error))


def _engine_column(engine: EngineState, colour: str) -> _Column:
    badge = "" if engine.reachable else "✖"
    alarm = not engine.reachable
    return _Column(engine.name, _engine_says(engine), badge, colour, (), alarm=alarm, empty="")
