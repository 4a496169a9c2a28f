"""What a database holds of each run folder, and when it must be made again.

Read first: `content.py`. Which folders there are and whether they changed is in `folders.py`, the values of metrics in `values.py`.
"""
