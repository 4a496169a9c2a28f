"""SGLang's simulator: what cannot be is one line before it starts or after it fails; what goes in and comes out, by laws and made files."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from results.record import EngineLimits, Run
from simulators.errors import NotAvailable, SimulatorError
from simulators.sglang_simulator.clone import SOURCE
from simulators.sglang_simulator.files import token_ids
from simulators.sglang_simulator.inside.step_model import StepModel
from simulators.sglang_simulator.records import Output, records
from simulators.sglang_simulator.steps import StepTable, features
from tests.simulators.foreign.copies import configured
from tests.simulators.profiles import Law, make_measured, make_profile, without
from tests.simulators.sglang_simulator.made_clone import ENGINE, made_clone
from workloads.trace import Request, Trace

LONE = [(0.5, 100, 10)]
LAW = Law()


def simulate(measured: Run, scratch: Path, *, track: Any = "calibrated", profile: Any = None, **changes: Any) -> Run:
    """In the environment of the tests themselves, where there is no SGLang."""
    scratch.mkdir(exist_ok=True)
    profile = make_profile(LAW) if profile is None and track == "calibrated" else profile
    settings = {"environment": "core", **changes}
    run: Run = configured("sglang_simulator", **settings).simulate(measured, track=track, profile=profile, scratch=scratch)
    return run


def lacking(folder: Path) -> str:
    """A clone from before its engine had a module of its own."""
    (made_clone(folder / "old") / SOURCE / "sglang_simulator/simulation/sglang/engine.py").unlink()
    return str(folder / "old")


@pytest.mark.parametrize(
    ("clone", "message"),
    [
        (lambda _: None, r"no clone is named; clone https://github.com/sgl-project/sglang and set simulators.sglang_simulator.checkout"),
        (lambda folder: str(folder / "nowhere"), r"no folder .*/nowhere; clone .* or PLUMBLINE_SGLANG, to its folder"),
        (str, r"is no clone of SGLang with its simulator \(tools/sglang-simulator/src is missing\)"),
        (lacking, r"of another form than this adapter drives \(no .*/simulation/sglang/engine.py\); check out a commit .* SGLang 0.5.21"),
    ],
)
def test_without_a_clone_it_is_not_available(clone: Callable[[Path], str | None], message: str, tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match=message) as error:
        simulate(make_measured(LONE), tmp_path / "scratch", checkout=clone(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("engine", "kind", "message"),
    [
        (
            ENGINE + "\nSGLangSimulationEngine.req.prefix_indices\n",
            NotAvailable,
            r"does not fit the SGLang and AIConfigurator of .envs/core \(AttributeError: .* no attribute 'req'\); check out",
        ),
        (
            "class SGLangCompatibilityError(RuntimeError): pass\nraise SGLangCompatibilityError('adapt me')\n",
            NotAvailable,
            r"does not fit .* \(SGLangCompatibilityError: adapt me\)",
        ),
        (
            "raise RuntimeError('hooks did not match: the simulator must be adapted to this SGLang revision.')\n",
            NotAvailable,
            r"does not fit .* must be adapted to this SGLang revision",
        ),
        ("raise RuntimeError('no memory')\n", SimulatorError, r"sglang_simulator: it ended early: RuntimeError: no memory; log .*/log"),
    ],
)
def test_a_clone_that_does_not_fit_is_told_from_one_that_fails(
    engine: str, kind: type[SimulatorError], message: str, tmp_path: Path
) -> None:
    clone = made_clone(tmp_path / "clone", engine=engine)
    with pytest.raises(SimulatorError, match=message) as error:
        simulate(make_measured(LONE), tmp_path / "scratch", checkout=str(clone))
    assert type(error.value) is kind and "\n" not in str(error.value)


def on(hardware: str, **model: Any) -> Run:
    measured = make_measured(LONE)
    config = {**measured.config["model"], "model_type": "llama", **model}
    return dataclasses.replace(measured, hardware=hardware, config={**measured.config, "model": config})


@pytest.mark.parametrize(
    ("measured", "settings", "message"),
    [
        (
            on("cpu-test"),
            {"track": "matched"},
            r"no operation times of SGLang on cpu-test, only on a100, .* needs none",
        ),
        (on("h100", model_type=None), {"track": "matched"}, r"does not say the model's model_type, by which SGLang knows it"),
        (on("h100", quantization_config={"bits": 8}), {"track": "shipped"}, r"weights in 16 bits, and the run's model has fewer"),
        (make_measured(LONE), {"profile": without(make_profile(LAW), "decode")}, r"has no decode points"),
        (make_measured(LONE, limits=EngineLimits()), {}, r"does not say the engine's kv_tokens, max_num_seqs, max_num_batched_tokens"),
        (make_measured([(0.5, 65530, 10)]), {}, r"request 0 of 65530 \+ 10 tokens does not fit into 65536 tokens of KV cache"),
    ],
)
def test_what_it_cannot_be_set_to_is_one_line_before_it_starts(
    measured: Run, settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(SimulatorError, match=message) as error:
        simulate(measured, tmp_path / "scratch", checkout=str(made_clone(tmp_path / "clone")), **settings)
    assert "\n" not in str(error.value) and not (tmp_path / "scratch" / "log").exists()


def test_a_calibrated_track_needs_a_profile(tmp_path: Path) -> None:
    adapter = configured("sglang_simulator", checkout=str(made_clone(tmp_path / "clone")))
    with pytest.raises(NotAvailable, match=r"the calibrated track of run vllm-law-0 needs a profile"):
        adapter.simulate(make_measured(LONE), track="calibrated", profile=None, scratch=tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"), [({"database_mode": "LUCK"}, r"database_mode must be one of SILICON, "), ({"limit": 0}, r"limit must be > 0 s")]
)
def test_bad_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        configured("sglang_simulator", **changes)


def test_what_is_asked_comes_back_by_the_profiles_law(tmp_path: Path) -> None:
    """A stand-in that serves one by one, with the very pickle and files that SGLang's simulator gets."""
    asked = [(0.5, 300, 3), (0.6, 20, 1), (9.0, 64, 2)]
    run = simulate(make_measured(asked, first_id=7), tmp_path / "scratch", checkout=str(made_clone(tmp_path / "clone")))
    assert [r.request_id for r in run.records] == [7, 8, 9]
    for record, (sent, prompt, output) in zip(run.records, asked, strict=True):
        first = sent + LAW.prefill(prompt)
        assert record.token_times is not None and len(record.token_times) == output
        assert record.scheduled == pytest.approx(sent) and record.first_token == pytest.approx(first)
        assert record.finished == pytest.approx(first + sum(LAW.decode(1, prompt + n) for n in range(1, output)))
    told = run.config["simulator"]
    assert (told["scheduler_of"], told["steps"], told["scheduler_s"], run.version) == ("SGLang 0.0.1", 6, 0.0, "git")
    assert told["limits"] == {"kv_tokens": 65536, "page": 16, "batch": 64, "chunk": 512, "budget": 512, "prefix_caching": False}
    job = json.loads((tmp_path / "scratch" / "job.json").read_text())
    assert job["engine"]["context_length"] >= 303 and job["engine"]["disable_radix_cache"]


