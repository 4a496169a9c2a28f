"""One process: database, scores and page of the runs in a folder, once anew and once more when a run is new. Prints seconds and memory."""

import json
import resource
import sys
import time
from pathlib import Path

from analysis.report import Report
from results import database
from tests.perf.many_runs import write_measured_and_simulated


def brought_up_to_date(folder: Path) -> dict[str, float]:
    """Seconds of each stage on folder/runs, the database being in folder."""
    path = folder / "plumbline.duckdb"
    begin = time.perf_counter()
    database.build([folder / "runs"], path)
    built = time.perf_counter()
    Report(database=path, out=folder / "report.html").write("vllm-many-0")
    return {"database": built - begin, "scores and page": time.perf_counter() - built}


def main() -> None:
    """Arguments: the folder, and how many measured runs, simulated ones on each, requests of each, tokens of each request."""
    folder, (measured, simulated, requests, tokens) = Path(sys.argv[1]), map(int, sys.argv[2:])
    first = brought_up_to_date(folder)
    write_measured_and_simulated(folder / "runs", measured=1, simulated=0, requests=requests, tokens=tokens, first=measured)
    after = brought_up_to_date(folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    told = {"rows": measured * (1 + simulated) * requests * tokens, "first": first, "after": after, "peak_gb": peak}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
