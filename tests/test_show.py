"""Figures: what they draw is what was measured, hovering says it in words, and text stays text."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import plotly.graph_objects as go
import pytest

from r1lab import answers, evaluate, paper, scorecard, show, statistics
from r1lab.basics.errors import R1LabError
from r1lab.show import notebook, style
from r1lab.statistics import t_interval


def history(seed: int, steps: int = 12) -> list[dict]:
    rng = np.random.default_rng(seed)
    return [
        {
            "step": t,
            "accuracy": float(rng.uniform(0.1, 0.2) + 0.05 * t),
            "length": 30.0 + 5 * t + float(rng.normal()),
            "reflection": 0.5 + 0.2 * t,
        }
        for t in range(steps)
    ]


def evaluation(table) -> evaluate.Evaluation:
    """An Evaluation from right and wrong answers (P, n); right ones are longer."""
    rows = [
        [
            answers.Completion(
                "", 60 if x else 20, True, bool(x), "a" if x else None, True, 0, None, False
            )
            for x in row
        ]
        for row in table
    ]
    return evaluate.Evaluation([SimpleNamespace(id=str(i)) for i in range(len(rows))], rows)


def named(fig: go.Figure, words: str) -> go.Scatter:
    found = [trace for trace in fig.data if words in (trace.name or "")]
    assert found, [trace.name for trace in fig.data]
    return found[0]


# --- learning curves


def test_one_seed_shows_every_step_and_the_running_mean():
    run = history(0)
    fig = show.learning_curves(run, keys=("accuracy",), smooth=3)
    raw = [m["accuracy"] for m in run]
    assert list(named(fig, "each step").y) == raw
    smooth = named(fig, "mean of 3 steps").y
    assert smooth[0] == pytest.approx(np.mean(raw[:2]))
    assert smooth[5] == pytest.approx(np.mean(raw[4:7]))


def test_several_seeds_show_their_mean_and_its_interval_where_all_have_steps():
    runs = [history(seed) for seed in range(3)]
    runs[2] = runs[2][:9]  # stopped early
    fig = show.learning_curves({"trained": runs}, keys=("length",), smooth=1)
    line, band = named(fig, "mean of 3 seeds"), named(fig, "interval")
    assert list(line.x) == list(range(9))
    at_four = [run[4]["length"] for run in runs]
    assert line.y[4] == pytest.approx(np.mean(at_four))
    low, high = t_interval(at_four)
    assert band.y[4] == pytest.approx(high) and band.y[-5] == pytest.approx(low)


def test_curves_say_what_is_missing():
    with pytest.raises(R1LabError, match="history is empty"):
        show.learning_curves([])
    with pytest.raises(R1LabError, match="'honesty'.*accuracy"):
        show.learning_curves(history(0), keys=("honesty",))


# --- the paper


def test_what_is_said_of_the_paper_names_its_section():
    for entry in paper.PAPER.values():
        assert "section" in entry["source"] or "appendix" in entry["source"]
    start, end = (value for _, value in paper.PAPER["accuracy"]["points"])
    assert paper.PAPER_BARS["paper, start"]["pass@1"][0] == start == 0.156
    assert paper.PAPER_BARS["paper, end"]["pass@1"][0] == end == 0.779


# --- evaluations


def test_pass_at_k_curve_draws_the_measures():
    table = np.random.default_rng(0).random((12, 8)) < 0.3
    one = evaluation(table)
    fig = show.pass_at_k_curve({"base": one}, majority=True)
    assert list(named(fig, "base, pass@k").x) == [1, 2, 4, 8]
    assert named(fig, "base, pass@k").y[2] == pytest.approx(one.pass_at(4).value)
    assert named(fig, "base, cons@k").y[3] == pytest.approx(one.cons_at(8).value)
    assert named(fig, "95 %").y[0] == pytest.approx(one.pass_at(1).high)
    assert show.powers_of_two(12) == [1, 2, 4, 8, 12]


def test_bars_compare_models_and_the_paper_where_it_has_the_measure():
    ours = {
        "base": {"pass@1": (0.2, 0.1, 0.35), "length": (30, 28, 32)},
        "trained": {"pass@1": (0.8, 0.7, 0.9), "length": (120, math.nan, math.nan)},
    }
    fig = show.compare_bars({**ours, **paper.PAPER_BARS}, ["pass@1", "length"])
    shares, lengths = fig.data
    assert list(shares.x) == ["base", "trained", "paper,<br>start", "paper,<br>end"]
    assert list(lengths.x) == ["base", "trained"]  # the paper states no length
    assert shares.error_y.array[0] == pytest.approx(0.15)
    assert shares.error_y.arrayminus[0] == pytest.approx(0.1)
    assert np.isnan([shares.error_y.array[2], lengths.error_y.array[1]]).all()  # no interval
    assert len(set(shares.marker.color)) == 4
    with pytest.raises(R1LabError, match="cons@16"):
        show.compare_bars({**ours, **paper.PAPER_BARS}, ["cons@16"])


def test_distributions_are_the_fraction_up_to_each_value():
    fig = show.distribution({"base": [0, 1, 1, math.nan, 5], "trained": [3, 9]}, x_title="tries")
    assert list(fig.data[0].x) == [0, 0, 1, 5] and list(fig.data[0].y) == [0, 0.25, 0.75, 1]
    assert list(fig.data[1].x) == [0, 3, 9] and list(fig.data[1].y) == [0, 0.5, 1]
    assert fig.data[0].line.shape == "hv"
    with pytest.raises(R1LabError, match="empty"):
        show.distribution({"base": [math.nan]}, x_title="tries")
    lengths = show.length_distribution(evaluation([[1, 0, 0], [0, 0, 0]]))
    assert [trace.name for trace in lengths.data] == [
        "correct: 1, mean 60",
        "incorrect: 5, mean 20",
    ]


def test_decodings_are_points_with_intervals_and_a_model_a_colour():
    one = {"pass@1": (0.2, 0.1, 0.35), "length": (30, 28, 32)}
    two = {"pass@1": (0.8, 0.7, 0.9), "length": (120, math.nan, math.nan)}
    fig = show.decodings({"base": {"T = 1": one, "greedy": two}, "trained": {"T = 1": two}},
                         ["pass@1", "length"])  # fmt: skip
    assert [(t.name, t.xaxis, t.mode) for t in fig.data] == [
        *(("base", "x", "markers"), ("base", "x2", "markers")),
        *(("trained", "x", "markers"), ("trained", "x2", "markers")),
    ]
    assert list(fig.data[0].x) == ["T = 1", "greedy"] and list(fig.data[0].y) == [0.2, 0.8]
    assert fig.data[0].error_y.array[0] == pytest.approx(0.15)
    assert [t.showlegend for t in fig.data] == [True, False, True, False]


def test_bars_lie_down_where_their_names_would_overlap():
    standing = show.grouped_bars(["a", "b"], {"t": [1, 2]}, title="t", y_title="y", x_title="x")
    assert standing.data[0].orientation is None and standing.layout.yaxis.title.text == "y"
    names = [f"zero3, {i} GPUs of 80 GB" for i in range(20)]
    lying = show.grouped_bars(names, {"t": range(20)}, title="t", y_title="y",
                              errors={"t": [(i, i, i + 2) for i in range(20)]})  # fmt: skip
    assert list(lying.data[0].y) == names and list(lying.data[0].x) == list(range(20))
    assert lying.layout.xaxis.title.text == "y" and lying.data[0].error_x.array[3] == 2
    assert lying.layout.height > 20 * 20 and lying.layout.margin.l > 7 * 20


def test_names_below_bars_are_broken_or_become_a_legend_before_they_overlap():
    names = ["long, found, truncated", *"abcde"]
    fig = show.grouped_bars(names, {"t": range(6)}, title="t", y_title="y")
    assert fig.data[0].x[0] == "long, found,<br>truncated" and fig.data[0].orientation is None
    one = {"pass@1": (0.2, 0.1, 0.3), "length": (9, 8, 10), "reflection": (1, 0, 2)}
    few = show.compare_bars({"base": one, "trained": one})
    assert few.layout.xaxis.showticklabels and not few.layout.showlegend and len(few.data) == 3
    labels = ["base,<br>short", "hidden<br>tests", "visible<br>tests", "visible,<br>monitor"]
    many = show.compare_bars(dict.fromkeys(labels, one))
    assert many.layout.showlegend and not many.layout.xaxis2.showticklabels
    named_bars = {t.name: t.marker.color for t in many.data if t.showlegend is not False}
    assert list(named_bars) == [label.replace("<br>", " ") for label in labels]
    assert tuple(named_bars.values()) == many.data[0].marker.color
    wide = show.heatmap([[0.1] * 16], x=range(16), y=["write f , f ( 6 ) = 29"], title="t")
    assert wide.data[0].texttemplate is None  # sixteen numbers have no room


def test_no_two_of_seven_runs_have_one_colour_and_coinciding_points_stay_visible():
    assert len(set(show.style.palette([f"run {i}" for i in range(7)]))) == 7
    level = [(x, (0.14, 0.12, 0.17)) for x in range(3)]
    falls = [(x, (0.9 - 0.4 * x, 0, 1)) for x in range(3)]
    series = {"hidden": level, "visible": falls, "monitor": level}
    fig = show.interval_curves(series, x_title="x", y_title="y", title="t")
    assert [trace.line.dash for trace in fig.data] == ["solid", "solid", "dash"]


def test_ticks_of_steps_are_whole_and_coinciding_curves_stay_visible():
    from r1lab.show.curves import whole_ticks

    assert [whole_ticks(n) for n in (0, 6, 10, 36, 60, 10_400)] == [1, 1, 2, 10, 10, 2_000]
    fig = show.learning_curves({"TRL": [history(0)], "ours": [history(0)]}, keys=("accuracy",))
    assert fig.layout.xaxis.dtick == 2
    assert named(fig, "TRL, mean").line.dash != named(fig, "ours, mean").line.dash


def test_points_of_a_calibration_grow_with_their_number():
    fig = show.calibration_curve({"trained": [(0.1, 0.0, 10), (0.9, 0.75, 40)]})
    small, large = named(fig, "trained").marker.size
    assert small < large and named(fig, "trained").mode == "markers"


# --- the stages of R1

CARDS = {
    "base": {"countdown": (0.2, 0.1, 0.35), "lists": (0.3, 0.2, 0.4)},
    "Dev1": {"countdown": (0.5, 0.4, 0.6), "lists": (math.nan, math.nan, math.nan)},
}
WORDS = {"countdown": "Countdown, right", "lists": "instructions followed"}
STAGES = [("drawn", 200, 8), ("right", 100, 8), ("new", 25, 5), ("few per prompt", 0, 0)]


def test_stages_are_bars_with_intervals_in_a_colour_of_their_own():
    fig = show.stage_bars(CARDS, WORDS)
    assert [trace.name for trace in fig.data] == ["base", "Dev1"]
    assert [trace.marker.color for trace in fig.data] == [show.STAGES[n] for n in CARDS]
    assert fig.data[0].error_y.array[0] == pytest.approx(0.15)
    assert list(fig.data[0].x) == list(WORDS.values())
    with pytest.raises(R1LabError, match="Dev1 has no steps"):
        show.stage_bars({"Dev1": CARDS["Dev1"]}, {"steps": "steps"})


def test_a_funnel_draws_shares_of_what_was_drawn_and_names_those_of_each_filter():
    fig = show.funnel({"R1-Zero": STAGES, "Dev2": STAGES})
    assert list(fig.data[0].x) == [1, 0.5, 0.125, 0]
    assert list(fig.data[0].text) == ["200", "100 (50%)", "25 (25%)", "0 (0%)"]
    assert fig.layout.yaxis.autorange == "reversed"  # the first filter on top
    for wrong in ({}, {"a": [("drawn", 0, 0)]}, {"a": STAGES, "b": STAGES[:2]}):
        with pytest.raises(R1LabError, match="no funnel to draw"):
            show.funnel(wrong)


# --- the objective


def test_the_objective_is_drawn_by_hand_computed_points():
    fig = show.clip_objective(0.2, 0.3)
    better, worse = (t for t in fig.data if t.name == "clipped objective")
    at = dict(zip(np.round(better.x, 2), better.y, strict=True))
    assert at[1.5] == pytest.approx(1.3) and at[0.5] == pytest.approx(0.5)
    at = dict(zip(np.round(worse.x, 2), worse.y, strict=True))
    assert at[0.5] == pytest.approx(-0.8) and at[1.5] == pytest.approx(-1.5)

    fig = show.objective_with_kl(1.0, kl_coef=0.5, estimator="k3")
    at = dict(zip(np.round(fig.data[2].x, 2), fig.data[2].y, strict=True))
    assert at[1.0] == pytest.approx(1.0)  # no penalty where the policies agree
    assert at[0.5] == pytest.approx(0.5 - 0.5 * (2 - 1 - math.log(2)))

    curve = named(show.kl_estimators(reach=math.log(2)), "k3")
    assert curve.x[-1] == pytest.approx(math.log(2))
    assert curve.y[-1] == pytest.approx(2 - 1 - math.log(2))


# --- in a notebook


def gallery() -> dict[str, go.Figure]:
    one = evaluation(np.eye(4, 8, dtype=int))
    interval = (0.5, 0.4, 0.7)
    return {
        "curves": show.learning_curves([history(1), history(2)]),
        "pass@k": show.pass_at_k_curve({"trained": one}, majority=True),
        "bars": show.grouped_bars(
            ["a", "b<br>r = 1"], {"trained": [1, -2]}, title="t", y_title="y"
        ),
        "panels": show.compare_bars(
            {"base": {"pass@1": interval, "length": (30, 28, 32)}}, ["length"]
        ),
        "distribution": show.length_distribution(one),
        "decodings": show.decodings(
            {"base": {"T = 1": one.summary(), "greedy": one.summary()}}, ["pass@1", "length"]
        ),
        "lying bars": show.grouped_bars(
            [f"a long category, number {i}" for i in range(9)],
            {"trained": range(9)},
            title="t",
            y_title="y",
            errors={"trained": [(i, i - 1, i + 1) for i in range(9)]},
        ),
        "objective": show.objective_with_kl(),
        "clip": show.clip_objective(),
        "stages": show.stage_bars({**CARDS, "R1": CARDS["base"]}, WORDS),
        "stage panels": show.stage_panels(stage_table()),
        "funnel": show.funnel({"R1": STAGES}),
        "heat": show.heatmap([[0.0, 1.0]], x=[1, 2], y=["对"], title="t $5"),
        "calibration": show.calibration_curve({"trained": [(0.1, 0.0, 20), (0.9, 0.75, 40)]}),
        "intervals": show.interval_curves(
            {"trained": [(0, interval), (2e12, interval)]}, x_title="x", y_title="y", title="t"
        ),
    }


def test_every_figure_is_stored_for_every_reader():
    for name, fig in gallery().items():
        forms = json.loads(json.dumps(show.bundle(fig, "It rises.")))
        spec = forms[notebook.PLOTLY]
        assert len(go.Figure(spec["data"], spec["layout"]).data) == len(fig.data), name
        assert forms[notebook.MARK] == {"width": fig.layout.width}
        assert spec["layout"]["autosize"] and "width" not in spec["layout"]  # as wide as the cell
        assert spec["config"]["showSendToCloud"] is False  # plotly's upload button
        assert forms["text/plain"].startswith("Figure: ") and "It rises." in forms["text/plain"]
        assert len(json.dumps(forms)) < 100_000 and "image/png" not in forms, name


def test_hovering_says_what_was_measured_in_its_unit():
    def texts(fig):
        spec = show.bundle(fig)[notebook.PLOTLY]
        return [(trace.get("hovertemplate"), trace.get("customdata")) for trace in spec["data"]]

    for name, fig in gallery().items():
        for trace, (template, _) in zip(fig.data, texts(fig), strict=True):
            assert template or trace.hoverinfo == "skip", f"{name}: {trace.name}"
    curves = texts(show.learning_curves(history(0), keys=("accuracy",), smooth=1))
    words = "RL step: %{x:,d}<br>accuracy (fraction correct): %{y:.1%}<extra></extra>"
    assert curves[0][0].endswith(words)
    ((template, intervals),) = texts(
        show.compare_bars(
            {"base": {"pass@1": (0.2, 0.1, 0.35)}, "paper": {"pass@1": (0.7, math.nan, math.nan)}},
            ["pass@1"],
        )
    )
    assert "%{x}<br>pass@1 (fraction): %{y:.1%}%{customdata}" in template
    assert intervals == ["<br>interval: 10.0% to 35.0%", ""]
    (stacked,) = texts(show.funnel({"R1": STAGES}))
    assert "%{x:.1%}" in stacked[0] and "%{y}<extra>" in stacked[0]


def test_a_figure_that_says_its_own_words_keeps_them():
    fig = go.Figure(go.Scatter(x=[1], y=[2], hovertemplate="mine"))
    assert notebook.hover(fig.data[0], fig.layout) == {}


def test_axes_of_a_run_that_is_not_over_reach_to_its_end():
    fig = show.learning_curves([], steps=100)
    assert not fig.data and fig.layout.xaxis2.range[1] >= 99
    few = show.learning_curves(history(0, 3), steps=100)
    assert few.data[1].mode == "lines+markers"  # one point would be no line
    assert show.learning_curves(history(0, 60)).data[1].mode == "lines"


# --- completions as text


class Reader(HTMLParser):
    """What a browser would make of it: elements, attributes, text."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.text = set(), set(), ""
        self.feed(markup.split("</style>", 1)[1])

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.text += data


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><b onmouseover="x">',
    "</div></style><style>*{display:none}",
    "&lt;b&gt;",
    "\x00\x1b[31m",
    "\u202egnp.exe",
    "\ud800",
    "javascript:x",
    "</span>",
    "' onclick='x",
]


