"""What runs inside SGLang's environment. Read first: `driver.py` (its engine on the requests); `step_model.py` has the step times.

Both import nothing of this project: there this folder itself is on the path.
"""
