"""What runs inside SGLang's environment: `driver.py` (its engine on the requests), `step_model.py` (step times for its predictor).

Both import nothing of this project: there the folder itself is on the path.
"""
