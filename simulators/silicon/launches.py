"""How many kernels a layer of a model has: what the host launches one by one in a step with prompts.

A step of decodes is one captured CUDA graph. A step with prompts is not: SGLang captures decodes only, and vLLM no step of more than 512
tokens by default. So the host launches every kernel of every layer, and a step with a short prompt takes as long as that. The numbers are
counted from the engines' layers, roughly: matrix products and what stands between them, with products' quantisation of activations.
"""

from simulators.native.architecture.attention import GatedDeltaNet, LatentAttention
from simulators.native.architecture.decoder import Decoder, DecoderLayer
from simulators.native.architecture.feed_forward import Dense

NORMS = 2  # with the residual added
COLLECTIVES = 2  # after the attention and after the feed-forward layer
GROUPED = 9  # query, key and value; norms of both; rotary embedding; writing the cache; attention; output; two quantisations
LATENT = 20  # down and up projections of queries and of the latent, their norms, joining and padding, attention, output, quantisations
DELTA = 16  # projections, convolution, gates, the chunks' five kernels, norm, output, quantisations
DENSE = 5  # gate and up, activation, down, two quantisations
EXPERTS = 14  # router, choice, sorting by expert, quantisation, both grouped products, activation, and adding up


def kernels_of(layer: DecoderLayer) -> int:
    """Kernels of one layer."""
    attention = LATENT if isinstance(layer.attention, LatentAttention) else DELTA if isinstance(layer.attention, GatedDeltaNet) else GROUPED
    if isinstance(layer.feed_forward, Dense):
        return NORMS + COLLECTIVES + attention + DENSE
    return NORMS + COLLECTIVES + attention + EXPERTS + (DENSE if layer.feed_forward.shared else 0)


def kernels_a_layer(decoder: Decoder) -> float:
    """Mean over the layers."""
    return sum(n * kernels_of(layer) for layer, n in decoder.groups) / len(decoder.layers)
