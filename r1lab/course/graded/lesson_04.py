"""Exercises of lesson 04: the GRPO objective."""

import torch

from r1lab.course.graded.kinds import (
    Wrong,
    call,
    choices,
    compare,
    design,
    fill,
    guess,
    number,
    predict,
    whole,
)

TITLE = "The GRPO objective"
HELPERS = ("instead_of", "short_run")
IMPORTS = """
import torch

from r1lab import losses
"""

RHO = torch.tensor([[1.5, 1.0, 0.5], [1.5, 0.9, 0.5]])
A = torch.tensor([2.0, -1.0])


@fill(
    "04.1",
    "The clip",
    starter="""
    def clipped(ratio, advantages, clip_low, clip_high):
        \"\"\"ratio (N, T), advantages (N,) -> (N, T), to be maximised.\"\"\"
        ...
    """,
    solution="""
    def clipped(ratio, advantages, clip_low, clip_high):
        \"\"\"ratio (N, T), advantages (N,) -> (N, T), to be maximised.\"\"\"
        A = advantages[:, None]
        return torch.minimum(ratio * A, ratio.clamp(1 - clip_low, 1 + clip_high) * A)
    """,
    wrong=[
        ("only the clipped", "torch.minimum(ratio * A, ratio.clamp(1 - clip_low, 1 + clip_high) * A)",
         "ratio.clamp(1 - clip_low, 1 + clip_high) * A"),
        ("larger of the two", "torch.minimum", "torch.maximum"),
        ("both limits", "1 + clip_high", "1 + clip_low"),
        ("before the advantage", "torch.minimum(ratio * A, ratio.clamp(1 - clip_low, 1 + clip_high) * A)",
         "torch.minimum(ratio, ratio.clamp(1 - clip_low, 1 + clip_high)) * A"),
        ("size", "advantages[:, None]", "advantages"),
        ("that is the loss", "return ", "return -"),
        ("never clipped", "torch.minimum(ratio * A, ratio.clamp(1 - clip_low, 1 + clip_high) * A)",
         "ratio * A"),
    ],
    hints=(
        "Two values per token, then the smaller one.",
        "One value is ratio times advantage, the other has the ratio clamped to [1 − low, 1 + high].",
        "Each response's advantage must meet all of its tokens: make it (N, 1) first.",
    ),
    then="""
    with instead_of(losses, "clipped_objective", clipped):  # grpo_loss now calls yours
        history = short_run(inner_epochs=3, learning_rate=1e-3)
    print([f"step {m['step']}: {m['clip_fraction']:.0%} clipped" for m in history])
    """,
)  # fmt: skip
def clipped(f):
    """
    $\\min(\\rho A,\\; \\operatorname{clip}(\\rho, 1 - \\varepsilon_{low}, 1 + \\varepsilon_{high})\\, A)$
    for every token. All tokens of a response have its advantage. When it is right, a run with three
    inner epochs uses your function.
    """
    low, high, a = 0.2, 0.3, A[:, None]
    clamp = RHO.clamp(1 - low, 1 + high)
    compare(call(f, RHO, A, low, high), torch.minimum(RHO * a, clamp * a), {
        "only the clipped value is left; the policy could never move back": clamp * a,
        "you take the larger of the two values; the objective is a pessimist": torch.maximum(
            RHO * a, clamp * a),
        "both limits are the same; clip_high is the upper one": torch.minimum(
            RHO * a, RHO.clamp(1 - low, 1 + low) * a),
        "the minimum is taken before the advantage, so its sign plays no role": torch.minimum(
            RHO, clamp) * a,
        "that is the loss; the objective is to be maximised": -torch.minimum(RHO * a, clamp * a),
        "a token is never clipped": RHO * a,
    }, "look at the four tokens a to d of section 2, one by one")  # fmt: skip
    compare(call(f, RHO[:1], A[:1], 0.1, 0.1), torch.minimum(
        RHO[:1] * a[:1], RHO[:1].clamp(0.9, 1.1) * a[:1]), {}, "with limits of 0.1 it is wrong")  # fmt: skip


