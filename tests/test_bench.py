"""The benchmark: it runs, its contestants have the same task, its arithmetic is right."""

from __future__ import annotations

import json
from dataclasses import replace
from statistics import fmean

import pytest
import torch
import warm
from torch.utils.flop_counter import FlopCounterMode

from r1lab import grpo
from r1lab.bench import code_step, cpu, harness, loops
from r1lab.cli import main
from r1lab.grpo import GRPOConfig
from r1lab.sampler.score import token_logps
from r1lab.statistics import t_interval


def test_a_quick_run_measures_every_ratio_and_leaves_the_committed_results_alone(
    random_folder, tmp_path, capsys
):
    before = cpu.RESULTS.read_bytes() if cpu.RESULTS.exists() else None
    out = tmp_path / "quick.json"
    with warm.spawned():
        assert main(["bench", "--quick", "--model", random_folder, "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    assert set(report["ratios"]) == set(report["goals"]) == set(cpu.RATIOS)
    assert all(value > 0 for value in report["ratios"].values())
    assert report["quick"] and report["hardware"]["cores"] >= 1 and "trl" in report["versions"]
    assert report["trl_best"]["name"] in cpu.TRL_CANDIDATES
    # A random model never stops early, so both loops must have drawn answers of the full length.
    lengths = {n: m["mean_length"] for n, m in report["measured"]["step"].items()}
    assert lengths == {
        name: [12.0] for name in ("r1lab", "trl_best", "trl_our_sampler", "trl_default")
    }
    assert out.with_suffix(".md").read_text() == cpu.page(report)
    assert "step_vs_trl_best" in capsys.readouterr().err
    assert (cpu.RESULTS.read_bytes() if cpu.RESULTS.exists() else None) == before


@pytest.mark.parametrize("options", [loops.TRL_DEFAULT, *cpu.TRL_CANDIDATES.values()])
def test_trl_gets_the_same_task_whatever_its_settings(options, tmp_path):
    config = GRPOConfig()
    arguments = loops.trl_arguments(config, options, tmp_path, seed=3, steps=7)
    batch = config.questions * config.group_size
    assert arguments.generation_batch_size == batch  # one rollout a step, as in r1lab
    rows = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps
    assert rows == batch and arguments.steps_per_generation == arguments.gradient_accumulation_steps
    assert arguments.num_iterations == 1 and arguments.max_steps == 7 and arguments.seed == 3
    assert arguments.learning_rate == config.learning_rate
    assert arguments.loss_type == "dapo" and config.length_norm == "token"
    assert arguments.lr_scheduler_type == config.lr_schedule
    assert arguments.max_completion_length == config.max_new_tokens and arguments.top_k == 0
    assert arguments.bf16 == arguments.gradient_checkpointing == (not options)  # TRL's defaults


def test_arithmetic_is_counted_as_torch_counts_it(random_model):
    model, _ = random_model
    model.set_attn_implementation("eager")  # every product is then one that torch sees
    prompt, completion, n = 9, 23, 4
    rows = [([5] * prompt, [7] * completion)] * n
    with FlopCounterMode(display=False) as counter:
        logp, _, _ = token_logps(model, rows)
        logp.sum().backward()
    ours = loops.training_flops(model, [(prompt, completion)] * n)
    # Eager attention also multiplies what the causal mask then throws away; we do not count that.
    length, c = prompt + completion, model.config
    masked = length * length - length * (length + 1) // 2
    wasted = n * 12 * c.num_hidden_layers * c.hidden_size * masked
    assert counter.get_total_flops() == pytest.approx(ours + wasted, rel=0.01)


def test_the_target_is_a_mean_over_a_full_window():
    plan = loops.Plan(target=0.5, window=3)
    assert not loops.arrived([0.9, 0.9], plan)  # two lucky steps are not three
    assert not loops.arrived([0.9, 0.1, 0.2, 0.9], plan)
    assert loops.arrived([0.0, 0.4, 0.5, 0.6], plan)


def test_matmul_rate_is_of_this_machine():
    rate, size = harness.matmul_rate((64, 128), times=2)
    assert size in (64, 128) and 1e7 < rate < 1e15


def test_generate_counts_tokens_up_to_the_first_end(random_folder, random_model):
    model, tokenizer = random_model
    plan = loops.Plan(GRPOConfig(questions=2, group_size=3, max_new_tokens=6))
    how = {"task": cpu.get_task("countdown"), "plan": plan, "folder": None}
    stand = loops.Bench(base=model, tokenizer=tokenizer, **how)
    assert loops.draw_generate(stand, stand.batch, 0) == [6] * 6  # nothing in it ends early
    with torch.no_grad():  # now the end is by far the likeliest token everywhere
        model.model.embed_tokens.weight.mul_(0)
        model.model.embed_tokens.weight[tokenizer.eos_token_id] = 9.0
        model.model.norm.weight.fill_(9.0)
        model.model.embed_tokens.weight[[i for p in stand.prompts(0) for i in p]] = 1.0
    for draw in (loops.draw_generate, loops.draw_r1lab):
        assert draw(stand, stand.batch, 0) == [1] * 6


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--repeats", "0"], "repeats must be at least 1"),
        (["--model", "nowhere/such-model"], "cannot load the model"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, words, capsys):
    assert main(["bench", *arguments]) == 2
    said = capsys.readouterr().err.strip()
    assert words in said and "\n" not in said


@pytest.mark.parametrize("third", [0, 1, 2])
def test_our_sampler_changes_the_time_of_a_run_and_not_what_is_learned(third):
    """TRL with generate and with our sampler over three seeds: of each third of the curve, the mean
    lies in the other's 95 % band."""
    measured = json.loads(cpu.RESULTS.read_text("utf-8"))["measured"]["learning"]
    part, found = slice(third * 8, third * 8 + 8), []
    for name in ("generate", "r1lab"):
        curves = measured[name]["accuracy"]
        assert len(curves) == 3 and {len(curve) for curve in curves} == {24}
        thirds = [fmean(curve[part]) for curve in curves]
        found.append((fmean(thirds), *t_interval(thirds)))
    (one, low, high), (two, bottom, top) = found
    assert low <= two <= high and bottom <= one <= top


def test_the_committed_page_is_made_from_the_committed_numbers():
    if not cpu.RESULTS.exists():
        pytest.skip("benchmarks/results/cpu.json is not measured yet: make bench")
    report = json.loads(cpu.RESULTS.read_text())
    assert cpu.RESULTS.with_suffix(".md").read_text() == cpu.page(report)
    assert set(report["ratios"]) == set(cpu.RATIOS) and not report["quick"]
    assert report["configuration"]["group_size"] == GRPOConfig().group_size


def test_a_part_measured_again_replaces_that_part_on_the_same_machine_only(tmp_path):
    path = tmp_path / "cpu.json"
    whole = {name: 1 for name in ("hardware", "threads", "versions", "configuration", "model")}
    whole |= {"minutes": 50.0, "when": "2026-01-01", "measured": {"step": 1, "matmul": 2}}
    whole["ratios"] = whole["pairs"] = {"step_vs_trl_best": 3.0, "matmul_share": 0.5}
    part = whole | {"minutes": 2.0, "when": "2026-01-02", "measured": {"matmul": 9}}
    part["ratios"] = part["pairs"] = {"matmul_share": 0.6}
    assert cpu.merged(part, path) is part  # nothing there yet
    path.write_text(json.dumps(whole))
    found = cpu.merged(part, path)
    assert found["measured"] == {"step": 1, "matmul": 9} and found["minutes"] == 52.0
    assert found["ratios"] == {"step_vs_trl_best": 3.0, "matmul_share": 0.6}
    assert found["parts"] == {"matmul": "2026-01-02"} and found["when"] == "2026-01-01"
    other = part | {"hardware": 2}
    assert cpu.merged(other, path) is other
    half = part | {"measured": {"half": 3}, "lower_bounds": ["time_to_half_vs_trl_best"]}
    assert cpu.merged(half, path)["lower_bounds"] == half["lower_bounds"]
    path.write_text(json.dumps(whole | {"lower_bounds": half["lower_bounds"]}))
    assert "lower_bounds" in cpu.merged(part, path)
    assert "lower_bounds" not in cpu.merged(part | {"measured": {"half": 3}}, path)
    path.write_text("half a fi")
    assert cpu.merged(part, path) is part


def test_a_training_that_was_given_up_is_a_lower_bound():
    pairs = {"time_to_half_vs_trl_best": [4.0]}
    report = {"ratios": {"time_to_half_vs_trl_best": 4.0}, "pairs": pairs}
    report["goals"] = {"time_to_half_vs_trl_best": 2.0}
    assert "| 4.00 x |" in cpu.table(report)
    report["lower_bounds"] = ["time_to_half_vs_trl_best"]
    assert "| at least 4.00 x |" in cpu.table(report)


def test_what_judging_costs_is_a_share_of_each_step():
    before = grpo.combine, grpo.measure_all
    small = replace(code_step.CONFIG, steps=2, questions=2, group_size=2, max_new_tokens=16)
    each = code_step.shares("code", small)
    assert len(each) == 2 and all(share > 0 for share in each)
    assert (grpo.combine, grpo.measure_all) == before
