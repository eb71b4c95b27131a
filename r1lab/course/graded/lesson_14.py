"""Exercises of lesson 14: beyond GRPO."""

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
    tensor,
    whole,
)

TITLE = "Beyond GRPO"
HELPERS = ("instead_of", "short_run")
IMPORTS = """
import torch

from r1lab import losses
"""

# Log-probabilities of two completions, now and when they were sampled; the last token is padding.
LOGP = torch.tensor([[-0.5, -1.0, -2.0, 0.0], [-0.7, -0.1, -1.5, -3.0]])
OLD = torch.tensor([[-1.5, -0.9, -2.1, 0.0], [-0.2, -0.4, -2.5, -2.0]])
MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
A = torch.tensor([1.5, -0.5])


@fill(
    "14.1",
    "CISPO: clip the weight, keep the gradient",
    starter="""
    def cispo(ratio, A, logp, clip_high):
        \"\"\"ratio, logp (N, T) with their gradients, A (N,) -> what each token adds to J, (N, T).\"\"\"
        ...
    """,
    solution="""
    def cispo(ratio, A, logp, clip_high):
        \"\"\"ratio, logp (N, T) with their gradients, A (N,) -> what each token adds to J, (N, T).\"\"\"
        weight = ratio.clamp(max=1 + clip_high).detach()
        return weight * A[:, None] * logp
    """,
    wrong=[
        ("weight must be a constant", ".detach()", ""),
        ("below 1", "clamp(max=1 + clip_high)", "clamp(1 - clip_high, 1 + clip_high)"),
        ("not bounded", ".clamp(max=1 + clip_high)", ""),
        ("no gradient", " * logp", ""),
        ("clipped objective", "weight * A[:, None] * logp",
         "torch.minimum(ratio * A[:, None], ratio.clamp(max=1 + clip_high) * A[:, None])"),
        ("descends", "weight * A", "-weight * A"),
        ("sign of the advantage", "ratio.clamp(max=1 + clip_high).detach()",
         "torch.where(A[:, None] > 0, ratio.clamp(max=1 + clip_high), ratio).detach()"),
        ("shape", "weight * A[:, None] * logp", "(weight * A[:, None] * logp).sum()"),
    ],
    hints=(
        "The gradient of J on a token is weight times advantage, always; the clip bounds the weight.",
        "It is the policy gradient, A times log π, with a factor that has no gradient of its own.",
        "The factor: the ratio, at most 1 + clip_high, and detached. Nothing bounds it below.",
    ),
    then="""
    options = {"surrogate": "cispo", "length_norm": "token", "minibatches": 2}
    with instead_of(losses, "clipped_weight", cispo):  # the loop trains on your objective
        history = short_run(steps=2, **options)
    print([f"accuracy {m['accuracy']:.2f}, clipped {m['clip_fraction']:.2f}" for m in history])
    """,
)  # fmt: skip
def cispo(f):
    """
    PPO's clip takes the gradient of a token away. CISPO (MiniMax-M1) bounds its importance weight
    instead: $\\mathrm{sg}(\\min(\\rho, 1 + \\epsilon_{high}))\\, A \\log \\pi$, with no bound below
    and no gradient through the weight (sg). Return it for each token; it is maximised.
    """
    leaf = LOGP.clone().requires_grad_()
    rho = (leaf - OLD).exp()
    value = call(f, rho, A, leaf, 0.2)
    if not isinstance(value, torch.Tensor) or value.shape != LOGP.shape:
        shape = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise Wrong(f"one number for each token is asked for, the shape (2, 4), not {shape}")
    if not value.requires_grad:
        raise Wrong("it has no gradient: the weight is a constant, what is multiplied by it is not")
    (g,) = torch.autograd.grad(value.sum(), leaf, allow_unused=True)
    if g is None:
        raise Wrong("it has no gradient with respect to logp")
    r, a = rho.detach(), A[:, None]
    bounded = r.clamp(max=1.2)
    through = (r <= 1.2) * r * a * LOGP  # what a weight that is not detached adds
    compare(g, bounded * a, {
        "the weight must be a constant: a gradient flows through it": bounded * a + through,
        "the weight is also bounded below 1; here nothing is": r.clamp(0.8, 1.2) * a,
        "the weight is not bounded": r * a,
        "it descends: the objective is maximised": -bounded * a,
        "this is PPO's clipped objective, without a gradient beyond the limit":
            torch.where((r > 1.2) & (a > 0), 0.0, r * a),
        "the bound must not depend on the sign of the advantage":
            torch.where(a > 0, bounded, r) * a,
    }, "the gradient on a token must be its bounded weight times the advantage")  # fmt: skip
    compare(value, bounded * a * LOGP, {}, "the gradient is right, the value is not")


