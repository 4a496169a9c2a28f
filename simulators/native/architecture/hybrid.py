"""Families in which most layers have linear attention: Qwen3-Next, Qwen3.5."""

from simulators.native.architecture.attention import Attention, GatedDeltaNet
from simulators.native.architecture.dense import grouped_query
from simulators.native.architecture.feed_forward import FeedForward
from simulators.native.architecture.fields import BYTES, LINEAR, Fields
from simulators.native.architecture.mixtures import qwen_feed_forward


def qwen_next(config: Fields) -> list[tuple[Attention, FeedForward]]:
    """Three layers with a gated delta net, then one with gated grouped-query attention; experts, or a dense MLP where there are none."""
    linear = _delta_net(config)
    full = grouped_query(config, gated=bool(config.text.get("attn_output_gate", True)))
    kinds = config.layer_types(config.every(config.size("full_attention_interval", default=4), otherwise=LINEAR))
    return [(linear if kind == LINEAR else full, qwen_feed_forward(config, i)) for i, kind in enumerate(kinds)]


def _delta_net(config: Fields) -> GatedDeltaNet:
    key_heads, key_dim, value_heads, value_dim = config.need(
        "linear_num_key_heads", "linear_key_head_dim", "linear_num_value_heads", "linear_value_head_dim"
    )
    return GatedDeltaNet(
        key_heads=key_heads,
        key_dim=key_dim,
        value_heads=value_heads,
        value_dim=value_dim,
        kernel=config.size("linear_conv_kernel_dim", default=4),
        state_bytes=BYTES.get(str(config.text.get("mamba_ssm_dtype")), config.dtype_bytes),
    )
