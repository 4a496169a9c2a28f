"""Simulators: foreign ones, unedited, driven from outside, and our own.

Read first: `system.py` (what a simulator is: requests and limits in, records out, and its declared coverage). Then
`external.py` (a foreign program: environment, files in, files out, wall-clock limit) and one file per simulator.
"""