@fill(
    "14.2",
    "GSPO: one ratio for a completion",
    starter="""
    def sequence_ratio(logp, old_logp, mask):
        \"\"\"(N, T) each, mask 1 on real tokens -> one ratio for each completion, (N,).\"\"\"
        ...
    """,
    solution="""
    def sequence_ratio(logp, old_logp, mask):
        \"\"\"(N, T) each, mask 1 on real tokens -> one ratio for each completion, (N,).\"\"\"
        log_ratio = (logp - old_logp).masked_fill(mask == 0, 0.0)
        return (log_ratio.sum(1) / mask.sum(1)).exp()
    """,
    wrong=[
        ("leaves every clip range", " / mask.sum(1)", ""),
        ("arithmetic mean", "(log_ratio.sum(1) / mask.sum(1)).exp()",
         "((log_ratio.exp() * mask).sum(1) / mask.sum(1))"),
        ("padding", "mask.sum(1)", "mask.shape[1]"),
        ("padding", ".masked_fill(mask == 0, 0.0)", ""),
        ("upside down", "logp - old_logp", "old_logp - logp"),
        ("logarithm", ".exp()", ""),
        ("shape", "(log_ratio.sum(1) / mask.sum(1)).exp()", "log_ratio.exp()"),
    ],
    hints=(
        "A mean over the tokens of a completion: which one keeps a ratio a ratio?",
        "The geometric mean: average log-ratios over real tokens, then exponentiate.",
        "Put zeros on the padding before you sum, whatever stands there; divide by the real tokens.",
    ),
    then="""
    def mine(logp, old_logp, mask, level):
        return sequence_ratio(logp, old_logp, mask)[:, None].expand_as(logp)

    options = {"ratio_level": "sequence", "length_norm": "sequence", "minibatches": 2}
    with instead_of(losses, "ratio", mine):  # the loop trains with your ratio
        history = short_run(steps=1, clip_low=3e-4, clip_high=4e-4, **options)
    print([f"accuracy {m['accuracy']:.2f}, clipped {m['clip_fraction']:.2f}" for m in history])
    """,
)  # fmt: skip
def sequence_ratio(f):
    """
    GSPO has one ratio for all tokens of a completion: the geometric mean of its token ratios,
    $\\exp(\\frac{1}{|o|} \\sum_t \\log \\pi / \\pi_{old})$ over real tokens. On the padding may
    stand anything, NaN included.
    """
    junk = LOGP.clone()
    junk[0, 3] = 7.0
    d = (junk - OLD) * MASK
    sizes, right = MASK.sum(1), (d.sum(1) / MASK.sum(1)).exp()
    compare(call(f, junk, OLD, MASK), right, {
        "a product over all tokens leaves every clip range in a long completion": d.sum(1).exp(),
        "that is the arithmetic mean of the ratios": (d.exp() * MASK).sum(1) / sizes,
        "the padding counts as tokens: divide by the real ones": (d.sum(1) / 4).exp(),
        "what stands on the padding reaches your ratio": ((junk - OLD).sum(1) / sizes).exp(),
        "it is upside down: the policy now over the one that sampled": 1 / right,
        "that is the logarithm of the ratio": right.log(),
    }, "exponentiate the mean log-ratio of the real tokens")  # fmt: skip
    junk[0, 3] = float("nan")
    got = tensor(call(f, OLD, junk, MASK))
    if got.isnan().any():
        raise Wrong("NaN on the padding reaches your ratio: zero times NaN is NaN")
    compare(got, 1 / right, {}, "with other log-probabilities the ratio is wrong")


