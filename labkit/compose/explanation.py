"""A file explained: what is Swarm's own, what a stack ignores or rejects, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from labkit.compose.model import ComposeFile
from labkit.compose.swarm_options import NEWEST, Finding, Verdict, find, finding, minor_of
from labkit.compose.text import table_html, table_text
from labkit.errors import ComposeError

__all__ = ["Explanation", "explain"]


@dataclass(frozen=True, slots=True, repr=False)
class Explanation:
    """What ``docker stack deploy`` would make of a file.

    Attributes
    ----------
    file
        What was explained.
    findings
        By line.
    """

    file: ComposeFile
    findings: tuple[Finding, ...]

    def of(self, verdict: Verdict | str) -> tuple[Finding, ...]:
        """Return the findings with that verdict."""
        return tuple(f for f in self.findings if f.verdict == verdict)

    @property
    def deployable(self) -> bool:
        """``docker stack deploy`` would take the file."""
        return not self.of(Verdict.REJECTED)

    @property
    def conclusion(self) -> str:
        """The whole in a French sentence."""
        own = len({f.option for f in self.of(Verdict.SWARM)})
        ignored = len({f.option for f in self.of(Verdict.IGNORED)})
        rejected = len({f.option for f in self.of(Verdict.REJECTED)})
        if rejected:
            head = "docker stack deploy refuse ce fichier"
        elif own:
            head = "Fichier pour Swarm"
        else:
            head = "Fichier sans option propre à Swarm"
        counts = (
            (rejected, "refusée", "refusées"),
            (ignored, "ignorée", "ignorées"),
            (own, "propre à Swarm", "propres à Swarm"),
        )
        said = ", ".join(f"{n} {many if n > 1 else one}" for n, one, many in counts if n)
        return f"{head} (options : {said})." if said else f"{head}."

    def _sections(self) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
        for verdict in (
            Verdict.REJECTED,
            Verdict.IGNORED,
            Verdict.SWARM,
            Verdict.SHARED,
            Verdict.NOTE,
        ):
            groups: dict[tuple[str, str], list[Finding]] = {}
            for one in self.of(verdict):
                groups.setdefault((one.option, one.why), []).append(one)
            rows: list[tuple[str, ...]] = [
                (option, _wheres(found), why) for (option, why), found in groups.items()
            ]
            if rows:
                yield verdict.french, rows

    def __str__(self) -> str:
        parts = [str(self.file), self.conclusion]
        for title, rows in self._sections():
            parts.append(f"{title}\n\n{table_text(_HEAD, rows)}")
        return "\n\n".join(parts)

    __repr__ = __str__  # what a notebook keeps for those who see no table

    def _repr_html_(self) -> str:
        tables = "".join(
            table_html(f"<strong>{escape(title)}</strong>", _HEAD, rows)
            for title, rows in self._sections()
        )
        return f"<p><strong>{escape(self.file.title)}</strong> : {self.conclusion}</p>{tables}"


_MOST_LINES, _MOST_PLACES = 8, 3  # shown for one option
_HEAD = ("Option", "Où (ligne)", "Pourquoi")


def explain(file: ComposeFile) -> Explanation:
    """Say what becomes of each option of a file that ``docker stack deploy`` treats apart.

    Parameters
    ----------
    file
        Read by :func:`labkit.compose.read`.

    Raises
    ------
    ComposeError
        It is a live stack: it has no options to explain any more.
    """
    if file.live:
        raise ComposeError(
            file.name,
            None,
            "une stack vivante n’a pas de fichier à expliquer.",
            remedy="Lisez le fichier qui l’a déployée, ou comparez les deux.",
        )
    findings = [*_version(file), *find(file), *_references(file), *_notes(file)]
    findings.sort(key=lambda f: (f.line or 0, f.option))
    return Explanation(file, tuple(findings))


def _wheres(found: list[Finding]) -> str:
    """Say where an option is set; services that share a line, by an anchor, come together."""
    lines: dict[tuple[int | None, str], list[str]] = {}
    for one in found:
        lines.setdefault((one.line, one.value), []).append(one.place)
    shown = [_where(*key, places) for key, places in lines.items()]
    if len(shown) > _MOST_LINES + 1:
        shown[_MOST_LINES:] = [f"et {len(shown) - _MOST_LINES} autres lignes"]
    return " ; ".join(shown)


def _where(line: int | None, value: str, places: list[str]) -> str:
    number = f"l.\u00a0{line}" if line else ""
    said = f" = {value}" if value else ""
    if len(places) > _MOST_PLACES + 1:
        places = [*places[:_MOST_PLACES], f"{len(places) - _MOST_PLACES} autres"]
    names = ", ".join(p for p in places if p)
    return f"{names} ({number}){said}" if names else f"{number}{said}"


def _version(file: ComposeFile) -> Iterator[Finding]:
    if not file.version:
        return
    minor = minor_of(file.version)
    if minor is None or minor > NEWEST:
        why = f"docker stack deploy ne connaît que les versions 3 à 3.{NEWEST}."
        yield finding(file, ("version",), Verdict.REJECTED, why, file.version)
    else:
        why = (
            "docker compose n’en tient plus compte ; docker stack deploy applique les règles de "
            "cette version."
        )
        yield finding(file, ("version",), Verdict.NOTE, why, file.version)


def _references(file: ComposeFile) -> Iterator[Finding]:
    """Find what is used and declared nowhere, which docker stack deploy looks at too."""
    for service in file.services:
        path = ("services", service.name)
        for key in service.networks:
            network = file.network(key)
            if network is not None and not network.declared:
                why = "ce réseau n’est déclaré nulle part : ajoutez-le sous networks."
                yield finding(file, (*path, "networks"), Verdict.REJECTED, why, key)
        for mount in service.mounts:
            volume = file.volume(mount.source) if mount.kind == "volume" else None
            if volume is not None and not volume.declared:
                why = "ce volume n’est déclaré nulle part : ajoutez-le sous volumes."
                yield finding(file, (*path, "volumes"), Verdict.REJECTED, why, mount.source)
        for kind, title in (("secrets", "ce secret"), ("configs", "cette config")):
            declared = file.data.get(kind) or {}
            for item in service.options.get(kind) or ():
                name = item.get("source") if isinstance(item, dict) else item
                if name and name not in declared:
                    why = f"{title} n’est pas sous {kind}, au premier niveau."
                    yield finding(file, (*path, kind), Verdict.REJECTED, why, name)
        for port in service.ports:
            if port.address and not _long_form(service.options.get("ports")):
                why = "l’adresse est ignorée : le port est publié sur toutes celles des nœuds."
                yield finding(file, (*path, "ports"), Verdict.IGNORED, why, str(port))
        if not service.image and "provider" not in service.options:
            followed = "extends" not in service.options
            why = "un service de stack a besoin d’une image" + (
                "." if followed else " (elle vient peut-être de extends, qui n’est pas suivi ici)."
            )
            yield Finding(path, service.line, Verdict.REJECTED, "image", service.name, "", why)


def _long_form(ports: object) -> bool:
    return isinstance(ports, list) and any(isinstance(p, dict) and "host_ip" in p for p in ports)


def _notes(file: ComposeFile) -> Iterator[Finding]:
    for variable in file.variables:
        if variable.required:
            why = "docker refuse le fichier tant que cette variable n’a pas de valeur."
            yield Finding((), variable.line, Verdict.NOTE, f"${{{variable.name}}}", "", "", why)
        elif variable.missing:
            why = "cette variable n’a ni valeur ni défaut : docker mettra un texte vide."
            yield Finding((), variable.line, Verdict.NOTE, f"${{{variable.name}}}", "", "", why)
    if not file.services:
        yield Finding((), None, Verdict.NOTE, "services", "", "", "le fichier n’en décrit aucun.")
    if "include" in file.data:
        why = "les fichiers inclus ne sont pas lus : ce qui suit ne parle que de ce fichier."
        yield finding(file, ("include",), Verdict.NOTE, why)
