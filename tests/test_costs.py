"""Minutes and dollars: the arithmetic, the limits, and prices that can be checked."""

from __future__ import annotations

import datetime
import json

import pytest

from r1lab.basics.errors import R1LabError
from r1lab.grpo import GRPOConfig
from r1lab.machine import costs
from r1lab.machine.costs import Budget, Meter, dollars, estimate, price_of, prices, table


def test_every_price_has_its_date_and_its_source():
    found = prices()
    assert len(found) > 15 and found == sorted(found, key=lambda p: p.dollars_per_hour)
    for price in found:
        assert 0.1 < price.dollars_per_hour < 20 and price.memory_gb in (
            24,
            40,
            48,
            80,
            94,
            141,
            180,
        )
        day = datetime.date.fromisoformat(price.read)
        assert datetime.date(2025, 1, 1) < day <= datetime.date.today()
        assert price.source.startswith("https://") and price.provider and price.gpus_at_least >= 1
        assert price.read_through == "" or price.read_through.startswith("https://")
        assert "list price of 20" in price.words()
    rented = {p.device for p in found if p.provider != "(the paper)"}
    assert {"H100 SXM", "A100 SXM", "H200", "RTX 4090", "L40S"} <= rented
    assert table()[0]["dollars an hour"] == found[0].dollars_per_hour


def test_the_papers_cost_is_hours_times_price():
    paper = next(p for p in prices() if p.provider == "(the paper)")
    assert paper.device == "H800" and "2501.12948" in paper.source
    assert dollars(147_000 * 3600, paper.dollars_per_hour) == pytest.approx(294_000)


@pytest.mark.parametrize(
    "driver, device, memory",
    [
        ("NVIDIA H100 80GB HBM3", "H100 SXM", 80),
        ("NVIDIA H100 PCIe", "H100 PCIe", 80),
        ("NVIDIA A100-SXM4-80GB", "A100 SXM", 80),
        ("NVIDIA A100-SXM4-40GB", "A100 SXM", 40),
        ("NVIDIA H200", "H200", 141),
        ("NVIDIA GeForce RTX 4090", "RTX 4090", 24),
        ("NVIDIA L40S", "L40S", 48),
    ],
)
def test_a_gpu_is_found_by_its_drivers_name(driver, device, memory):
    price = price_of(driver)
    assert (price.device, price.memory_gb) == (device, memory)
    assert price.gpus_at_least == 1
    assert price.dollars_per_hour == min(
        p.dollars_per_hour
        for p in prices()
        if (p.device, p.memory_gb, p.gpus_at_least) == (device, memory, 1)
    )


def test_a_gpu_without_a_price_has_none():
    assert price_of("NVIDIA GeForce GTX 1080") is None and price_of("") is None
    assert price_of("NVIDIA L4") is None  # not an L40S
    assert price_of("NVIDIA A100-PCIE-20GB") is None  # of no size that the table has
    assert price_of("NVIDIA H100 80GB HBM3 MIG 1g.10gb") is None  # a part of a card
    assert price_of("NVIDIA GeForce RTX 4090")
    for lesser in ("NVIDIA GeForce RTX 4090 D", "NVIDIA GeForce RTX 4090 Laptop GPU"):
        assert price_of(lesser) is None


def test_broken_prices_are_one_line(tmp_path):
    for text in ("", "{}", '{"prices": [{"device": "x"}]}'):
        (tmp_path / "prices.json").write_text(text)
        with pytest.raises(R1LabError, match="cannot read the prices"):
            prices(tmp_path / "prices.json")


def test_a_budget_says_when_it_is_used_up():
    minutes = Budget(max_minutes=10)
    assert minutes.exceeded(599) is None and "10 minutes" in minutes.exceeded(600)
    assert "next step" in minutes.exceeded(590, 20) and minutes.exceeded(500, 20) is None
    money = Budget(max_dollars=1, dollars_per_hour=4)
    assert money.exceeded(899) is None and "$1 is used up" in money.exceeded(900)
    assert money.seconds == 900 and Budget(5, 1, 4).seconds == 300
    assert Budget().exceeded(1e9) is None
    assert "minutes" in Budget(5, 1, 4).exceeded(1000)


def test_a_budget_that_cannot_be_meant_is_refused():
    for wrong in ({"max_minutes": 0}, {"max_minutes": -1}, {"max_dollars": float("nan")},
                  {"max_minutes": float("inf")}, {"dollars_per_hour": 0},
                  {"max_minutes": "10"}):  # fmt: skip
        with pytest.raises(R1LabError, match="above 0"):
            Budget(**wrong)


