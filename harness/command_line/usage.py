"""`--help` of the commands that Hydra composes: what each does, how it is called, and the choices of its groups (conf/GROUP/*.yaml)."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from results.project.folder import CONF


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """A verb of ./plumbline. module: what `python -m` takes. does: what it does, for a person. examples: what follows the verb."""

    module: str
    does: str
    examples: Sequence[str]


VERBS = {
    "bench": Verb(
        module="harness",
        does="Measure an LLM serving engine, simulate the same requests, score every simulator, write a report.\n"
        "Exit code: 0, 1 when a simulator or a setting failed, 2 when the measured run is INVALID.",
        examples=(
            "                                         # vLLM, two simulators: a few minutes",
            "load.rho=0.8 load.duration=120           # more load, for longer",
            "engine=sglang_cpu workload=mooncake_like # another engine, another workload",
            "engine=recorded 'simulator=[native]'     # no engine: the newest run once more",
            "workload=csv workload.source.path=FILE   # your own trace",
        ),
    ),
    "search": Verb(
        module="harness.search",
        does="Find the highest rate, or concurrency, at which a share of the requests meets the SLO on a live engine.\n"
        "On a simulator alone it is ./plumbline plan capacity.\n"
        "Exit code: 0, 1 when something is wrong, 2 when three runs after each other are INVALID, 3 when the budget is spent\n"
        "before the interval is as narrow as asked, 4 when no load meets the SLO.",
        examples=(
            "slo.ttft=0.5 slo.tpot=0.03               # the highest rate",
            "slo.ttft=0.5 search.over=concurrency     # how many requests in flight",
            "slo.tpot=0.03 search.budget=300          # in five minutes",
        ),
    ),
    "study": Verb(
        module="harness.study",
        does="Measure a grid of cells one after another, run every simulator on each, score, write a report.\n"
        "It goes on where the last call stopped.\n"
        "Exit code: 0, 1 when something failed, 2 when a measured run is INVALID, 3 when tasks are left.",
        examples=(
            "study=quick                              # the smallest one",
            "study=quick show=true                    # what it would do",
            "study=fidelity_cpu 'do=[simulate,report]' # of what is measured already",
            "study=fidelity_cpu \"tasks=['vllm-*']\"    # a part of it",
        ),
    ),
    "campaign": Verb(
        module="harness.campaign",
        does="Measure many tasks on a machine that is had for minutes at a time, the most valuable first.\n"
        "It goes on where the last call stopped (docs/gpu.md).\n"
        "`./plumbline unpack FOLDER` takes the runs out of what it wrote.",
        examples=(
            "plan=true until=540                      # what nine minutes would bring",
            "campaign=h200 until=540 out=FOLDER",
        ),
    ),
    "simulate": Verb(
        module="harness.simulate",
        does="Simulate a stored run; no engine, no database, no report.\nWith -m: many of them, wherever the launcher puts them.",
        examples=(
            "engine=recorded engine.run=RUN_ID 'simulator=[native]'",
            "-m engine=recorded engine.run=A,B 'simulator=[vidur],[native]' hydra/launcher=joblib",
        ),
    ),
}


def wanted(arguments: Sequence[str]) -> bool:
    """Whether these ask for help."""
    return any(word in ("-h", "--help") for word in arguments)


def text(verb: str, root: str) -> str:
    """The help of a verb that composes conf/<root>.yaml."""
    told = VERBS[verb]
    lines = [
        f"usage: ./plumbline {verb} [KEY=VALUE ...]     (the same: python -m {told.module})",
        "",
        told.does,
        "",
        *(f"  ./plumbline {verb} {example}" for example in told.examples),
        "",
        "choices, GROUP=NAME (conf/GROUP/NAME.yaml has its settings with their units; * where none is named):",
    ]
    for group, usual, meaning in groups(root):
        names = ", ".join(f"{name}*" if name in usual else name for name in known(group))
        lines += _entry(group, f"{meaning}: {names}")
    lines += ["", f"settings, KEY=VALUE (conf/{root}.yaml; those of the choices too: ./plumbline {verb} --cfg job):"]
    for name, value, meaning in settings(root):
        lines += _entry(f"{name}={value}", meaning)
    lines += [
        "",
        "Relative paths mean the folder that you stand in; results go into the project's.",
        f"Hydra's own options: ./plumbline {verb} --hydra-help",
    ]
    return "\n".join(lines)


def known(group: str) -> list[str]:
    """The choices of a group: the names of conf/<group>/*.yaml."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def groups(root: str) -> Iterator[tuple[str, list[str], str]]:
    """The groups of conf/<root>.yaml: name, the choices that it takes by default, the meaning in its comment."""
    for line in _lines(root):
        if found := re.fullmatch(r"  - (\w+): \[?([\w, ]+?)\]?(?: # (.*))?", line):
            yield found[1], [name.strip() for name in found[2].split(",")], found[3] or "one of"


def settings(root: str) -> Iterator[tuple[str, str, str]]:
    """The settings that stand in conf/<root>.yaml itself and have a comment there: name, default, comment."""
    parent = ""
    for line in _lines(root):
        if found := re.fullmatch(r"(\w+):", line):
            parent = found[1]
        elif (found := re.fullmatch(r"(  )?(\w+): (\S.*?) # (.*)", line)) and (not found[1] or parent not in ("defaults", "hydra")):
            name = f"{parent}.{found[2]}" if found[1] else found[2]
            yield name, found[3], found[4]


def _lines(root: str) -> list[str]:
    return (CONF / f"{root}.yaml").read_text(encoding="utf-8", errors="replace").splitlines()


def _entry(name: str, words: str) -> list[str]:
    """A name with what is said of it beside it, at most 100 columns wide where words allow it."""
    head, indent = f"  {name:<24} ", " " * 27
    own_line = [head] if len(head) > len(indent) else []
    first = indent if own_line else head
    return own_line + textwrap.wrap(words, 100, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False)
