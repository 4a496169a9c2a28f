"""The front end as a queue: the API servers before an engine, whose one thread parses requests and streams every token of all others.

Read first: `station.py` (what each thing costs), then `api_servers.py` (the queue). `fast/station.py` is its compiled twin. `settings.py`
says which station stands before which engine.
"""
