"""Boards joined to a model: what is read from a trace or a run, and what happens when the reader asks for more."""

from gptviz.dashboards.compare import compare as compare
from gptviz.dashboards.explore import explore as explore
from gptviz.dashboards.explore import parts as parts
from gptviz.dashboards.explore import trace_views as trace_views
from gptviz.dashboards.stepper import step_through as step_through
from gptviz.dashboards.watch import curve_view as curve_view
from gptviz.dashboards.watch import report as report
from gptviz.dashboards.watch import snapshot_views as snapshot_views
from gptviz.dashboards.watch import watch as watch
