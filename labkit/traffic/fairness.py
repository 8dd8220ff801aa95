"""The chi-square test of how equally replicas shared the requests, and its sentence."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from labkit.text.french import number, percent, plural

_RARE = 0.01
_TOO_FEW = 5  # answers expected from each replica for a chi-square test to mean anything


@dataclass(frozen=True, slots=True)
class Uniformity:
    """How far the hits are from equal shares: Pearson's chi-square test of goodness of fit."""

    # sum over the replicas of (hits - expected)² / expected; NaN when there is no test
    statistic: float
    dof: int  # degrees of freedom: replicas - 1
    # chance of a statistic at least this large if each answer came from a replica drawn at random
    # with equal shares; NaN when there is no test
    p_value: float
    answers: int  # answers that the test counts: those whose replica is known
    failures: int  # requests that failed; they belong to no replica
    # ``fair`` (as chance would), ``regular`` (closer to equal than chance would), ``uneven``,
    # ``too-few``, ``single`` (one replica alone) or ``unknown`` (no answer named a replica)
    verdict: str
    sentence: str  # the verdict in French, for a student

    def __str__(self) -> str:
        return self.sentence

    def _repr_html_(self) -> str:
        return f"<p>{escape(self.sentence)}</p>"


def chi_square_p(statistic: float, dof: int) -> float:
    """Return the chance that a chi-square variable is at least ``statistic``.

    This is Q(dof/2, statistic/2), the regularised upper incomplete gamma function, which for a
    whole ``dof`` is a finite sum: Q(a + 1, x) = Q(a, x) + x^a e^-x / Γ(a + 1), from
    Q(1/2, x) = erfc(√x) or Q(1, x) = e^-x. Abramowitz and Stegun 26.4.4 and 26.4.5.
    """
    x = statistic / 2
    if x <= 0:
        return 1.0
    a, q = (1.0, math.exp(-x)) if dof % 2 == 0 else (0.5, math.erfc(math.sqrt(x)))
    while a < dof / 2:
        q += math.exp(a * math.log(x) - x - math.lgamma(a + 1))
        a += 1
    return min(1.0, q)


def judge(
    hits: Sequence[int], *, failures: int, connections: int | None, proxied: bool = False
) -> Uniformity:
    """Test hits a replica against equal shares.

    ``connections`` when they were kept open; ``proxied`` when no mesh chose the replicas.
    """
    answers, replicas = sum(hits), len(hits)
    dof = max(0, replicas - 1)
    statistic = p = math.nan
    if not answers:
        verdict = "unknown"
        text = "Aucune réponse ne dit quel replica l’a donnée : il n’y a rien à comparer."
    elif replicas == 1:
        verdict = "single"
        text = "Un seul replica : toutes les réponses viennent de lui."
    else:
        mean = answers / replicas
        statistic = sum((h - mean) ** 2 for h in hits) / mean
        p = chi_square_p(statistic, dof)
        figures = f"(χ² = {number(statistic, 1)} ; {plural(dof, 'degré')} de liberté)"
        if mean < _TOO_FEW:
            verdict = "too-few"
            text = (
                f"Trop peu de réponses pour conclure : {number(answers)} pour {replicas} "
                f"replicas, il en faut au moins {number(_TOO_FEW * replicas)}."
            )
        elif p < _RARE:
            verdict = "uneven"
            text = (
                "Répartition inégale : si chaque replica avait la même chance de répondre, un "
                f"tel écart n’arriverait que dans {percent(p)} des cas {figures}."
            )
        elif p > 1 - _RARE:
            verdict = "regular"
            text = (
                "Répartition égale, et plus régulière que le hasard : un tirage au sort ferait "
                f"un écart plus grand dans {percent(p)} des cas {figures}. C’est la marque "
                "d’un tour de rôle"
            )
            text += (
                "." if proxied else " : le routing mesh (IPVS, round-robin) ne tire pas au sort."
            )
        else:
            verdict = "fair"
            text = (
                "Rien n’indique une répartition inégale : avec un tirage au sort équitable, un "
                f"écart au moins aussi grand arrive dans {percent(p)} des cas {figures}."
            )
    if connections is not None and replicas > 1 and answers and not proxied:
        text += (
            " Mais le mesh répartit des connexions, pas des requêtes : ici "
            f"{plural(connections, 'connexion')} en tout, chacune restée sur son replica."
        )
    if failures:
        text += f" {plural(failures, 'requête')} en échec ne compte{'nt' * (failures > 1)} ici "
        text += "pour aucun replica."
    return Uniformity(statistic, dof, p, answers, failures, verdict, text.replace(" ;", "\u202f;"))
