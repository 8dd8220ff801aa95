"""Mistakes that students make in notebooks 01 to 05, and what they are told."""

from __future__ import annotations

import re
from dataclasses import dataclass

import labkit
from labkit.exercises import Verdict, judge, leading, verifier
from labkit.exercises.shell import TIMED_OUT, run
from labkit.masking import mask
from labkit.state import capture

INTERRUPTED = 25.0  # s after which a student stops a command that does not come back
INIT = "docker swarm init"
JOIN = """jeton=$(docker swarm join-token --quiet worker)
manager=$(docker node inspect self --format '{{.ManagerStatus.Addr}}')
for n in node2 node3; do docker --context $n swarm join --token "$jeton" "$manager"; done"""
SWARM = (INIT, JOIN)
WHOAMI = "docker service create --name whoami --replicas 5 -p 9999:80 traefik/whoami"
FILE = "example-voting-app/docker-stack.yml"
STACK = f"docker stack deploy --detach=false --compose-file {FILE} vote"
COPY = f"cp {FILE} ma-stack.yml"
TWO = """manager=$(docker node inspect self --format '{{.ManagerStatus.Addr}}')
docker --context node2 swarm join --token "$(docker swarm join-token --quiet manager)" "$manager"
docker --context node3 swarm join --token "$(docker swarm join-token --quiet worker)" "$manager"
until docker node ls >/dev/null 2>&1; do sleep 1; done"""


@dataclass(frozen=True)
class Mistake:
    """One mistake.

    Attributes
    ----------
    name, notebook, exercise
        In French for the table; the notebook's number; whose check is run.
    before
        What was typed rightly until then, from new engines.
    typed
        The mistake.
    names
        What the message has to say, word for word, so that it can be mended.
    mend
        What the student then types.
    """

    name: str
    notebook: str
    exercise: str
    before: tuple[str, ...]
    typed: str
    names: tuple[str, ...]
    mend: tuple[str, ...]


@dataclass(frozen=True)
class Met:
    """What came of a mistake: docker's answer, the check, and the check after the mending."""

    answer: str
    before: Verdict
    after: Verdict

    @property
    def message(self) -> str:
        return f"{self.answer}\n{self.before!r}"


