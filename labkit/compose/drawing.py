"""The architecture of a file or of a live stack as a picture; pure and deterministic.

Each service is a row: the ports that lead to it on its left, its volumes on its right, and in
between one column for each network, with a box where the service belongs to it. Nothing crosses,
whatever the file; and the order depends on names, ports and networks only, so that a file and
the stack made from it give the same picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.compose.lettering import fit
from labkit.compose.lettering import width as letters_width
from labkit.compose.model import ComposeFile, ComposeMount, ComposeNetwork, ComposeService
from labkit.errors import SettingError, reason_of
from labkit.views.palette import DARK, FAILURE, LIGHT, Theme, palette
from labkit.views.picture import Box, Picture, Text, png, png_text

_MARGIN = 20.0
_GAP = 18.0  # between columns
_ROW_GAP = 14.0
_PAD = 12.0  # inside a box
_SERVICE, _DENSE = 360.0, 640.0  # widths of a column, as the next three (least, most)
_PORTS = (140.0, 270.0)
_NETWORKS = (110.0, 190.0)
_VOLUMES = (150.0, 350.0)
_NARROW = 44.0  # width of a network's column when there are many
_WIDE = 5  # most networks that are named in every row
_LEAST = 1000.0  # width of the picture
_NAME, _BODY, _SMALL = 25.0, 20.0, 17.0  # sizes of type
_CHIP = 38.0  # height of a port or a volume
_BUS = 12.0  # width of a network's line
_MANY = 10  # most services that are drawn with several lines each
_MOST = 4  # ports, volumes or companions of a service, the others are folded into a line
_DPI = 130
_DASHED = {  # mounts that are no volumes
    "bind": "un chemin de la machine", "tmpfs": "un tmpfs", "npipe": "un tube",
    "image": "une image", "config": "une configuration", "secret": "un secret",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Architecture:
    """A drawn architecture; a notebook shows it, as SVG or as PNG."""

    picture: Picture  # the shapes

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
            raise SettingError(
                f"« {path.name} » ne finit ni par .svg ni par .png.",
                remedy="Donnez l’une de ces deux extensions.",
            )
        content = self.svg().encode() if path.suffix == ".svg" else self.png()
        try:
            path.write_bytes(content)
        except OSError as error:
            raise SettingError(f"« {path} » ne peut pas être écrit ({reason_of(error)}).") from None
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


def _between(
    limits: tuple[float, float], texts: Iterable[str], size: float, *, bold: bool = False
) -> float:
    """Return a width in which the texts fit, within limits."""
    low, high = limits
    return min(high, max([low, *(letters_width(t, size, bold=bold) + 20 for t in texts)]))


# -- order ----------------------------------------------------------------------------------


def _first_port(service: ComposeService) -> int:
    return min((port.order[0] for port in service.ports), default=1 << 18)


def _ordered_networks(file: ComposeFile) -> list[ComposeNetwork]:
    """Networks nearest to the users first: by the lowest port, then by how much is published."""
    used = {key for service in file.services for key in service.networks}

    def rank(network: ComposeNetwork) -> tuple[bool, int, float, str]:
        members = [s for s in file.services if network.name in s.networks]
        first = min(map(_first_port, members), default=1 << 18)
        published = sum(bool(s.ports) for s in members) / len(members)
        return (network.implicit, first, -published, network.label)

    return sorted((n for n in file.networks if n.name in used), key=rank)


def _ordered_services(
    file: ComposeFile, networks: Sequence[ComposeNetwork]
) -> list[ComposeService]:
    """Services of the same networks side by side, published ones first."""
    index = {network.name: i for i, network in enumerate(networks)}

    def rank(service: ComposeService) -> tuple[list[int], int, str]:
        places = sorted(index[key] for key in service.networks)
        return (places or [len(index)], _first_port(service), service.name)

    return sorted(file.services, key=rank)


# -- layout ---------------------------------------------------------------------------------


class _Drawing:
    def __init__(self, file: ComposeFile, theme: Theme) -> None:
        self.file = file
        self.theme = theme
        self.networks = _ordered_networks(file)
        self.services = _ordered_services(file, self.networks)
        colours = palette()
        self.colours = {
            network.name: colours[i % len(colours)] for i, network in enumerate(self.networks)
        }
        self.dense = len(self.services) > _MANY
        self.card = _DENSE if self.dense else _SERVICE
        self.named = len(self.networks) <= _WIDE
        names = [n.label for n in self.networks]
        self.column = _between(_NETWORKS, names, _SMALL, bold=True) if self.named else _NARROW
        gap = _GAP if self.named else 6.0
        ports = [text for s in self.services for text in self._port_texts(s)]
        self.port_width = _between(_PORTS, ports, _BODY, bold=True) if ports else 0.0
        mounts = [text for s in self.services for text, _ in self._mount_texts(s)]
        self.volume_width = _between(_VOLUMES, mounts, _SMALL) if mounts else 0.0
        self.service_x = _MARGIN + (self.port_width + 1.5 * _GAP if ports else 0.0)
        start = self.service_x + self.card + 2 * _GAP
        self.network_x = {n.name: start + i * (self.column + gap)
                          for i, n in enumerate(self.networks)}  # fmt: skip
        modes = [_mode_text(s) for s in self.services if not s.networks and s.network_mode]
        end = start + max(
            [len(self.networks) * (self.column + gap),
             *(letters_width(mode, _SMALL) + 16 for mode in modes)]
        )  # fmt: skip
        self.volume_x = end + _GAP
        self.width = max(end, _LEAST, self.volume_x + self.volume_width if mounts else 0) + _MARGIN

    def picture(self) -> Picture:
        theme = self.theme
        shapes: list[Box | Text] = []
        y = self._title(shapes)
        top = self._heads(shapes, y)
        rows: list[_Place] = []
        y = top
        for service in self.services:
            height = self._height(service)
            rows.append(_Place(service, y, height))
            y += height + (8 if self.dense else _ROW_GAP)
        bottom = y if rows else y + 44
        for network in self.networks:
            self._bus(shapes, network, rows)
        for row in rows:
            self._row(shapes, rows, row)
        if not rows:
            shapes.append(Text(self.service_x, top + 20, "aucun service", _BODY, theme.faint))
        bottom = self._legend(shapes, bottom + 22)
        return Picture(
            self.width, bottom, theme.paper, tuple(shapes), self.file.title, self._words()
        )

    def _title(self, shapes: list[Box | Text]) -> float:
        room = self.width - 2 * _MARGIN
        title = fit(self.file.title, 30, room, bold=True)
        shapes.append(Text(_MARGIN, 44, title, 30, self.theme.ink, bold=True))
        shapes.append(
            Text(_MARGIN, 76, fit(self.file.summary, _BODY, room), _BODY, self.theme.faint)
        )
        return 104.0

    def _heads(self, shapes: list[Box | Text], y: float) -> float:
        """Draw the heads of the columns; return where the rows begin."""
        theme = self.theme
        heads = [
            (_MARGIN, "Ports publiés", self.port_width),
            (self.service_x, "Services", self.card),
            (self.volume_x, "Volumes", self.volume_width),
        ]
        for x, text, width in heads:
            if not width:
                continue
            shapes.append(Text(x, y + 18, text, _SMALL, theme.faint, bold=True))
        if not self.networks:
            return y + 40
        first = self.network_x[self.networks[0].name]
        shapes.append(Text(first, y + 18, "Réseaux", _SMALL, theme.faint, bold=True))
        if self.named:
            return y + 36
        return self._key(shapes, y + 36)

    def _key(self, shapes: list[Box | Text], y: float) -> float:
        """List the networks by number, in lines as wide as the picture."""
        x = _MARGIN
        for i, network in enumerate(self.networks):
            text = self._network_text(network)
            width = min(_NARROW + 12 + letters_width(text, _SMALL) + 26, self.width - 2 * _MARGIN)
            if x + width > self.width - _MARGIN and x > _MARGIN:
                x, y = _MARGIN, y + _CHIP + 8
            self._membership(shapes, network, x, y, _NARROW, str(i + 1))
            label = fit(text, _SMALL, width - _NARROW - 30)
            shapes.append(Text(x + _NARROW + 10, y + 25, label, _SMALL, self.theme.ink))
            x += width
        return y + _CHIP + 22

    def _network_text(self, network: ComposeNetwork) -> str:
        if not network.declared:
            return f"{network.label} (non déclaré)"
        if network.external:
            return f"{network.label} (externe)"
        return network.label

    def _height(self, service: ComposeService) -> float:
        if self.dense:
            return _CHIP + 4
        card = 46 + 26 * len(self._details(service))
        chips = max(self._chips(len(service.ports)), self._chips(len(service.mounts)))
        return max(card, chips * (_CHIP + 6) - 6)

    @staticmethod
    def _chips(count: int) -> int:
        return min(count, _MOST + 1)  # as many, or all but what the last one stands for

    def _scale(self, service: ComposeService) -> str:
        running = "" if service.running is None else f", {service.running} en marche"
        return service.scale + running

    def _details(self, service: ComposeService) -> list[str]:
        """Return what is said of a service beside its name."""
        image = service.image.removesuffix(":latest")  # a cluster says it, a file rarely does
        details = [image or (f"build : {service.build}" if service.build else "")]
        details.append(self._scale(service))
        if service.constraints:
            details.append(", ".join(service.constraints))
        more = len(service.companions) - _MOST
        details += service.companions if more < 2 else service.companions[:_MOST]
        details += [f"+ {more} autres conteneurs"] if more > 1 else []
        return [d for d in details if d]

    # -- a row ------------------------------------------------------------------------------

    def _line(
        self,
        shapes: list[Box | Text],
        rows: Sequence[_Place],
        service: ComposeService,
        y: float,
        thick: float,
        end: float,
        colour: str,
    ) -> None:
        """Draw a line to the right of a service, broken where it passes another's network."""
        x = self.service_x + self.card
        for network in self.networks:
            if network.name in service.networks or self.network_x[network.name] > end:
                continue
            middles = [p.middle for p in rows if network.name in p.service.networks]
            if middles and middles[0] < y < middles[-1]:
                bus = self.network_x[network.name] + (self.column - _BUS) / 2
                shapes.append(Box(x, y - thick / 2, bus - 6 - x, thick, colour, radius=0))
                x = bus + _BUS + 6
        shapes.append(Box(x, y - thick / 2, end - x, thick, colour, radius=0))

    def _row(self, shapes: list[Box | Text], rows: Sequence[_Place], row: _Place) -> None:
        service, y, height = row.service, row.y, row.height
        theme = self.theme
        middle = y + height / 2
        x = self.service_x
        if service.ports:  # from the users to the service
            left = _MARGIN + self.port_width
            shapes.append(Box(left, middle - 2, x - left, 4, theme.faint, radius=0))
        if service.mounts:
            self._line(shapes, rows, service, middle, 2, self.volume_x, theme.line)
        if service.networks:
            last = max(self.network_x[key] for key in service.networks)
            self._line(shapes, rows, service, middle, 5, last, theme.faint)
        shapes.append(
            Box(x, y, self.card, height, theme.card, theme.ink, radius=8, tip=_tip(service))
        )
        if self.dense:
            self._one_line(shapes, service, x, middle)
        else:
            self._lines(shapes, service, x, y, height)
        self._ports(shapes, service, y, height)
        for i, network in enumerate(self.networks):
            if network.name in service.networks:
                label = network.label if self.named else str(i + 1)
                self._membership(
                    shapes, network, self.network_x[network.name], middle - _CHIP / 2,
                    self.column, label,
                )  # fmt: skip
        if not service.networks and service.network_mode:
            text = _mode_text(service)
            width = letters_width(text, _SMALL) + 16
            left = x + self.card + 2 * _GAP
            shapes.append(Box(left, middle - 16, width, 32, theme.paper, theme.alarm, "dashed"))
            shapes.append(Text(left + 8, middle + 6, text, _SMALL, theme.alarm))
        self._mounts(shapes, service, y, height)

    def _lines(
        self, shapes: list[Box | Text], service: ComposeService, x: float, y: float, height: float
    ) -> None:
        """Write a service's name with its details below."""
        inner = self.card - 2 * _PAD
        details = self._details(service)
        base = y + (height - 30 - 26 * len(details)) / 2 + 24
        name = fit(service.name, _NAME, inner, bold=True)
        shapes.append(Text(x + _PAD, base, name, _NAME, self.theme.ink, bold=True))
        for i, line in enumerate(details, 1):
            text = fit(_last_part(line, inner), _SMALL, inner)
            shapes.append(Text(x + _PAD, base + 26 * i, text, _SMALL, self.theme.ink))

    def _one_line(
        self, shapes: list[Box | Text], service: ComposeService, x: float, middle: float
    ) -> None:
        """Write a service's name, image and replicas side by side."""
        ink = self.theme.ink
        scale = self._scale(service)
        if scale == "1 replica":
            scale = ""
        if service.companions:
            scale = f"{scale} +{len(service.companions)}".strip()
        end = x + self.card - _PAD
        name = fit(service.name, _BODY + 2, 0.66 * self.card, bold=True)
        width = letters_width(name, _BODY + 2, bold=True)
        left = x + max(0.44 * self.card, _PAD + width + 10)
        shapes.append(Text(x + _PAD, middle + 8, name, _BODY + 2, ink, bold=True))
        if scale:
            shapes.append(Text(end, middle + 7, scale, _SMALL, ink, anchor="end"))
            end -= letters_width(scale, _SMALL) + 12
        image = self._details(service)[0]
        if image != self._scale(service):
            image = fit(_last_part(image, end - left), _SMALL, end - left)
            shapes.append(Text(left, middle + 7, image, _SMALL, self.theme.faint))

    def _ports(
        self, shapes: list[Box | Text], service: ComposeService, y: float, height: float
    ) -> None:
        texts = self._port_texts(service)
        self._column(shapes, _MARGIN, self.port_width, y, height, texts,
                     ["solid"] * len(texts), bold=True)  # fmt: skip

    def _port_texts(self, service: ComposeService) -> list[str]:
        texts = [str(port) for port in service.ports]
        return _joined(texts, _BODY, _PORTS[1], bold=True) if self.dense else texts

    def _mounts(
        self, shapes: list[Box | Text], service: ComposeService, y: float, height: float
    ) -> None:
        found = self._mount_texts(service)
        self._column(shapes, self.volume_x, self.volume_width, y, height,
                     [text for text, _ in found], [border for _, border in found])  # fmt: skip

    def _mount_texts(self, service: ComposeService) -> list[tuple[str, str]]:
        """Return what is written for each mount, volumes first, with the border around it."""
        found = []
        for mount in sorted(service.mounts, key=lambda m: m.kind not in ("volume", "cluster")):
            volume = self.file.volume(mount.source) if mount.kind == "volume" else None
            missing = volume is not None and not volume.declared
            solid = mount.kind not in _DASHED
            border = "alarm" if missing else "solid" if solid else "dashed"
            found.append((self._mount_text(mount), border))
        if not self.dense or not found:
            return found
        borders = [border for _, border in found]
        worst = "alarm" if "alarm" in borders else borders[0]
        texts = _joined([text for text, _ in found], _SMALL, _VOLUMES[1])
        return [(text, worst) for text in texts]

    def _mount_text(self, mount: ComposeMount) -> str:
        volume = self.file.volume(mount.source) if mount.kind in ("volume", "cluster") else None
        if volume is None:
            return mount.source or (mount.kind if mount.kind == "tmpfs" else "anonyme") + (
                f" {mount.target}"
            )
        if not volume.declared:
            return f"{volume.label} (non déclaré)"
        return f"{volume.label} (externe)" if volume.external else volume.label

    def _column(
        self,
        shapes: list[Box | Text],
        x: float,
        width: float,
        y: float,
        height: float,
        texts: Sequence[str],
        borders: Sequence[str],
        *,
        bold: bool = False,
    ) -> None:
        """Draw small boxes under each other, centred in a row."""
        shown = texts if len(texts) <= _MOST + 1 else texts[:_MOST]
        folded = len(texts) - len(shown)
        total = len(shown) + (folded > 0)
        at = y + (height - total * (_CHIP + 6) + 6) / 2
        for text, border in zip(shown, borders, strict=False):
            alarm = border == "alarm"
            stroke = FAILURE if alarm else self.theme.ink
            shapes.append(
                Box(x, at, width, _CHIP, self.theme.paper, stroke, "dashed" if alarm else border)
            )
            size = _BODY if bold else _SMALL
            label = fit(text, size, width - 16, bold=bold)
            shapes.append(
                Text(x + width / 2, at + 26, label, size, self.theme.ink, bold=bold,
                     anchor="middle")
            )  # fmt: skip
            at += _CHIP + 6
        if folded:
            plural = "s" if folded > 1 else ""
            text = f"+ {folded} autre{plural}"
            shapes.append(Box(x, at, width, _CHIP, self.theme.paper, self.theme.line, "dotted"))
            shapes.append(
                Text(x + width / 2, at + 26, text, _SMALL, self.theme.faint, anchor="middle")
            )

    # -- networks ---------------------------------------------------------------------------

    def _bus(
        self,
        shapes: list[Box | Text],
        network: ComposeNetwork,
        rows: Iterable[_Place],
    ) -> None:
        """Draw the line that joins the services of a network."""
        middles = [p.middle for p in rows if network.name in p.service.networks]
        if len(middles) < 2:
            return
        x = self.network_x[network.name] + self.column / 2 - _BUS / 2
        shapes.append(
            Box(x, middles[0], _BUS, middles[-1] - middles[0], self.colours[network.name], radius=0)
        )

    def _membership(
        self,
        shapes: list[Box | Text],
        network: ComposeNetwork,
        x: float,
        y: float,
        width: float,
        label: str,
    ) -> None:
        colour = self.colours[network.name]
        stroke, border = self.theme.ink, "solid"
        if not network.declared:
            stroke, border = FAILURE, "dashed"
        elif network.external:
            border = "dashed"
        paper = self.theme.paper
        tip = self._network_text(network)
        shapes.append(Box(x, y, width, _CHIP, paper, radius=10))
        shapes.append(Box(x, y, width, _CHIP, colour, stroke, border, radius=10, tip=tip,
                          opacity=0.30))  # fmt: skip
        text = fit(label, _SMALL, width - 12, bold=True)
        shapes.append(
            Text(x + width / 2, y + 25, text, _SMALL, self.theme.ink, bold=True, anchor="middle")
        )

    # -- below ------------------------------------------------------------------------------

    def _legend(self, shapes: list[Box | Text], y: float) -> float:
        """Explain the borders that are in the picture, and what is in no row."""
        notes = []
        if any(not n.declared for n in self.networks):
            names = ", ".join(n.label for n in self.networks if not n.declared)
            notes.append(f"Déclaré nulle part (tirets) : réseau {names}.")
        if any(n.external for n in self.networks):
            names = ", ".join(n.label for n in self.networks if n.external)
            notes.append(f"Réseau externe, qui doit déjà exister (tirets) : {names}.")
        if any(n.implicit for n in self.networks):
            notes.append("default : le réseau des services qui n’en nomment aucun.")
        used = {n.name for n in self.networks}
        idle = [n.label for n in self.file.networks if n.name not in used and not n.implicit]
        if idle:
            notes.append(f"Déclaré, mais sans service : réseau {', '.join(idle)}.")
        kinds = {m.kind for s in self.services for m in s.mounts}
        dashed = [said for kind, said in _DASHED.items() if kind in kinds]
        if dashed:
            notes.append(f"Volume en tirets : {' ou '.join(dashed)}.")
        notes += self.file.notes
        for note in notes:
            text = fit(note, _SMALL, self.width - 2 * _MARGIN)
            shapes.append(Text(_MARGIN, y, text, _SMALL, self.theme.faint))
            y += 28
        return y

    def _words(self) -> str:
        """Say the picture for those who hear it."""
        labels = {n.name: self._network_text(n) for n in self.networks}
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
            said += service.companions
            parts.append(" ; ".join(said))
        return ". ".join(parts)


def _mode_text(service: ComposeService) -> str:
    return fit(f"réseau : {service.network_mode}", _SMALL, 260)


def _joined(texts: Sequence[str], size: float, width: float, *, bold: bool = False) -> list[str]:
    """Put texts in one, as many as a box has room for; "+2" stands for the others."""
    for count in range(len(texts), 0, -1):
        rest = len(texts) - count
        line = ", ".join(texts[:count]) + (f" +{rest}" if rest else "")
        if letters_width(line, size, bold=bold) <= width - 20:
            return [line]
    if len(texts) > 1:
        others = f" +{len(texts) - 1}"
        room = width - 20 - letters_width(others, size, bold=bold)
        return [fit(texts[0], size, room, bold=bold) + others]
    return list(texts)


def _last_part(image: str, room: float) -> str:
    """Return an image without its registry where the whole is too long."""
    if letters_width(image, _SMALL) <= room or "/" not in image or " " in image:
        return image
    return "…/" + image.rpartition("/")[2]


def _tip(service: ComposeService) -> str:
    image = service.image.removesuffix(":latest")
    parts = [service.name, image or service.build, service.scale, *map(str, service.mounts)]
    parts += service.companions
    return " · ".join(p for p in parts if p)
