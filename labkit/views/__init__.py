"""Views: the cluster live, a slider for a service, who answers requests.

The functions are pure, from a state or a sample to a picture; the widgets keep them up to date.
"""

from labkit.views.cluster_picture import cluster_picture, cluster_svg
from labkit.views.cluster_view import ClusterView
from labkit.views.curves import curves_figure
from labkit.views.distribution import distribution_figure, distribution_html
from labkit.views.doors import doors, doors_figure, doors_html
from labkit.views.repartition import Repartition
from labkit.views.scaler import Scaler
from labkit.views.tasks import tasks_html

__all__ = [
    "ClusterView",
    "Repartition",
    "Scaler",
    "cluster_picture",
    "cluster_svg",
    "curves_figure",
    "distribution_figure",
    "distribution_html",
    "doors",
    "doors_figure",
    "doors_html",
    "tasks_html",
]
