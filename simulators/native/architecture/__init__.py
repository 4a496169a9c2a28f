"""What a model's config.json says about its sizes: parameters, FLOPs, bytes of weights, of KV and of state.

Read first: `decoder.py` (a decoder is its layers in order), then `attention.py` and `feed_forward.py` (what a layer is made of).
`reader.py` finds the family of a config.json. `dense.py`, `mixtures.py`, `latent.py` and `hybrid.py` read one family each, through
`fields.py`. `formats.py` has the formats of weights, `quantisation.py` which matrices a config.json says are in one.
"""