def test_dollars_need_a_price(monkeypatch):
    monkeypatch.setattr(costs, "price_here", lambda: None)
    with pytest.raises(R1LabError, match="--dollars-per-hour"):
        Budget(max_dollars=3)
    monkeypatch.setattr(costs, "price_here", lambda: 2.0)
    assert Budget(max_dollars=3).seconds == 5400
    assert Budget(max_minutes=3).dollars_per_hour is None


def test_all_machines_that_were_launched_are_paid(monkeypatch):
    """Two machines of eight: each process sees its own eight."""
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    one = price_of("NVIDIA H100 80GB HBM3").dollars_per_hour
    assert costs.price_here() == pytest.approx(8 * one)
    monkeypatch.setenv("WORLD_SIZE", "16")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert costs.price_here() == pytest.approx(16 * one)
    words = costs.price_words()
    assert f"${one:.2f}" in words and "times 16 GPUs" in words and "--dollars-per-hour" in words


def test_the_meter_counts_and_expects():
    meter = Meter(steps=10, dollars_per_hour=3.6)
    assert "step 0 of 10" in meter.words()  # before the first step
    for step, seconds in enumerate((30.0, 10.0)):
        meter(step, {"tokens": 1000, "seconds": seconds})
    assert (meter.tokens, meter.seconds, meter.done) == (2000, 40.0, 2)
    assert meter.expected_seconds == 40 + 8 * 20
    line = meter.words()
    assert "\n" not in line
    assert line == "step 2 of 10, 2,000 tokens, 40 s of about 3.3 min, $0.040 of about $0.20"
    for step in range(2, 10):
        meter.add({"step": step, "tokens": 0, "seconds": 1.0})
    assert meter.expected_seconds == meter.seconds == 48.0  # nothing is left
    assert "$" not in Meter(steps=2).words()


def test_the_meter_follows_answers_that_grow_and_knows_the_budget():
    meter = Meter(steps=100, budget=Budget(max_minutes=1, dollars_per_hour=2))
    for step in range(10):
        meter.add({"step": step, "tokens": 10, "seconds": float(step)})
    assert meter.expected_seconds == 60  # the budget ends it
    assert "$" in meter.words()
    free = Meter(steps=20)
    for step in range(10):
        free.add({"step": step, "tokens": 10, "seconds": float(step)})
    assert free.expected_seconds == 45 + 10 * 7  # the last five


def test_the_meter_goes_on_after_a_resumption():
    """Steps after the last checkpoint are done again; loading and saving are paid as well."""
    earlier = [
        {"step": n, "tokens": 10, "seconds": 2.0, "spent_seconds": 3.0 * n} for n in range(9)
    ]
    meter = costs.Live(GRPOConfig(steps=20), earlier=earlier)
    assert (meter.done, meter.tokens, meter.seconds) == (9, 90, 24.0)
    meter(5, {"step": 5, "tokens": 10, "seconds": 2.0, "spent_seconds": 27.0})
    assert (meter.done, meter.tokens, meter.seconds) == (6, 60, 27.0)  # lost steps were paid
    assert meter.expected_seconds == 27 + 14 * 2


def test_an_estimate_is_a_range_that_says_how():
    config = GRPOConfig(steps=60, max_new_tokens=400)
    found = estimate(6.0, config, mean_length=100, dollars_per_hour=3, growth=3)
    assert found.minutes == (6.0, 12.0)  # 60 x 6 s; in a line to three times that: twice on average
    assert found.dollars == pytest.approx((0.3, 0.6))
    assert "longer" in found.how and found.words().count("to") >= 2
    short = estimate(6.0, config, mean_length=320, growth=3)  # not above the limit
    assert short.minutes[1] == pytest.approx(6 * (1 + 400 / 320) / 2) and short.dollars is None
    assert estimate(6.0, config, mean_length=400).minutes == (6.0, 6.0)
    assert estimate(6.0, config, done=50).minutes[0] == 1.0
    eight = estimate(6.0, config, dollars_per_hour=3, gpus=8)
    assert eight.dollars[0] == pytest.approx(2.4)
    for wrong in ({"warm_up_seconds": 0}, {"growth": 0.5}, {"done": 61}, {"mean_length": 0},
                  {"gpus": 0}):  # fmt: skip
        with pytest.raises(R1LabError):
            estimate(**({"warm_up_seconds": 1.0, "config": config} | wrong))


def test_prices_are_plain_json(tmp_path):
    from r1lab.basics.files import data_dir

    text = (data_dir() / "prices.json").read_text(encoding="utf-8")
    assert json.loads(text)["about"].startswith("List prices")
