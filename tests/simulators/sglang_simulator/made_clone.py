"""A folder that looks like a clone of SGLang's repository: a stand-in for its simulator that speaks its files, and serves one by one."""

from pathlib import Path

from simulators.sglang_simulator.clone import SOURCE

COMPAT = """
def apply_simulator_server_args(target):
    target.update(tp_size=1)
"""
PREDICTOR = """
class MLTimePredictor:
    FEATURE_NAMES = ["batch_size"] * 18
"""
ENGINE = '''
import asyncio, json, os, pathlib, types

import joblib


def features(new, cached):
    found = [0.0] * 18
    found[0], found[1], found[4], found[10], found[16] = 1, new, cached, new * (cached + new / 2), float(new == 1)
    return found


class SGLangSimulationEngine:
    """Serves in order of arrival, one request at a time."""

    def __init__(self, **settings):
        self.asked, self.loop = [], asyncio.new_event_loop()
        self.tokenizer_manager = types.SimpleNamespace(start_profile=self.profile, flush_cache=self.profile)
        found = types.SimpleNamespace(scheduler_infos=[{"max_total_num_tokens": settings["max_total_tokens"]}])
        self._scheduler_init_result = found
        configuration = json.loads(pathlib.Path(os.environ["SGLANG_SIMULATOR_CONFIG_PATH"]).read_text())
        self.model = joblib.load(configuration["predictor"]["database_path"])["model"]
        assert settings["tp_size"] == 1 and os.environ["SGLANG_SIMULATOR_OUTPUT_MODE"] == "OFFLINE"

    async def async_generate(self, *, input_ids, sampling_params, rid=None):
        self.asked.append((rid, input_ids, sampling_params))

    async def profile(self):
        asked, self.asked = [one for one in self.asked if "custom_params" in one[2]], []
        rows, steps, clock = [], [], 0.0
        for rid, prompt, sampling in asked:
            created = sampling["custom_params"]["simulation"]["created_time"]
            begun = clock = max(clock, created)
            gaps, last = [], created
            for place in range(sampling["max_new_tokens"]):
                step = (len(prompt), 0) if place == 0 else (1, len(prompt) + place)
                took = self.model.predict([features(*step)])[0]
                steps.append({"requests": [step], "forward_latency": took, "cpu_overhead": 0.0})
                clock += took
                gaps.append(clock - last)
                last = clock
            row = {"rid": rid, "input_length": len(prompt), "created_time": created, "queue_end": begun}
            rows.append({**row, "gen_token_latencies": gaps, "final_device_hit_len": 0})
        folder = pathlib.Path(os.environ["SGLANG_SIMULATOR_OUTPUT_DIR"])
        folder.mkdir(exist_ok=True)
        for name, lines in (("request", rows), ("iteration", steps)):
            (folder / (name + ".jsonl")).write_text("".join(json.dumps(line) + "\\n" for line in lines))

    def shutdown(self):
        pass
'''
METADATA = "Metadata-Version: 2.1\nName: sglang\nVersion: 0.0.1\n"


def made_clone(folder: Path, *, engine: str = ENGINE) -> Path:
    """One that says that it is of SGLang 0.0.1. engine: the source of its engine's module."""
    source = folder / SOURCE
    package = source / "sglang_simulator"
    files = {
        "compat.py": COMPAT,
        "time_predictor/ml.py": PREDICTOR,
        "simulation/sglang/engine.py": engine,
    }
    for name, text in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    (source / "sglang-0.0.1.dist-info").mkdir()
    (source / "sglang-0.0.1.dist-info" / "METADATA").write_text(METADATA)
    return folder
