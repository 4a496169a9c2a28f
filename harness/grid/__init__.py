"""The tasks of a study or a campaign: which there are, in which order they are done, where their results are kept.

Read first: `plan.py` (from groups of benches to tasks) and `runner.py` (measures them one after another). `task_order.py` chooses the next
task. `task_store.py` says what a store of results is and has a campaign's; `study_store.py` has a study's. `recorded_study.py` makes tasks
of recordings. `simulation_jobs.py` simulates a study's runs, `status.py` says how the study stands.
"""
