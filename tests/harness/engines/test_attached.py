"""Attached servers: recognised by their own answers; what they do not say is listed; errors say what to do."""

import json
from pathlib import Path

import pytest

from harness.engine import Endpoint, EngineError
from harness.engines.attached import Attached
from harness.engines.server import free_port
from tests.harness.engines.test_limits import INFO, LIMITS, METRICS
from tests.stand_ins.small_server import Answers, small_server


def models(*names: str, owner: str = "somebody", **more: object) -> tuple[int, str]:
    return 200, json.dumps({"object": "list", "data": [{"id": name, "owned_by": owner} | more for name in names]})


VLLM: Answers = {
    "GET /v1/models": models("tiny", owner="vllm", max_model_len=4096),
    "GET /version": (200, '{"version": "0.32.0"}'),
    "GET /metrics": (200, METRICS),
}


def ask(engine: Attached, tmp_path: Path) -> Endpoint:
    with engine.serve(tmp_path, tmp_path / "server.log") as endpoint:
        return endpoint


def test_a_plain_openai_server_and_what_it_does_not_say(tmp_path: Path) -> None:
    with small_server({"GET /v1/models": models("gpt")}) as server:
        endpoint = ask(Attached(url=server.url), tmp_path)
    assert (endpoint.system, endpoint.served_model, endpoint.version) == ("openai", "gpt", None)
    told = " ".join(endpoint.unknown)
    for what in ("system", "version", "kv_tokens", "max_num_seqs", "max_num_batched_tokens", "chunked_prefill", "prefix cache"):
        assert what in told
    assert server.url in (tmp_path / "server.log").read_text()


def test_a_vllm_without_development_mode(tmp_path: Path) -> None:
    with small_server(VLLM) as server:
        engine = Attached(url=f"{server.url}/v1/")
        endpoint = ask(engine, tmp_path)
        assert engine.sample(METRICS) == {"num_requests_running": 0.0}
        engine.reset_cache(endpoint)  # it cannot, and need not
        with pytest.raises(EngineError, match=r"cannot be emptied .*HTTP 404.*VLLM_SERVER_DEV_MODE=1"):
            Attached(url=server.url, require_reset=True).reset_cache(endpoint)
    assert (endpoint.system, endpoint.version, endpoint.url) == ("vllm", "0.32.0", server.url)
    assert endpoint.limits.kv_tokens == 87360 and endpoint.limits.max_model_len == 4096
    assert endpoint.limits.max_num_seqs is None and any("max_num_seqs" in word for word in endpoint.unknown)


def test_a_vllm_with_development_mode_tells_all_and_resets(tmp_path: Path) -> None:
    more = {"GET /server_info?config_format=json": (200, json.dumps(INFO)), "POST /reset_prefix_cache": (200, "")}
    with small_server({**VLLM, **more}) as server:
        engine = Attached(url=server.url, require_reset=True)
        endpoint = ask(engine, tmp_path)
        engine.reset_cache(endpoint)
        assert ("POST /reset_prefix_cache", None) in server.asked
    assert (endpoint.limits, endpoint.unknown) == (LIMITS, ())


def test_an_sglang(tmp_path: Path) -> None:
    info = {"version": "0.5.23", "max_total_num_tokens": 65536, "page_size": 1, "chunked_prefill_size": 2048, "api_key": "secret"}
    answers = {
        "GET /v1/models": models("tiny", owner="sglang", max_model_len=4096),
        "GET /get_server_info": (200, json.dumps(info)),
        "POST /flush_cache": (200, "done"),
    }
    with small_server(answers) as server:
        engine = Attached(url=server.url, require_reset=True)
        endpoint = ask(engine, tmp_path)
        engine.reset_cache(endpoint)
    assert (endpoint.system, endpoint.version, endpoint.limits.kv_tokens, endpoint.limits.max_model_len) == (
        "sglang",
        "0.5.23",
        65536,
        4096,
    )
    assert any("max_num_seqs" in word for word in endpoint.unknown)
    assert "secret" not in json.dumps(endpoint.details)
    assert engine.sample('sglang:num_running_reqs{model_name="m"} 2.0\n') == {"num_running_reqs": 2.0}


def test_metrics_of_others_are_not_understood() -> None:
    assert Attached(url="http://localhost:1").sample("<html>no metrics</html>") == {}


def test_several_models_need_a_name(tmp_path: Path) -> None:
    with small_server({"GET /v1/models": models("a", "b")}) as server:
        with pytest.raises(EngineError, match=r"serves a, b, asked for None; name one of them with engine\.model="):
            ask(Attached(url=server.url), tmp_path)
        with pytest.raises(EngineError, match="asked for c"):
            ask(Attached(url=server.url, model="c"), tmp_path)
        assert ask(Attached(url=server.url, model="b"), tmp_path).served_model == "b"


def test_the_api_key_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_KEY", "abc")
    with small_server({"GET /v1/models": models("gpt")}) as server:
        ask(Attached(url=server.url, api_key_env="TOY_KEY"), tmp_path)
        assert {key for _, key in server.asked} == {"Bearer abc"}


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"GET /v1/models": (200, "<html>")}, "not in JSON"),
        ({"GET /v1/models": (401, "no")}, r"HTTP 401; check engine\.url and engine\.api_key_env"),
        ({"GET /v1/models": models()}, "serves no model"),
    ],
)
def test_answers_that_are_no_openai_server(tmp_path: Path, answers: Answers, words: str) -> None:
    with small_server(answers) as server, pytest.raises(EngineError, match=words) as caught:
        ask(Attached(url=server.url), tmp_path)
    assert "\n" not in str(caught.value)


def test_nobody_there(tmp_path: Path) -> None:
    engine = Attached(url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(EngineError, match=r"nobody answers at .*refused.*; start the server, or check engine\.url"):
        ask(engine, tmp_path)


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x", "http://", ""])
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(ValueError, match=r"url must look like http://host:port"):
        Attached(url=url)


def test_a_key_that_is_not_set() -> None:
    with pytest.raises(ValueError, match="NO_SUCH_KEY is not set"):
        Attached(url="http://localhost:1", api_key_env="NO_SUCH_KEY")
