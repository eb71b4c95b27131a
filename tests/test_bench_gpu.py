"""The measurements for a GPU: they run in toy sizes anywhere, and their arithmetic is right."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from r1lab.bench import gpu, gpu_sampler, stand
from r1lab.cli import main
from r1lab.models.load import tiny_llama
from r1lab.tasks import get_task
from r1lab.tasks.base import number
from r1lab.templates import EXAMPLES, TEMPLATES, parse, render


def why_not_committed(report: dict) -> str | None:
    """Why a report must not stand in benchmarks/results, in words; None where it may."""
    card = report["hardware"].get("gpu")
    names = ("cuda", "torch", "transformers", "trl", "vllm")
    missing = [name for name in names if not report["versions"].get(name)]
    for good, words in (
        (report["part"] in gpu.MEASURES, "it is none of the GPU measurements"),
        (not report["quick"], "it was measured in toy sizes (--quick)"),
        (isinstance(card, dict) and card["name"], "it does not come from a GPU"),
        (not missing, f"it does not name the version of {', '.join(missing)}"),
        (report["goals"] == stand.goals(report["ratios"]), "its goals are not those of its ratios"),
    ):
        if not good:
            return words
    return None


@pytest.fixture(params=tuple(gpu.MEASURES))
def part(request):
    return request.param


def quick(part, out, model):
    arguments = ["bench", "--gpu", part, "--quick", "--model", model, "--out", str(out)]
    assert main(arguments) == 0
    return json.loads((out / f"gpu-{part}.json" if out.is_dir() else out).read_text())


def test_a_quick_run_says_what_ran_where_and_with_which_versions(part, random_folder, tmp_path):
    out = tmp_path if part == "step" else tmp_path / "quick.json"  # a folder or a file
    report = quick(part, out, random_folder)
    assert report["part"] == part and report["finished"] and report["quick"]
    assert {"cuda", "torch", "transformers", "trl", "vllm"} <= set(report["versions"])
    assert "gpu" in report["hardware"] and report["minutes"] >= 0
    page = tmp_path / ("gpu-step.md" if part == "step" else "quick.md")
    assert page.read_text() == gpu.page(report)
    assert report["goals"] == stand.goals(report["ratios"])
    assert all(set(m) == {"value", "pairs"} for m in report["ratios"].values())
    assert why_not_committed(report) == "it was measured in toy sizes (--quick)"
    CHECKS[part](report)


def check_sampler(report):
    for name, rows, tokens in (("batch_4", 4, 6), ("batch_4_natural", 4, 6)):
        contenders = report["measured"][name]["contenders"]
        assert {"r1lab", "generate", "generate_compiled"} <= set(contenders)
        assert contenders["r1lab"]["tokens"] == [rows * tokens]  # nothing of it ends early
        assert len(contenders["generate"]["seconds"]) == 1
        wanted = {"vs_generate", "vs_generate_compiled", "share_of_floor"}
        assert {r.split("/")[1] for r in report["ratios"] if r.startswith(f"{name}/")} >= wanted
    vllm = report["failures"].get("vllm", "")
    assert vllm.startswith("not installed") == (report["versions"]["vllm"] == "not installed")
    assert list(report["failures"]) in (["vllm"], [])


def check_step(report):
    measured = report["measured"]
    assert set(measured) >= {"r1lab", "trl_generate", "trl_our_sampler", "trl_default"}
    # A random model never stops early: both loops must have drawn answers of the full length.
    assert {m["mean_length"][0] for m in measured.values()} == {8.0}
    assert {"step_vs_trl_generate", "step_vs_trl_our_sampler", "matmul_share"} <= set(
        report["ratios"]
    )
    assert list(report["failures"]) == ["trl_vllm"]


def check_run(report):
    measured = report["measured"]
    assert measured["before"]["problems"] == measured["after"]["problems"] == 4
    assert len(measured["before"]["pass@1"]) == len(report["difference"]) == 3
    assert [m["step"] for m in measured["training"]] == [0, 1]
    assert {"accuracy", "length"} <= set(measured["training"][0])
    assert [one["task"].get("numbers", 3) for one in report["probe"]] == [3, 4]
    assert report["task"] == {
        "name": "countdown",
        "template": "tiny",
    }  # both without room: the first
    assert {"question", "before", "after"} == set(report["samples"][0])
    assert report["ratios"]["accuracy_points"]["value"] == 0.0  # a random model is never right
    assert report["goals"]["accuracy_points"] == {"goal": 0.3, "met": False}
    assert not report["failures"]


CHECKS = {"sampler": check_sampler, "step": check_step, "run": check_run}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_is_one_clear_line(part, capsys):
    assert main(["bench", "--gpu", part]) == 2
    said = capsys.readouterr().err.strip()
    assert "needs an NVIDIA GPU" in said and "--quick" in said and "\n" not in said


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--gpu", "sampler", "--repeats", "0"], "repeats must be at least 1"),
        (["--gpu", "run", "--quick", "--minutes", "-1"], "--max-minutes must be above 0"),
        (["--gpu", "everything"], "gpu: 'everything' is none of sampler, step, run"),
        (["--gpu", "step", "--only", "step"], "--only chooses parts of the CPU benchmark"),
        (["--minutes", "3"], "--minutes and --backend are for --gpu"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, words, capsys):
    assert main(["bench", *arguments]) == 2
    said = capsys.readouterr().err.strip()
    assert words in said and "\n" not in said


def test_the_floor_counts_weights_own_keys_and_the_question_once_for_its_group():
    model = tiny_llama(50, width=8, layers=3, heads=2, ffn=16)  # tied embeddings, float32
    weights = 4 * sum(p.numel() for p in model.parameters())
    token = 4 * 2 * 3 * 8  # keys and values, 3 layers, width 8, 4 bytes each
    # Two questions of 5 and 7 tokens; answers of 1 and 3, and of 2 and 2 tokens.
    shared, own = 5 * 3 + 7 * 2, (0 + 3) + (1 + 1)
    expected = 3 * weights + token * (shared + own)
    assert gpu_sampler.floor_bytes(model, [5, 7], [1, 3, 2, 2]) == expected
    half = model.to(torch.bfloat16)
    assert gpu_sampler.floor_bytes(half, [5, 7], [1, 3, 2, 2]) == expected / 2
    half.lm_head.weight = torch.nn.Parameter(half.lm_head.weight.clone())  # no longer tied
    assert gpu_sampler.floor_bytes(half, [5, 7], [1, 3, 2, 2]) == expected / 2


def test_ratios_are_medians_of_the_repeats_and_goals_are_not_asserted():
    def contender(rates, floor=1000.0):
        return {"tokens_per_second": rates, "floor_tokens_per_second": [floor] * len(rates)}

    found = gpu_sampler.sampler_ratios(
        "batch_64",
        {
            "r1lab": contender([400.0, 500.0, 900.0]),
            "generate": contender([100.0, 50.0, 100.0]),
            "vllm": contender([]),
        },
    )
    assert found["batch_64/vs_generate"] == {"value": 9.0, "pairs": [4.0, 10.0, 9.0]}
    assert found["batch_64/share_of_floor"]["value"] == 0.5
    assert "batch_64/vs_vllm" not in found
    goals = stand.goals(found | {"batch_64/vs_vllm": {"value": 0.9, "pairs": []}})
    assert goals["batch_64/vs_generate"] == {"goal": 8.0, "met": True}
    assert goals["batch_64/vs_vllm"] == {"goal": 1.0, "met": False}

    steps = {"r1lab": {"seconds": [1.0, 2.0]}, "trl_generate": {"seconds": [4.0, 4.0]}}
    assert gpu.step_ratios(steps) == {"step_vs_trl_generate": {"value": 3.0, "pairs": [4.0, 2.0]}}
    assert gpu.step_ratios({"trl_generate": {"seconds": [4.0]}}) == {}


def test_a_contender_that_fails_is_noted_and_does_not_end_the_run(tmp_path):
    def at(left):
        sheet = SimpleNamespace(left=left, report={"failures": {}}, say=lambda words: None)
        return SimpleNamespace(sheet=sheet)

    def fails():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried 3 GiB\nand more words")

    some = at(left=60.0)
    assert stand.attempt(some, "generate", fails) is None
    assert stand.attempt(some, "r1lab", lambda: 3) == 3
    noted = "OutOfMemoryError: CUDA out of memory. Tried 3 GiB"
    assert some.sheet.report["failures"] == {"generate": noted}
    late = at(left=0.0)
    assert stand.attempt(late, "vllm", lambda: 3) is None
    assert late.sheet.report["failures"] == {"vllm": "not measured: the time was up"}


def gpu_report():
    return {
        "part": "step",
        "quick": False,
        "hardware": {"gpu": {"name": "NVIDIA H100 80GB HBM3", "memory_gib": 79}},
        "versions": dict.fromkeys(("cuda", "torch", "transformers", "trl", "vllm"), "1"),
        "ratios": {},
        "goals": {},
    }


@pytest.mark.parametrize(
    "change, words",
    [
        ({"part": "half"}, "none of the GPU measurements"),
        ({"quick": True}, "toy sizes"),
        ({"hardware": {"gpu": None}}, "not come from a GPU"),
        ({"hardware": {"gpu": "NVIDIA"}}, "not come from a GPU"),
        ({"versions": {"torch": "2"}}, "version of cuda, transformers, trl, vllm"),
        ({"goals": {"matmul_share": {"goal": 0.4, "met": True}}}, "goals are not those"),
    ],
)
def test_only_what_a_gpu_measured_may_be_committed(change, words):
    assert why_not_committed(gpu_report()) is None
    assert words in why_not_committed(gpu_report() | change)


def test_committed_results_come_from_a_gpu_and_their_pages_from_them():
    found = sorted(gpu.RESULTS.glob("gpu-*.json"))
    if not found:
        pytest.skip("no benchmarks/results/gpu-*.json yet: r1lab bench --gpu")
    for path in found:
        report = json.loads(path.read_text())
        assert why_not_committed(report) is None, path
        assert path.with_suffix(".md").read_text() == gpu.page(report)


def test_worked_examples_keep_the_form_that_they_teach_and_are_in_no_split():
    task = get_task("word_problems", difficulty="easy")
    problem = task.problems("held_out", 1)[0]
    prompt = render(problem, "examples")
    assert problem.question in prompt and TEMPLATES["examples"].texts["en"].count("{question}") == 1
    for question, thought, answer in EXAMPLES:
        assert question in prompt and number(answer) is not None
        assert parse(f"<think> {thought} </think> <answer> {answer} </answer>").well_formed
    asked = " ".join(
        p.question for split in ("train", "held_out") for p in task.problems(split, 50)
    )
    assert not any(question in asked for question, _, _ in EXAMPLES)
