"""The HTTP APIs that a client can speak, a small class each. `conf/client/protocol/*.yaml` name them.

Read first: `wire_protocol.py` (what such a class tells). `completions.py`, `chat.py` and `responses.py` are those of OpenAI; `choices.py`
is what the events of the first two have in common.
"""
