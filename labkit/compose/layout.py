"""The places of a drawn architecture: order of its rows and columns, and what is written there."""

from collections.abc import Iterable, Sequence

from labkit.compose.lettering import fit, width
from labkit.compose.model import ComposeFile, ComposeMount, ComposeNetwork, ComposeService

MARGIN = 20.0
GAP = 18.0  # between columns
PAD = 12.0  # inside a box
NAME, BODY, SMALL = 25.0, 20.0, 17.0  # sizes of type
CHIP = 38.0  # height of a port or a volume
NARROW = 44.0  # width of a network's column when there are many
MOST = 4  # ports, volumes or companions of a service, the others are folded into a line
DASHED = {  # mounts that are no volumes
    "bind": "un chemin de la machine", "tmpfs": "un tmpfs", "npipe": "un tube",
    "image": "une image", "config": "une configuration", "secret": "un secret",
}  # fmt: skip
_SERVICE, _DENSE = 360.0, 640.0  # widths of a column, as the next three (least, most)
_PORTS = (140.0, 270.0)
_NETWORKS = (110.0, 190.0)
_VOLUMES = (150.0, 350.0)
_WIDE = 5  # most networks that are named in every row
_LEAST = 1000.0  # width of the picture
_MANY = 10  # most services that are drawn with several lines each


class Layout:
    """Where the rows and columns of a file's drawing are, and the texts in them."""

    def __init__(self, file: ComposeFile) -> None:
        self.file = file
        self.networks = _ordered_networks(file)
        self.services = _ordered_services(file, self.networks)
        self.dense = len(self.services) > _MANY
        self.card = _DENSE if self.dense else _SERVICE
        self.named = len(self.networks) <= _WIDE
        names = [n.label for n in self.networks]
        self.column = _between(_NETWORKS, names, SMALL, bold=True) if self.named else NARROW
        gap = GAP if self.named else 6.0
        ports = [text for s in self.services for text in self.port_texts(s)]
        self.port_width = _between(_PORTS, ports, BODY, bold=True) if ports else 0.0
        mounts = [text for s in self.services for text, _ in self.mount_texts(s)]
        self.volume_width = _between(_VOLUMES, mounts, SMALL) if mounts else 0.0
        self.service_x = MARGIN + (self.port_width + 1.5 * GAP if ports else 0.0)
        start = self.service_x + self.card + 2 * GAP
        self.network_x = {n.name: start + i * (self.column + gap)
                          for i, n in enumerate(self.networks)}  # fmt: skip
        modes = [mode_text(s) for s in self.services if not s.networks and s.network_mode]
        end = start + max(
            [len(self.networks) * (self.column + gap), *(width(m, SMALL) + 16 for m in modes)]
        )
        self.volume_x = end + GAP
        self.width = max(end, _LEAST, self.volume_x + self.volume_width if mounts else 0) + MARGIN

    def height(self, service: ComposeService) -> float:
        """Return the height of a service's row."""
        if self.dense:
            return CHIP + 4
        # as many small boxes, or all but what the last one stands for
        chips = min(max(len(service.ports), len(service.mounts)), MOST + 1)
        return max(46 + 26 * len(self.details(service)), chips * (CHIP + 6) - 6)

    def details(self, service: ComposeService) -> list[str]:
        """Return what is said of a service beside its name."""
        image = service.image.removesuffix(":latest")  # a cluster says it, a file rarely does
        details = [image or (f"build : {service.build}" if service.build else "")]
        details.append(self.scale(service))
        if service.constraints:
            details.append(", ".join(service.constraints))
        more = len(service.companions) - MOST
        details += service.companions if more < 2 else service.companions[:MOST]
        details += [f"+ {more} autres conteneurs"] if more > 1 else []
        return [d for d in details if d]

    def scale(self, service: ComposeService) -> str:
        """Return how many tasks a service has."""
        running = "" if service.running is None else f", {service.running} en marche"
        return service.scale + running

    def network_text(self, network: ComposeNetwork) -> str:
        """Return what a network is called."""
        return _called(network.label, network.declared, network.external)

    def port_texts(self, service: ComposeService) -> list[str]:
        """Return what is written for a service's ports."""
        texts = [str(port) for port in service.ports]
        return _joined(texts, BODY, _PORTS[1], bold=True) if self.dense else texts

    def mount_texts(self, service: ComposeService) -> list[tuple[str, str]]:
        """Return what is written for each mount, volumes first, with the border around it."""
        found = []
        for mount in sorted(service.mounts, key=lambda m: m.kind not in ("volume", "cluster")):
            volume = self.file.volume(mount.source) if mount.kind == "volume" else None
            missing = volume is not None and not volume.declared
            border = "alarm" if missing else "dashed" if mount.kind in DASHED else "solid"
            found.append((self._mount_text(mount), border))
        if not self.dense or not found:
            return found
        borders = [border for _, border in found]
        worst = "alarm" if "alarm" in borders else borders[0]
        return [(t, worst) for t in _joined([text for text, _ in found], SMALL, _VOLUMES[1])]

    def _mount_text(self, mount: ComposeMount) -> str:
        volume = self.file.volume(mount.source) if mount.kind in ("volume", "cluster") else None
        if volume is not None:
            return _called(volume.label, volume.declared, volume.external)
        return mount.source or f"{'tmpfs' if mount.kind == 'tmpfs' else 'anonyme'} {mount.target}"


def _called(label: str, declared: bool, external: bool) -> str:
    if not declared:
        return f"{label} (non déclaré)"
    return f"{label} (externe)" if external else label


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


# -- texts ----------------------------------------------------------------------------------


def mode_text(service: ComposeService) -> str:
    """Return what is written for a service without networks, such as one of the host's."""
    return fit(f"réseau : {service.network_mode}", SMALL, 260)


def last_part(image: str, room: float) -> str:
    """Return an image without its registry where the whole is too long."""
    if width(image, SMALL) <= room or "/" not in image or " " in image:
        return image
    return "…/" + image.rpartition("/")[2]


def _between(
    limits: tuple[float, float], texts: Iterable[str], size: float, *, bold: bool = False
) -> float:
    """Return a width in which the texts fit, within limits."""
    low, high = limits
    return min(high, max([low, *(width(t, size, bold=bold) + 20 for t in texts)]))


def _joined(texts: Sequence[str], size: float, room: float, *, bold: bool = False) -> list[str]:
    """Put texts in one, as many as a box has room for; "+2" stands for the others."""
    for count in range(len(texts), 0, -1):
        rest = len(texts) - count
        line = ", ".join(texts[:count]) + (f" +{rest}" if rest else "")
        if width(line, size, bold=bold) <= room - 20:
            return [line]
    if len(texts) > 1:
        others = f" +{len(texts) - 1}"
        left = room - 20 - width(others, size, bold=bold)
        return [fit(texts[0], size, left, bold=bold) + others]
    return list(texts)
