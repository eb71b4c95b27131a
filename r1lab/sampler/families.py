"""Model families that the fast sampler decodes: the names of their modules.

The fast sampler (`fast`, and `graphs` on a GPU) writes a decoder out: RMS norm, rotary attention,
gated MLP, residual stream. A family of this form needs a row in FAMILIES and one in
tests/test_families.py, which compares it with the model's own forward; others sample through that.
"""

from dataclasses import dataclass

from torch import nn

ROPE = ("default", "linear", "llama3", "yarn")  # rotations that do not depend on the length


@dataclass(frozen=True)
class Family:
    """The module names of a family. Fused projections are one name: ("qkv_proj",)."""

    qkv: tuple[str, ...] = ("q_proj", "k_proj", "v_proj")  # of layer.self_attn, rows in this order
    qk_norm: tuple[str, str] | None = None  # of layer.self_attn: norms over a head's width
    out: str = "o_proj"
    gate_up: tuple[str, ...] = ("gate_proj", "up_proj")  # of layer.mlp: w_down(act(gate) * up)
    act: str = "act_fn"
    down: str = "down_proj"
    norms: tuple[str, str] = ("input_layernorm", "post_attention_layernorm")  # before each half


FAMILIES: dict[str, Family] = {
    "LlamaForCausalLM": Family(),
    "MistralForCausalLM": Family(),
    "Phi3ForCausalLM": Family(qkv=("qkv_proj",), gate_up=("gate_up_proj",), act="activation_fn"),
    "Qwen2ForCausalLM": Family(),
    "Qwen3ForCausalLM": Family(qk_norm=("q_norm", "k_norm")),
}
"""By the class of the causal LM. Each has `model` (embed_tokens, layers, norm, rotary_emb) and
`lm_head`, with nothing between the two: `body_and_head`."""


def family_of(model: nn.Module) -> Family | None:
    return FAMILIES.get(type(model).__name__)


def body_and_head(model: nn.Module) -> tuple[nn.Module, nn.Module] | None:
    """The modules for hidden states (n, S, D) and for logits, where nothing stands between, so that
    logits of some positions can be computed alone; else None."""
    return (model.model, model.lm_head) if family_of(model) else None


def why_not_fast(model: nn.Module) -> str | None:
    """Why the fast sampler cannot decode the model; None where it can."""
    family, config = family_of(model), model.config
    if family is None:
        return f"{type(model).__name__} is not one of {', '.join(FAMILIES)}"
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") not in ROPE:
        return f"rope type {rope['rope_type']}"
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        return "a rotation of a part of each head"
    layer_types = getattr(config, "layer_types", None)
    windowed = layer_types is None and getattr(config, "sliding_window", None)
    if windowed or any(kind != "full_attention" for kind in layer_types or []):
        return "sliding-window layers"
    if type(model.lm_head) is not nn.Linear:
        return "an output layer that is not a plain linear layer"
    for layer in model.model.layers:
        qkv = [getattr(layer.self_attn, name) for name in family.qkv]
        others = [getattr(layer.self_attn, family.out), getattr(layer.mlp, family.down)]
        others += [getattr(layer.mlp, name) for name in family.gate_up]
        if any(type(module) is not nn.Linear for module in qkv + others):
            return "projections that are not plain linear layers (adapters, quantisation)"
        if any(module.bias is not None for module in others):
            return "biases outside q, k and v"
    if len({(p.device, p.dtype) for p in model.parameters()}) > 1:
        return "parameters of several dtypes or on several devices"
    return None
