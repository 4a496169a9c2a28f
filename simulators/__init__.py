"""Runs serving simulators on the requests of a measured run: foreign ones, unedited and driven from outside, and our own.

Read first: `simulator.py` (what a simulator is: requests and limits in, records out, and its declared coverage). `inputs.py` has what
adapters ask of a measured run, `errors.py` how a simulator says that it cannot.

`aisimulate/`, `blis/`, `distserve/`, `frontier/`, `llmservingsim/`, `sglang_simulator/`, `splitwise/` and `vidur/` are the foreign ones,
with an `adapter.py` each; `foreign/` has what they share. `native/` is our own. `calibration/` says where the step times of the calibrated
track come from, `conformance/` what any of them models, by small traces with known answers.
"""
