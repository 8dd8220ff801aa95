"""Exercises: predict, do it with real ``docker`` commands, and have the real state checked.

Importing this package in a notebook registers ``%%solution`` and masks join tokens in outputs.
"""

from labkit.exercises.access import Addresses, Answers, adresses, qui_repond
from labkit.exercises.checks import EXERCISES, Exercise, judge
from labkit.exercises.figures import Comparison, comparer
from labkit.exercises.notebook import commencer, install, tasks_par_noeud, verifier
from labkit.exercises.predictions import Confrontation, Prediction, confronter, predire
from labkit.exercises.preflight import preflight
from labkit.exercises.verdict import Row, Verdict

__all__ = [
    "EXERCISES",
    "Addresses",
    "Answers",
    "Comparison",
    "Confrontation",
    "Exercise",
    "Prediction",
    "Row",
    "Verdict",
    "adresses",
    "commencer",
    "comparer",
    "confronter",
    "judge",
    "predire",
    "preflight",
    "qui_repond",
    "tasks_par_noeud",
    "verifier",
]

install()