MISTAKES = (
    Mistake(
        "une faute de frappe dans le nom de l’image", "01", "creer-service", SWARM,
        WHOAMI.replace("traefik/whoami", "traefik/whoiam"),
        ("docker service update --image traefik/whoami whoami",),
        ("docker service update --image traefik/whoami whoami",),
    ),
    Mistake(
        "le port n’est pas publié", "01", "creer-service", SWARM,
        WHOAMI.replace("-p 9999:80 ", ""),
        ("docker service update --publish-add published=9999,target=80 whoami",),
        ("docker service update --publish-add published=9999,target=80 whoami",),
    ),
    Mistake(
        "le port est déjà pris", "01", "mode-host", (*SWARM, WHOAMI),
        "docker service create --name whoami-host --replicas 2 -p 9999:80 traefik/whoami",
        ("port '9999' is already in use by service 'whoami'", "9998", "--name whoami-host"),
        ("docker service create --name whoami-host --replicas 2 "
         "--publish mode=host,published=9998,target=80 traefik/whoami",),
    ),
    Mistake(
        "la forme courte de -p, pour un port en mode host", "01", "mode-host", SWARM,
        "docker service create --name whoami-host --replicas 2 -p 9998:80 traefik/whoami",
        ("docker service rm whoami-host", "--publish published=9998,target=80,mode=host"),
        ("docker service rm whoami-host",
         "docker service create --name whoami-host --replicas 2 "
         "--publish published=9998,target=80,mode=host traefik/whoami"),
    ),
    Mistake(
        "une commande adressée à un worker", "01", "creer-service", SWARM,
        WHOAMI.replace("docker ", "docker --context node2 ", 1),
        ("run this command on a manager node", "docker service create --name whoami"),
        (WHOAMI,),
    ),
    Mistake(
        "le dernier manager part comme un worker", "01", "quitter", SWARM,
        "docker --context node3 swarm leave; docker --context node2 swarm leave; "
        "docker swarm leave",
        ("Use `--force` to ignore this", "docker --context node1 swarm leave --force"),
        ("docker --context node1 swarm leave --force",),
    ),
    Mistake(
        "déployer une stack sans Swarm", "02", "deployer", (),
        f"docker stack deploy --compose-file {FILE} vote",
        ("docker swarm init", "Initialisez d’abord le Swarm"),
        (*SWARM, STACK),
    ),
    Mistake(
        "déployer la stack avant d’avoir fait entrer node2 et node3", "02", "deployer", (INIT,),
        STACK,
        ("docker --context node2 swarm join --token", "docker --context node3 swarm join --token"),
        (JOIN,),
    ),
    Mistake(
        "le nom du service, sans celui de la stack", "02", "echelle-vote", (*SWARM, STACK),
        "docker service scale vote=4",
        ("docker service scale vote_vote=4",),
        ("docker service scale vote_vote=4",),
    ),
    Mistake(
        "supprimer un service de la stack, au lieu de la stack", "02", "retirer", (*SWARM, STACK),
        "docker service rm vote_vote",
        ("docker stack rm vote",),
        ("docker stack rm vote",),
    ),
    Mistake(
        "un décalage dans le fichier YAML", "05", "ecrire-echelles", (INIT, STACK, COPY),
        "sed -i '0,/^ *replicas: .*/s//       replicas: 3/' ma-stack.yml; "
        "docker stack deploy --compose-file ma-stack.yml vote",
        ("ma-stack.yml, ligne",),
        (COPY,
         "sed -i '/^ *vote:$/,/^$/ s/replicas: .*/replicas: 3/' ma-stack.yml",
         "sed -i '/^ *worker:$/,/^$/ s/replicas: .*/replicas: 2/' ma-stack.yml"),
    ),
    Mistake(
        "le jeton des workers, pour un manager", "04", "deux-managers", (INIT,), JOIN,
        ("Il est entré avec le jeton des workers", "docker --context node2 swarm leave"),
        ("docker --context node2 swarm leave", TWO),
    ),
    Mistake(
        "éteindre un worker, au lieu d’un manager", "04", "perdre-le-quorum",
        (INIT, TWO), "labkit node kill node3",
        ("labkit node start node3", "labkit node kill node2"),
        ("labkit node start node3", "labkit node kill node2"),
    ),
    Mistake(
        "vider un autre nœud que celui de la mission", "05b", "vider-node1", (INIT, TWO),
        "docker node update --availability drain node2",
        ("docker node update --availability active node2",
         "docker node update --availability drain node1"),
        ("docker node update --availability active node2",
         "docker node update --availability drain node1"),
    ),
)  # fmt: skip


def commit(mistake: Mistake) -> Met:
    """Make a mistake on new engines, in the notebooks' folder, read, and mend it."""
    _prepare(mistake.before)
    answer = type_in(mistake.typed, patience=INTERRUPTED)
    leading._asked.clear()  # another student's
    told = " ".join(r.hint for r in verifier(mistake.exercise).rows if not r.ok)
    assert not any(text in told for text in mistake.mend), "a question comes first"
    before = verifier(mistake.exercise)
    for command in mistake.mend:
        type_in(command)
    return Met(answer, before, verifier(mistake.exercise))


def said_to_mend(mistake: Mistake, met: Met) -> list[str]:
    """Return what the message should have said and did not."""
    plain = re.sub(r"\s+", " ", met.message)
    return [text for text in mistake.names if re.sub(r"\s+", " ", text) not in plain]


def _prepare(before: tuple[str, ...]) -> None:
    if before == (*SWARM, STACK) and judge("deployer", capture()).ok:
        return  # another mistake left it whole, and it takes long
    labkit.reset(quiet=True)
    for command in before:
        type_in(command)


def type_in(command: str, *, patience: float = 240.0) -> str:
    """Type a command into a cell; return what it says. One that stays is interrupted."""
    said: list[str] = []
    code = run(command, said.append, timeout=patience)
    if code == TIMED_OUT:
        said.append("Interrompu.\n")
    return "".join(said)


def row(mistake: Mistake, met: Met) -> str:
    """Return a row of README.md's table."""
    answer = [line for line in mask(met.answer).splitlines() if line.strip()]
    told = next((r.hint for r in met.before.rows if not r.ok and r.hint), "")
    cells = [
        mistake.notebook, mistake.name, f"`{mistake.typed.splitlines()[0]}`",
        answer[-1][:200] if answer else "", told,
    ]  # fmt: skip
    return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"
