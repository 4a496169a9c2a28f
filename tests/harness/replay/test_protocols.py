"""The client in each API against a real server of null tokens: what is asked, and what is read of an answer."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from harness.engine import EngineError, TextPrompts
from harness.replay.adapters import adapter_of
from harness.replay.client import Client, Replay
from harness.replay.protocols.chat import Chat
from harness.replay.protocols.completions import Completions
from harness.replay.protocols.responses import Responses
from harness.replay.protocols.wire_protocol import WireProtocol
from results.record import RequestRecord
from tests.harness.replay.test_client import CLIENT, OUTPUT, endpoint, only_error, trace_of
from tests.stand_ins import null_server
from tests.stand_ins.null_stream import OVERHEAD
from workloads.trace import Request

TEXT: dict[str, WireProtocol] = {"completions": Completions(prompts="text"), "chat": Chat(), "responses": Responses()}
WORDS = tuple(f"w{n}" for n in range(64))
INPUT = 40


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with null_server.running("--ttft", "0.02", "--itl", "0.01", "--models", "sql,chatty") as running:
        yield running.url


def replay(
    url: str, protocol: WireProtocol = TEXT["chat"], *, model: str = "none", overhead: int | None = None, number: int = 3, **more: Any
) -> Replay:
    """As many requests as `number`, by a client that speaks this protocol with these settings."""
    client: Client = dataclasses.replace(CLIENT, protocol=protocol, **more)
    api = protocol.path.removeprefix("/v1/").removesuffix("/completions")
    text = TextPrompts(words=WORDS, overhead=OVERHEAD[api] if overhead is None else overhead)
    trace = trace_of([0.01 * i for i in range(number)], inputs=INPUT)
    where = dataclasses.replace(endpoint(url, model), text_prompts=text if protocol.takes_text else None)
    return client.replay(where, trace, [[i % len(WORDS)] * INPUT for i in range(number)])


def times(record: RequestRecord) -> tuple[float, float, float]:
    """First token, first token of the answer, last token."""
    assert record.first_token is not None and record.first_output_token is not None and record.finished is not None
    return record.first_token, record.first_output_token, record.finished


@pytest.mark.parametrize("api", TEXT)
def test_a_text_prompt_is_counted_by_the_server_as_long_as_the_trace_asks(server: str, api: str) -> None:
    for record in replay(server, TEXT[api]).records:
        assert record.error is None
        assert (record.input_tokens, record.output_tokens) == (INPUT, OUTPUT)
        assert record.token_times is not None and len(record.token_times) == OUTPUT
        assert (record.token_times[0], record.token_times[-1]) == (record.first_token, record.finished)


@pytest.mark.parametrize("api", TEXT)
def test_a_prompt_that_is_counted_otherwise_is_an_error_of_its_record(server: str, api: str) -> None:
    off = INPUT + OVERHEAD[api] - 5
    assert only_error(replay(server, TEXT[api], overhead=5)) == f"input_tokens: the trace asks for {INPUT}, the server reports {off}"


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_reasoning_comes_before_the_answer_and_both_are_recorded(server: str, api: str) -> None:
    (record,) = replay(server, TEXT[api], model="reasoning", number=1).records
    first, answer, last = times(record)
    assert record.error is None and record.token_times is not None
    assert first == record.token_times[0] < record.token_times[OUTPUT // 2] == answer < last == record.token_times[-1]


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_without_reasoning_the_answer_begins_with_the_first_token_and_without_an_answer_never(server: str, api: str) -> None:
    for record in replay(server, TEXT[api]).records:
        assert record.first_output_token == record.first_token is not None
    for record in replay(server, TEXT[api], model="reasoning_only").records:
        assert (record.error, record.first_output_token) == (None, None)
        assert record.first_token is not None


def test_completions_do_not_tell_reasoning_and_answer_apart(server: str) -> None:
    assert {record.first_output_token for record in replay(server, TEXT["completions"]).records} == {None}


def test_vllm_s_name_for_reasoning_is_understood_too() -> None:
    event = {"choices": [{"index": 0, "delta": {"reasoning": "so"}}]}
    assert (Chat().said(event).reasoning, Chat().said(event).text) == (True, False)


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("error_in_200", "the server sent an error: the KV pool is too small"),
        ("http_500", 'HTTP 500: {"object":"error","message":"the engine is dead","code":500}'),
        ("cut_clean", "stream cut short after 8 content events of 16 tokens asked: no [DONE]"),
        ("wrong_output", "output_tokens: the trace asks for 16, the server reports 17"),
        ("short", "output_tokens: the trace asks for 16, the server reports 8"),
    ],
)
def test_faults_are_those_of_completions(server: str, api: str, model: str, error: str) -> None:
    assert only_error(replay(server, TEXT[api], model=model)) == error


@pytest.mark.parametrize(
    ("event", "error"),
    [
        ({"type": "response.failed", "response": {"error": {"code": "server_error", "message": "no luck"}}}, "no luck"),
        ({"type": "error", "message": "no luck"}, "no luck"),
    ],
)
def test_what_the_responses_api_says_of_a_failure(event: dict[str, Any], error: str) -> None:
    said = Responses().said(event)
    assert said.done and said.error["message"] == error


@pytest.mark.parametrize("api", TEXT)
def test_an_answer_that_may_end_sooner_gives_the_trace_its_length(server: str, api: str) -> None:
    result = replay(server, TEXT[api], model="short", ignore_eos=False)
    assert [record.error for record in result.records] == [None] * 3
    assert [request.output_tokens for request in result.trace] == [OUTPUT // 2] * 3
    assert only_error(replay(server, TEXT[api], model="wrong_output", ignore_eos=False)).startswith("output_tokens: the trace asks for 16")


def test_fields_and_headers_go_along_and_none_takes_a_field_out(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"response_format": {"type": "json_object"}, "temperature": None}
    said = only_error(replay(server, model="echo", extra_body=more))
    assert '"response_format":{"type":"json_object"}' in said and "temperature" not in said and '"ignore_eos":true' in said
    assert "ignore_eos" not in only_error(replay(server, model="echo", ignore_eos=False))
    monkeypatch.setenv("THE_ORG", "abc")
    assert replay(server, model="needs_header", headers={"X-Org": "$THE_ORG"}).records[0].error is None
    assert replay(server, model="needs_header", headers={"X-Org": "abc"}).records[0].error is None
    assert only_error(replay(server, model="needs_header")) == 'HTTP 401: {"error":"no organisation"}'
    monkeypatch.delenv("THE_ORG")
    with pytest.raises(EngineError, match=r"client\.headers\.X-Org: there is no environment variable THE_ORG; set it"):
        replay(server, headers={"X-Org": "$THE_ORG"})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"headers": {"X-Api-Key": "abc"}}, r"the value of X-Api-Key may be a secret.*X-Api-Key: \$VARIABLE"),
        ({"headers": {"Authorization": "Bearer abc"}}, "Authorization may be a secret"),
        ({"headers": {"X-Org": "a\r\nEvil: b"}}, "a text of one line"),
        ({"headers": {"X Org": "a"}}, "a name of letters"),
        ({"adapters": {"sql": 0.0}}, "the share of sql must be > 0 and at most 1, got 0.0"),
        ({"adapters": {"sql": 0.7, "chat": 0.7}}, "the shares are 1.4 together, and can be 1 at most"),
        ({"protocol": "chat"}, "write client/protocol=chat"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        dataclasses.replace(CLIENT, **settings)
    assert "\n" not in str(caught.value)


def test_kinds_of_prompts_that_completions_do_not_have() -> None:
    with pytest.raises(ValueError, match="prompts must be ids or text, got 'txt'"):
        Completions(prompts="txt")  # type: ignore[arg-type]


def test_adapters_are_asked_for_by_name_and_recorded(server: str) -> None:
    records = replay(server, adapters={"sql": 0.5, "chatty": 0.5}, number=40).records
    assert {record.adapter for record in records} == {"sql", "chatty"}
    assert [record.error for record in records] == [None] * 40
    gone = replay(server, adapters={"gone": 1.0}).records
    assert {(record.adapter, record.error) for record in gone} == {("gone", 'HTTP 404: {"error":"the model gone does not exist"}')}


def requests(number: int, sessions: int | None = None) -> list[Request]:
    def session(i: int) -> int | None:
        return None if sessions is None else i % sessions

    return [Request(request_id=i, arrival=0.0, input_tokens=1, output_tokens=1, session=session(i)) for i in range(number)]


def test_shares_of_adapters_are_those_asked_for_and_the_seed_s() -> None:
    shares = {"a": 0.2, "b": 0.3}
    wanted = {"a": 0.2, "b": 0.3, None: 0.5}
    drawn = [adapter_of(request, shares, 1) for request in requests(20_000)]
    for name, share in wanted.items():
        assert drawn.count(name) / 20_000 == pytest.approx(share, abs=0.0142)  # four standard deviations
    assert drawn == [adapter_of(request, shares, 1) for request in requests(20_000)]
    assert drawn != [adapter_of(request, shares, 2) for request in requests(20_000)]


def test_the_turns_of_a_session_ask_for_one_adapter() -> None:
    shares = {"a": 0.5, "b": 0.5}
    asked = {(request.session, adapter_of(request, shares, 0)) for request in requests(400, sessions=40)}
    assert len(asked) == 40 and {adapter for _, adapter in asked} == {"a", "b"}
