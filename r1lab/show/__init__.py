"""Figures, tables and completions as the lessons show them (`show.learning_curves`, ...).

Every figure is a plotly figure and says in its axes what was measured, in what unit. Titles say
what is shown; what it means is for the lesson to say and the reader to check. The same thing has
the same colour everywhere: a base model grey, a trained one blue, a control orange, the paper black
and dashed (colours of Okabe and Ito, told apart by colour-blind readers too).
"""

# ruff: noqa: F401
from r1lab.show.bars import (
    advantage_bars,
    compare_bars,
    decodings,
    distribution,
    grouped_bars,
    heatmap,
    length_distribution,
)
from r1lab.show.bill import cost_shares
from r1lab.show.curves import learning_curves, running_mean
from r1lab.show.dashboard import live_dashboard
from r1lab.show.inspectors import (
    answers_beside,
    funnel_inspector,
    load_samples,
    rollout_inspector,
    sample_html,
    samples_of,
)
from r1lab.show.loops import infrastructure, roadmap, roadmap_svg
from r1lab.show.notebook import bundle, figure, show_html
from r1lab.show.objective import clip_objective, kl_estimators, objective_with_kl
from r1lab.show.pareto import accuracy_cost
from r1lab.show.points import calibration_curve, interval_curves, pass_at_k_curve, powers_of_two
from r1lab.show.predictions import Prediction, predict
from r1lab.show.recorder import Recorder
from r1lab.show.stages import funnel, stage_bars, stage_panels
from r1lab.show.style import COLOURS, RIGHT, STAGES, WRONG, colour
from r1lab.show.text import (
    compare_completions,
    completion_html,
    show_completion,
    show_table,
    table_html,
)
from r1lab.show.toys import estimate_dots, run_lines
from r1lab.show.trial import Trial, try_reward
from r1lab.show.widgets import explorer, objective_explorer, reward_html, reward_playground
