"""Finds out what an engine can do, by sending it requests: its capacity, and a profile of its step times.

Read first: `profiler.py` (a profile) and `capacity.py` (the rate that an engine sustains). `probes.py` has the probes of a profile, and
`probe_requests.py` sends what they ask for. What was seen becomes numbers in pure functions: `token_gaps.py` (step times from token
times), `samples.py` (the samples of a profile), `saturated_rate.py` (a rate).
"""
