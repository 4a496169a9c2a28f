"""Roofline step times: from the model's config.json and the hardware's numbers alone.

    product   = start + (arithmetic ** blend + traffic ** blend) ** (1 / blend)
    attention = start + query-key pairs of prompts + their activations + the longer of the decodes' arithmetic and KV traffic

Every operation takes its arithmetic and its memory traffic, each at a stated share of the peak; operations follow one another. A product
takes the longer of the two, smoothly: between the roofs it reaches neither (Williams, Waterman, Patterson: Roofline, CACM 52(4), 2009,
has the two roofs; the blend is a p-norm, as the tables of simulators/calibration/efficiencies.py show it). Attention of a prompt does both
one after the other: its softmax and its loads and stores are not products (FlashAttention-2, arXiv 2307.08691, section 3.1). Beside a
prompt each decode is a whole tile of queries (Efficiency.query_tile). Kernels that only move activations (norms, the gated activation)
come on top, and so does the host (host.py).

Layers that are alike are computed once. Experts are grouped products: of the tokens of all replicas, on the busiest device (experts.py).
What attention with a window reads and computes is bounded by it (windows.py); linear attention reads and writes a sequence's state
instead. Devices that share a layer say to each other what parallelism.py counts; stages of layers follow one another, so that a step
passes all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulators.errors import NotAvailable
from simulators.native.architecture.attention import Attention, GatedDeltaNet, Indexer, LatentAttention
from simulators.native.architecture.decoder import Decoder, DecoderLayer, Product
from simulators.native.architecture.feed_forward import Dense, Experts, FeedForward
from simulators.native.architecture.formats import WeightFormat, plain
from simulators.native.architecture.matrix import Matrix, by_outputs
from simulators.native.latency.device import Device
from simulators.native.latency.efficiency import Efficiency
from simulators.native.latency.experts import Routing
from simulators.native.latency.host import Host
from simulators.native.latency.parallelism import Parallelism
from simulators.native.latency.step_law import Pieces, Row, StepLaw, row
from simulators.native.sequence import Batch

# tokens between which the time of a step's products is taken to be straight: it bends where memory and arithmetic take equally long
TOKENS = (0.0, *(float(m) for m in range(1, 17)), *(round(16 * 1.125**i) * 1.0 for i in range(1, 66)))

KEY_BLOCK = (
    128  # keys that FlashAttention 2 takes at once (kBlockN, as kBlockM of query_tile): a context's last ones are half a block on average
)
WINDOWED = {  # parts of a step's work: of attention without a window, and of attention with one
    "prefill_pairs": "window_pairs",
    "prefill_context": "window_prefill_context",
    "decode_context": "window_context",
    "mixed_context": "mixed_window_context",
}
CHUNKS, DECODES = ("prefill_context", "prefill_tokens"), ("decode_context", "decodes")  # parts of it that are tokens whose KV is read
Term = tuple[Row, Row]  # (arithmetic, traffic)


class Roofline:
    """A StepTime computed from sizes. Raises SimulatorError when the devices cannot share the model so, or have no link.

    host: what the host does in a step; None: nothing but efficiency.step. routing: of tokens to experts.
    """

    def __init__(
        self,
        decoder: Decoder,
        device: Device,
        efficiency: Efficiency,
        *,
        parallel: Parallelism = Parallelism(),  # noqa: B008 - frozen
        host: Host | None = None,
        routing: Routing = Routing(),  # noqa: B008 - frozen
    ) -> None:
        parallel.check(decoder, device)
        self.decoder, self.device, self.efficiency, self.parallel, self.host, self.routing = (
            decoder,
            device,
            efficiency,
            parallel,
            host,
            routing,
        )
        layers = len(decoder.layers)
        exchanged = [(parallel.exchanged(decoder, device, efficiency, layer), n) for layer, n in decoder.groups]
        handed = parallel.handed_on(decoder, device, efficiency)
        start = sum(n * (efficiency.layer + latency + efficiency.attention_start) for (latency, _), n in exchanged) + handed[0]
        linear = row(
            efficiency.step + start + efficiency.gemm_start,  # gemm_start: of the output layer
            new_tokens=sum(n * by_token for (_, by_token), n in exchanged) + self._activations() + handed[1],
            prefill_tokens=self._prompt_activations(),
        )
        output = by_outputs(decoder.hidden, decoder.vocab)
        self.law = StepLaw(
            linear=linear if host is None else tuple(a + b for a, b in zip(linear, host.serial, strict=True)),
            floor=row() if host is None else host.floor(layers),
            pieces=self._layer_products(),
            terms=(
                *(term for layer, n in decoder.groups for term in self._attention(layer.attention, n)),
                self._product("sequences", output, decoder.output_format or plain(decoder.dtype_bytes)),
            ),
            reach=self._reach(),
        )
        self._steps = 0

    def seconds(self, batch: Batch) -> float:
        """See StepTime."""
        self._steps += 1
        return self.law.of(batch)

    def note(self, works: NDArray[np.float64]) -> None:
        """See StepTime."""
        self._steps += len(works)

    def describe(self) -> Mapping[str, Any]:
        """See StepTime."""
        return {
            "step_time": "roofline",
            "efficiency": asdict(self.efficiency),
            "device": asdict(self.device),
            "host": None if self.host is None else asdict(self.host),
            "parallel": asdict(self.parallel),
            "routing": asdict(self.routing),
            "uncertainty": None,  # these step times were never compared with measured ones
            "steps": self._steps,
        }

    def _reach(self) -> int | None:
        found = {a.reach for a, _ in self.decoder.caching if a.reach is not None}
        if len(found) > 1:
            raise NotAvailable(f"native: the roofline knows one window a model; this one has {', '.join(map(str, sorted(found)))} tokens")
        return next(iter(found), None)

    def _layer_products(self) -> Pieces:
        """Seconds of all layers' matrix products over the tokens of a step, straight between TOKENS."""
        times = [0.0] * len(TOKENS)
        for layer, n in self.decoder.groups:
            products = list(self.decoder.products(layer))
            arms = [(self._share(p.format)[0], self._product("new_tokens", p.matrix, p.format)) for p in products if p.part != "expert"]
            of_experts = [p for p in products if p.part == "expert"]
            for place, m in enumerate(TOKENS):
                took = sum(share.product(*(arm[0] + arm[1] * m for arm in term)) for share, term in arms)
                times[place] += n * (took + self._experts(layer, of_experts, m))
        slopes = [(after - before) / (b - a) for (a, before), (b, after) in pairwise(zip(TOKENS, times, strict=True))]
        return tuple(zip(TOKENS, times, [*slopes, slopes[-1]], strict=True))[::-1]

    def _share(self, form: WeightFormat) -> tuple[Efficiency, float]:
        """The numbers of products with weights in this format, and the peak FLOP/s that they are shares of."""
        served = self.device.served_in(form.arithmetic)
        if served == "mxfp4" and served not in self.efficiency.narrow:
            served = "16 bit"  # no engine's kernel for it on such a device is known
        return self.efficiency.of(served), self.device.served_peak(served)

    def _product(self, tokens: str, matrix: Matrix, form: WeightFormat) -> Term:
        """(arithmetic, traffic) of a (tokens, inputs) matrix times weights (inputs, outputs) spread over the devices.

        tokens: the part of a step's work that they are.
        """
        split = 1 if matrix.split == "whole" else self.parallel.tensor
        weights = matrix.weights / split
        share, peak = self._share(form)
        flops = peak * share.gemm_flops
        bandwidth = self.device.memory_bandwidth * share.gemm_bytes
        moved = self.decoder.dtype_bytes * (matrix.inputs + matrix.outputs / split)
        return row(**{tokens: 2 * weights / flops}), row(form.bytes * weights / bandwidth, **{tokens: moved / bandwidth})

    def _experts(self, layer: DecoderLayer, products: list[Product], tokens: float) -> float:
        """Seconds of a layer's experts in a step of so many tokens of each replica; 0 without experts."""
        if not products or tokens == 0:
            return 0.0
        assert isinstance(layer.feed_forward, Experts)
        load = self.routing.busiest(layer.feed_forward, self.parallel.data * tokens, self.parallel.expert)
        split, form = self.parallel.expert_tensor, layer.feed_forward_format
        share, peak = self._share(form)
        weights = sum(p.matrix.weights for p in products) / split  # of one expert
        moved = self.decoder.dtype_bytes * sum(p.matrix.inputs + p.matrix.outputs / split for p in products)
        narrow = 1 + share.expert_narrowness * split / layer.feed_forward.intermediate
        flops = peak * (share.expert_flops or share.gemm_flops) / narrow
        bandwidth = self.device.memory_bandwidth * (share.expert_bytes or share.gemm_bytes)
        rows = load.pairs + load.touched * share.expert_tile
        traffic = load.touched * weights * form.bytes + load.pairs * moved
        return share.experts(2 * rows * weights / flops, traffic / bandwidth)

    def _attention(self, attention: Attention, layers: int) -> list[Term]:
        """Of so many layers: of prompts, of decodes, and of an indexer."""
        if isinstance(attention, GatedDeltaNet):
            return [self._linear_attention(attention, layers)]
        split, beside = self.parallel.tensor, self.efficiency.query_tile - 1.0  # rows more, beside a prompt
        moved = layers * attention.kv_width * self.decoder.element_bytes / min(split, attention.shared_by)
        flops = self.device.flops
        decodes = {"decode_context": 1.0, "decodes": 1.0, "mixed_context": beside, "mixed_decodes": beside * KEY_BLOCK / 2}
        names = {} if attention.reach is None else WINDOWED
        found = [
            # a chunk reads all its context, itself included
            self._pairs(layers * attention.prefill_pair_flops / split, flops, moved, {"prefill_pairs": 1.0}, CHUNKS, names),
            self._pairs(layers * attention.decode_pair_flops / split, flops, moved, decodes, DECODES, names),
        ]
        if isinstance(attention, LatentAttention) and attention.indexer is not None:
            found.append(self._indexer(attention.indexer, layers))
        return found

    def _pairs(
        self, pair: float, peak: float, moved: float, pairs: Mapping[str, float], read: Sequence[str], names: Mapping[str, str]
    ) -> Term:
        """(arithmetic, traffic) of attention.

        pair: FLOPs of a query and a key, at `peak` FLOP/s. moved: bytes of a token's keys and values. pairs: the parts of a step's work
        that are such pairs, and how often each is computed. read: the parts that are tokens whose keys and values are read. names: other
        names of these parts.
        """
        flops = pair / (peak * self.efficiency.attention_flops)
        bandwidth = self.device.memory_bandwidth * self.efficiency.attention_bytes
        return (
            row(**{names.get(name, name): flops * times for name, times in pairs.items()}),
            row(**dict.fromkeys((names.get(name, name) for name in read), moved / bandwidth)),
        )

    def _indexer(self, indexer: Indexer, layers: int) -> Term:
        """Of what selects tokens for sparse attention: it looks at all of them, in FP8, on every device."""
        pairs = {"prefill_pairs": 1.0, "decode_context": 1.0, "decodes": 1.0}
        peak = self.device.served_peak("fp8")
        return self._pairs(layers * indexer.pair_flops, peak, layers * indexer.cached_bytes, pairs, (*CHUNKS, *DECODES), {})

    def _linear_attention(self, attention: GatedDeltaNet, layers: int) -> Term:
        """Of a state a sequence, read and written once a step."""
        split, share = self.parallel.tensor, self.efficiency
        state = attention.state_elements * attention.state_bytes + attention.convolved_elements * self.decoder.dtype_bytes
        flops = layers / split / (self.device.flops * share.attention_flops)
        return (
            row(prefill_tokens=flops * attention.prefill_token_flops, decodes=flops * attention.decode_flops),
            row(sequences=layers * 2 * state / split / (self.device.memory_bandwidth * share.attention_bytes)),
        )

    def _activations(self) -> float:
        """Seconds a token of all layers' kernels that only move activations: two norms with the residual added, the gated activation."""
        share = self.efficiency.activations
        if share is None:
            return 0.0
        elements = sum(n * (2 * 4 * self.decoder.hidden + 3 * self._gated(layer.feed_forward)) for layer, n in self.decoder.groups)
        return self.decoder.dtype_bytes * elements / (self.device.memory_bandwidth * share)

    def _gated(self, feed_forward: FeedForward) -> float:
        """Elements a token of a gated activation on one device, written once."""
        if isinstance(feed_forward, Dense):
            return feed_forward.intermediate / self.parallel.tensor
        routed = feed_forward.top_k * feed_forward.intermediate * self.parallel.data / self.parallel.stage
        return feed_forward.shared / self.parallel.tensor + routed

    def _prompt_activations(self) -> float:
        """Seconds a token that attention of prompts takes for its queries, keys, values and outputs, in all layers."""
        share = self.efficiency.attention_tokens
        if share is None:
            return 0.0
        elements = sum(n * layer.attention.token_width for layer, n in self.decoder.groups) / self.parallel.tensor
        return self.decoder.dtype_bytes * elements / (self.device.memory_bandwidth * share)
