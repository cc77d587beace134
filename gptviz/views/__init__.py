"""Numbers to what is shown: each builder takes numpy arrays and gives a View, which widget, page and figure draw.

A new view is one module here, one file of the same name in `js/views/` and a golden payload that both read.
"""

from gptviz.views.attention import attention_view as attention_view
from gptviz.views.board import board_payload as board_payload
from gptviz.views.board import frame_payload as frame_payload
from gptviz.views.compare import compare_view as compare_view
from gptviz.views.controls import controls_view as controls_view
from gptviz.views.distributions import distributions_view as distributions_view
from gptviz.views.events import events_view as events_view
from gptviz.views.head_curves import head_curves_view as head_curves_view
from gptviz.views.head_scores import head_scores_view as head_scores_view
from gptviz.views.summaries import summary as summary
from gptviz.views.tokens import tokens_view as tokens_view
from gptviz.views.training import training_view as training_view
from gptviz.views.view import Check as Check
from gptviz.views.view import View as View
