"""Exercises: predict, do it with real ``docker`` commands, and have the real state checked.

Importing this package in a notebook registers ``%%solution`` and ``%%reponse``, and masks secrets
in outputs.
"""

from labkit.exercises.catalogue import EXERCISES, judge
from labkit.exercises.catchup import Rattrapage, rattraper
from labkit.exercises.copies import preparer_stack
from labkit.exercises.course.nb03_breakdown import preparer_panne
from labkit.exercises.course.nb06_kubernetes import (
    SideBySide,
    associer_equivalences,
    cote_a_cote,
    preparer_manifeste,
    sans_equivalent,
)
from labkit.exercises.course.nb07_traefik import domaine, preparer_traefik, routes
from labkit.exercises.course.nb09_balancers import Hub, hub_repond, preparer_portainer
from labkit.exercises.exercise import Exercise
from labkit.exercises.forms import (
    Form,
    Matching,
    cocher_options,
    cocher_reseaux,
    corriger,
    dessiner,
    repondre,
    souffler,
)
from labkit.exercises.keeping import Saved, sauvegarder
from labkit.exercises.measures.access import Addresses, Answers, adresses, qui_repond
from labkit.exercises.measures.balancing import PORTES, Loss, perdre_un_replica, serveurs, tableau
from labkit.exercises.measures.ballots import Ballot, Scores, resultats, voter
from labkit.exercises.measures.figures import (
    Curves,
    Doors,
    TrafficComparison,
    comparer,
    courbes,
    portes,
)
from labkit.exercises.measures.pages import Pages, Visitors, lire_pages, qui_suis_je
from labkit.exercises.notebook import attendre_leader, commencer, install, tasks_par_noeud, verifier
from labkit.exercises.predictions import Confrontation, Prediction, confronter, predire
from labkit.exercises.progress import classe, ne_plus_partager, partager, progression
from labkit.exercises.recall import Recall, rappel
from labkit.exercises.solutions import Solution, solution
from labkit.preflight.check import preflight
from labkit.verdict import Row, Verdict

__all__ = [
    "EXERCISES",
    "PORTES",
    "Addresses",
    "Answers",
    "Ballot",
    "Confrontation",
    "Curves",
    "Doors",
    "Exercise",
    "Form",
    "Hub",
    "Loss",
    "Matching",
    "Pages",
    "Prediction",
    "Rattrapage",
    "Recall",
    "Row",
    "Saved",
    "Scores",
    "SideBySide",
    "Solution",
    "TrafficComparison",
    "Verdict",
    "Visitors",
    "adresses",
    "associer_equivalences",
    "attendre_leader",
    "classe",
    "cocher_options",
    "cocher_reseaux",
    "commencer",
    "comparer",
    "confronter",
    "corriger",
    "cote_a_cote",
    "courbes",
    "dessiner",
    "domaine",
    "hub_repond",
    "judge",
    "lire_pages",
    "ne_plus_partager",
    "partager",
    "perdre_un_replica",
    "portes",
    "predire",
    "preflight",
    "preparer_manifeste",
    "preparer_panne",
    "preparer_portainer",
    "preparer_stack",
    "preparer_traefik",
    "progression",
    "qui_repond",
    "qui_suis_je",
    "rappel",
    "rattraper",
    "repondre",
    "resultats",
    "routes",
    "sans_equivalent",
    "sauvegarder",
    "serveurs",
    "solution",
    "souffler",
    "tableau",
    "tasks_par_noeud",
    "verifier",
    "voter",
]

install()
