"""Runs in AISimulate's environment, whose wheel brings AIConfigurator: python -P aiconfigurator_driver.py ASKED ANSWERS.

It imports nothing of this project. A JSON line of ASKED has the settings of one point; the line of ANSWERS has ttft and tpot (ms), or an
error. What it does is what AIConfigurator's `cli estimate` does in its mode agg; the module of that command draws plots, and needs what
this environment does not have.
"""

import json
import logging
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """A line of ANSWERS for each of ASKED."""
    logging.disable(logging.CRITICAL)
    asked, answers = map(Path, sys.argv[1:])
    with asked.open(encoding="utf-8") as lines, answers.open("w", encoding="utf-8") as out:
        for line in lines:
            out.write(json.dumps(_answer(json.loads(line))) + "\n")


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    try:
        found = _estimate(**asked)
    except Exception as error:  # whatever a point makes it raise is that point's answer
        return {"error": f"{type(error).__name__}: {error}"}
    return {"ttft": float(found["ttft"]), "tpot": float(found["tpot"])}


def _estimate(
    *,
    model: str,
    system: str,
    backend: str,
    version: str,
    isl: int,
    osl: int,
    batch_size: int,
    parallelism: dict[str, int | None],
    kv: str | None,
) -> dict[str, Any]:
    """Its result of a point. parallelism: tp_size, attention_dp_size, moe_tp_size, moe_ep_size."""
    from aiconfigurator.sdk.backends.factory import get_backend  # type: ignore[import-not-found]
    from aiconfigurator.sdk.config import ModelConfig, RuntimeConfig  # type: ignore[import-not-found]
    from aiconfigurator.sdk.config_builders import build_model_config  # type: ignore[import-not-found]
    from aiconfigurator.sdk.inference_session import InferenceSession  # type: ignore[import-not-found]
    from aiconfigurator.sdk.models import (  # type: ignore[import-not-found]
        get_model,
        resolve_context_fmha_by_data,
        resolve_nvfp4_for_system,
    )
    from aiconfigurator.sdk.perf_database import get_database_view  # type: ignore[import-not-found]

    database = get_database_view(system, backend, version, allow_missing_data=False, database_mode="SILICON", transfer_policy=None)
    config = build_model_config(
        tp_size=parallelism["tp_size"],
        pp_size=1,
        attention_dp_size=parallelism["attention_dp_size"],
        moe_tp_size=parallelism["moe_tp_size"],
        moe_ep_size=parallelism["moe_ep_size"],
        gemm_quant_mode=None,
        kvcache_quant_mode=kv,
        fmha_quant_mode=None,
        moe_quant_mode=None,
        comm_quant_mode=None,
    )
    assert isinstance(config, ModelConfig)
    resolve_context_fmha_by_data(config, model, database, backend, is_context_role=True)
    resolve_nvfp4_for_system(config, system, model)
    session = InferenceSession(get_model(model, config, backend), database, get_backend(backend))
    summary = session.run_agg(RuntimeConfig(isl=isl, osl=osl, batch_size=batch_size), ctx_tokens=isl)
    if summary.check_oom():
        raise RuntimeError("it says that the model does not fit")
    found: dict[str, Any] | None = summary.get_result_dict()
    if found is None:
        raise RuntimeError("it has no result")
    return found


if __name__ == "__main__":
    main()
