"""llama.cpp's server, attached: by the wire form of a stand-in, and (where PLUMBLINE_LLAMA_SERVER names one) by a real llama-server."""

import dataclasses
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.engine import Endpoint, EngineError
from harness.engines import server
from harness.engines.attached import Attached
from harness.probing.rehearsal import rehearse
from harness.replay.client import Client, Replay
from harness.replay.protocols.chat import Chat
from harness.replay.protocols.completions import Completions
from harness.replay.protocols.responses import Responses
from harness.replay.protocols.wire_protocol import WireProtocol
from results.record import EngineLimits
from tests.harness.engines import structured
from tests.harness.replay.test_client import CLIENT, trace_of
from tests.stand_ins.gguf_file import write_gguf
from tests.stand_ins.hf_folder import counts
from tests.stand_ins.llama_server import OVERHEAD, LlamaServer, llama_server
from workloads.release import ClosedLoop

BINARY = os.environ.get("PLUMBLINE_LLAMA_SERVER", "")
PROTOCOLS: dict[str, WireProtocol] = {"ids": Completions(), "text": Completions(prompts="text"), "chat": Chat(), "responses": Responses()}
INPUT, OUTPUT = 40, 16
REAL = pytest.mark.skipif(not BINARY, reason="PLUMBLINE_LLAMA_SERVER names no llama-server (docs/protocols.md says how to build one)")


def attached(url: str, folder: Path) -> Endpoint:
    with Attached(url=url).serve(folder, folder / "attached.log") as endpoint:
        return endpoint


def client_of(protocol: str = "ids", **settings: Any) -> Client:
    return dataclasses.replace(CLIENT, protocol=PROTOCOLS[protocol], request_timeout=30.0, **settings)


def replay(client: Client, endpoint: Endpoint, number: int = 8, *, at_once: int | None = None, start: int = 500) -> Replay:
    """So many requests, all prompts different from the first token on; at_once: in a closed loop."""
    trace = trace_of([0.02 * i if at_once is None else 0.0 for i in range(number)], inputs=INPUT, outputs=OUTPUT)
    prompts = [[start + 7 * i + j for j in range(INPUT)] for i in range(number)]
    return client.replay(endpoint, trace, prompts, release=None if at_once is None else ClosedLoop(concurrency=at_once).over(number))


def whole(result: Replay) -> bool:
    return all(
        (r.error, r.input_tokens, r.output_tokens) == (None, INPUT, OUTPUT) and r.sent is not None and r.first_token is not None
        for r in result.records
    )


@pytest.fixture
def stand_in() -> Iterator[LlamaServer]:
    with llama_server() as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "counting").parent


def test_it_is_recognised_by_its_own_answers(stand_in: LlamaServer, tmp_path: Path) -> None:
    endpoint = attached(stand_in.url, tmp_path)
    assert (endpoint.system, endpoint.served_model, endpoint.version) == ("llama_cpp", "counting", "b1-0c1e570")
    assert endpoint.limits == EngineLimits(max_num_seqs=2, max_model_len=4096)
    assert any("kv_tokens" in word for word in endpoint.unknown)
    assert not any("system" in word or "no known way" in word for word in endpoint.unknown)
    assert "eos_token" not in json.dumps(dict(endpoint.details))
    said = "llamacpp:requests_processing 2\n# TYPE llamacpp:requests_deferred gauge\nllamacpp:requests_deferred 1\n"
    assert Attached(url=stand_in.url).sample(said) == {"requests_processing": 2.0, "requests_deferred": 1.0}


def test_its_slots_are_emptied_where_it_may(tmp_path: Path) -> None:
    with llama_server() as running:
        endpoint = attached(running.url, tmp_path)
        replay(client_of(), endpoint)
        assert {record.cached_tokens for record in replay(client_of(), endpoint).records} == {INPUT - 1}
        Attached(url=running.url, require_reset=True).reset_cache(endpoint)
        assert {record.cached_tokens for record in replay(client_of(), endpoint).records} == {0}
    with llama_server(erases=False) as running:
        endpoint = attached(running.url, tmp_path)
        Attached(url=running.url).reset_cache(endpoint)
        with pytest.raises(EngineError, match=r"/slots/0: HTTP 501 .* llama-server --slot-save-path DIR") as caught:
            Attached(url=running.url, require_reset=True).reset_cache(endpoint)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_api_is_measured_whole(stand_in: LlamaServer, folder: Path, protocol: str) -> None:
    client = client_of(protocol)
    endpoint = rehearse(client, attached(stand_in.url, folder), folder=folder, first_id=2)
    assert (endpoint.text_prompts.overhead if endpoint.text_prompts else None) == {"ids": None, "text": 0}.get(protocol, OVERHEAD)
    result = replay(client, endpoint)
    assert whole(result)
    for record in result.records:
        if protocol == "responses":  # whose events never tell their tokens
            assert record.token_times is None
            continue
        times = record.token_times
        assert times is not None and len(times) == OUTPUT
        assert times[1] == times[2], "the two halves of a character come in one event"
        assert (times[0], times[-1]) == (record.first_token, record.finished)


