"""How the tests are divided among processes (`make test`): what must stay together, and what begins first."""

from typing import Any

from xdist.scheduler.loadscope import LoadScopeScheduling

# Files whose tests share nothing: several processes may divide them. All other files go to one process, as their tests share servers.
SPREAD = frozenset(f"tests/{name}" for name in ("test_bench.py", "test_campaign.py", "test_study.py", "harness/engines/test_server.py"))
# Tests that serve on real engines: one process takes them all, so that one engine at a time has two cores. Three at once starve each other.
REAL_ENGINES = (
    "tests/test_campaign.py::test_the_whole_campaign_rehearsed_on_real_engines",
    "tests/test_end_to_end.py",
    "tests/harness/engines/test_sglang.py",
    "tests/harness/probing/test_measure_vllm.py",
    "tests/harness/engines/test_vllm.py",
    "tests/harness/engines/test_vllm_pd.py",
    "tests/simulators/native/test_against_server.py",
)
# What takes longest begins first, so that no process is left alone with it at the end.
LONGEST = (
    *REAL_ENGINES,
    "tests/test_campaign.py",
    "tests/test_study.py",
    "tests/harness/probing/test_profiler.py",
    "tests/simulators/native/scheduling",
    "tests/test_bench.py",
)


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """A unit of work is a file, or a test of a file in SPREAD, or all of REAL_ENGINES."""

    def __init__(self, config: Any, log: Any) -> None:
        config.option.loadscopereorder = False  # the order in which they were collected is the order of their time
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(REAL_ENGINES):
            return "real engines"
        file = nodeid.partition("::")[0]
        return nodeid if file in SPREAD else file


def turn(nodeid: str) -> int:
    """The place of a test in the order of time, to sort by."""
    return next((place for place, name in enumerate(LONGEST) if nodeid.startswith(name)), len(LONGEST))
