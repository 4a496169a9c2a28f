"""What a command line needs beside Hydra: help that people read, paths as their caller means them, kinds of values, launchers of jobs.

Read first: `usage.py` (the help of a verb, and the choices that there are). `cli.py` beside this folder is the entry point that uses them.
"""
