"""Claims are registered before they are measured, and judged as they were registered."""

from __future__ import annotations

import datetime
import json

import pytest
import yaml

from r1lab.basics import ledger
from r1lab.basics.errors import R1LabError
from r1lab.course import claims, profiles
from r1lab.course.readme import render_readme


@pytest.fixture
def shown(monkeypatch):
    """What the cells display: [(HTML, text)]."""
    found = []
    monkeypatch.setattr(claims, "show_html", lambda *both: found.append(both))
    return found


def claim(test, threshold, measure="m", **more):
    return {"says": "It is so.", "measure": measure, "test": test, "threshold": threshold} | more


def entry(value, low=None, high=None, **more):
    return {"value": value, "low": low, "high": high, "unit": "share", **more}


@pytest.mark.parametrize(
    ("test", "threshold", "holds"),
    [
        *(("at_least", 0.5, True), ("at_least", 0.51, False)),
        *(("at_most", 0.5, True), ("at_most", 0.49, False)),
        *(("above", 0.49, True), ("above", 0.5, False)),
        *(("clearly_above", 0.39, True), ("clearly_above", 0.4, False)),
        *(("clearly_below", 0.61, True), ("clearly_below", 0.6, False)),
        *(("not_clearly_above", 0.4, True), ("not_clearly_above", 0.39, False)),
        *(("not_clearly_below", 0.6, True), ("not_clearly_below", 0.61, False)),
    ],
)
def test_each_test_compares_its_end_of_the_interval(test, threshold, holds):
    assert claims.judge(claim(test, threshold), {"m": entry(0.5, 0.4, 0.6)})["holds"] is holds


def test_two_figures_are_compared_by_their_nearer_ends_and_over_seeds_in_pairs():
    one = claim("clearly_above", "0.5 x other")
    figures = {"m": entry(0.5, 0.4, 0.6), "other": entry(0.7, 0.6, 0.79)}
    assert claims.judge(one, figures)["holds"]
    figures["other"]["high"] = 0.81
    assert not claims.judge(one, figures)["holds"]
    assert claims.judge(one, {"m": entry(0.5)})["holds"] is None
    for change, holds in ((0.1, True), (0.0, False)):  # the seeds vary more than they differ
        values = {"0": 0.2, "1": 0.5, "2": 0.8}
        other = {seed: value + 0.01 * int(seed) - change for seed, value in values.items()}
        over = {"m": entry(0.5, -0.2, 1.2, values=values)}
        over["other"] = entry(0.4, -0.3, 1.1, values=other)
        assert claims.judge(claim("clearly_above", "other"), over)["holds"] is holds


def test_the_file_is_read_and_what_is_no_claim_is_refused(tmp_path):
    assert claims.load(tmp_path) == {}
    path = tmp_path / "claims.yaml"
    path.write_text("claims: {05.a: {says: x, measure: m, test: perhaps, threshold: 1}}")
    with pytest.raises(R1LabError, match="the claim 05.a"):
        claims.load(tmp_path)
    path.write_text("- 1")
    with pytest.raises(R1LabError, match="no section 'claims'"):
        claims.load(tmp_path)


def changed(results: dict, now: dict[str, dict]) -> dict[str, str]:
    """The claims that are not those that the results file was measured with, and what is wrong:
    a changed claim must say so in its history, with a date not before that measurement."""
    wrong = {}
    for name, then in results.get("claims", {}).items():
        claim = now.get(name)
        if claim is None:
            wrong[name] = "was measured and is gone"
        elif any(claim.get(key) != then.get(key) for key in claims.KNOWN - {"open", "history"}):
            dates = [str(one["date"]) for one in claim.get("history", ())]
            if not dates or max(dates) < results["measured"]:
                wrong[name] = "was changed after its measurement, and its history does not say so"
    return wrong


def test_the_lessons_claims_are_of_lessons_and_their_changes_are_told():
    found = claims.load()
    lessons = {path.stem[:2] for path in profiles.notebooks()}
    assert len(found) > 50 and {name[:2] for name in found} <= lessons
    for name, one in found.items():
        for change in one.get("history", ()):
            assert set(change) == {"date", "change", "why"}, name
            assert isinstance(change["date"], datetime.date), name
    results = ledger.load_ledger(claims.RESULTS)
    assert not changed(results, found)


