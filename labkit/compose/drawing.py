"""The architecture of a file or of a live stack as a picture; pure and deterministic.

Each service is a row: the ports that lead to it on its left, its volumes on its right, and in
between one column for each network, with a box where the service belongs to it. Nothing crosses,
whatever the file; and the order depends on names, ports and networks only, so that a file and
the stack made from it give the same picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from labkit.compose.layout import (
    BODY,
    CHIP,
    DASHED,
    GAP,
    MARGIN,
    MOST,
    NAME,
    NARROW,
    PAD,
    SMALL,
    Layout,
    last_part,
    mode_text,
)
from labkit.compose.lettering import fit
from labkit.compose.lettering import width as letters_width
from labkit.compose.model import ComposeFile, ComposeNetwork, ComposeService
from labkit.errors import SettingError, reason_of
from labkit.views.palette import DARK, FAILURE, LIGHT, Theme, palette
from labkit.views.picture import Box, Picture, Text, png, png_text

_ROW_GAP = 14.0
_BUS = 12.0  # width of a network's line
_DPI = 130
_Chips = Sequence[tuple[str, str]]  # what is written in small boxes, and their borders


@dataclass(frozen=True, slots=True)
class Architecture:
    """A drawn architecture; a notebook shows it, as SVG or as PNG."""

    picture: Picture

    def svg(self) -> str:
        """Return the picture as SVG."""
        return self.picture.svg()

    def png(self) -> bytes:
        """Return the picture as PNG."""
        return png(self.picture.figure(), dpi=_DPI)

    def save(self, path: str | Path) -> Path:
        """Write the picture, as ``.svg`` or ``.png``; return the path.

        Raises ``SettingError`` for another ending, or for a place that cannot be written to.
        """
        path = Path(path)
        if path.suffix not in (".svg", ".png"):
            why = f"« {path.name} » ne finit ni par .svg ni par .png."
            raise SettingError(why, remedy="Donnez l’une de ces deux extensions.")
        content = self.svg().encode() if path.suffix == ".svg" else self.png()
        try:
            path.write_bytes(content)
        except OSError as error:
            raise SettingError(f"« {path} » ne peut pas être écrit ({reason_of(error)}).") from None
        return path

    def __str__(self) -> str:
        return f"{self.picture.title}\n{self.picture.description}"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        return {
            "text/plain": str(self),
            "image/svg+xml": self.svg(),
            "image/png": png_text(self.picture.figure(), dpi=_DPI),
        }


def draw(file: ComposeFile, *, dark: bool = False) -> Architecture:
    """Draw the architecture of a file or of a live stack."""
    return Architecture(_Drawing(file, DARK if dark else LIGHT).picture())


@dataclass(frozen=True, slots=True)
class _Place:
    """A service's row."""

    service: ComposeService
    y: float
    height: float

    @property
    def middle(self) -> float:
        return self.y + self.height / 2