@pytest.mark.parametrize("kind", ["plain", "advantage", "logprob"])
def test_what_a_model_wrote_stays_text(kind):
    values = None if kind == "plain" else [-0.5] * len(HOSTILE)
    hostile = " ".join(HOSTILE)
    facts = {hostile: hostile}
    markup = show.completion_html(HOSTILE, values, kind, hostile, hostile, facts)
    seen = Reader(markup)
    assert seen.tags <= {"div", "span", "br"}
    assert seen.attributes <= {"class", "style", "title", "dir"}
    assert "<script>alert(1)</script>" in seen.text and "&lt;b&gt;" in seen.text
    assert "\x00" not in markup and "\u202e" not in markup
    markup.encode("utf-8")  # a lone surrogate would not


def test_a_table_of_what_models_wrote_stays_text():
    hostile = " ".join(HOSTILE)
    markup = show.table_html([("prompt", hostile), (hostile, "<think> *a* | $b$ </think>")])
    seen = Reader(f"</style>{markup}")
    assert seen.tags == {"table", "thead", "tbody", "tr", "th", "td"}
    assert seen.attributes == {"style"}
    assert "<script>alert(1)</script>" in seen.text and "<think> *a* | $b$" in seen.text


def test_long_answers_are_cut_and_say_so():
    markup = show.completion_html(["x" * 1_000_000] + ["y"] * 5_000)
    assert len(markup) < 200_000
    assert "999,000 more characters" in markup and "3,001 more tokens" in markup


