"""The ``labkit`` command."""

import argparse
import contextlib
import errno
import json
import os
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from labkit import engine
from labkit.engine import external
from labkit.engine.contexts import speaking_to
from labkit.engine.embedded import cluster, lifetime, snapshot
from labkit.engine.embedded.directories import writable
from labkit.engine.embedded.driver import pack_driver, why_slow
from labkit.engine.embedded.settings import MAX_NODES, SHARED, Settings
from labkit.engine.progress import Report
from labkit.errors import LabkitError, SettingError, reason_of
from labkit.lab.launch import FOLDER, launch
from labkit.terminal import plain, plain_stdout, tolerate


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    tolerate()
    try:
        status = _run(argv)
        sys.stdout.flush()
    except OSError as error:
        if error.filename is not None or error.errno not in _UNWRITTEN:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left goes nowhere
        if isinstance(error, BrokenPipeError):  # who read has left, as « | head » does
            return 141
        print(f"labkit : impossible d’écrire la réponse ({reason_of(error)}).", file=sys.stderr)
        return 1
    return status


def _run(argv: Sequence[str] | None) -> int:
    parser = _parser()
    options, more = parser.parse_known_args(argv)
    if more and options.run is not _lab:
        parser.error(f"argument inconnu : {more[0]}")
    options.arguments = more
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was begun is undone
    try:
        with contextlib.suppress(LabkitError):  # the command reports an unreadable setting itself
            lifetime.mark_used(Settings.read().run)
        # a demonstration moves its own cursor
        with contextlib.nullcontext() if options.run is _demo else plain_stdout():
            status: int = options.run(options) or 0
    except LabkitError as error:
        print(f"labkit : {plain(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nlabkit : interrompu ; relancez la même commande pour reprendre.", file=sys.stderr)
        return 130
    return status


_UNWRITTEN = (errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG)

_FRENCH = (  # what argparse says of a wrong command line
    (r"the following arguments are required: (.*)", r"il manque : \1"),
    (r"argument (\S+): invalid choice: '(.*)' \(choose from (.*)\)",
     r"\1 : « \2 » n’existe pas ; au choix : \3"),
    (r"argument (\S+): invalid \w+ value: '(.*)'", r"\1 : « \2 » n’est pas un nombre"),
    (r"argument (\S+): expected one argument", r"\1 attend une valeur"),
)  # fmt: skip


class _Parser(argparse.ArgumentParser):
    """A parser that speaks French, and whose errors say where help is."""

    def __init__(self, **options: Any) -> None:
        super().__init__(add_help=False, **options)
        self._positionals.title = "arguments\u00a0"
        self._optionals.title = "options\u00a0"
        self.add_argument("-h", "--help", action="help", help="montre cette aide")

    def format_usage(self) -> str:
        return super().format_usage().replace("usage: ", "usage : ", 1)

    def format_help(self) -> str:
        return super().format_help().replace("usage: ", "usage : ", 1)

    def error(self, message: str) -> NoReturn:
        for english, french in _FRENCH:
            if match := re.fullmatch(english, message):
                message = match.expand(french).replace("'", "")
        print(f"{self.prog} : {message}\n→ « {self.prog} --help »", file=sys.stderr)
        raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="labkit", description="Un vrai cluster Docker Swarm dans un serveur de notebooks."
    )
    add = _adder(parser, "COMMANDE")
    build = add("build", _build, "construit la machine et son instantané")
    build.add_argument(
        "--shared", action="store_true",
        help="pour tous les comptes : dans LABKIT_SHARED_CACHE, sinon /var/cache/labkit",
    )  # fmt: skip
    build.add_argument(
        "--kernel", action="store_true",
        help="construit aussi un noyau User-Mode Linux, bien plus rapide que l’émulation (un quart "
        "d’heure de processeur)",
    )  # fmt: skip
    build.add_argument(
        "--wheel", metavar="DOSSIER", type=Path,
        help="y écrit ce noyau, construit s’il le faut, en un paquet que d’autres installent avec "
        "pip au lieu de le construire",
    )  # fmt: skip
    build.add_argument("--prune", action="store_true", help="supprime les anciennes versions")
    up = add("up", _up, "démarre le cluster, ou rejoint celui qui tourne")
    status = add("status", _status, "dit ce qui tourne")
    status.add_argument("--json", action="store_true", help="en JSON")
    add("down", _down, "arrête le cluster")
    reset = add("reset", _reset, "revient à des moteurs neufs")
    add("wait", _wait, "attend que le swarm ait un leader, et chaque nœud son rôle")
    add("doctor", _doctor, "cherche ce qui pourrait manquer")
    add("env", _env, 'variables pour un shell : eval "$(labkit env)"')
    progress = add("progress", _progress, "où en sont vos exercices")
    progress.add_argument("--csv", action="store_true", help="en CSV")
    progress.add_argument(
        "--class", dest="folder", metavar="DOSSIER", nargs="?", const="",
        help="le tableau de la classe, d’après son dossier partagé (LABKIT_CLASS)",
    )  # fmt: skip
    course = add("course", _course, "écrit le cours dans un dossier, ou le met à jour")
    course.add_argument("folder", metavar="DOSSIER", nargs="?", default=FOLDER)
    course.add_argument("--answers", action="store_true", help="avec les sorties et les solutions")
    _add_node(add)
    _add_compose(add)
    demo = add("demo", _demo, "joue un notebook dans le terminal, cellule après cellule")
    demo.add_argument("notebook", metavar="NOTEBOOK", help="un chemin, ou le début du nom : 01")
    demo.add_argument(
        "section", metavar="SECTION", nargs="?", help="son numéro, ou le début de son titre"
    )
    text = "ouvre JupyterLab sur le cours, le cluster derrière ; le reste va à jupyter lab"
    lab = add("lab", _lab, text)
    number = f"nombre de nœuds, 1 à {MAX_NODES} (3 par défaut)"
    for command in (build, up, reset, lab):
        command.add_argument("--nodes", type=int, help=number)
        command.add_argument("--mirror", help="miroir de paquets Debian (LABKIT_MIRROR)")
    return parser