@fill(
    "14.3",
    "DAPO: too long, softly",
    starter="""
    def overlong(length, limit, buffer):
        \"\"\"Tokens of a completion, its limit, the width of the slope -> a reward from -1 to 0.\"\"\"
        ...
    """,
    solution="""
    def overlong(length, limit, buffer):
        \"\"\"Tokens of a completion, its limit, the width of the slope -> a reward from -1 to 0.\"\"\"
        over = length - (limit - buffer)
        return -min(1.0, max(0.0, over / buffer))
    """,
    wrong=[
        ("below the slope", "max(0.0, over / buffer)", "over / buffer"),
        ("a punishment", "return -min", "return min"),
        ("all at once", "over / buffer", "float(over > 0)"),
        ("too early", "(limit - buffer)", "0"),
        ("begins at the limit", "(limit - buffer)", "limit"),
        ("at most 1", "min(1.0, max(0.0, over / buffer))", "max(0.0, over / buffer)"),
        ("half-way down", "over / buffer", "over / limit"),
    ],
    hints=(
        "Three pieces: nothing, a straight line, everything.",
        "The line begins at limit - buffer with 0 and ends at the limit with -1.",
        "The tokens beyond the beginning of the slope, over its width, held between 0 and 1; minus.",
    ),
    then="""
    def short(completions, completion_ids=(), max_new_tokens=None, **kwargs):
        return [overlong(len(ids), max_new_tokens, 32) for ids in completion_ids]

    history = short_run(steps=1, rewards=("accuracy", short), reward_weights=(1.0, 1.0))
    print([f"length {m['length']:.0f}, your reward {m['rewards/short']:.2f}" for m in history])
    """,
)  # fmt: skip
def overlong(f):
    """
    A completion that is truncated gets reward 0 although its thought may have been right so far:
    noise. DAPO warns before: no punishment up to `limit - buffer` tokens, then a straight line down
    to −1 at the limit. Write it; the next cell trains with it beside the accuracy.
    """
    for length, limit, buffer, right, says in (
        (40, 100, 20, 0.0, "below the slope a completion gets something other than 0"),
        (90, 100, 20, -0.5, "half-way down the slope the reward must be -0.5"),
        (85, 100, 20, -0.25, "a quarter down the slope the reward must be -0.25"),
        (100, 100, 20, -1.0, "at the limit itself the reward must be -1"),
        (80, 100, 20, 0.0, "where the slope begins the reward is still 0"),
        (120, 100, 20, -1.0, "the punishment must be at most 1"),
        (300, 400, 200, -0.5, "the slope must be as wide as its buffer"),
    ):
        got = number(call(f, length, limit, buffer))
        if abs(got - right) < 1e-6:
            continue
        if got > 0 and length > 80:
            raise Wrong("too long is a punishment: the reward must not be positive")
        if got == -1 and 80 < length < 100:
            raise Wrong("it falls all at once, and a slope of 20 tokens is asked for")
        if length == 40 and got < 0:
            raise Wrong("the punishment begins too early: a completion of 40 is far from 100")
        if got == 0 and length == 90:
            far = number(call(f, 300, limit, buffer))
            raise Wrong(
                "the slope begins at the limit; it must end there"
                if far < 0
                else "even far beyond the limit the reward is not negative"
            )
        raise Wrong(says)


@predict(
    "14.4",
    "Twenty gains that are none",
    starter="chance = ...  # between 0 and 1",
    solution="chance = 1 - 0.95**20",
    wrong=[
        ("mean number", "chance = 20 * 0.05"),
        ("one comparison", "chance = 0.05"),
        ("none of them", "chance = 0.95**20"),
        ("all of them", "chance = 0.05**20"),
        ("too high", "chance = 0.7"),
        ("too low", "chance = 0.55"),
    ],
    hints=(
        "At least one: what is its opposite?",
        "Each interval includes zero with probability 0.95, if there is no gain.",
        "1 minus the probability that all twenty include zero.",
    ),
)
def chance(value):
    """
    Twenty variants are compared with GRPO, and in truth none of them differs from it. Each
    comparison reports a 95 % interval. How probable is it that at least one excludes zero? (Take
    the comparisons as independent.)
    """
    guess(value, 1 - 0.95**20, 0.02, {
        "that is the mean number of such intervals, no probability": 1.0,
        "that is one comparison": 0.05,
        "that is the probability that none of them does": 0.95**20,
        "that is the probability that all of them do": 0.05**20,
    })  # fmt: skip


@predict(
    "14.5",
    "How many seeds?",
    starter="seeds = ...",
    solution="seeds = (1.96 * 6 / 2) ** 2",
    wrong=[
        ("root", "seeds = 1.96 * 6 / 2"),
        ("1.96", "seeds = (6 / 2) ** 2"),
        ("whole width", "seeds = (2 * 1.96 * 6 / 2) ** 2"),
        ("already the difference", "seeds = 2 * (1.96 * 6 / 2) ** 2"),
        ("too high", "seeds = 45"),
        ("too low", "seeds = 28"),
    ],
    hints=(
        "The interval of a mean over n seeds has a half-width of 1.96 standard errors.",
        "The standard error is the standard deviation over the root of n.",
        "Set 1.96 times 6 over the root of n equal to 2, and solve for n.",
    ),
)
def seeds(value):
    """
    A method gains 2 points over GRPO. The difference of two runs with the same seed scatters by 6
    points (standard deviation) from seed to seed. With how many seeds does the 95 % interval of the
    mean difference just exclude zero, if the mean is the true one? (Take 1.96 standard errors. Five
    seeds need Student's t on top.)
    """
    n = (1.96 * 3) ** 2
    guess(value, n, 0.03, {
        "a standard error falls with the root of the number of seeds": 1.96 * 3,
        "that is one standard error; 95 % are 1.96 of them": 9,
        "half of the interval must fit between zero and the gain, not its whole width": 4 * n,
        "the scatter given is already the difference's": 2 * n,
    }, "seeds")  # fmt: skip