LOGP = torch.tensor([[-1.0, -0.5, -3.0], [-0.2, -2.0, -1.0]])
REF = torch.tensor([[-1.0, -1.5, -1.0], [-0.3, -2.5, -0.5]])


@fill(
    "04.2",
    "The KL estimate k3",
    starter="""
    def k3(logp, ref_logp):
        \"\"\"(N, T) log-probabilities of the sampled tokens -> (N, T) estimates in nats.\"\"\"
        ...
    """,
    solution="""
    def k3(logp, ref_logp):
        \"\"\"(N, T) log-probabilities of the sampled tokens -> (N, T) estimates in nats.\"\"\"
        log_r = ref_logp - logp
        return log_r.exp() - 1 - log_r
    """,
    wrong=[
        ("upside down", "ref_logp - logp", "logp - ref_logp"),
        ("k1", "log_r.exp() - 1 - log_r", "-log_r"),
        ("k2", "log_r.exp() - 1 - log_r", "log_r**2 / 2"),
        ("zero where", "log_r.exp() - 1 - log_r", "log_r.exp() - log_r"),
        ("negative", "- 1 - log_r", "- 1 + log_r"),
        ("reward", "return log_r.exp() - 1 - log_r", "return -(log_r.exp() - 1 - log_r)"),
        ("probabilities", "log_r = ref_logp - logp", "log_r = ref_logp / logp"),
    ],
    hints=(
        "Start with log r = log π_ref − log π.",
        "k3 = r − 1 − log r. It is zero where the two agree and positive elsewhere.",
        "r is the exponential of log r. Check: logp = ref_logp gives 0.",
    ),
    then="""
    with instead_of(losses, "kl", lambda logp, ref_logp, estimator: k3(logp, ref_logp)):
        history = short_run(kl_coef=0.04, ref_refresh=0)
    print([f"step {m['step']}: KL {m['kl']:.5f}" for m in history])
    """,
)  # fmt: skip
def k3(f):
    """
    Equation 2 of the paper, for each token: $k_3 = r - 1 - \\log r$ with $r = \\pi_{ref} / \\pi$.
    The arguments are *log*-probabilities. A run with a KL term then uses it.
    """
    d = REF - LOGP
    compare(call(f, LOGP, REF), d.exp() - 1 - d, {
        "the ratio is upside down: r is the reference over the policy": (-d).exp() - 1 + d,
        "that is k1; it can be negative": -d,
        "that is k2; it is biased": d**2 / 2,
        "it must be zero where the two policies agree": d.exp() - d,
        "one of the signs makes it negative in places; k3 never is": d.exp() - 1 + d,
        "a distance is positive; that is what one would subtract as a reward": -(d.exp() - 1 - d),
        "you divide logarithms; a ratio of probabilities is a difference of them":
            (REF / LOGP).exp() - 1 - REF / LOGP,
    }, "for log-probs −1 and −1 it is 0, for −3 (policy) and −1 (reference) it is 4.39")  # fmt: skip
    compare(call(f, LOGP[:1], LOGP[:1]), 0 * LOGP[:1], {}, "of a policy with itself it must be 0")


PER_TOKEN = torch.tensor(
    [[1.0, 2, 3, float("nan")], [4, 9, 7, 5], [2, float("nan")] + 2 * [float("nan")]]
)
MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0]]).bool()


