"""What surrounds the code: the project's folder, the folder of whoever calls it, and files of configuration that cannot be read.

Read first: `folder.py`.
"""
