"""The ledger keeps what was measured, says how sure it is, and the README shows nothing else."""

from __future__ import annotations

import copy
import json
import math

import pytest

from r1lab import ROOT, movements, scorecard, statistics
from r1lab.basics.errors import R1LabError
from r1lab.basics.ledger import FIELDS, drop, load, load_ledger, record
from r1lab.course import claims, picture
from r1lab.course.readme import (
    NOT_MEASURED,
    markdown_table,
    readme_is_current,
    render_readme,
    show,
    show_with_interval,
    update_readme,
)
from r1lab.course.seeds import LEDGER, PAGES, aggregate


def test_recording_merges_and_replaces(tmp_path):
    path = tmp_path / "figures.json"
    record(path, "r1_zero/base/pass@1", 0.17, 0.15, 0.19, n=256, unit="share", paper=0.156)
    record(path, "r1_zero/seconds", 241, unit="s")
    record(path, "r1_zero/base/pass@1", 0.18, 0.16, 0.20, n=256, unit="share", paper=0.156)
    entries = load(tmp_path)  # the folder will do
    assert list(entries) == ["r1_zero/base/pass@1", "r1_zero/seconds"]
    assert entries["r1_zero/base/pass@1"]["value"] == 0.18
    assert set(entries["r1_zero/seconds"]) == set(FIELDS)
    assert [p.name for p in tmp_path.iterdir()] == ["figures.json"]


def test_several_measures_are_recorded_at_once_without_those_not_measured(tmp_path):
    unknown = (math.nan, math.nan, math.nan)
    measures = {"format": (0.5, 0.4, 0.6), "length": 120.0, "safe": unknown, "loss": math.nan}
    claims.record(tmp_path, {"r1/dev1": measures}, n=8)
    found = load(tmp_path)
    assert list(found) == ["r1/dev1/format", "r1/dev1/length"]
    assert (found["r1/dev1/format"]["high"], found["r1/dev1/format"]["unit"]) == (0.6, "share")
    assert (found["r1/dev1/length"]["low"], found["r1/dev1/length"]["unit"]) == (None, "tokens")


def test_the_runner_names_the_source(tmp_path, monkeypatch):
    monkeypatch.setenv("R1LAB_NOTEBOOK", "05_r1_zero")
    record(tmp_path, "a", 1)
    monkeypatch.setenv("R1LAB_NOTEBOOK", "01_base_model")
    record(tmp_path, "b", 2)
    drop(tmp_path, "05_r1_zero")
    assert list(load(tmp_path)) == ["b"]


@pytest.mark.parametrize(
    "bad",
    [
        {"value": math.nan},
        {"value": math.inf},
        {"value": "0.5"[:0]},
        {"value": 0.5, "low": 0.4},
        {"value": 0.5, "low": 0.6, "high": 0.7},
        {"value": 0.5, "paper": math.inf},
    ],
)
def test_what_is_no_measurement_is_refused_and_the_file_stays(tmp_path, bad):
    record(tmp_path, "kept", 1)
    before = (tmp_path / "figures.json").read_bytes()
    with pytest.raises(R1LabError):
        record(tmp_path, "bad", **bad)
    assert (tmp_path / "figures.json").read_bytes() == before


def test_numpy_and_torch_numbers_become_json(tmp_path):
    import numpy as np
    import torch

    record(tmp_path, "a", np.float32(0.5), low=torch.tensor(0.25), high=np.float64(1))
    assert load(tmp_path)["a"]["low"] == 0.25
    record(tmp_path, "b", 0.5, math.nan, math.nan)  # an Estimate without an interval
    assert load(tmp_path)["b"]["low"] is None


def test_a_file_that_is_no_ledger_is_one_clear_line(tmp_path):
    with pytest.raises(R1LabError, match="make run"):
        load(tmp_path)
    (tmp_path / "figures.json").write_text("{")
    with pytest.raises(R1LabError, match="cannot be read"):
        load(tmp_path)