def test_colours_say_sign_and_size():
    def alpha(markup: str, token: str) -> tuple[str, float]:
        style = markup.split(f">{token}</span>")[0].rsplit("rgba(", 1)[1].split(")")[0]
        *ink, strength = style.split(",")
        return ",".join(ink), float(strength)

    markup = show.completion_html(["up", "some", "down"], [2.0, 1.0, -2.0], "advantage")
    assert alpha(markup, "up")[1] == 2 * alpha(markup, "some")[1] == 0.5
    assert alpha(markup, "up")[0] != alpha(markup, "down")[0]
    markup = show.completion_html(["sure", "odd"], [-0.01, -3.0], "logprob")
    assert alpha(markup, "odd")[1] > 10 * alpha(markup, "sure")[1]
    small = show.completion_html(["up"], [0.0047], "advantage")  # the same scale in every text
    assert alpha(small, "up")[1] < 0.01
    assert 'class="t w"' in show.completion_html(["等等"])  # a reflective word is underlined
    with pytest.raises(R1LabError, match="2 tokens, but 1 values"):
        show.completion_html(["a", "b"], [1.0], "advantage")
    with pytest.raises(R1LabError, match="'rainbow'"):
        show.completion_html(["a"], [1.0], "rainbow")


# --- reward models, stages, compute


