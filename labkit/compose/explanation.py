"""A file explained: what is Swarm's own, what a stack ignores or rejects, and why."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import escape

from labkit.compose.model import ComposeFile
from labkit.compose.stack_format import DOCKER, NEWEST, minor_of
from labkit.compose.swarm_options import Fate, Finding, find, finding
from labkit.documents import Step
from labkit.errors import ComposeError
from labkit.text.tables import table_html, table_text


@dataclass(frozen=True, slots=True, repr=False)
class Explanation:
    """The effect of each option of a file under ``docker stack deploy``."""

    file: ComposeFile  # what was explained
    findings: tuple[Finding, ...]  # by line

    def of(self, verdict: Fate | str) -> tuple[Finding, ...]:
        """Return the findings with that verdict."""
        return tuple(f for f in self.findings if f.verdict == verdict)

    @property
    def deployable(self) -> bool:
        """``docker stack deploy`` would take the file."""
        return not self.of(Fate.REJECTED)

    @property
    def conclusion(self) -> str:
        """The whole in a French sentence."""
        rejected, ignored, own = (
            len({f.option for f in self.of(verdict)})
            for verdict in (Fate.REJECTED, Fate.IGNORED, Fate.SWARM)
        )
        if rejected:
            head = f"docker stack deploy ({DOCKER}) refuse ce fichier"
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
        for verdict in Fate:
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


def explain(file: ComposeFile, *, files: bool = True) -> Explanation:
    """Say what becomes of each option of a file that ``docker stack deploy`` treats apart.

    With ``files``, those that docker would read too are looked at: of variables, secrets, configs.
    Raises ``ComposeError`` for a live stack, which has no options to explain any more.
    """
    if file.live:
        why = "une stack vivante n’a pas de fichier à expliquer."
        remedy = "Lisez le fichier qui l’a déployée, ou comparez les deux."
        raise ComposeError(file.name, None, why, remedy=remedy)
    if not files:
        file = replace(file, directory=None)
    table = find(file)
    rejected = {one.path for one in table if one.verdict is Fate.REJECTED}
    findings = [*_version(file), *table, *_words(file, rejected)]
    findings += [*_services(file), *_reading(file), *_notes(file)]
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
    given = file.reading.stack.get("version", "")
    if given == "":
        return
    if minor_of(given) is None:
        newer = " La commande docker 27 prend aussi 3.13." if given == "3.13" else ""
        why = f"docker {DOCKER} ne connaît que les versions 3 et 3.0 à 3.{NEWEST}.{newer}"
        yield finding(file, ("version",), Fate.REJECTED, why, file.version)
    else:
        why = (
            "docker compose n’en tient plus compte ; docker stack deploy applique les règles de "
            "cette version."
        )
        yield finding(file, ("version",), Fate.NOTE, why, file.version)


def _services(file: ComposeFile) -> Iterator[Finding]:
    """Find what the cluster refuses or ignores of a service that the command takes."""
    for service in file.services:
        path = ("services", service.name)
        for port in service.ports:
            if port.address and not _long_form(service.options.get("ports")):
                why = "l’adresse est ignorée : le port est publié sur toutes celles des nœuds."
                yield finding(file, (*path, "ports"), Fate.IGNORED, why, str(port))
        given = file.reading.stack["services"][service.name].get("image")
        if service.image and given == "":
            why = "les variables de cette image n’ont pas de valeur : il ne reste rien."
            yield finding(file, (*path, "image"), Fate.REJECTED, why, service.image)
        if not service.image and "provider" not in service.options:
            followed = "extends" not in service.options
            why = "un service de stack a besoin d’une image" + (
                "." if followed else " (elle vient peut-être de extends, qui n’est pas suivi ici)."
            )
            yield Finding(path, service.line, Fate.REJECTED, "image", service.name, "", why)


def _long_form(ports: object) -> bool:
    return isinstance(ports, list) and any(isinstance(p, dict) and "host_ip" in p for p in ports)


def _reading(file: ComposeFile) -> Iterator[Finding]:
    """Say what docker makes of the YAML and of the variables."""
    reading = file.reading
    for fault in reading.faults:
        verdict, why = _FAULTS[fault.rule]
        yield Finding(fault.path, fault.line, verdict, fault.excerpt, "", "", why)
    for path, first in reading.twice.items():
        why = (
            f"la clé est déjà écrite ligne {first} : docker {DOCKER} ne garde que la dernière, "
            "docker 28 refuse le fichier."
        )
        yield finding(file, path, Fate.NOTE, why)
    for path, line in reading.merged.items():
        why = (
            f"un « << » écrit plus bas remplace cette valeur pour docker {DOCKER}, pas pour docker "
            "compose ni docker 28 : mettez « << » en premier."
        )
        place = str(path[1]) if len(path) > 2 else ""
        yield Finding(path, line, Fate.NOTE, str(path[-1]), place, "", why)
    if reading.rest is not None:
        why = "docker ne lit que le premier document : ce qui suit ce « --- » est ignoré."
        yield Finding((), reading.rest, Fate.NOTE, "---", "", "", why)


_FAULTS = {
    "wrong": (Fate.REJECTED, "une variable est mal écrite pour docker stack deploy, qui ne "
              "connaît que ${NOM}, ${NOM:-défaut} et ${NOM:?message} ; un dollar s’écrit $$."),
    "needed": (Fate.REJECTED, "docker refuse le fichier tant que cette variable n’a pas de "
               "valeur."),
    "lost": (Fate.NOTE, "docker ôte ce dollar sans le dire, parce qu’une variable correcte le "
             "suit : un dollar s’écrit $$."),
}  # fmt: skip


def _words(file: ComposeFile, rejected: set[tuple[Step, ...]]) -> Iterator[Finding]:
    for path, word in file.reading.words.items():
        if path not in rejected and path[0] in _SECTIONS:
            read = "true" if word.lower() in ("y", "yes", "on") else "false"
            why = (
                f"docker {DOCKER} lit « {word} » comme {read}, docker compose et docker 28 y "
                f"lisent un texte : écrivez {read}."
            )
            yield finding(file, path, Fate.NOTE, why, word)


_SECTIONS = ("services", "networks", "volumes", "secrets", "configs")


def _notes(file: ComposeFile) -> Iterator[Finding]:
    needed = {fault.excerpt for fault in file.reading.faults if fault.rule == "needed"}
    for variable in file.variables:
        written = f"${{{variable.name}}}"
        if variable.missing and written not in needed:
            why = "cette variable n’a ni valeur ni défaut : docker mettra un texte vide."
            yield Finding((), variable.line, Fate.NOTE, written, "", "", why)
    if any(v.value is None for v in file.variables) and _has_dot_env(file):
        why = (
            "docker stack deploy ne lit pas ce fichier, contrairement à docker compose : donnez "
            "les valeurs dans l’environnement (set -a; . ./.env; set +a)."
        )
        yield Finding((), None, Fate.NOTE, ".env", "", "", why)
    if not file.services:
        yield Finding((), None, Fate.NOTE, "services", "", "", "le fichier n’en décrit aucun.")
    if "include" in file.data:
        why = "les fichiers inclus ne sont pas lus : ce qui suit ne parle que de ce fichier."
        yield finding(file, ("include",), Fate.NOTE, why)


def _has_dot_env(file: ComposeFile) -> bool:
    try:
        return file.directory is not None and (file.directory / ".env").exists()
    except OSError:  # a directory that one may not look into
        return False
