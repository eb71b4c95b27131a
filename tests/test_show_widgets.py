"""Controls in a real kernel: drawn without a click, redrawn in place, one output however long."""

from __future__ import annotations

import json

import pytest

from r1lab import show
from r1lab.basics.errors import R1LabError
from r1lab.show import notebook, widgets
from r1lab.tasks.base import Problem

CELLS = {
    "explorer": """
from r1lab import show
controls = show.explorer(
    lambda high, kind: show.grouped_bars(["a"], {"trained": [high]}, title=kind, y_title="y"),
    high=(1, 0, 5, 1), kind=["first", "second"])
controls["high"].value = 4
controls["kind"].value = "second"
""",
    "inspector": """
samples = [{"step": t, "text": f"wait <b>{t}</b> {v}", "correct": v == "right", "reward": 1.0,
            "advantage": 0.5, "tokens": ["wait", f"<b>{t}</b>", v]}
           for t in (0, 7, 9) for v in ("wrong", "right")]
inspector = show.rollout_inspector(samples)
""",
    "inspector, moved": """
other = show.rollout_inspector(samples)
other["step"].value = 7
other["verdict"].value = "correct"
other["completion"].value = 99
print(other["completion"].value, "of", other["completion"].max)
""",
    "funnel": """
from types import SimpleNamespace
asked = SimpleNamespace(question="make 3 <b>")
long = SimpleNamespace(text=" ".join(f"word{i}" for i in range(100)))
short = SimpleNamespace(text="a <i> b")
found = SimpleNamespace(examples=[SimpleNamespace(problem=asked, completion="good")],
                        fallen={"right": [(asked, long), (asked, short)], "new": []})
funnel = show.funnel_inspector(found)
""",
    "funnel, moved": """
other = show.funnel_inspector(found)
other["completion"].value = 2
""",
    "beside": """
from r1lab.answers import Completion
from r1lab.evaluate import Evaluation
def answers(word):
    rows = [[Completion(f"{word} {i}", 3, True, i == 1, None, True, 0, None, False)
             for i in range(2)] for _ in range(3)]
    problems = [SimpleNamespace(id=str(i), question=f"question {i}") for i in range(3)]
    return Evaluation(problems, rows)
both = show.answers_beside({"before": answers("<u>"), "after": answers("new")})
both["problem"].value = 3
both["completion"].value = 2
""",
    "playground": """
from r1lab.tasks import get_task
problem = get_task("countdown").problems("held_out", 1)[0]
play = show.reward_playground(problem, "<think> x </think> <answer> 1 </answer>")
play["completion"].value = "<script>alert(1)</script>"
""",
    "objective": """
objective = show.objective_explorer()
objective["kl_coef"].value = 0.5
""",
    "dashboard": """
live = show.live_dashboard(40, seconds=0)
for t in range(40):
    live(t, {"accuracy": t / 40, "length": 30.0 + t, "reflection": 0.1 * t}, None)
live.finish()
""",
    "resumed": """
import json, pathlib
run = pathlib.Path("run")
run.mkdir()
def metrics(t):
    return {"step": t, "accuracy": t / 40, "length": 30.0 + t, "reflection": 0.1 * t}
(run / "metrics.jsonl").write_text("".join(json.dumps(metrics(t)) + "\\n" for t in range(9)))
again = show.live_dashboard(20, run, seconds=0)
for t in range(6, 11):  # the last checkpoint was of six steps
    again(t, metrics(t), None)
again.finish()
""",
    "trained": """
(run / "metrics.jsonl").write_text("".join(json.dumps(metrics(t)) + "\\n" for t in range(20)))
done = show.live_dashboard(20, run)
done.finish()
""",
    "prediction": """
guess = show.predict("pass@1", 0, 1, folder="guess")
""",
    "prediction, moved": """
guess.slider.value = (0.25, 0.5)
print(guess.band, guess.words())
""",
}


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The cells' outputs, run as papermill runs a lesson: {name: outputs}."""
    import nbformat
    from nbclient import NotebookClient

    cells = [nbformat.v4.new_code_cell(source) for source in CELLS.values()]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(
        notebook, timeout=300, startup_timeout=300, kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path_factory.mktemp("cells"))}},
    ).execute()  # fmt: skip
    return {name: cell.outputs for name, cell in zip(CELLS, notebook.cells, strict=True)}