_Add = Callable[[str, object, str], argparse.ArgumentParser]


def _adder(parser: argparse.ArgumentParser, kind: str) -> _Add:
    """Return what adds a command: by its name, what runs it, and what it does."""
    commands = parser.add_subparsers(required=True, metavar=kind, dest=kind.lower())

    def add(name: str, run: object, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    return add


def _add_node(commands: _Add) -> None:
    text = "agit sur les nœuds : ls, shell, logs, stop, start, kill, cut, heal, add, rm"
    add = _adder(commands("node", None, text), "ACTION")
    add("ls", _node_ls, "l’état de chaque machine, et ce que le swarm en sait")
    shell = add("shell", _node_shell, "un terminal où « docker » s’adresse à ce nœud")
    logs = add("logs", _node_logs, "le journal du moteur d’un nœud")
    logs.add_argument("--election", action="store_true", help="les élections seulement")
    logs.add_argument("--since", metavar="QUAND", help="depuis : 90s, 10m, 2h, ou une date")
    logs.add_argument("-f", "--follow", action="store_true", help="reste, et montre la suite")
    acts = (
        ("stop", "arrête le moteur en bon ordre ; ses conteneurs finissent"),
        ("kill", "coupe le courant : moteur et conteneurs disparaissent d’un coup"),
        ("start", "redémarre un nœud arrêté ou sans courant"),
        ("cut", "débranche le câble réseau : les autres nœuds ne le joignent plus"),
        ("heal", "rebranche le câble réseau"),
    )
    actions = [shell, logs, *(add(name, _node_action, text) for name, text in acts)]
    add("add", _node_add, "ajoute un nœud au cluster qui tourne, hors du swarm")
    text = "retire un nœud : il quitte le swarm, et son disque est effacé"
    actions.append(add("rm", _node_action, text))
    for action in actions:
        action.add_argument("node", metavar="NŒUD", help="node1, node2…")


def _add_compose(commands: _Add) -> None:
    text = "lit des fichiers compose : explain, diff, draw"
    add = _adder(commands("compose", None, text), "ACTION")
    explain = add("explain", _explain, "dit ce que Swarm fait de chaque option d’un fichier")
    explain.add_argument("file", metavar="FICHIER")
    explain.add_argument(
        "--lenient", action="store_true", help="rend 0 même si docker refuserait le fichier"
    )
    diff = add("diff", _diff, "compare deux fichiers, option par option")
    diff.add_argument("left", metavar="A")
    diff.add_argument("right", metavar="B")
    draw = add("draw", _draw, "dessine l’architecture d’un fichier")
    draw.add_argument("file", metavar="FICHIER")
    draw.add_argument("-o", "--output", metavar="IMAGE", help=".svg ou .png", required=True)


def _settings(options: argparse.Namespace) -> Settings:
    return Settings.read(
        nodes=getattr(options, "nodes", None), mirror=getattr(options, "mirror", None)
    )


def _build(options: argparse.Namespace) -> None:
    settings = _settings(options)
    if options.shared:
        settings = settings.for_shared_cache()
        os.umask(0o022)  # whatever the administrator's own files are, everybody reads these
        writable(settings.cache, SHARED, mode=0o755)
    with Report() as report:
        made = snapshot.build(
            settings,
            report,
            remove_old=options.prune,
            thorough=True,
            kernel=options.kernel or options.wheel is not None,
        )
    print(f"Prêt : {made.snapshot}")
    if slow := why_slow(made.guest, settings):
        print(f"La machine sera émulée : {slow}.")
    if options.wheel:
        print(f"Paquet du noyau : {pack_driver(settings, options.wheel)}")


def _up(options: argparse.Namespace) -> None:
    if external.named():
        engine.up()
    else:
        with Report() as report:
            cluster.up(_settings(options), report)
    print(engine.status())
    print('Dans ce shell : eval "$(labkit env)", puis docker node ls…')


def _status(options: argparse.Namespace) -> int:
    status = engine.status()
    print(json.dumps(status.to_dict(), ensure_ascii=False) if options.json else status)
    return 0 if status.engine != "none" else 3


def _down(options: argparse.Namespace) -> None:
    engine.down()
    print("Le cluster est arrêté.")


def _reset(options: argparse.Namespace) -> None:
    if external.named():
        engine.reset()  # says why not
    with Report() as report:
        cluster.reset(_settings(options), report)
    print(engine.status())


def _wait(options: argparse.Namespace) -> None:
    from labkit import elections

    elections.wait(lambda text: print(text, end="", flush=True))


def _env(options: argparse.Namespace) -> None:
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        print(f"unset {name}")
    for name, value in _variables(_settings(options)).items():
        print(f"export {name}={shlex.quote(value)}")


def _variables(settings: Settings) -> dict[str, str]:
    """Return the environment that gives a shell the cluster that runs."""
    named = external.named()
    if named:
        return external.prepare(named)
    cluster.join(settings)
    return cluster.variables(settings)


def _node_ls(options: argparse.Namespace) -> None:
    from labkit import nodes

    print(nodes.ls().rename_axis(None).to_string())


def _node_shell(options: argparse.Namespace) -> int:
    """Become a shell whose ``docker`` speaks to one node, and whose prompt says so."""
    variables = _variables(_settings(options))
    name = engine.connect()[options.node].name
    environment = speaking_to(name, {**os.environ, **variables})
    shell = shutil.which("bash") or "/bin/sh"
    os.execvpe(shell, [shell], environment)


def _node_logs(options: argparse.Namespace) -> None:
    from labkit import nodes

    print(nodes.logs(options.node, election=options.election, since=options.since), flush=True)
    if options.follow:
        for line in nodes.follow(options.node, election=options.election):
            print(line, flush=True)


def _node_add(options: argparse.Namespace) -> None:
    from labkit import nodes

    name = nodes.add().name
    print(f"{name} est là, hors du swarm : docker --context {name} swarm join …")


def _node_action(options: argparse.Namespace) -> None:
    from labkit import nodes

    getattr(nodes, options.action)(options.node)


def _progress(options: argparse.Namespace) -> None:
    from labkit.exercises.progress import classe, progression

    if options.folder is None:
        own_work = progression()
        print(own_work.frame.to_csv(index=False).rstrip() if options.csv else own_work)
        return
    table = classe(options.folder or None)
    print(table.to_csv(index=False).rstrip() if options.csv else table.to_string(index=False))


def _course(options: argparse.Namespace) -> None:
    from labkit.course import write

    for written in write(Path(options.folder), answers=options.answers):
        print(written)


def _explain(options: argparse.Namespace) -> int:
    from labkit.compose import explain, read

    explanation = explain(read(options.file, environment=os.environ))
    print(explanation)
    return 0 if explanation.deployable or options.lenient else 1


def _diff(options: argparse.Namespace) -> None:
    from labkit.compose import compare, read

    print(compare(read(options.left), read(options.right)))


def _draw(options: argparse.Namespace) -> None:
    from labkit.compose import draw, read

    print(draw(read(options.file)).save(options.output))


def _demo(options: argparse.Namespace) -> None:
    from labkit.demo import find, play

    play(find(options.notebook), options.section)


def _doctor(options: argparse.Namespace) -> int:
    from labkit.preflight.doctor import examine

    if external.named():
        from labkit.preflight.check import preflight

        engine.up()  # writes the contexts, which are looked at too
        verdict = preflight()
        print(repr(verdict))
        return 0 if verdict.ok else 1
    settings = _settings(options)
    rows = examine(settings)
    for fine, text, remedy in rows:
        print(f"{'✔' if fine else '✘'} {text}" + ("" if fine else f"  → {remedy}"))
    with contextlib.suppress(SettingError):  # a row says it
        print(engine.status())
    return 0 if all(fine for fine, _, _ in rows) else 1


def _lab(options: argparse.Namespace) -> int:
    return launch(_settings(options), [a for a in options.arguments if a != "--"])