@fill(
    "04.3",
    "DAPO's mean over tokens",
    starter="""
    def token_mean(per_token, mask):
        \"\"\"(N, T), and the mask of real tokens (N, T) -> one number.\"\"\"
        ...
    """,
    solution="""
    def token_mean(per_token, mask):
        \"\"\"(N, T), and the mask of real tokens (N, T) -> one number.\"\"\"
        return torch.where(mask, per_token, 0.0).sum() / mask.sum()
    """,
    wrong=[
        (
            "each response",
            "return torch.where(mask, per_token, 0.0).sum() / mask.sum()",
            "return (torch.where(mask, per_token, 0.0).sum(1) / mask.sum(1)).mean()",
        ),
        ("padding is counted", "mask.sum()", "mask.numel()"),
        ("padding", "torch.where(mask, per_token, 0.0)", "per_token"),
        ("padding", "torch.where(mask, per_token, 0.0)", "(per_token * mask)"),
        ("number of responses", "mask.sum()", "len(mask)"),
        ("not divided", " / mask.sum()", ""),
        ("shape", ".sum() / mask.sum()", ".sum(1) / mask.sum()"),
    ],
    hints=(
        "All tokens of the batch count the same, wherever they stand.",
        "The sum over real tokens, divided by the number of real tokens.",
        "The padding may hold NaN, and NaN times 0 is NaN: replace it with `torch.where`.",
    ),
)
def token_mean(f):
    """
    The mean over all real tokens of a batch, so that every token weighs the same. What is behind
    the end of a response is padding and may be anything, NaN included.
    """
    kept = torch.where(MASK, PER_TOKEN, 0.0)
    total = kept.sum()
    got = call(f, PER_TOKEN, MASK)
    if torch.as_tensor(got).isnan().any():
        raise Wrong("the padding reaches the result: NaN times 0 is NaN")
    compare(got, total / MASK.sum(), {
        "each response has the same weight (DeepSeekMath); each token should have":
            (kept.sum(1) / MASK.sum(1)).mean(),
        "the padding is counted in the denominator": total / MASK.numel(),
        "you divide by the number of responses": total / len(MASK),
        "the sum is not divided": total,
    }, "for one response it is the plain mean of its tokens")  # fmt: skip
    compare(call(f, PER_TOKEN[1:2], MASK[1:2]), PER_TOKEN[1].mean(), {}, "one response: its mean")


@predict(
    "04.4",
    "How far may a rare token rise?",
    starter="highest = ...  # a probability",
    solution="highest = 0.05 * (1 + 0.28)",
    wrong=[
        ("lower limit", "highest = 0.05 * 0.72"),
        ("bounds the ratio", "highest = 0.05 + 0.28"),
        ("ε = 0.2", "highest = 0.06"),
        ("only the increase", "highest = 0.05 * 0.28"),
        ("never clipped", "highest = 1.0"),
        ("too low", "highest = 0.001"),
    ],
    hints=(
        "The clip bounds the ratio of new to old probability.",
        "With an advantage above zero only the upper limit matters.",
        "New probability = old probability times (1 + ε_high).",
    ),
)
def highest(value):
    """
    A token had probability 0.05 when it was sampled, and its advantage is positive. Up to which
    probability does it get a gradient with DAPO's $\\varepsilon_{high} = 0.28$?
    """
    guess(value, 0.064, 0.01, {
        "that is where the lower limit would be": 0.036,
        "the clip bounds the ratio, not the difference of probabilities": 0.33,
        "that is with ε = 0.2": 0.06,
        "that is only the increase": 0.014,
        "a token this rare is not free: one is never clipped only if it was likely before": 1.0,
    })  # fmt: skip


@predict(
    "04.5",
    "A loss that is not zero",
    starter="loss = ...",
    solution="loss = -(10 * 1 + 40 * -1) / (10 + 40)",
    wrong=[
        ("each response", "loss = 0.0"),
        ("sign", "loss = -0.6"),
        ("not divided", "loss = 30.0"),
        ("number of responses", "loss = 15.0"),
        ("too low", "loss = 0.1"),
        ("too high", "loss = 0.7"),
    ],
    hints=(
        "On-policy every ratio is 1, so each token contributes minus its advantage.",
        "Ten tokens contribute −1 each, forty +1 each.",
        "Divide the sum by all fifty tokens.",
    ),
)
def loss(value):
    """
    A fresh rollout of two responses: 10 tokens with $A = +1$ and 40 tokens with $A = -1$. No KL
    term. What is the loss if it is averaged over all tokens (`length_norm="token"`)?
    """
    guess(value, 0.6, 0.01, {
        "that is with the mean of each response first": 0.0,
        "the loss is minus the objective: look at its sign": -0.6,
        "the sum is not divided by the number of tokens": 30.0,
        "you divide by the number of responses": 15.0,
    })  # fmt: skip


