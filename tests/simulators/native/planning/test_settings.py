"""The settings of conf/native.yaml: every one of them refuses what is not of its kind, in one line that names it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from results.project.folder import CONF
from simulators.native.__main__ import main
from simulators.native.planning import settings
from simulators.native.planning.schema import wrong

NEEDED = ("model=tiny", "hardware=cpu")
TEXTS = (
    "trace workload model hardware policy profile out speculation.method effects.weights effects.kv effects.attention arrangement.kind "
    "arrangement.router day.profile autoscale.rule"
)
FLAGS = "enable_expert_parallel token_times limits.prefix_caching effects.overlap second.by_priority"
WHOLE = (
    "requests seed tensor_parallel pipeline_parallel_size data_parallel_size max_model_len limits.kv_blocks limits.max_num_seqs "
    "limits.max_num_batched_tokens limits.in_flight effects.window effects.sinks effects.heavy_hitters arrangement.instances "
    "arrangement.prefill arrangement.seed speculation.num_speculative_tokens speculation.seed autoscale.min_replicas autoscale.max_replicas"
)
MAY_BE_ZERO = (
    "seed effects.sinks effects.fetched effects.weights_on_host effects.kv_on_host effects.recomputed arrangement.link_latency "
    "arrangement.seed speculation.num_speculative_tokens speculation.acceptance_rate speculation.draft_step speculation.seed "
    "second.share autoscale.tolerance autoscale.stabilisation autoscale.start_up"
)
MAY_BE_NULL = "slo.ttft slo.tpot"  # though their defaults are not
SHARES = "speculation.acceptance_rate effects.fetched effects.weights_on_host effects.kv_on_host effects.recomputed attainment second.share"


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


WHOLE_YAML: Any = OmegaConf.to_container(OmegaConf.load(CONF / "native.yaml"))
DEFAULTS = dict(leaves(WHOLE_YAML))
GROUPS = [name for name, value in WHOLE_YAML.items() if isinstance(value, dict)]


def bad_values(key: str) -> list[str]:
    """What this setting must refuse. A setting that no list above names is a number: a new one is held to that, or has to be listed."""
    bad = ["[1,2]", "[a]"]
    if key in TEXTS.split():
        bad += ["7", "true", "2.5"]
    elif key in FLAGS.split():
        bad += ["7", "abc", "0"]
    else:
        bad += ["abc", "true", "-1", ".nan", ".inf", "1970-01-01"]
        bad += ["1.5"] if key in WHOLE.split() else []
        bad += ["1.01"] if key in SHARES.split() else []
        bad += [] if key in MAY_BE_ZERO.split() else ["0"]
    return bad + ([] if DEFAULTS[key] is None or key in MAY_BE_NULL.split() else ["null"])


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line in which a command line ends."""
    with pytest.raises(SystemExit) as end:
        main(words)
    line = str(end.value.code)
    assert line.startswith("plumbline: ") and "\n" not in line
    assert capsys.readouterr().out == ""
    return line


@pytest.mark.parametrize("command", ["predict", "capacity", "compare"])
@pytest.mark.parametrize("key", DEFAULTS)
def test_each_setting_refuses_what_is_not_of_its_kind(key: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    needed = [word for word in NEEDED if not word.startswith(f"{key}=")]
    for value in bad_values(key):
        if command == "compare" and value.startswith("["):
            continue  # there a list is a sweep
        line = said([command, *needed, f"{key}={value}"], capsys)
        assert line.startswith(f"plumbline: {key} must be "), line
        assert ", got " in line


@pytest.mark.parametrize("key", DEFAULTS)
def test_a_setting_is_no_group(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = said([*NEEDED, f"{key}={{a: 1}}"], capsys)
    assert line.startswith(f"plumbline: {key} must be "), line


@pytest.mark.parametrize("value", ["5", "abc", "[1]", "null"])
@pytest.mark.parametrize("key", GROUPS)
def test_a_group_takes_no_value(key: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"{key} is a group of settings" in said([*NEEDED, f"{key}={value}"], capsys)


@pytest.mark.parametrize("key", DEFAULTS)
def test_each_setting_takes_its_default_and_a_setting_without_a_kind_is_refused(key: str) -> None:
    value = DEFAULTS[key]
    if value != "???":
        settings.settings([*NEEDED, f"{key}={OmegaConf.to_yaml({'v': value})[3:].strip()}"])
    assert wrong(WHOLE_YAML | {"new": 1}) is not None
    assert wrong({name: v for name, v in WHOLE_YAML.items() if name != key.partition(".")[0]}) is not None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rate=[1"], "rate: '[1' is no value"),
        (["rate=${nope}"], "Interpolation key 'nope' not found"),
        (["rate=???"], "these settings have no value: rate"),
        (["rate.x=5"], "no setting is called 'rate.x'"),
        (["=5"], "no setting is called ''"),
        (["foo"], "'foo' is no setting"),
    ],
)
def test_words_that_are_none(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in said(["predict", *NEEDED, *words], capsys)


def test_a_value_out_of_range_in_a_sweep_is_a_row_and_beside_it_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    main(["compare", *NEEDED, "workload=fixed", "limits.max_num_seqs=[0,-1]"])
    assert capsys.readouterr().out.count("limits.max_num_seqs must be a whole number >= 1") == 2
    assert "no value: model" in said(["compare", "hardware=cpu", "limits.max_num_seqs=[1,2]"], capsys)
    assert said(["compare", *NEEDED, "rate=abc", "limits.max_num_seqs=[1,2]"], capsys).startswith("plumbline: rate must be")
    assert "hardware=cpo: unknown" in said(["compare", NEEDED[0], "hardware=cpo", "limits.max_num_seqs=[1,2]"], capsys)


@pytest.mark.parametrize("command", ["capacity", "compare"])
def test_the_rate_that_is_sought_is_not_taken(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "rate=3: the rate is what is sought; leave it out" in said([command, *NEEDED, "rate=3"], capsys)


def test_a_prediction_without_a_rate_says_how_to_give_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert "give it a rate (requests/s): rate=... in a plan" in said(["predict", *NEEDED], capsys)


def test_a_relative_path_means_the_caller_s_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUMBLINE_CALLER", str(tmp_path))
    cfg = settings.settings([*NEEDED, "trace=a/b.csv", "out=/x", "profile=null"])
    assert (cfg.trace, cfg.out, cfg.profile) == (f"{tmp_path}/a/b.csv", "/x", None)


def test_help_is_printed_and_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    main(["capacity", "--help"])
    told = capsys.readouterr().out
    assert "conf/native.yaml" in told and "llama_3_1_8b" in told and "vllm_v1" in told
