"""The pieces of an HTML page.

Read first: `document.py` (values in, HTML out). `modelled.py` has what a simulator does not model.
Beside them: templates, styles and scripts; `study/` has those of the study page.
"""