def test_every_control_shows_its_result_first_and_words_where_no_widget_is(executed):
    for name, outputs in executed.items():
        forms = [list(output.data) for output in outputs if output.output_type != "stream"]
        if name in ("dashboard", "resumed", "trained", "prediction", "prediction, moved"):
            continue
        assert len(forms) == 2, name  # the drawing and the control: redrawing adds none
        assert {notebook.PLOTLY, "text/html"} & set(forms[0]), name
        assert "application/vnd.jupyter.widget-view+json" in forms[1]
        assert outputs[1].data["text/plain"] == widgets.NO_KERNEL


def test_moving_a_control_redraws_in_place(executed):
    spec = executed["explorer"][0].data["application/vnd.plotly.v1+json"]
    assert spec["layout"]["title"]["text"] == "second"
    assert "second" in executed["explorer"][0].data["text/plain"]
    names = executed["objective"][0].data["application/vnd.plotly.v1+json"]["data"]
    assert "0.5 · k3" in names[2]["name"]


def test_the_inspector_opens_on_first_and_last_step_and_finds_the_rest(executed):
    opening = executed["inspector"][0].data["text/html"]
    assert (
        "step 0: incorrect" in opening
        and "step 9: incorrect" in opening
        and "step 7" not in opening
    )
    assert "<b>" not in opening
    moved = executed["inspector, moved"][0].data["text/html"]
    assert "step 7: correct" in moved and "step 9" not in moved
    assert executed["inspector, moved"][-1].text == "1 of 1\n"  # of 99 that were asked for


def test_the_funnel_opens_on_one_answer_of_each_filter_and_shows_the_rest_whole(executed):
    opening = executed["funnel"][0].data["text/html"]
    assert "rejected by “right”: 1 of 2" in opening and "kept: 1 of 1" in opening
    assert "word99" in opening and "word50" not in opening and "“new”" not in opening
    assert "<b>" not in opening
    moved = executed["funnel, moved"][0].data["text/html"]
    assert "rejected by “right”: 2 of 2" in moved and "&lt;i&gt;" in moved and "kept" not in moved


def test_answers_of_two_models_stand_beside_each_other(executed):
    markup = executed["beside"][0].data["text/html"]
    assert "before: correct, 3 tokens" in markup and "after: correct, 3 tokens" in markup
    assert "question 2" in markup and "<u>" not in markup
    with pytest.raises(R1LabError, match="the same problems"):
        show.answers_beside({})


def test_the_playground_shows_what_was_typed_as_text(executed):
    markup = executed["playground"][0].data["text/html"]
    assert "<script" not in markup and "&lt;script&gt;" in markup


def test_the_dashboard_keeps_one_figure_with_every_step(executed):
    (output,) = executed["dashboard"]
    spec = output.data["application/vnd.plotly.v1+json"]
    assert len(spec["data"][0]["x"]) == 40
    assert spec["layout"]["title"]["text"].endswith("40 of 40 steps")
    assert len(json.dumps(output.data)) < 400_000


def test_the_dashboard_knows_the_steps_of_an_earlier_start(executed):
    (output,) = executed["resumed"]
    spec = output.data[notebook.PLOTLY]
    assert spec["data"][0]["x"] == list(range(11))  # the lost steps once, as they were done again
    assert spec["layout"]["title"]["text"].endswith("11 of 20 steps")
    assert "after 9 steps" in spec["layout"]["title"]["subtitle"]["text"]
    (output,) = executed["trained"]
    spec = output.data[notebook.PLOTLY]
    assert "trained already, 20 steps, on 20" in spec["layout"]["title"]["subtitle"]["text"]
    assert spec["layout"]["xaxis"]["range"][1] >= 19 and len(spec["data"][0]["x"]) == 20


def test_the_dashboard_only_keeps_metrics_outside_a_notebook(capsys):
    live = show.live_dashboard(2)
    live(0, {"accuracy": 0.5})
    live.finish()
    assert live.history == [{"step": 0, "accuracy": 0.5}] and capsys.readouterr().out == ""


