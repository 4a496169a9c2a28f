"""A campaign's plan: what its groups may say, and what the benches of an engine share."""

from collections.abc import Sequence
from typing import Any

import pytest
from hydra import initialize_config_dir

from harness.grid.plan import Group, Task, tasks
from results.project.folder import ROOT

RATE = ["load.rho=null", "load.rate=2"]


def planned(groups: Sequence[Group], **more: Any) -> list[Task]:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return tasks(groups, ["model=tiny"], [], **more)


def test_a_groups_engine_comes_before_its_own_words() -> None:
    groups = [Group(name="narrow", engine="cpu", overrides=["engine.max_num_seqs=7"], cells=[RATE])]
    (task,) = planned(groups, engines={"cpu": ["engine=vllm_cpu", "engine.max_num_seqs=5", "engine.block_size=64"]})
    assert (task.settings.engine.max_num_seqs, task.settings.engine.block_size) == (7, 64)


def test_groups_of_one_name_share_a_server_and_a_capacity() -> None:
    groups = [
        Group(name="a", cells=[["load.rho=0.6"]]),
        Group(name="b", overrides=["engine.max_num_seqs=7"], cells=[RATE]),
        Group(name="a", cells=[["load.rho=0.8"]]),
        Group(name="c", at="a", overrides=["engine.seed=1"], cells=[["load.rho=0.6"]]),
    ]
    found = planned(groups)
    names = ["a-azure_conv_like-capacity", "a-azure_conv_like-rho0.60-0", "b-azure_conv_like-rate2-0", "a-azure_conv_like-rho0.80-0"]
    assert [task.name for task in found] == [*names, "c-azure_conv_like-rho0.60-0"]
    assert len({task.engine for task in found if task.name.startswith("a-")}) == 1
    assert found[-1].needs == (found[0].key,)  # at one rate with a: a fraction of its capacity


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ({"name": "a", "engine": "vlm", "cells": [RATE]}, "group a: no engine is called 'vlm'; known: vllm"),
        ({"name": "a", "at": "b", "cells": [RATE]}, "group a: at=b names no group"),
        ({"name": "a", "operations": True}, "group a asks for operations, but `operations` does not say"),
        ({"name": "a"}, "group a has nothing to measure"),
        ({"name": "a b", "cells": [RATE]}, "a group needs a name"),
        ({"name": "a", "cells": [["load.rh=1"]]}, "group a: .*load.rh"),
    ],
)
def test_what_cannot_be_planned_is_said(group: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        planned([Group(**group)], engines={"vllm": ["engine=vllm"]})