def test_aggregate_is_mean_and_t_interval_over_seeds(tmp_path):
    for seed, value in enumerate((0.80, 0.84, 0.88)):
        record(tmp_path / str(seed), "r1_zero/trained/pass@1", value, unit="share")
    ledger = aggregate([tmp_path / str(seed) for seed in range(3)], [10, 11, 12])
    entry = ledger["r1_zero/trained/pass@1"]
    half = 4.303 * 0.04 / math.sqrt(3)  # by hand: s = 0.04, t(0.975, 2) = 4.303
    assert entry["value"] == pytest.approx(0.84)
    assert (entry["low"], entry["high"]) == pytest.approx((0.84 - half, 0.84 + half))
    assert entry["n"] == 3
    assert entry["values"] == {"10": 0.80, "11": 0.84, "12": 0.88}


def test_aggregate_keeps_shares_in_range_and_one_seed_without_interval(tmp_path):
    for seed, value in enumerate((0.9, 1.0)):
        record(tmp_path / str(seed), "a", value, unit="share")
    assert aggregate([tmp_path / "0", tmp_path / "1"])["a"]["high"] == 1.0
    assert aggregate([tmp_path / "0"])["a"]["low"] is None


def test_aggregate_refuses_seeds_that_measured_different_things(tmp_path):
    record(tmp_path / "0", "a", 1)
    record(tmp_path / "1", "a", 1)
    record(tmp_path / "1", "b", 1)
    with pytest.raises(R1LabError, match="lacks the figure 'b'"):
        aggregate([tmp_path / "0", tmp_path / "1"])


def test_the_t_quantiles_are_students():
    """Against the incomplete beta integral of Student's density, integrated here."""
    for degrees in (1, 2, 5, 29):
        t, steps = statistics.T_975[degrees - 1], 20_000
        scale = math.gamma((degrees + 1) / 2) / math.gamma(degrees / 2)
        scale /= math.sqrt(degrees * math.pi)
        xs = [(i + 0.5) * t / steps for i in range(steps)]
        mass = sum(scale * (1 + x * x / degrees) ** (-(degrees + 1) / 2) for x in xs) * t / steps
        assert 0.5 + mass == pytest.approx(0.975, abs=2e-5)


def test_numbers_are_shown_as_a_reader_wants_them():
    assert show(0.7791, "share") == "77.9 %"
    assert show(1234.5, "tokens") == "1,234 tokens"
    assert show(6.62) == "6.62"
    assert show(None) == "–"
    entry = {"value": 0.861, "low": 0.84, "high": 0.882, "unit": "share"}
    assert show_with_interval(entry) == "86.1 % [84.0, 88.2]"


def test_base_and_trained_share_a_row(tmp_path):
    record(tmp_path, "r1_zero/base/pass@1", 0.17, unit="share", paper=0.156)
    record(tmp_path, "r1_zero/trained/pass@1", 0.86, unit="share", paper=0.779)
    record(tmp_path, "r1_zero/seconds", 241, unit="s")
    record(tmp_path, "other", 1)
    table = markdown_table(load(tmp_path), ["r1_zero/*"])
    assert "| `r1_zero/pass@1` | 17.0 % | 86.0 % |" in table
    assert "| `r1_zero/seconds` | – | 241 s |" in table
    assert "other" not in table


def test_the_readme_is_written_between_its_markers_only(tmp_path):
    record(tmp_path, "r1_zero/seconds", 241, unit="s")
    ledger = {
        "profile": "cpu",
        "seeds": [0, 1],
        "hardware": {"cores": 2, "cpu": "a CPU"},
        "versions": {"torch": "2.13.0"},
        "figures": load(tmp_path),
    }
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- figures:begin -->\nold\n<!-- figures:end -->\nafter\n")
    assert update_readme(readme, ledger)
    text = readme.read_text()
    assert text.startswith("before\n<!-- figures:begin -->\n")
    assert text.endswith("<!-- figures:end -->\nafter\n")
    assert "241 s" in text and "old" not in text
    assert render_readme(text, ledger) == (text, 1)  # a second time changes nothing
    readme.write_text("no markers\n")
    assert not update_readme(readme, ledger)
    assert readme.read_text() == "no markers\n"


def test_an_interval_of_differences_may_go_below_zero(tmp_path):
    for seed, (gain, low) in enumerate(((0.01, -0.03), (0.05, 0.01), (0.09, 0.05))):
        record(tmp_path / f"{seed}.json", "gain", gain, low, gain + 0.04, unit="share")
        record(tmp_path / f"{seed}.json", "rare", gain, 0.0, gain + 0.04, unit="share")
    found = aggregate([tmp_path / f"{seed}.json" for seed in range(3)])
    assert found["gain"]["low"] < -0.04 and found["rare"]["low"] == 0.0