class _Drawing(Layout):
    """Paints a layout: its shapes are in the order in which they are painted."""

    def __init__(self, file: ComposeFile, theme: Theme) -> None:
        super().__init__(file)
        self.theme = theme
        self.shapes: list[Box | Text] = []
        self.rows: list[_Place] = []
        self.colours = dict(zip((n.name for n in self.networks), cycle(palette()), strict=False))

    def picture(self) -> Picture:
        self._text(MARGIN, 44, fit(self.file.title, 30, self._room, bold=True), 30, bold=True)
        self._text(MARGIN, 76, fit(self.file.summary, BODY, self._room), BODY, self.theme.faint)
        top = y = self._heads(104.0)
        for service in self.services:
            height = self.height(service)
            self.rows.append(_Place(service, y, height))
            y += height + (8 if self.dense else _ROW_GAP)
        for network in self.networks:
            self._bus(network)
        for row in self.rows:
            self._row(row)
        if not self.rows:
            self._text(self.service_x, top + 20, "aucun service", BODY, self.theme.faint)
            y += 44
        bottom = self._legend(y + 22)
        title, shapes = self.file.title, tuple(self.shapes)
        return Picture(self.width, bottom, self.theme.paper, shapes, title, self._words())

    @property
    def _room(self) -> float:
        return self.width - 2 * MARGIN

    def _box(self, *shape: Any, **how: Any) -> None:
        self.shapes.append(Box(*shape, **how))

    def _text(
        self, x: float, y: float, text: str, size: float, colour: str = "", **how: Any
    ) -> None:
        self.shapes.append(Text(x, y, text, size, colour or self.theme.ink, **how))

    def _heads(self, y: float) -> float:
        """Draw the heads of the columns; return where the rows begin."""
        heads = [
            (MARGIN, "Ports publiés", self.port_width),
            (self.service_x, "Services", self.card),
            (self.volume_x, "Volumes", self.volume_width),
        ]
        if self.networks:
            heads.append((self.network_x[self.networks[0].name], "Réseaux", self.column))
        for x, text, width in heads:
            if width:
                self._text(x, y + 18, text, SMALL, self.theme.faint, bold=True)
        if not self.networks:
            return y + 40
        return y + 36 if self.named else self._key(y + 36)

    def _key(self, y: float) -> float:
        """List the networks by number, in lines as wide as the picture."""
        x = MARGIN
        for i, network in enumerate(self.networks):
            text = self.network_text(network)
            width = min(NARROW + 12 + letters_width(text, SMALL) + 26, self._room)
            if x + width > self.width - MARGIN and x > MARGIN:
                x, y = MARGIN, y + CHIP + 8
            self._membership(network, x, y, NARROW, str(i + 1))
            self._text(x + NARROW + 10, y + 25, fit(text, SMALL, width - NARROW - 30), SMALL)
            x += width
        return y + CHIP + 22

    # -- a row ------------------------------------------------------------------------------

    def _row(self, row: _Place) -> None:
        service, y, middle, x = row.service, row.y, row.middle, self.service_x
        if service.ports:  # from the users to the service
            left = MARGIN + self.port_width
            self._box(left, middle - 2, x - left, 4, self.theme.faint, radius=0)
        if service.mounts:
            self._line(service, middle, 2, self.volume_x, self.theme.line)
        if service.networks:
            last = max(self.network_x[key] for key in service.networks)
            self._line(service, middle, 5, last, self.theme.faint)
        card, ink = self.theme.card, self.theme.ink
        self._box(x, y, self.card, row.height, card, ink, radius=8, tip=_tip(service))
        if self.dense:
            self._one_line(row)
        else:
            self._lines(row)
        ports = [(text, "solid") for text in self.port_texts(service)]
        self._chips(row, MARGIN, self.port_width, ports, bold=True)
        for i, network in enumerate(self.networks):
            if network.name in service.networks:
                label = network.label if self.named else str(i + 1)
                left = self.network_x[network.name]
                self._membership(network, left, middle - CHIP / 2, self.column, label)
        if not service.networks and service.network_mode:
            text = mode_text(service)
            left, alarm = x + self.card + 2 * GAP, self.theme.alarm
            width = letters_width(text, SMALL) + 16
            self._box(left, middle - 16, width, 32, self.theme.paper, alarm, "dashed")
            self._text(left + 8, middle + 6, text, SMALL, alarm)
        self._chips(row, self.volume_x, self.volume_width, self.mount_texts(service))

    def _line(
        self, service: ComposeService, y: float, thick: float, end: float, colour: str
    ) -> None:
        """Draw a line to the right of a service, broken where it passes another's network."""
        x = self.service_x + self.card
        for network in self.networks:
            if network.name in service.networks or self.network_x[network.name] > end:
                continue
            middles = self._middles(network)
            if middles and middles[0] < y < middles[-1]:
                bus = self.network_x[network.name] + (self.column - _BUS) / 2
                self._box(x, y - thick / 2, bus - 6 - x, thick, colour, radius=0)
                x = bus + _BUS + 6
        self._box(x, y - thick / 2, end - x, thick, colour, radius=0)

    def _lines(self, row: _Place) -> None:
        """Write a service's name with its details below."""
        inner, x = self.card - 2 * PAD, self.service_x + PAD
        details = self.details(row.service)
        base = row.y + (row.height - 30 - 26 * len(details)) / 2 + 24
        self._text(x, base, fit(row.service.name, NAME, inner, bold=True), NAME, bold=True)
        for i, line in enumerate(details, 1):
            self._text(x, base + 26 * i, fit(last_part(line, inner), SMALL, inner), SMALL)

    def _one_line(self, row: _Place) -> None:
        """Write a service's name, image and replicas side by side."""
        service, middle, x = row.service, row.middle, self.service_x
        scale = self.scale(service)
        if scale == "1 replica":
            scale = ""
        if service.companions:
            scale = f"{scale} +{len(service.companions)}".strip()
        end = x + self.card - PAD
        name = fit(service.name, BODY + 2, 0.66 * self.card, bold=True)
        width = letters_width(name, BODY + 2, bold=True)
        left = x + max(0.44 * self.card, PAD + width + 10)
        self._text(x + PAD, middle + 8, name, BODY + 2, bold=True)
        if scale:
            self._text(end, middle + 7, scale, SMALL, anchor="end")
            end -= letters_width(scale, SMALL) + 12
        image = self.details(service)[0]
        if image != self.scale(service):
            image = fit(last_part(image, end - left), SMALL, end - left)
            self._text(left, middle + 7, image, SMALL, self.theme.faint)

    def _chips(
        self, row: _Place, x: float, width: float, chips: _Chips, *, bold: bool = False
    ) -> None:
        """Draw small boxes under each other, centred in a row."""
        shown = chips if len(chips) <= MOST + 1 else chips[:MOST]
        folded = len(chips) - len(shown)
        at = row.y + (row.height - (len(shown) + (folded > 0)) * (CHIP + 6) + 6) / 2
        middle, theme = x + width / 2, self.theme
        for text, border in shown:
            how = (FAILURE, "dashed") if border == "alarm" else (theme.ink, border)
            self._box(x, at, width, CHIP, theme.paper, *how)
            size = BODY if bold else SMALL
            label = fit(text, size, width - 16, bold=bold)
            self._text(middle, at + 26, label, size, bold=bold, anchor="middle")
            at += CHIP + 6
        if folded:
            text = f"+ {folded} autre{'s' if folded > 1 else ''}"
            self._box(x, at, width, CHIP, theme.paper, theme.line, "dotted")
            self._text(middle, at + 26, text, SMALL, theme.faint, anchor="middle")

    # -- networks ---------------------------------------------------------------------------

    def _middles(self, network: ComposeNetwork) -> list[float]:
        return [row.middle for row in self.rows if network.name in row.service.networks]

    def _bus(self, network: ComposeNetwork) -> None:
        """Draw the line that joins the services of a network."""
        middles = self._middles(network)
        if len(middles) > 1:
            x = self.network_x[network.name] + self.column / 2 - _BUS / 2
            height, colour = middles[-1] - middles[0], self.colours[network.name]
            self._box(x, middles[0], _BUS, height, colour, radius=0)

    def _membership(
        self, network: ComposeNetwork, x: float, y: float, width: float, label: str
    ) -> None:
        stroke = self.theme.ink if network.declared else FAILURE
        border = "dashed" if network.external or not network.declared else "solid"
        self._box(x, y, width, CHIP, self.theme.paper, radius=10)
        self._box(x, y, width, CHIP, self.colours[network.name], stroke, border, radius=10,
                  tip=self.network_text(network), opacity=0.30)  # fmt: skip
        text = fit(label, SMALL, width - 12, bold=True)
        self._text(x + width / 2, y + 25, text, SMALL, bold=True, anchor="middle")

    # -- below ------------------------------------------------------------------------------

    def _legend(self, y: float) -> float:
        """Explain the borders that are in the picture, and what is in no row."""
        notes = []
        if names := ", ".join(n.label for n in self.networks if not n.declared):
            notes.append(f"Déclaré nulle part (tirets) : réseau {names}.")
        if names := ", ".join(n.label for n in self.networks if n.external):
            notes.append(f"Réseau externe, qui doit déjà exister (tirets) : {names}.")
        if any(n.implicit for n in self.networks):
            notes.append("default : le réseau des services qui n’en nomment aucun.")
        used = {n.name for n in self.networks}
        idle = [n.label for n in self.file.networks if n.name not in used and not n.implicit]
        if idle:
            notes.append(f"Déclaré, mais sans service : réseau {', '.join(idle)}.")
        kinds = {m.kind for s in self.services for m in s.mounts}
        if dashed := [said for kind, said in DASHED.items() if kind in kinds]:
            notes.append(f"Volume en tirets : {' ou '.join(dashed)}.")
        for note in (*notes, *self.file.notes):
            self._text(MARGIN, y, fit(note, SMALL, self._room), SMALL, self.theme.faint)
            y += 28
        return y

    def _words(self) -> str:
        """Say the picture for those who hear it."""
        labels = {n.name: self.network_text(n) for n in self.networks}
        parts = []
        for service in self.services:
            said = [f"{service.name} ({service.scale})"]
            if service.networks:
                named = [label for key, label in labels.items() if key in service.networks]
                said.append("réseaux " + ", ".join(named))
            if service.ports:
                said.append("ports " + ", ".join(map(str, service.ports)))
            if service.mounts:
                said.append("volumes " + ", ".join(map(str, service.mounts)))
            parts.append(" ; ".join([*said, *service.companions]))
        return ". ".join(parts)


def _tip(service: ComposeService) -> str:
    image = service.image.removesuffix(":latest")
    parts = [service.name, image or service.build, service.scale, *map(str, service.mounts)]
    parts += service.companions
    return " · ".join(p for p in parts if p)