SAMPLE, TRAIN = 40.0, 20.0  # seconds of a step
TOKENS, COMPLETIONS = 1000, 256
CORRECTIONS = ("none", "token_truncate", "sequence_truncate")


@design(
    "14.6",
    "Old rollouts, weighed",
    starter="""
    plan = {
        "age": ...,  # by how many steps the policy that samples is behind: 0 to 8
        "correction": ...,  # "none", "token_truncate" or "sequence_truncate"
        "cap": ...,  # the weight is at most this: 1 to 10
    }
    """,
    solution="""
    plan = {
        "age": 1,  # by how many steps the policy that samples is behind: 0 to 8
        "correction": "token_truncate",  # "none", "token_truncate" or "sequence_truncate"
        "cap": 3,  # the weight is at most this: 1 to 10
    }
    """,
    wrong=[
        ("waits", '"age": 1', '"age": 0'),
        ("wrong distribution", '"token_truncate",  #', '"none",  #'),
        ("few completions", '"token_truncate",  #', '"sequence_truncate",  #'),
        ("cap takes", '"cap": 3', '"cap": 1'),
        ("cap takes", '"age": 1', '"age": 8'),
        ("must be", '"token_truncate",  #', '"mask",  #'),
        ("age must lie", '"age": 1', '"age": -1'),
    ],
    hints=(
        "Three things go wrong, one with each option: waiting, a wrong distribution, wild weights.",
        "Sampling and training overlap from age 1 on; a higher age gains nothing and drifts further.",
        "A product over a thousand tokens is wild, a token's weight is not; the cap must lie above "
        "what nearly all tokens need.",
    ),
)  # fmt: skip
def plan(answer):
    """
    A step samples for 40 s and trains for 20 s, on different GPUs: with rollouts at least one step
    old the two overlap. For each step of age the log-probabilities of most tokens move by 0.02
    (standard deviation), of one in twenty by 0.3. Choose age, correction and cap so that a step
    takes at most 45 s; the weights' mean differs from 1 by less than 1 % (a wrong mean is a wrong
    distribution); and the effective number of completions, $(\\sum w)^2 / \\sum w^2$, is at least
    70 % of them. The judge draws 256 completions of 1,000 tokens.
    """
    age, how, cap = choices(answer, ("age", "correction", "cap"))
    age = whole(age, "age", 0, 8)
    cap = number(cap)
    if how not in CORRECTIONS:
        raise Wrong("the correction must be one of " + ", ".join(CORRECTIONS))
    if not 1 <= cap <= 10:
        raise Wrong("cap must lie between 1 and 10")
    seconds = max(SAMPLE, TRAIN) if age else SAMPLE + TRAIN
    if seconds > 45:
        raise Wrong(f"a step takes {seconds:.0f} s: training waits for sampling, and the reverse")
    if how == "none":
        raise Wrong("without a weight you train on a wrong distribution, whatever the cap")
    random = torch.Generator().manual_seed(0)
    shape = (COMPLETIONS, TOKENS)
    scatter = torch.where(torch.rand(shape, generator=random) < 0.05, 0.3, 0.02) * age
    log_weight = scatter * torch.randn(shape, generator=random) - scatter.square() / 2  # mean 1
    whole_weight = log_weight.sum(1, keepdim=True) if how.startswith("sequence") else log_weight
    weight = whole_weight.exp()
    capped = weight.clamp(max=cap)
    effective = float(capped.sum().square() / capped.square().sum() / capped.numel())
    if effective < 0.7:
        raise Wrong(
            f"a few completions carry the weight: effectively {effective:.0%} of them count"
        )
    lost = 1 - float(capped.mean())
    if lost > 0.01:
        if how.startswith("sequence"):
            raise Wrong(f"a few completions carry the weight, and the cap takes {lost:.0%} of it")
        raise Wrong(
            f"the cap takes {lost:.1%} of the weight: it is too low, or the rollouts are too old"
        )


EXERCISES = [cispo, sequence_ratio, overlong, chance, seeds, plan]
