"""Doctor: what this machine has for Plumbline, and what each missing thing costs.

Read first: `__main__.py`. `machine.py` looks at the machine, `project.py` at what belongs to the project, `index.py` asks for a package.
Standard library only, as far as it goes: it is wanted most where the core environment cannot be made.
"""
