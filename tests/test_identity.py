"""Identities: what knows a cell, a task and a simulation's job does not change when a class moves, and does when a setting changes."""

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from harness import simulate
from harness.grid.plan import Group, tasks
from results.cells import cell_of, configuration_of, settings_of
from results.identity import class_name, digest, named
from results.project.folder import ROOT
from results.storage.store import read_meta, write_run
from tests.runs import make_run

KNOWN = json.loads(Path(__file__).with_name("identities.json").read_text())
QUICK = [["load.rho=0.6,1.1"], ["load.rho=0.6", "repeat=1"]]


def moved(settings: Any) -> Any:
    """The same settings with every class in another package."""
    if isinstance(settings, dict):
        return {key: f"elsewhere.{class_name(value)}" if key == "_target_" else moved(value) for key, value in settings.items()}
    return [moved(value) for value in settings] if isinstance(settings, list) else settings


def bench(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose(config_name="bench", overrides=list(overrides))


def settings(*overrides: str) -> Any:
    return OmegaConf.to_container(bench(*overrides), resolve=True)


def test_a_class_that_moves_keeps_the_identity_and_another_class_or_value_does_not() -> None:
    here = settings("engine=vllm_cpu", "model=tiny", "simulator=[native,vidur]")
    assert json.dumps(here) != json.dumps(moved(here))
    assert digest(here) == digest(moved(here))
    for change in ({"_target_": "harness.other.Other"}, {"max_num_seqs": 7}):
        other = copy.deepcopy(here)
        other["engine"] |= change
        assert digest(other) != digest(here)


def test_names_reach_into_nested_settings_and_leave_all_else() -> None:
    assert named({"_target_": "a.b.C", "laws": [{"_target_": "x.Y", "n": 1}], "_target": "a.b"}) == {
        "_target_": "C",
        "laws": [{"_target_": "Y", "n": 1}],
        "_target": "a.b",
    }


def stored(folder: Path, target: str) -> dict[str, Any]:
    """What the run.json of a run says whose engine's class lay there."""
    run = make_run()
    config = {**run.config, "engine": {**run.config["engine"], "_target_": target}}
    return read_meta(write_run(folder / target, dataclasses.replace(run, config=config), replace=True))


def test_measured_runs_are_repeats_whichever_file_their_engines_class_lay_in(tmp_path: Path) -> None:
    before, after = (stored(tmp_path, target) for target in ("harness.vllm.Vllm", "harness.engines.vllm.Vllm"))
    other = stored(tmp_path, "harness.engines.sglang.Sglang")
    assert settings_of(before) == settings_of(after)
    assert cell_of(before) == cell_of(after) != cell_of(other)
    assert configuration_of(before) == configuration_of(after) != configuration_of(other)


def test_a_run_of_before_engines_said_where_they_compute_is_a_repeat_of_one_of_today(tmp_path: Path) -> None:
    engine = {"_target_": "harness.engines.vllm_pd.VllmPd", "prefill": {"max_num_seqs": 8}}
    said = engine | {"computes_on": "gpu", "prefill": {"max_num_seqs": 8, "computes_on": "gpu"}}
    metas = []
    for number, told in enumerate((engine, said)):
        run = make_run(f"run-{number}")
        metas.append(read_meta(write_run(tmp_path, dataclasses.replace(run, config={**run.config, "engine": told}))))
    assert cell_of(metas[0]) == cell_of(metas[1])


def test_what_the_client_asks_for_tells_cells_apart_and_how_it_sends_does_not(tmp_path: Path) -> None:
    plain = {"protocol": {"_target_": "harness.replay.protocols.completions.Completions", "prompts": "ids"}, "adapters": None, "spin": 0.1}
    clients = [None, plain, plain | {"spin": 0.2}, plain | {"protocol": {"_target_": "x.Chat"}}, plain | {"adapters": {"sql": 0.5}}]
    metas = []
    for number, client in enumerate(clients):
        run = make_run(f"run-{number}")
        config = run.config if client is None else {**run.config, "client": client}
        metas.append(read_meta(write_run(tmp_path, dataclasses.replace(run, config=config))))
    before, same, sent_otherwise, chat, adapted = map(cell_of, metas)
    assert before == same == sent_otherwise and len({before, chat, adapted}) == 3
    assert len({configuration_of(meta) for meta in metas}) == 1


def test_a_simulations_job_is_known_by_its_settings_not_by_where_its_classes_lie() -> None:
    here = bench("simulator=[native,vidur]", "tracks=[calibrated]")
    elsewhere = OmegaConf.create(moved(OmegaConf.to_container(here, resolve=True)))
    assert isinstance(elsewhere, DictConfig)
    assert simulate.key(here) == simulate.key(elsewhere) != simulate.key(bench("simulator=[native]", "tracks=[calibrated]"))


@pytest.mark.parametrize("engine", ["vllm_cpu", "sglang_cpu"])
def test_the_tasks_of_a_study_keep_the_keys_that_they_were_measured_under(engine: str) -> None:
    """A finished study is not measured again. A deliberate change of conf/ changes these keys, and then CHANGELOG.md says so."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        group = Group(name="g", overrides=[f"engine={engine}"], cells=QUICK, profile=True)
        found = tasks([group], ["model=tiny", "hardware=cpu", "workload=azure_conv_like"], [])
    assert {step.name: step.key for step in found} == KNOWN[engine]
