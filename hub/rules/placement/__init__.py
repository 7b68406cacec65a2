"""Which worker runs which task (DESIGN §4): highest priority first, then oldest; to who has the most free room.

`Backlog` decides. `explain` and `verdicts` say why it does or does not.
"""

from hub.rules.placement.backlog import Backlog
from hub.rules.placement.explain import ABOUT_TO_GO, ALL_DECLINED, explain
from hub.rules.placement.limits import Limit, labels_of_interest
from hub.rules.placement.place import Place, Placed, Shape, fits, misfit, new_rate
from hub.rules.placement.verdicts import Bar, Judged, Verdict, verdict

__all__ = [
    "ABOUT_TO_GO",
    "ALL_DECLINED",
    "Backlog",
    "Bar",
    "Judged",
    "Limit",
    "Place",
    "Placed",
    "Shape",
    "Verdict",
    "explain",
    "fits",
    "labels_of_interest",
    "misfit",
    "new_rate",
    "verdict",
]