def test_a_change_after_the_measurement_must_be_in_the_history():
    then = {"measured": "2026-11-28", "claims": {"05.a": claim("at_least", 4, seeds=3)}}
    assert not changed(then, {"05.a": claim("at_least", 4, seeds=3)})
    assert "is gone" in changed(then, {})["05.a"]
    lower = claim("at_least", 3, seeds=3)
    assert "changed" in changed(then, {"05.a": lower})["05.a"]
    early = lower | {"history": [{"date": datetime.date(2026, 11, 2), "change": "", "why": ""}]}
    assert changed(then, {"05.a": early})
    told = lower | {"history": [{"date": datetime.date(2026, 11, 29), "change": "", "why": ""}]}
    assert not changed(then, {"05.a": told})


def test_seeds_are_judged_by_the_claims_that_their_lessons_started_with():
    def state(*found):
        return {"notebooks": {"05_x": {"claims": dict(found)}, "06_y": {}}}

    a, b = claim("at_least", 0.5, seeds=2), claim("at_least", 0.6, seeds=2)
    figures = {"m": entry(0.55)}
    same = claims.judged([state(("05.a", a)), state(("05.a", a))], figures)["05.a"]
    assert same["holds"] is True and same["registered"] and same["value"] == 0.55
    moved = claims.judged([state(("05.a", b)), state(("05.a", a))], figures)["05.a"]
    assert moved["threshold"] == 0.5 and not moved["registered"]
    new = claims.judged([state(), state(("05.a", a))], figures)["05.a"]
    assert not new["registered"]
    assert claims.judged([state(("05.a", a))], figures)["05.a"]["holds"] is None  # one seed of two


def test_figures_are_recorded_by_what_they_are(tmp_path):
    class Result:
        problems = [1, 2, 3]

        def summary(self):
            return {"pass@1": (0.5, 0.4, 0.6), "length": (20.0, 19.0, 21.0)}

    claims.record(tmp_path, {"r1_zero/trained": Result(), "r1_zero/ratio/pass@1": 3.0, "n": 7})
    claims.record(tmp_path, {"a/b": {"c": float("nan"), "d": 0.5}}, n=9, unit="x")
    found = ledger.load(tmp_path)
    assert found["r1_zero/trained/pass@1"]["paper"] == 0.779
    assert found["r1_zero/trained/pass@1"]["n"] == 3
    assert found["r1_zero/trained/length"]["unit"] == "tokens"
    assert (found["r1_zero/ratio/pass@1"]["unit"], found["n"]["unit"]) == ("x", "")
    assert "a/b/c" not in found and (found["a/b/d"]["unit"], found["a/b/d"]["n"]) == ("x", 9)


@pytest.fixture
def five(monkeypatch):
    """Lesson 05's claims, for a while."""
    few = {"05.a": claim("at_least", 0.5), "05.b": claim("above", 0.1, "b", always=True)}
    monkeypatch.setattr(claims, "load", lambda *_: few)
    return few


def test_a_lessons_table_says_what_holds_and_a_failure_ends_it(five, shown, tmp_path, monkeypatch):
    claims.record(tmp_path, {"m": (0.6, 0.5, 0.7), "b": 0.2})
    claims.check("05", tmp_path, facts={"1 < 2": True})
    markup, text = shown.pop()
    assert text == "all claims hold (3 checked)" and markup.startswith("<details><summary>all")
    for words in ("It is so.", "60.0 % [50.0, 70.0]", "at least 50.0 %", "1 &lt; 2"):
        assert words in markup
    claims.record(tmp_path, {"m": 0.4})
    with pytest.raises(AssertionError, match="05.a: It is so.*40.0 %.*at least 50.0 %"):
        claims.check("05", tmp_path)
    assert shown.pop()[1] == "1 of 2 claims fail (2 checked)"
    claims.check("05", tmp_path, whole=False)
    assert shown.pop()[1] == "all claims hold (1 checked; 1 need the whole run)"
    with pytest.raises(AssertionError, match="1 > 2"):
        claims.check("05", tmp_path, False, {"1 > 2": False})
    five["05.a"]["open"] = "why"
    claims.check("05", tmp_path)  # known to fail, and shown so
    markup, text = shown.pop()
    assert "1 open ones fail" in text and "no, an open question: why" in markup
    del five["05.a"]["open"]
    with claims.reported():  # as under `make figures`
        claims.check("05", tmp_path)
    assert shown.pop()[1].startswith("1 of 2 claims fail")
    with pytest.raises(AssertionError):
        claims.check("05", tmp_path)


