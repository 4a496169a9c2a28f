"""LatentTimes: times of multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1) on one device, its projections included.

vLLM from 0.19 on has tables of the whole module, mla_context_module_perf and mla_generation_module_perf (ai-dynamo/aiconfigurator
collector/vllm/collect_mla_module.py): down and up projections, rotary embedding, attention, output projection, without the all-reduce; by
num_heads on the device, batch_size, isl of whole prompts or `step` cached tokens, kv_cache_dtype, and gemm_type, the weights' format. They
are DeepSeek-V3's sizes, which Kimi-K2 and R1 share: for others there is no answer. Older ones, and SGLang's, are of single kernels, and are
not read.
"""

from dataclasses import dataclass
from functools import cached_property

from simulators.calibration.operation_tables.files import TableFiles
from simulators.calibration.operation_tables.grid import TableGrid
from simulators.errors import NotAvailable


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentSizes:
    """Sizes of the module, in elements; those that were measured are the default."""

    hidden: int = 7168  # of the residual stream
    query_rank: int | None = 1536  # of the compressed query
    rank: int = 512  # of the compressed keys and values
    rope: int = 64  # of the key part beside it that carries positions
    nope: int = 128  # of a head's other key part
    value: int = 128  # of a head's value


MEASURED = LatentSizes()


@dataclass(frozen=True, kw_only=True)
class LatentTimes:
    """Of one layer on one device."""

    prompts: TableGrid  # over batch_size, isl
    decodes: TableGrid  # over batch_size, step

    @classmethod
    def read(
        cls, files: TableFiles, sizes: LatentSizes, *, heads: int, dtype: str = "bfloat16", kv_dtype: str = "bfloat16"
    ) -> "LatentTimes":
        """heads: of the queries on one device. Raises NotAvailable for sizes, heads or formats that were not measured."""
        if sizes != MEASURED:
            raise NotAvailable(
                f"calibration aic: latent attention was measured for {MEASURED}, not for {sizes}; take another source of calibration"
            )
        need = {"num_heads": heads, "gemm_type": dtype, "kv_cache_dtype": kv_dtype, "architecture": "DeepseekV3ForCausalLM"}
        prompts, its_name = files.read("mla", "mla_context_module_perf", need)
        decodes, other_name = files.read("mla", "mla_generation_module_perf", need)
        return cls(
            prompts=TableGrid.of(its_name, prompts, ("batch_size", "isl")),
            decodes=TableGrid.of(other_name, decodes, ("batch_size", "step")),
        )

    def prompt(self, new: int, cached: int) -> float:
        """s of a chunk: of the whole prompt so far less what is cached, and at least of the chunk alone. Raises OutsideTables.

        What a module takes at all events cancels then; the cached tokens' own up-projections, which vLLM does again, are left out.
        """
        alone = self.prompts.at(batch_size=1, isl=new)
        if not cached:
            return alone
        return max(alone, self.prompts.at(batch_size=1, isl=new + cached) - self.prompts.at(batch_size=1, isl=cached))

    def decode(self, batch: int, context: int) -> float:
        """s of `batch` sequences, one new token each on `context`. Raises OutsideTables."""
        return self.decodes.at(batch_size=batch, step=max(context, float(self.decodes.axes["step"][0])))

    def step(self, new: int, cached: int, batch: int, context: int) -> float:
        """s of both in one step: the weights are read, and the kernels started, once."""
        if new and batch:
            return self.prompt(new, cached) + max(0.0, self.decode(batch, context) - self.start)
        return self.prompt(new, cached) if new else self.decode(batch, context)

    @cached_property
    def start(self) -> float:
        """s that the module takes at all events: of one token with next to nothing cached."""
        return self.decode(1, 1)