def test_reward_html_reads_with_a_reward_model_too():
    def judge_reward(completions, *, problem=None, **_):
        return [0.25 for _ in completions]

    from r1lab.tasks import get_task

    problem = get_task("lists").problems("train", 1)[0]
    right = f"<answer> {get_task('lists').solution(problem)} </answer>"
    html = show.reward_html(problem, right, rewards=("accuracy", judge_reward))
    assert "judge reward × 1" in html and "0.25" in html and "1.25" in html


def test_reward_html_reads_as_the_rules_read():
    numbers = {"numbers": [7, 6, 10], "target": 23}
    problem = Problem("countdown", "6-7-10=23", "make 23 from 7 6 10 .", "en", "held_out", numbers)
    right = "( 10 + 7 ) + 6"
    paid = show.reward_html(problem, f"<answer> {right} </answer>", weights=[1.0, 0.5])
    assert 'the thought</th><td style="text-align:left">none' in paid
    rows = [row.split("</td>")[0].rsplit(">", 1)[1] for row in paid.split("<tr>")[1:]]
    assert rows[2:] == ["no", "1", "0", "1"]
    whole = show.reward_html(
        problem, f"<think> x </think> <answer> {right} </answer>", weights=[1.0, 0.5]
    )
    rows = [row.split("</td>")[0].rsplit(">", 1)[1] for row in whole.split("<tr>")[1:]]
    assert rows[2:] == ["yes", "1", "1", "1.5"]


def test_samples_of_a_killed_run_load(tmp_path):
    file = tmp_path / "samples.jsonl"
    file.write_text('{"step": 0, "text": "a"}\n{"step": 1, "te', encoding="utf-8")
    assert show.load_samples(tmp_path) == [{"step": 0, "text": "a"}]
    file.write_text("", encoding="utf-8")
    with pytest.raises(R1LabError, match="no samples yet"):
        show.load_samples(file)
    with pytest.raises(R1LabError, match="not there"):
        show.load_samples(tmp_path / "elsewhere")


def test_a_prediction_is_kept_and_drawn_into_the_result(tmp_path):
    guess = show.Prediction("pass@1 after RL", "share", tmp_path / "predictions.json")
    fig = show.compare_bars({"base": {"length": (9, 8, 10), "pass@1": (0.2, 0.1, 0.3)}}, ["length"])
    before = fig.to_json()
    assert guess.draw(fig).to_json() == before and "Enter it here" in guess.words()
    guess.enter(0.3, 0.5)
    other = show.Prediction("length", "tokens", guess.path)
    other.enter(20, 40)
    again = show.Prediction("pass@1 after RL", "share", guess.path)  # in another kernel
    assert again.words() == "Your prediction of pass@1 after RL: 30% to 50%"
    assert other.words() == "Your prediction of length: 20 to 40 tokens"
    fig = other.draw(fig)
    assert [(s.yref, s.y0, s.y1) for s in fig.layout.shapes][-1] == ("y", 20, 40)
    assert fig.layout.yaxis.range[1] > 40, "the band lies within the axis"
    two = again.draw(show.learning_curves([{"step": 0, "accuracy": 0.1, "length": 3}],
                                          keys=("length", "accuracy")), panel=2)  # fmt: skip
    assert two.layout.shapes[-1].yref == "y2" and two.layout.shapes[-1].xref == "x2 domain"


def test_a_prediction_waits_for_nobody_and_moving_it_keeps_it(executed):
    (output,) = executed["prediction"]
    assert output.data["text/plain"].startswith("Predict: pass@1.")
    assert "application/vnd.jupyter.widget-view+json" in output.data
    (output,) = executed["prediction, moved"]
    assert output.text == "(0.25, 0.5) Your prediction of pass@1: 25% to 50%\n"


def test_what_cannot_be_a_control_is_named():
    with pytest.raises(R1LabError, match="'k'.*default, low, high, step"):
        show.explorer(lambda k: "", k=(9, 0, 5, 1))
    with pytest.raises(R1LabError, match="no samples"):
        show.rollout_inspector([])
