"""The GRPO objective drawn: clip, KL estimators."""

import plotly.graph_objects as go
import torch

from r1lab.losses import clipped_objective, kl
from r1lab.show.style import COLOURS, GREY_LINE, finish, panels


def clip_objective(clip_low: float = 0.2, clip_high: float = 0.2) -> go.Figure:
    """min(rho A, clip(rho, 1 - low, 1 + high) A) against rho for A = 1 and A = -1.

    Drawn with r1lab.losses.clipped_objective, so the picture is of the code that trains.
    """
    rho = torch.linspace(0, 2, 201)[None]  # (1, 201)
    names = ("A = +1: better than the group's mean", "A = −1: worse than the group's mean")
    fig = panels(2, titles=names)
    for col, advantage in enumerate((1.0, -1.0), 1):
        value = clipped_objective(rho, torch.tensor([advantage]), clip_low, clip_high)[0]
        curves = {
            "unclipped": (rho[0] * advantage, {"color": COLOURS["base"], "dash": "dot"}),
            "clipped objective": (value, {"color": COLOURS["trained"], "width": 3}),
        }
        place = {"row": 1, "col": col}
        for name, (y, line) in curves.items():
            fig.add_scatter(
                x=rho[0].tolist(), y=y.tolist(), mode="lines", name=name, line=line,
                showlegend=col == 1, legendgroup=name, **place,
            )  # fmt: skip
        low, high = (1 + clip_high, 2.0) if advantage > 0 else (0.0, 1 - clip_low)
        shade = {"fillcolor": "#888888", "opacity": 0.12, "line_width": 0, "layer": "below"}
        words = {"annotation_text": "no gradient", "annotation_position": "inside bottom"}
        fig.add_vrect(low, high, **shade, **words, **place)
        fig.add_vline(1.0, line=GREY_LINE, **place)
    fig.update_xaxes(title_text="ratio ρ = π / π_old", range=[0, 2])
    fig.update_yaxes(title_text="objective", row=1, col=1)
    note = f"ε = {clip_low:g} below and {clip_high:g} above."
    return finish(fig, "The clipped objective of one token", note, width=880, height=400)


def objective_with_kl(
    advantage: float = 1.0,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    kl_coef: float = 0.001,
    estimator: str = "k3",
) -> go.Figure:
    """The clipped objective of one token less its KL term, against the ratio rho.

    Where the reference is the policy that sampled (just after a refresh), pi_ref / pi = 1 / rho, so
    both terms are functions of rho alone: min(rho A, clip(rho) A) - kl_coef * k(1 / rho).
    """
    rho = torch.linspace(0.05, 2, 196)[None]  # (1, 196)
    clipped = clipped_objective(rho, torch.tensor([advantage]), clip_low, clip_high)[0]
    penalty = kl_coef * kl(rho.log(), torch.zeros_like(rho), estimator)[0]
    curves = {
        "unclipped ρ A": (rho[0] * advantage, COLOURS["base"], "dot", 2),
        "clipped": (clipped, COLOURS["control"], "dash", 2.5),
        f"clipped − {kl_coef:g} · {estimator}": (clipped - penalty, COLOURS["trained"], "solid", 3),
    }
    fig = go.Figure()
    for name, (y, ink, dash, wide) in curves.items():
        line = {"color": ink, "dash": dash, "width": wide}
        fig.add_scatter(x=rho[0].tolist(), y=y.tolist(), mode="lines", name=name, line=line)
    fig.add_vline(1.0, line=GREY_LINE)
    fig.add_hline(0, line=GREY_LINE)
    fig.update_xaxes(title_text="ratio ρ = π / π_old", range=[0, 2])
    fig.update_yaxes(title_text="objective (maximised)")
    note = f"A = {advantage:g}, ε = {clip_low:g} below and {clip_high:g} above, π_ref = π_old."
    return finish(fig, "One token's objective, with its KL term", note)


def kl_estimators(*, reach: float = 2.0) -> go.Figure:
    """k1, k2 and k3 of a token, from r1lab.losses.kl, against the log-ratio log(pi_ref / pi) from
    -reach to reach."""
    log_ratio = torch.linspace(-reach, reach, 161)[None]  # (1, 161)
    logp = torch.zeros_like(log_ratio)
    fig = go.Figure()
    names = {"k1": "k1 = −log r", "k2": "k2 = (log r)² / 2", "k3": "k3 = r − 1 − log r"}
    for (name, label), ink in zip(names.items(), ("#7f7f7f", "#E69F00", "#0072B2"), strict=True):
        y = kl(logp, logp + log_ratio, name)[0].tolist()
        line = {"color": ink, "width": 2.5}
        fig.add_scatter(x=log_ratio[0].tolist(), y=y, name=label, mode="lines", line=line)
    fig.add_hline(0, line=GREY_LINE)
    fig.update_xaxes(title_text="log r = log(π_ref / π) of the token")
    fig.update_yaxes(title_text="estimate (nats)")
    fig.update_layout(showlegend=True)
    return finish(fig, "Three estimators of the KL divergence, for one token")
