"""The pieces of an HTML page.

Read first: `document.py` (values in, HTML out). Beside it: templates, styles and scripts; `study/` has those of the study page.
"""