def one_rollout(rate: float, epochs: int) -> tuple[float, float]:
    """A policy over 12 responses learns from one rollout of 64: how much its expected reward rises,
    and the fraction of the samples whose ratio ends outside 0.8 to 1.2. Mean of 20 repetitions."""
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(20, 12, generator=random)
    reward = (torch.arange(12) < 4).double()  # 4 of the 12 responses are correct
    old = logits.log_softmax(-1)
    drawn = torch.multinomial(old.exp(), 64, replacement=True, generator=random)  # (20, 64)
    r = reward[drawn]
    advantages = (r - r.mean(1, keepdim=True)) / (r.std(1, keepdim=True) + 1e-4)
    policy = logits.clone()
    for _ in range(epochs):
        policy.requires_grad_()
        rho = (policy.log_softmax(-1) - old).gather(1, drawn).exp()
        goal = torch.minimum(rho * advantages, rho.clamp(0.8, 1.2) * advantages).mean(1).sum()
        policy = (policy + rate * torch.autograd.grad(goal, policy)[0]).detach()
    new = policy.log_softmax(-1)
    rho = (new - old).gather(1, drawn).exp()
    outside = ((rho < 0.8) | (rho > 1.2)).double().mean()
    return float((new.exp().double() @ reward - old.exp().double() @ reward).mean()), float(outside)


@design(
    "04.6",
    "How long may a rollout be used?",
    starter="""
    plan = {"learning_rate": ..., "inner_epochs": ...}
    """,
    solution="""
    plan = {"learning_rate": 0.15, "inner_epochs": 10}
    """,
    wrong=[
        ("too little", 'plan = {"learning_rate": 0.01, "inner_epochs": 4}'),
        ("outside", 'plan = {"learning_rate": 2.0, "inner_epochs": 8}'),
        ("one inner epoch", 'plan = {"learning_rate": 0.6, "inner_epochs": 1}'),
        ("does not say: inner_epochs", 'plan = {"learning_rate": 0.1}'),
        ("above zero", 'plan = {"learning_rate": -0.1, "inner_epochs": 6}'),
        ("between 1 and 64", 'plan = {"learning_rate": 0.001, "inner_epochs": 600}'),
    ],
    hints=(
        "Try the two ends first: one tiny step, then large ones. The judge tells both numbers.",
        "What matters is roughly learning rate times inner epochs.",
        "Small steps, several of them: the product should be a little above one.",
    ),
)
def plan(answer):
    """
    A policy over 12 responses, 4 of them correct, learns from *one* rollout of 64 samples with the
    clipped objective. Choose the learning rate and the number of inner epochs (2 or more), so that
    the expected reward rises by at least 0.06 and at most 40 % of the samples end with a ratio
    outside 0.8 to 1.2. The judge trains it 20 times.
    """
    rate, epochs = choices(answer, ("learning_rate", "inner_epochs"))
    rate, epochs = number(rate), whole(epochs, "inner_epochs", 1, 64)
    if rate <= 0:
        raise Wrong("the learning rate must be above zero")
    if epochs == 1:
        raise Wrong("with one inner epoch all ratios are 1 while it learns: the clip never acts")
    rise, outside = one_rollout(rate, epochs)
    told = f"the expected reward rises by {rise:.2f}, {outside:.0%} of the ratios are outside"
    if outside > 0.4:
        raise Wrong(f"too many ratios have left the limits: {told}")
    if rise < 0.06:
        raise Wrong(f"too little is learned: {told}")


EXERCISES = [clipped, k3, token_mean, highest, loss, plan]
