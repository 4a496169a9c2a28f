"""Sends the requests of a trace to a server, each at its arrival, and turns what comes back into records.

Read first: `client.py` (a replay, before and after the event loop). `session.py` is one replay inside the loop, `deadlines.py` calls it at
each arrival, `connection.py` has the sockets. `sse.py` reads the streams, after the replay.
"""