def test_its_table_is_the_profiles_law_at_every_step() -> None:
    steps = StepTable.of("test", make_profile(LAW), tokens=1024, batch=64)
    model = StepModel(**steps.fields)
    for batch in (1, 8, 64):
        assert model.predict([features([(1, 512)] * batch)])[0] == pytest.approx(LAW.decode(batch, 512), rel=1e-3)
    for tokens, before in ((64, 0), (256, 512), (512, 1536)):
        assert model.predict([features([(tokens, before)])])[0] == pytest.approx(LAW.prefill(tokens, before), rel=1e-3)
    # two prompts in a step attend to themselves alone, and pay its fixed cost once
    both = LAW.prefill(200) + LAW.prefill(100) - LAW.fixed
    assert model.predict([features([(200, 0), (100, 0)])])[0] == pytest.approx(both, rel=0.01)
    assert steps.residuals()["held_out"]["decode"]["p90"] < 1e-6
    with pytest.raises(IndexError):  # no time is made up
        model.predict([features([(1, 10)] * 65)])
    assert steps.outside([[(1, 512)] * 8, [(64, 0)], [(1, 5000)], [(2000, 0)]]) == 2


def asked_of(*prompts: tuple[int, tuple[int, ...]]) -> Trace:
    made = (Request(request_id=i, arrival=0.1 * i, input_tokens=n, output_tokens=4, blocks=blocks) for i, (n, blocks) in enumerate(prompts))
    return Trace(name="made", requests=tuple(made), block_size=64)


