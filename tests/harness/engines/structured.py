"""Structured output of a real engine: a schema whose answers always end, and what must hold of one that is measured."""

import dataclasses
import json
import urllib.request
from collections.abc import Mapping
from typing import Any

from harness.engine import Endpoint
from harness.replay.client import Client
from harness.replay.protocols.wire_protocol import WireProtocol
from tests.harness.replay.test_client import CLIENT, trace_of

LEVELS = ("low", "mid", "high")
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}, "level": {"enum": LEVELS}},
    "required": ["ok", "level"],
    "additionalProperties": False,
}
FORMAT = {"response_format": {"type": "json_schema", "json_schema": {"name": "report", "schema": SCHEMA}}}
MOST = 200  # tokens


def fits(text: str) -> bool:
    """Whether it is JSON, and of the schema."""
    said = json.loads(text)
    return set(said) == {"ok", "level"} and isinstance(said["ok"], bool) and said["level"] in LEVELS


def answer(endpoint: Endpoint, path: str, prompt: Mapping[str, Any]) -> str:
    """The text of an answer that must fit the schema."""
    body = {"model": endpoint.served_model, "max_tokens": MOST, "temperature": 0, **prompt, **FORMAT}
    request = urllib.request.Request(endpoint.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        choice = json.load(response)["choices"][0]
    return str(choice["message"]["content"] if "message" in choice else choice["text"])


def is_measured_whole(endpoint: Endpoint, protocol: WireProtocol) -> bool:
    """Whether answers that may end sooner have all of their times, and give the trace their lengths."""
    client: Client = dataclasses.replace(CLIENT, protocol=protocol, ignore_eos=False, extra_body=FORMAT)
    result = client.replay(endpoint, trace_of([0.0, 0.1], inputs=20, outputs=MOST), [list(range(300, 320)), list(range(400, 420))])
    for request, record in zip(result.trace, result.records, strict=True):
        assert record.error is None and record.output_tokens is not None and record.token_times is not None
        assert 5 < record.output_tokens == request.output_tokens == len(record.token_times) < MOST
        assert record.sent is not None and record.first_token is not None and record.finished is not None
        assert record.sent < record.first_token < record.finished == record.token_times[-1]
    return True