def test_a_readme_may_show_the_stage_table_too(tmp_path):
    text = "<!-- figures:begin stages -->\nbefore\n<!-- figures:end -->\n"
    book = {"figures": {}, "seeds": [0]}
    book |= {"hardware": {"cores": 2, "cpu": "a CPU"}, "versions": {"torch": "2.13.0"}}
    assert NOT_MEASURED in render_readme(text, book)[0]
    for name, countdown in (("zero", 0.5), ("dev1", 0.4)):
        for measure in scorecard.MEASURES:
            ends = (countdown - 0.02, countdown + 0.02)
            record(tmp_path, f"r1/{name}/{measure}", countdown, *ends, unit="share")
    record(tmp_path, "r1/dev2/countdown", 0.6)  # a model that was not measured whole
    shown = render_readme(text, book | {"figures": load(tmp_path)})[0]
    assert "| held-out | R1-Zero | Dev1 |" in shown and "before" not in shown
    assert "| Countdown, pass@1 | 50 % [48, 52] | 40 % [38, 42] |" in shown
    assert "| paper: AIME 2024 | 77.9 | 59.0 |" in shown
    assert "reproduced: 2 of the paper's 5 movements: countdown R1-Zero → Dev1; steps" in shown
    assert "from R1-Zero to R1" not in shown and "each seed" not in shown
    more = load(tmp_path)
    for name in movements.FIGURES.values():
        more[f"r1/arrows/{name}"] = {"values": {"0": 2.0, "1": 3.0}}
    more |= {f"r1/r1/{m}": more[f"r1/zero/{m}"] for m in scorecard.MEASURES}
    shown = render_readme(text, book | {"figures": more})[0]
    words = ("reproduced", "the other way", movements.DIVIDED, "not resolved here")
    assert "; ".join(f"{one} 2, 3" for one in words) in shown
    assert (
        "from R1-Zero to R1, in points (the last in tokens): Countdown, pass@1 +0 [-3, +3];"
        in shown
    )