def stage_table(models: tuple[str, ...] = ("base", "zero", "dev1")) -> dict:

    measures = dict.fromkeys(scorecard.MEASURES, statistics.Estimate(0.5, 0.4, 0.55))
    measures["length"] = statistics.Estimate(120.0, 100.0, 150.0)
    measures["safe"] = statistics.Estimate(math.nan, math.nan, math.nan)
    return {"ours": dict.fromkeys(models, measures), "paper": paper.STAGE_TABLE}


def test_a_calibration_curve_has_wilsons_intervals():
    fig = show.calibration_curve({"helpful": [(0.1, 0.0, 20), (0.9, 0.75, 40)], "safe": []})
    line = named(fig, "helpful")
    assert list(line.x) == [0.1, 0.9] and list(line.y) == [0.0, 0.75]
    low, high = statistics.wilson(30, 40)
    assert line.error_y.array[1] == pytest.approx(high - 0.75)
    assert line.error_y.arrayminus[1] == pytest.approx(0.75 - low)
    assert list(named(fig, "perfectly").y) == [0, 1]
    with pytest.raises(R1LabError, match="no predictions"):
        show.calibration_curve({"helpful": []})


def test_values_stand_where_they_were_measured_with_their_intervals():
    alone = [(0, (0.1, 0.1, 0.2)), (4e12, (0.4, 0.3, 0.5))]
    fig = show.interval_curves(
        {"taught": [(2e12, (0.5, 0.4, 0.7))], "RL alone": alone},
        x_title="operations",
        y_title="pass@1",
        title="t",
        traces={"RL alone": [(0, 0.1), (1e12, 0.2)]},
    )
    alone = next(trace for trace in fig.data if trace.name == "RL alone")
    assert named(fig, "each step").line.color == style.faint(alone.line.color, 0.45)
    assert list(alone.x) == [0, 4e12] and alone.mode == "lines+markers"
    taught = named(fig, "taught")
    assert taught.mode == "markers" and taught.error_y.array[0] == pytest.approx(0.2)
    assert taught.line.color != alone.line.color
    counted = show.interval_curves(
        {"a": [(0, (1, 1, 1)), (2, (1, 1, 1))]}, x_title="x", y_title="y", title="t"
    )
    assert list(counted.layout.xaxis.tickvals) == [0, 2]
    with pytest.raises(R1LabError, match="nothing to draw"):
        show.interval_curves({"taught": []}, x_title="x", y_title="y", title="t")


def test_the_stage_table_is_drawn_with_the_papers_values_for_the_stages_we_have():

    fig = show.stage_panels(stage_table())
    aime = named(fig, "AIME")
    assert list(aime.x) == ["R1-Zero", "Dev1"] and list(aime.y) == [0.779, 0.59]
    ours = [trace for trace in fig.data if trace.name.startswith("ours")]
    assert len(ours) == len(scorecard.MEASURES)
    assert list(ours[0].x) == ["base", "R1-Zero", "Dev1"]
    assert sum(trace.showlegend is not False for trace in ours) == 1
    alone = show.stage_panels(stage_table(("base",)))
    assert not [trace for trace in alone.data if trace.name.startswith("paper")]
    with pytest.raises(R1LabError, match="no model"):
        show.stage_panels({"ours": {}, "paper": paper.STAGE_TABLE})
