"""Recall: three questions on the notebooks before, answered from memory and corrected at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import ipywidgets as widgets

from labkit.errors import SettingError
from labkit.views.live import bundle


@dataclass(frozen=True, slots=True)
class RecallQuestion:
    """A question on what was learnt before."""

    # asked, why: French texts: the question, and what explains the right answer
    asked: str
    choices: tuple[str, ...]  # the answers offered
    right: str  # the one that is right
    why: str

    def correct(self, answer: str) -> str:
        """Return what a student reads who chose this answer; pure."""
        return f"{'✔ Oui' if answer == self.right else '✘ Non'} : {self.why}"


class Recall:
    """Questions with radio buttons, each corrected when it is answered; a list without a kernel."""

    def __init__(self, questions: Sequence[RecallQuestion]) -> None:
        self.questions = tuple(questions)
        self._view = widgets.VBox([self._ask(question) for question in self.questions])

    def _ask(self, question: RecallQuestion) -> Any:
        radio = widgets.RadioButtons(
            options=list(question.choices), value=None, layout={"width": "max-content"}
        )
        radio.add_class("labkit-prediction")
        said = widgets.HTML()

        def answered(change: Any) -> None:
            said.value = escape(question.correct(change["new"])) if change["new"] else ""

        radio.observe(answered, names="value")
        return widgets.VBox(
            [widgets.HTML(f"<strong>{escape(question.asked)}</strong>"), radio, said]
        )

    def __repr__(self) -> str:
        return "\n".join(
            line for q in self.questions for line in (q.asked, *(f"  ○ {c}" for c in q.choices))
        )

    def _html(self) -> str:
        items = (
            f"<li>{escape(q.asked)}<ul>{''.join(f'<li>{escape(c)}</li>' for c in q.choices)}</ul>"
            "</li>"
            for q in self.questions
        )
        return f"<ol>{''.join(items)}</ol>"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return bundle(self._view, repr(self), self._html(), **kwargs)


def rappel(notebook: str) -> Recall:
    """Ask three questions on the notebooks before this one.

    A notebook is named by its number, such as ``"02"``. Raises ``SettingError`` when there are no
    questions for it.
    """
    if notebook not in QUESTIONS:
        raise SettingError(
            f"Il n’y a pas de questions de rappel pour « {notebook} ».",
            remedy=f"Il y en a pour : {', '.join(QUESTIONS)}.",
        )
    return Recall(QUESTIONS[notebook])


QUESTIONS: dict[str, tuple[RecallQuestion, ...]] = {
    "02": (
        RecallQuestion(
            "Un service de cinq replicas tourne sur trois nœuds. Lequel ouvre son port publié ?",
            ("node1 seulement", "les nœuds qui ont un replica", "tous les nœuds"),
            "tous les nœuds",
            "le routing mesh ouvre le port partout, et mène de partout à tous les replicas.",
        ),
        RecallQuestion(
            "Un client garde sa connexion ouverte. Le mesh choisit un replica :",
            ("à chaque requête", "une fois pour cette connexion", "au hasard, toutes les minutes"),
            "une fois pour cette connexion",
            "IPVS répartit des connexions (couche 4), et ne lit pas les requêtes.",
        ),
        RecallQuestion(
            "Que faut-il à une machine pour entrer dans un Swarm ?",
            ("un jeton et l’adresse d’un manager", "le mot de passe de node1", "rien de spécial"),
            "un jeton et l’adresse d’un manager",
            "le jeton dit en quelle qualité elle entre ; il vaut un mot de passe.",
        ),
    ),
    "03": (
        RecallQuestion(
            "Dans une stack, que fait « depends_on » ?",
            ("il ordonne les démarrages", "il attend la base", "rien : Swarm l’ignore"),
            "rien : Swarm l’ignore",
            "chaque programme doit savoir attendre ceux dont il a besoin.",
        ),
        RecallQuestion(
            "« vote » et « db » n’ont aucun réseau en commun. « vote » peut-il joindre « db » ?",
            ("oui, par son nom", "non", "oui, par son port publié"),
            "non",
            "le DNS de Docker ne donne que les noms d’un même réseau, et « db » ne publie rien.",
        ),
        RecallQuestion(
            "Que devient un volume quand on retire sa stack ?",
            ("il reste sur son nœud", "il est effacé", "il passe sur un autre nœud"),
            "il reste sur son nœud",
            "« docker stack rm » retire services et réseaux, jamais les volumes.",
        ),
    ),
    "04": (
        RecallQuestion(
            "« REPLICAS 1/1 » dit…",
            ("que le service fait son travail", "qu’un processus tourne", "que le port répond"),
            "qu’un processus tourne",
            "Swarm surveille des processus ; seul un test de santé en dit davantage.",
        ),
        RecallQuestion(
            "Quel nœud répond à « docker service ls » ?",
            ("n’importe lequel", "un worker", "un manager"),
            "un manager",
            "seuls les managers connaissent l’état du cluster.",
        ),
        RecallQuestion(
            "Vos machines sont sur Internet. Quels services de la stack faut-il publier ?",
            ("ceux que l’on visite", "tous : ufw ferme leurs ports", "tous, en mode host"),
            "ceux que l’on visite",
            "les autres se joignent par leur réseau, et ufw ne ferme pas ce que Docker publie.",
        ),
    ),
    "05": (
        RecallQuestion(
            "Deux managers, l’un tombe. Que peut-on encore faire ?",
            ("tout", "ajouter un manager", "rien changer, mais les tasks continuent"),
            "rien changer, mais les tasks continuent",
            "la majorité de deux, c’est deux : le quorum est perdu.",
        ),
        RecallQuestion(
            "Comment un manager quitte-t-il proprement le Swarm ?",
            ("leave --force", "demote, puis leave, puis node rm", "node rm, tout de suite"),
            "demote, puis leave, puis node rm",
            "forcer laisserait un manager de trop dans le compte du quorum.",
        ),
        RecallQuestion(
            "À travers le mesh, quelle adresse de client le service voit-il ?",
            ("celle d’un nœud", "celle du client", "aucune"),
            "celle d’un nœud",
            "le nœud contacté met la sienne à la place, pour que la réponse repasse par lui.",
        ),
    ),
    "05b": (
        RecallQuestion(
            "Vous changez ma-stack.yml et l’enregistrez. Que change le cluster, aussitôt ?",
            ("ce qui diffère", "les replicas seulement", "rien"),
            "rien",
            "personne ne surveille le fichier : « docker stack deploy » le compare au cluster.",
        ),
        RecallQuestion(
            "Après « docker service scale », que dit encore le fichier ?",
            ("la même chose que le cluster", "autre chose que le cluster", "rien : il est effacé"),
            "autre chose que le cluster",
            "et le prochain déploiement du fichier défera ce changement.",
        ),
        RecallQuestion(
            "Trois managers : combien peuvent tomber sans que le Swarm se fige ?",
            ("un", "deux", "aucun"),
            "un",
            "deux sur trois font une majorité ; un seul n’en fait plus.",
        ),
    ),
    "06": (
        RecallQuestion(
            "Combien de tasks lance « mode: global » ?",
            ("une par manager", "une par nœud", "autant que de replicas"),
            "une par nœud",
            "un nœud qui arrive reçoit la sienne ; les contraintes comptent toujours.",
        ),
        RecallQuestion(
            "On vide node1, puis on le rend disponible. Ses tasks reviennent-elles ?",
            ("oui, toutes", "oui, la moitié", "non"),
            "non",
            "Swarm n’arrête pas des tasks qui vont bien pour rééquilibrer.",
        ),
        RecallQuestion(
            "Une base déménage sur un autre nœud. Ses données la suivent-elles ?",
            ("non", "oui", "oui, si c’est un manager"),
            "non",
            "un volume local reste sur son nœud ; une contrainte par label y attache la task.",
        ),
    ),
    "07": (
        RecallQuestion(
            "Un service de Swarm devient, chez Kubernetes :",
            ("un Pod", "un Deployment et un Service", "un DaemonSet"),
            "un Deployment et un Service",
            "l’un fabrique les Pods, l’autre leur donne un nom et un port.",
        ),
        RecallQuestion(
            "À quoi le routing mesh donne-t-il un replica ?",
            ("à chaque connexion", "à chaque requête", "à chaque visiteur"),
            "à chaque connexion",
            "il travaille à la couche 4. Un proxy, lui, peut choisir à chaque requête.",
        ),
        RecallQuestion(
            "Une mise à jour échoue, avec « failure_action: rollback ». Que fait Swarm ?",
            ("il attend quelqu’un", "il arrête le service", "il revient à la version d’avant"),
            "il revient à la version d’avant",
            "le cluster revient en arrière ; le fichier, lui, garde la faute.",
        ),
    ),
    "08": (
        RecallQuestion(
            "Où Traefik lit-il ce qu’il doit faire de whoami ?",
            ("dans les labels du service", "dans ceux du conteneur", "dans haproxy.cfg"),
            "dans les labels du service",
            "dans un fichier de stack, ils s’écrivent sous « deploy ».",
        ),
        RecallQuestion(
            "La socket de Docker montée en « :ro » est-elle sans danger ?",
            ("oui", "non", "oui, sur un manager"),
            "non",
            "seul le fichier est protégé : les requêtes passent dans les deux sens.",
        ),
        RecallQuestion(
            "Un manager qui ne répond plus : qui décide à sa place, s’il en reste deux sur trois ?",
            ("personne", "le plus ancien worker", "un leader élu par les deux autres"),
            "un leader élu par les deux autres",
            "deux sur trois font une majorité.",
        ),
    ),
    "09": (
        RecallQuestion(
            "« up » vaut 0 pour une cible de Prometheus. Cela veut dire :",
            ("que le service est arrêté", "que la lecture a échoué", "que le nœud est vide"),
            "que la lecture a échoué",
            "un service qui répond aux visiteurs peut ne publier aucune mesure.",
        ),
        RecallQuestion(
            "Comment Prometheus apprend-il qu’un nœud est arrivé ?",
            ("il le demande au Swarm", "on modifie son fichier", "le nœud s’annonce à lui"),
            "il le demande au Swarm",
            "la liste des cibles vient d’un manager, toutes les cinq secondes.",
        ),
        RecallQuestion(
            "Comment donner le même fichier de configuration à toutes les tasks ?",
            ("par un volume local", "par un réseau overlay", "par une config"),
            "par une config",
            "le Swarm la garde, et la remet à chaque task, où qu’elle soit.",
        ),
    ),
}
