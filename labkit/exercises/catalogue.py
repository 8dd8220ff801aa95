"""Every exercise and question of the course, and the verdict of one on a state."""

from difflib import get_close_matches
from typing import Any

from labkit.exercises.course.nb01_swarm import (
    SWARM_EXERCISES,
    SWARM_MEASURES,
    SWARM_QUESTIONS,
)
from labkit.exercises.course.nb02_voting import VOTING_EXERCISES, VOTING_QUESTIONS
from labkit.exercises.course.nb03_breakdown import BREAKDOWN_MEASURES, BREAKDOWN_QUESTIONS
from labkit.exercises.course.nb04_clustering import (
    CLUSTERING_EXERCISES,
    CLUSTERING_MEASURES,
    CLUSTERING_QUESTIONS,
)
from labkit.exercises.course.nb05_orchestration import (
    ORCHESTRATION_EXERCISES,
    ORCHESTRATION_QUESTIONS,
)
from labkit.exercises.course.nb05b_nodes import NODE_EXERCISES, NODE_QUESTIONS
from labkit.exercises.course.nb06_kubernetes import KUBERNETES_EXERCISES, KUBERNETES_QUESTIONS
from labkit.exercises.course.nb07_traefik import PROXY_EXERCISES
from labkit.exercises.course.nb08_monitoring import (
    MONITORING_EXERCISES,
    MONITORING_MEASURES,
    MONITORING_QUESTIONS,
)
from labkit.exercises.course.nb09_balancers import (
    BALANCER_EXERCISES,
    BALANCER_MEASURES,
    BALANCER_QUESTIONS,
)
from labkit.exercises.exercise import Exercise, Measure
from labkit.exercises.questions import Question
from labkit.state import ClusterState
from labkit.verdict import Row, Verdict

EXERCISES: dict[str, Exercise] = {
    e.name: e
    for e in (
        *SWARM_EXERCISES,
        *VOTING_EXERCISES,
        *CLUSTERING_EXERCISES,
        *ORCHESTRATION_EXERCISES,
        *NODE_EXERCISES,
        *KUBERNETES_EXERCISES,
        *PROXY_EXERCISES,
        *MONITORING_EXERCISES,
        *BALANCER_EXERCISES,
    )
}

QUESTIONS: dict[str, Question] = {
    q.name: q
    for q in (
        *SWARM_QUESTIONS,
        *VOTING_QUESTIONS,
        *BREAKDOWN_QUESTIONS,
        *CLUSTERING_QUESTIONS,
        *ORCHESTRATION_QUESTIONS,
        *NODE_QUESTIONS,
        *MONITORING_QUESTIONS,
        *BALANCER_QUESTIONS,
        *KUBERNETES_QUESTIONS,
    )
}

# of what is predicted of one command: by the names of the cells that ask for it
MEASURES: dict[str, Measure] = {
    **SWARM_MEASURES,
    **BREAKDOWN_MEASURES,
    **CLUSTERING_MEASURES,
    **MONITORING_MEASURES,
    **BALANCER_MEASURES,
}

UNASKED = object()  # None is an answer: nobody answered


def judge(name: str, state: ClusterState, answers: Any = UNASKED) -> Verdict:
    """Return the verdict of the exercise of that name on a state; pure.

    An unknown name gives a verdict that fails and says which names exist. Without ``answers`` of
    the exercise's probe, these are left out of the verdict.
    """
    exercise = EXERCISES.get(name)
    if exercise is None:
        near = get_close_matches(name, EXERCISES, n=1)
        hint = f'Écrivez verifier("{near[0]}").' if near else ""
        expected = ", ".join(EXERCISES)
        return Verdict.of("Exercice inconnu", [Row.fault("Nom", expected, name, hint)])
    rows = list(exercise.check(state))
    if exercise.probe is not None and answers is not UNASKED:
        rows += exercise.probe.judge(answers)
    if not all(row.ok for row in rows):  # what is amiss elsewhere may be why
        rows += [Row.fault("Cluster", "rien d’anormal", t.what, t.remedy) for t in state.troubles]
    return Verdict.of(exercise.title, rows)
