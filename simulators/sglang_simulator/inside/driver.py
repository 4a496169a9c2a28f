"""Runs inside SGLang's environment: SGLang's simulator engine (sglang_simulator.simulation.sglang.engine) on the requests of a job.

Usage: PYTHONPATH=CLONE/tools/sglang-simulator/src:THIS FOLDER python -P driver.py JOB.json, with the simulator's own environment variables
(SGLANG_SIMULATOR_CONFIG_PATH, SGLANG_SIMULATOR_OUTPUT_DIR, SGLANG_SIMULATOR_OUTPUT_MODE=OFFLINE).

JOB.json: engine (arguments of SGLang's Engine); requests (an .npz: created in s, output, ends, tokens: request i's token ids are those from
ends[i - 1] to ends[i]); steps (fields of StepModel, or null) and steps_file (where its pickle goes, that the simulator's configuration
names); report (a file to write: sglang, simulate_s, kv_tokens). What it does with the engine is what SGLang's own
in-process benchmark of it does, but that each request has an id by which its row is found, and that one is sent before, as a server
does when it starts. The simulator writes its files when its profile is asked for, and begins anew.
"""

import asyncio
import importlib.metadata
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

WARM = 64, 4  # tokens of the prompt and of the answer of the request before all others, which is in no result


def keep_steps(fields: Mapping[str, Any], path: str) -> None:
    """The pickle that the simulator's predictor `ml` reads."""
    import joblib
    from sglang_simulator.time_predictor.ml import MLTimePredictor  # type: ignore[import-not-found]
    from step_model import StepModel  # type: ignore[import-not-found]

    joblib.dump({"model": StepModel(**fields), "features": MLTimePredictor.FEATURE_NAMES}, path)


def started(settings: Mapping[str, Any]) -> Any:
    """The engine, set up as the simulator's entry points do it."""
    from sglang_simulator.compat import apply_simulator_server_args  # type: ignore[import-not-found]
    from sglang_simulator.simulation.sglang.engine import SGLangSimulationEngine  # type: ignore[import-not-found]

    settings = dict(settings)
    apply_simulator_server_args(settings)
    return SGLangSimulationEngine(**settings)


async def replay(engine: Any, asked: Mapping[str, Any]) -> None:
    """All requests at once, each with the moment at which it arrives; its clock starts when it has them all."""
    sampling: dict[str, Any] = {"ignore_eos": True}
    await engine.async_generate(input_ids=[0] * WARM[0], sampling_params={**sampling, "max_new_tokens": WARM[1]})
    await engine.tokenizer_manager.flush_cache()
    await engine.tokenizer_manager.start_profile()
    ends, tokens = asked["ends"].tolist(), asked["tokens"]
    prompts: Sequence[Any] = [tokens[low:high].tolist() for low, high in zip([0, *ends[:-1]], ends, strict=True)]
    created, output = asked["created"].tolist(), asked["output"].tolist()
    waiting = [
        engine.async_generate(
            input_ids=prompt,
            rid=str(place),
            sampling_params={
                **sampling,
                "max_new_tokens": output[place],
                "custom_params": {"simulation": {"total_request": len(prompts), "created_time": created[place]}},
            },
        )
        for place, prompt in enumerate(prompts)
    ]
    await asyncio.gather(*waiting)
    await engine.tokenizer_manager.start_profile()


def main() -> None:
    """Replay, and say what it ran on."""
    job = json.loads(Path(sys.argv[1]).read_text())
    if job["steps"] is not None:
        keep_steps(job["steps"], job["steps_file"])
    engine = started(job["engine"])
    try:
        start = time.monotonic()
        engine.loop.run_until_complete(replay(engine, np.load(job["requests"])))
        report = {
            "sglang": importlib.metadata.version("sglang"),
            "simulate_s": time.monotonic() - start,
            "kv_tokens": engine._scheduler_init_result.scheduler_infos[0]["max_total_num_tokens"],
        }
        Path(job["report"]).write_text(json.dumps(report))
    finally:
        engine.shutdown()


if __name__ == "__main__":  # SGLang's own processes import this file, too
    main()
