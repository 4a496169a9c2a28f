"""The measured operation times of aiconfigurator-core, a reader for each kind of operation. Read first: `files.py`, then `experts.py`."""