def test_prompts_share_the_tokens_of_the_blocks_that_they_share_and_no_others() -> None:
    first, second, other, moved = token_ids(asked_of((300, (7, 8, 9)), (260, (7, 8, 4)), (128, (5, 6)), (128, (8, 7))), vocabulary=32768)
    assert [len(prompt) for prompt in (first, second, other, moved)] == [300, 260, 128, 128]
    same = np.cumprod(first[:260] == second)
    assert same.sum() == 128
    assert first[0] not in (other[0], moved[0]) and other[0] != moved[0]
    assert max(prompt.max() for prompt in (first, second, other, moved)) < 32768


TWO = tuple(make_measured([(0.5, 10, 3), (0.75, 12, 2)]).trace_as_sent())
ROWS: list[dict[str, Any]] = [
    {
        "rid": rid,
        "input_length": prompt,
        "created_time": created,
        "queue_end": created + waited,
        "gen_token_latencies": gaps,
        "final_device_hit_len": cached,
    }
    for rid, prompt, created, waited, gaps, cached in (
        ("1", 12, 0.25, 0.01, [0.02, 0.01], 8),
        ("0", 10, 0.0, 0.0, [0.1, 0.2, 0.3], 0),
    )
]


def written(folder: Path, rows: list[dict[str, Any]]) -> Output:
    folder.mkdir()
    (folder / "request.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    step = {"requests": [[10, 0]], "forward_latency": 0.1, "cpu_overhead": 0.01}
    (folder / "iteration.jsonl").write_text(json.dumps(step) + "\n")
    (folder / "report.json").write_text("{}")
    (folder / "log").write_text("its last words\n")
    return Output.read(folder, folder / "report.json", folder / "log")


def test_a_request_has_its_own_times_from_its_arrival_on(tmp_path: Path) -> None:
    first, second = records(written(tmp_path / "out", ROWS), TWO, 0.5, tmp_path / "out" / "log")
    assert first.token_times == pytest.approx((0.6, 0.8, 1.1)) and second.token_times == pytest.approx((0.77, 0.78))
    assert first.scheduled == 0.5 and second.scheduled == pytest.approx(0.76)
    assert (first.cached_tokens, second.cached_tokens) == (0, 8)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS[:1], r"2 requests asked, 1 rows came out: 1 missing \(ids 0\)"),
        (
            [ROWS[0], {**ROWS[1], "gen_token_latencies": [0.1] * 4}],
            r"0 of 10 \+ 3 tokens was simulated as 10 \+ 4 \(it counts a token",
        ),
        ([ROWS[0], {**ROWS[1], "input_length": 9}], r"request 0 of 10 \+ 3 tokens was simulated as 9 \+ 3"),
        ([ROWS[0], {**ROWS[1], "created_time": 0.1}], r"request 0, sent at 0.5 s, arrived at 0.6 s by its output"),
        ([ROWS[0], {**ROWS[1], "gen_token_latencies": [-0.1, 0.2, 0.3]}], r"request 0, sent at 0.5 s, .* with latencies from -0.1 s on"),
        ([ROWS[0], {**ROWS[1], "queue_end": float("nan")}], r"request 0 has queue_end=nan"),
        ([ROWS[0], {"id": 0}], r"its output in .* cannot be read: KeyError"),
    ],
)
def test_output_that_cannot_be_is_one_line(rows: list[dict[str, Any]], message: str, tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match=message) as error:
        records(written(tmp_path / "out", rows), TWO, 0.5, tmp_path / "out" / "log")
    assert "\n" not in str(error.value)
