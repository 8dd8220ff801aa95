"""Exercises: predict, do it with real ``docker`` commands, and have the real state checked.

Importing this package in a notebook registers ``%%solution`` and masks join tokens in outputs.
"""

from labkit.exercises.access import Addresses, Answers, adresses, qui_repond
from labkit.exercises.ballots import Ballot, Scores, resultats, voter
from labkit.exercises.breakdown import preparer_panne
from labkit.exercises.catalogue import EXERCISES, judge
from labkit.exercises.catchup import Rattrapage, rattraper
from labkit.exercises.copies import preparer_stack
from labkit.exercises.exercise import Exercise
from labkit.exercises.figures import Comparison, Doors, comparer, portes
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
from labkit.exercises.kubernetes import (
    SideBySide,
    associer_equivalences,
    cote_a_cote,
    preparer_manifeste,
)
from labkit.exercises.notebook import commencer, install, tasks_par_noeud, verifier
from labkit.exercises.pages import Pages, Visitors, lire_pages, qui_suis_je
from labkit.exercises.predictions import Confrontation, Prediction, confronter, predire
from labkit.exercises.preflight import preflight
from labkit.exercises.progress import classe, ne_plus_partager, partager, progression
from labkit.exercises.proxies import domaine, preparer_traefik, routes
from labkit.exercises.verdict import Row, Verdict

__all__ = [
    "EXERCISES",
    "Addresses",
    "Answers",
    "Ballot",
    "Comparison",
    "Confrontation",
    "Doors",
    "Exercise",
    "Form",
    "Matching",
    "Pages",
    "Prediction",
    "Rattrapage",
    "Row",
    "Scores",
    "SideBySide",
    "Verdict",
    "Visitors",
    "adresses",
    "associer_equivalences",
    "classe",
    "cocher_options",
    "cocher_reseaux",
    "commencer",
    "comparer",
    "confronter",
    "corriger",
    "cote_a_cote",
    "dessiner",
    "domaine",
    "judge",
    "lire_pages",
    "ne_plus_partager",
    "partager",
    "portes",
    "predire",
    "preflight",
    "preparer_manifeste",
    "preparer_panne",
    "preparer_stack",
    "preparer_traefik",
    "progression",
    "qui_repond",
    "qui_suis_je",
    "rattraper",
    "repondre",
    "resultats",
    "routes",
    "souffler",
    "tasks_par_noeud",
    "verifier",
    "voter",
]

install()