def test_the_readme_shows_the_committed_ledger():
    """The results tables of the pages are what `make figures` wrote, to the letter, and the
    README's picture shows the same ledger."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert readme_is_current(text, LEDGER), "run `make figures` to rewrite the tables"
    for theme in picture.THEMES:
        svg = (picture.FOLDER / f"r1-zero-{theme}.svg").read_text(encoding="utf-8")
        assert picture.stamp(load_ledger(LEDGER)) in svg, "run `make figures` to draw it again"


def test_the_picture_shows_every_seed_and_the_base_decoded_greedily(tmp_path):
    book = load_ledger(LEDGER)
    for theme in picture.THEMES:
        fig = picture.draw(book, theme)
        straight = picture.held_out(book["figures"], "accuracy")
        assert len(straight) >= 3 and len(fig.data) == 3 * (3 + len(straight))
        highest = max(max(values) for values in book["curves"]["accuracy"].values())
        assert max(fig.data[1].y) == highest
        for model in ("base", "trained"):
            greedy = book["figures"][f"r1_zero/{model}/greedy"]["value"]
            assert any(trace.y == (greedy, greedy) for trace in fig.data)
    changed = copy.deepcopy(book)
    changed["curves"]["length"]["0"][0] += 1
    assert picture.stamp(changed) != picture.stamp(book)


@pytest.fixture(scope="module")
def committed():
    """The figures of the committed ledger: {name: {value, low, high, ...}}."""
    return load_ledger(ROOT / "benchmarks" / "results" / "figures-cpu.json")["figures"]


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("r1_zero/base/pass@1", 0.10, 0.30),
        ("r1_zero/trained/pass@1", 0.80, 1.0),
        ("r1_zero/trained/cons@16", 0.90, 1.0),
        ("r1_zero/ratio/pass@1", 4.0, 99),
        ("r1_zero/ratio/length", 2.5, 99),
        ("r1_zero/ratio/reflection", 3.0, 99),
        ("r1_zero/seconds", 0, 480),
    ],
)
def test_r1_zero_reached_what_the_readme_says_it_does(committed, name, low, high):
    entry = committed[name]
    assert entry["n"] == 3, entry
    assert low <= entry["value"] <= high, entry


def test_random_rewards_did_not_teach(committed):
    assert committed["r1_zero/control/gain"]["low"] <= 0


@pytest.mark.parametrize("third", [1, 2, 3])
def test_two_engines_learn_alike(committed, third):
    """TRL's learning curve and ours, in three parts: each mean lies in the other's 95 % band."""
    one, two = (committed[f"engines/{who}/accuracy_third_{third}"] for who in ("TRL", "r1lab.grpo"))
    assert one["low"] <= two["value"] <= one["high"]
    assert two["low"] <= one["value"] <= two["high"]


def change(committed, name, before, after):
    """of a measure of the scorecard from one stage to another, seed by seed"""
    ours = scorecard.from_ledger(committed)["ours"]
    return statistics.gap(ours[before][name], ours[after][name])


def test_all_stages_were_measured_over_three_seeds(committed):
    ours = scorecard.from_ledger(committed)["ours"]
    assert tuple(ours) == scorecard.MODELS
    measured = [one for card in ours.values() for one in card.values() if one.value == one.value]
    assert {len(one.each) for one in measured} == {3} and len(measured) >= 9 * len(ours)


@pytest.mark.parametrize("name", ["base", "zero"])
def test_base_and_r1_zero_mix_languages(committed, name):
    assert committed[f"language/{name}/consistency"]["value"] < 0.9
    assert committed[f"r1/{name}/consistency"]["value"] < 0.9


def test_the_language_reward_buys_consistency_for_little(committed):
    assert committed["r1/dev2/consistency"]["value"] >= 0.98
    assert committed["language/effect/consistency"]["low"] > 0
    assert abs(committed["language/effect/accuracy"]["value"]) <= 0.03


@pytest.mark.parametrize("name", ["countdown", "code", "steps"])
def test_r1_reasons_as_well_as_r1_zero(committed, name):
    assert change(committed, name, "zero", "r1").high >= 0


@pytest.mark.parametrize("name", ["format", "consistency", "lists", "helpful", "safe"])
def test_r1_is_clearly_better_than_r1_zero_elsewhere(committed, name):
    assert change(committed, name, "zero", "r1").low > 0


def test_r1_mixes_languages_less(committed):
    assert change(committed, "mixed", "zero", "r1").high < 0


def test_movements_that_are_not_seen_are_told(committed):
    """Dev1 loses nothing that RL could bring back, so fewer than 10 of the 20 are resolved."""
    few = committed["r1/arrows/resolved"]["value"] < 10
    assert few == ("open" in claims.registered("10")["10.resolved"])


def test_a_reward_model_that_is_optimised_for_too_long_is_fooled(committed):
    assert committed["r1/hack/reward"]["low"] > 0 and committed["r1/hack/gold"]["high"] < 0


def test_distillation_beats_rl_on_the_small_model_at_the_same_cost(committed):
    ways = {}
    for way in ("distilled", "rl"):
        kinds = [committed[f"distil/{way}/{kind}"]["values"] for kind in ("countdown", "steps")]
        ways[way] = [sum(pair) / 2 for pair in zip(*(k.values() for k in kinds), strict=True)]
        spent = committed[f"distil/{way}/flops"]["values"]
        assert all(0.98 < x / committed["distil/distilled/flops"]["values"][seed] < 1.1
                   for seed, x in spent.items())  # fmt: skip
    apart = [a - b for a, b in zip(ways["distilled"], ways["rl"], strict=True)]
    assert statistics.t_interval(apart)[0] > 0


def test_a_readme_that_differs_from_the_ledger_is_found(tmp_path):
    record(tmp_path, "r1_zero/seconds", 241, unit="s")
    ledger = tmp_path / "ledger.json"
    text = "<!-- figures:begin -->\nnot measured yet\n<!-- figures:end -->\n"
    assert readme_is_current(text, ledger)  # there is no ledger
    assert not readme_is_current(text.replace("not measured yet", "241 s"), ledger)
    assert not readme_is_current("no markers\n", ledger)
    book = {"profile": "cpu", "seeds": [0], "hardware": {"cores": 2, "cpu": "a CPU"}}
    book |= {"versions": {"torch": "2.13.0"}, "figures": load(tmp_path)}
    ledger.write_text(json.dumps(book))
    assert not readme_is_current(text, ledger)
    shown = render_readme(text, book)[0]
    assert readme_is_current(shown, ledger)
    assert not readme_is_current(shown.replace("241 s", "240 s"), ledger)