def test_the_page_lists_every_claim_with_its_verdict():
    states = [{"notebooks": {"05_x": {"claims": {"05.a": claim("at_least", 0.5, seeds=1)}}}}]
    found = claims.judged(states, {"m": entry(0.4, 0.3, 0.5)})
    text = "<!-- figures:begin claims -->\nnot measured yet\n<!-- figures:end -->\n"
    page = render_readme(text, {"claims": found, "figures": {}, "seeds": [0]})[0]
    assert "| `05.a` | It is so. | 40.0 % [30.0, 50.0] | **no** |" in page
    assert "0 of 1 claims hold over the seeds; 1 were registered before." in page
    assert render_readme(text, {"figures": {}, "seeds": [0]})[0] == text


# --- in the reference run


WORDS = {"what": "accuracy", "figure": "m", "up": "It rose.", "down": "It fell."}


def results(values, other=None):
    figures = {"m": entry(0.5, 0.4, 0.6, values=dict(zip("012", values, strict=True)))}
    if other:
        figures["o"] = entry(0.2, 0.1, 0.3, values=dict(zip("012", other, strict=True)))
    return {"seeds": [0, 1, 2], "figures": figures}


def test_the_reference_says_what_was_found_and_what_it_means():
    up = claims.told(WORDS, results((0.49, 0.50, 0.51)))
    assert up == "(seeds 0, 1, 2), accuracy: +50.0 points [47.5, 52.5]. It rose."
    down = claims.told(WORDS | {"against": "o"}, results((0.2, 0.5, 0.8), (0.3, 0.61, 0.92)))
    assert "against 20.0 % [10.0, 30.0]; difference -11.0 points [-13.5, -8.5]. It fell." in down
    both = {"against": "o", "than": "for the base"}
    named = claims.told(WORDS | both, results((0.2, 0.5, 0.8), (0.3, 0.61, 0.92)))
    assert "[10.0, 30.0] for the base; difference" in named
    level = claims.told(WORDS | {"against": 0.5}, results((0.45, 0.50, 0.55)))
    assert "statistically indistinguishable" in level
    assert "3 seeds that vary this much resolve a difference of 12.4 points or more." in level


def test_the_reference_tells_when_nothing_is_measured(shown, tmp_path):
    assert claims.told(WORDS, {}) == "accuracy has not been measured yet."
    assert claims.told(WORDS, {"figures": {}, "seeds": [0]}).endswith("not been measured yet.")
    claims.reference("05.accuracy", tmp_path / "none.json")
    assert "has not been measured yet" in shown.pop()[1]
    other = {"profile": "cpu", "hardware": {}, "versions": {}, "figures": {}, "seeds": [0]}
    entry = claims.load(section="references")["05.accuracy"]
    row = {"value": 0.5, "low": 0.4, "high": 0.6, "unit": "share", "values": {"0": 0.5}}
    other["figures"] = {entry["figure"]: row, entry["against"]: row}
    for base, measured in (("another", False), (claims.base_model(), True)):
        (tmp_path / "r.json").write_text(json.dumps(other | {"base": base}))
        claims.reference("05.accuracy", tmp_path / "r.json")
        assert ("not been measured yet" not in shown.pop()[1]) == measured
    with pytest.raises(R1LabError, match="no reference '05.accurcy'.*05.accuracy"):
        claims.reference("05.accurcy")
    for name, one in claims.load(section="references").items():
        assert {"what", "figure", "up", "down"} <= set(one), name
        assert not isinstance(one.get("against"), str) or one.get("than"), name
        claims.reference(name)
        assert shown.pop()[1].startswith("In the reference run"), name


def test_a_run_keeps_the_claims_of_its_start(tmp_path):
    """The runner writes them into run.json; a run that goes on keeps the earlier ones."""
    from nbformat import write
    from nbformat.v4 import new_code_cell, new_notebook

    from r1lab.course import runner

    folder, out = tmp_path / "lessons", tmp_path / "out"
    folder.mkdir()
    values = 'seed: int = 0  # s\nout_dir: str = "runs/cpu"  # o'
    cells = [new_code_cell(values, metadata={"tags": ["parameters"]}), new_code_cell("print(seed)")]
    write(new_notebook(cells=cells), folder / "05_x.ipynb")
    (folder / "profiles.yaml").write_text("profiles: {cpu: {}}")

    def run(threshold, start):
        found = {"claims": {"05.a": claim("at_least", threshold)}}
        (folder / "claims.yaml").write_text(yaml.safe_dump(found))
        runner.run("cpu", out_dir=out, folder=folder, start=start, book=False)
        state = json.loads((out / "run.json").read_text())
        return state["notebooks"]["05_x"]["claims"]["05.a"]["threshold"]

    assert run(4, "again") == 4
    assert run(3, "resume") == run(3, "again") == 4  # its training was there before
    assert run(3, "fresh") == 3
