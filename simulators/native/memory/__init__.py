"""How a model's KV lies in the blocks of an engine's memory.

Read first: `layout.py` (which layers share a block, and its bytes), then `hybrid.py` (when vLLM keeps the window of a layer alone).
"""