def test_token_times_are_unknown_where_a_token_waited_and_no_event_tells_its_number(stand_in: LlamaServer, folder: Path) -> None:
    """Its last event, which brings no token, makes the number of events that of the tokens."""
    result = replay(client_of(count_tokens=False), attached(stand_in.url, folder))
    assert whole(result)
    assert {record.token_times for record in result.records} == {None}
    assert not any("timings_per_token" in asked for asked in stand_in.asked)


@pytest.mark.parametrize("protocol", ["ids", "chat"])
def test_tokens_that_no_event_shows_came_with_the_end(stand_in: LlamaServer, folder: Path, protocol: str) -> None:
    """The spaces after JSON, and the end of sequence: the usage counts them."""
    client = client_of(protocol, ignore_eos=False)
    result = replay(client, rehearse(client, attached(stand_in.url, folder), folder=folder, first_id=2))
    assert whole(result)
    for record in result.records:
        times = record.token_times
        assert times is not None and len(times) == OUTPUT
        assert times[-4] <= times[-3] == times[-1] == record.finished


@pytest.mark.parametrize("at_once", [None, 4])
def test_each_request_has_a_connection_of_its_own(folder: Path, at_once: int | None) -> None:
    """Two threads: idle connections, opened ahead or left behind, would hold them; and one that is used again is closed by the server."""
    with llama_server(threads=2) as running:
        assert whole(replay(client_of(), attached(running.url, folder), 24, at_once=at_once))
        assert [asked["connection"] for asked in running.asked] == ["close"] * 24


def test_a_server_that_answers_whatever_is_asked_for_has_no_adapters(stand_in: LlamaServer, folder: Path) -> None:
    client = client_of(adapters={"sql": 0.5})
    with pytest.raises(EngineError, match=r"client\.adapters: .* answers whatever model a request names \(sql-as-nobody-calls-it too\)"):
        rehearse(client, attached(stand_in.url, folder), folder=folder, first_id=2)


@contextmanager
def llama(folder: Path, *options: str) -> Iterator[str]:
    """A real llama-server on the model that counts; its URL."""
    port = server.free_port()
    url = f"http://{server.HOST}:{port}"
    words = [BINARY, "-m", str(folder / "model.gguf"), "--host", server.HOST, "--port", str(port), "-c", "8192", "-np", "4", "-t", "1"]
    with server.child(
        [*words, *options], name="llama", env=server.environ({}), log=folder / "log", ready_url=f"{url}/health", deadline=120
    ):
        yield url


@pytest.fixture(scope="module")
def real(folder: Path) -> Iterator[str]:
    with llama(folder, "--metrics", "--alias", "counting", "--cache-ram", "0", "--slot-save-path", f"{folder}/") as url:
        yield url


@REAL
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_real_server_is_measured_whole(real: str, folder: Path, protocol: str) -> None:
    client = client_of(protocol)
    endpoint = rehearse(client, attached(real, folder), folder=folder, first_id=2)
    assert (endpoint.system, endpoint.limits) == ("llama_cpp", EngineLimits(max_num_seqs=4, max_model_len=2048))
    assert counts(endpoint, folder, start=600)
    result = replay(client, endpoint)
    assert whole(result)
    for record in result.records:
        assert protocol == "responses" or (record.token_times is not None and len(record.token_times) == OUTPUT)


@REAL
def test_a_real_server_s_cache_is_emptied_and_closed_loops_lose_no_request(real: str, folder: Path) -> None:
    endpoint = attached(real, folder)
    engine = Attached(url=real, require_reset=True)
    engine.reset_cache(endpoint)
    cold = replay(client_of(), endpoint, 2)
    warm = replay(client_of(), endpoint, 2)
    engine.reset_cache(endpoint)
    assert [[r.cached_tokens for r in result.records] for result in (cold, warm, replay(client_of(), endpoint, 2))] == [
        [0, 0],
        [INPUT - 1] * 2,
        [0, 0],
    ]
    assert whole(replay(client_of(), endpoint, 60, at_once=4))
    assert "requests_processing" in engine.sample(server.fetch(f"{real}/metrics")[1])


@REAL
def test_a_real_server_tells_tokens_whose_characters_come_later(real: str, folder: Path) -> None:
    """Its answer counts on from 181, bytes that begin characters: the first three wait for the fourth, which shows them to be none."""
    trace = trace_of([0.0], inputs=3, outputs=OUTPUT)
    (record,) = client_of().replay(attached(real, folder), trace, [[178, 179, 180]]).records
    assert record.error is None and record.token_times is not None and len(record.token_times) == OUTPUT
    assert record.first_token == record.token_times[0] == record.token_times[3] < record.token_times[4]


@REAL
def test_a_real_server_s_structured_output_fits_its_schema_and_is_measured_whole(real: str, folder: Path) -> None:
    client = client_of("chat")
    endpoint = rehearse(client, attached(real, folder), folder=folder, first_id=2)
    prompt = {"messages": [{"role": "user", "content": "the value of"}]}
    assert structured.fits(structured.answer(endpoint, client.protocol.path, prompt))
    assert structured.is_measured_whole(endpoint, client.protocol)
