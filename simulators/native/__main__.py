"""Our own simulator by itself, for planning: `./plumbline plan [predict | capacity | compare | recommend | day] KEY=VALUE ...`.

predict (the default): serve a trace on simulated engines and print its latencies
capacity: the highest rate at which a share of the requests (attainment) meets the limits slo.ttft, slo.tpot, slo.e2e; it simulates as
  long as it takes to know it to `precision`
compare: the same for every combination of the settings that are lists, and the Pareto front on a page (out=FOLDER)
recommend: the cheapest way to serve a rate within the limits: which GPUs, how many, with which settings; of those that are not named it
  tries what conf/recommend.yaml says
day: a day whose rate rises and falls (day.*), perhaps with a second class of requests (second.*), on replicas that a rule starts and stops
  (autoscale.*), beside as many as stand all day for the peak: GPU-hours, and how many requests are in time, hour by hour

  ./plumbline plan model=llama_3_1_8b hardware=h200 rate=8
  ./plumbline plan capacity model=llama_3_1_8b hardware=h200 slo.ttft=0.5 slo.tpot=0.03
  ./plumbline plan compare model=qwen3_32b hardware=h100 'tensor_parallel=[1,2,4]' 'limits.max_num_seqs=[64,256]' out=FOLDER
  ./plumbline plan recommend model=llama_3_1_70b 'hardware=[h100,h200,b200]' rate=20 slo.ttft=1 slo.tpot=0.05
  ./plumbline plan day model=llama_3_1_8b hardware=l40s rate=10 slo.ttft=0.5 slo.tpot=0.05 day.profile=office

Every setting, with its meaning, unit and default, is in conf/native.yaml. `python -m simulators.native` is the same.
"""

import gc
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from results.live import RUN_ID, live
from results.project.parallel import in_order
from results.record_table import RecordTable
from results.summary import tables
from simulators.errors import SimulatorError
from simulators.native.planning import settings
from simulators.native.planning.attainment import CONFIDENCE
from simulators.native.planning.compare import SHOWN, Candidate, candidate, front, none_will_do, ranked
from simulators.native.planning.judge import Judge
from simulators.native.planning.question import asked, offered, sought
from simulators.native.scheduling.policies import POLICIES
from workloads.trace import TraceError

MOST_TOKENS = 10_000_000  # token times that the printed latencies are made of; of a larger run only its run folder has them


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line says. Errors are one line on stderr, exit code 1."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & {*words}:
        print(help_text())
        return
    if not words:
        sys.exit(help_text())
    command = words.pop(0) if "=" not in words[0] else "predict"
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    try:
        if command not in COMMANDS:
            raise ValueError(f"{command!r} is no command; there are {', '.join(COMMANDS)}, and settings as KEY=VALUE")
        COMMANDS[command](words, console)
    except (SimulatorError, TraceError, ValueError, OSError) as error:
        sys.exit(f"plumbline: {' '.join(str(error).removeprefix('native: ').split())}")


def help_text() -> str:
    """What it does, and the choices that there are."""
    known = {group: settings.choices(group) for group in ("model", "hardware", "workload")} | {"policy": [*POLICIES]}
    return f"{__doc__}\n" + "\n".join(f"  {f'{name}=':<11}{', '.join(names)}" for name, names in known.items())


def predict(words: Sequence[str], console: Console) -> None:
    """Read, simulate, print; keep the run when `out` says where."""
    cfg = settings.settings(words)
    trace, deployment = settings.trace(cfg), settings.deployment(cfg)
    outcome = deployment.serve(trace, token_times=cfg.token_times)
    for line in (*outcome.lines(), offered(trace, outcome.served.end), *filter(None, [deployment.caveat()])):
        console.print(line)
    records = RecordTable.of(outcome.served.records)
    shown = records.token_times is not None and 0 < records.token_times.counts.sum() <= MOST_TOKENS
    requests = records.columns.append_column("num_token_times", records.num_token_times) if shown else records.columns
    with live(requests, tokens=pa.concat_tables(records.tokens()) if shown else None, slo=settings.slo(cfg)) as connection:
        for table in tables(connection, RUN_ID):
            console.print(table)
    if cfg.out:
        from simulators.native.planning import run_folder  # here: it imports what reads and writes Parquet, which takes long

        console.print(f"run folder: {run_folder.keep(cfg, trace, outcome, deployment.shared)}")


def capacity(words: Sequence[str], console: Console) -> None:
    """The highest rate within the SLO, and the latencies there."""
    cfg = settings.settings(words)
    judge = _judge(cfg)
    found = judge.capacity()
    console.print(asked(cfg, settings.slo(cfg)))
    if found is None:
        console.print(none_will_do(cfg.attainment))
        return
    console.print(
        f"{cfg.attainment:.0%} of the requests meet these limits up to {found.rate:.3g} requests/s on {judge.devices} device(s), "
        f"{CONFIDENCE:.0%} interval {found.low:.3g} to {found.high:.3g} ({found.simulations} simulations, the longest of "
        f"{found.requests:,} requests)"
    )
    if not found.settled:
        console.print(f"The interval is wider than precision={cfg.precision:g} asks; give more requests.")
    if caveat := judge.deployment.caveat():
        console.print(caveat)
    metrics = judge.metrics_of(judge.served(found.rate, found.requests))
    table = Table("at that rate (ms)", "mean", "p50", "p90", "p95", "p99")
    for metric in ("ttft", "tpot", "e2e"):
        table.add_row(metric, *(_milliseconds(metrics[metric, stat]) for stat in ("mean", "p50", "p90", "p95", "p99")))
    console.print(table)


def compare(words: Sequence[str], console: Console) -> None:
    """Every combination, a row each; the best first, the Pareto front marked."""
    swept = list(settings.swept(words))
    prepared = [_prepared(chosen, cfg) for chosen, cfg in swept]
    judged = in_order(lambda one: one if isinstance(one, Candidate) else candidate(*one), prepared, None, weight=lambda _: 1.0)
    found, cfg = [one for _, one in judged], swept[0][1]
    if all(one.devices is None for one in found) and len(reasons := {str(one.why_not) for one in found}) == 1:
        raise ValueError(reasons.pop())  # what is wrong is none of the settings that differ
    question = f"{asked(cfg, settings.slo(cfg), varied=swept[0][0])} {sought(cfg, swept[0][0])}"
    console.print(question)
    console.print(_compared(found))
    for caveat in sorted({c for one in prepared if isinstance(one, tuple) and (c := one[1].deployment.caveat())}):
        console.print(caveat)
    if cfg.out:
        from simulators.native.planning import compare_file  # here: it imports Plotly, which the other commands need not wait for

        console.print(f"page: {compare_file.write(found, question, Path(cfg.out))}")


def _judge(cfg: DictConfig) -> Judge:
    """What finds the rate. Raises ValueError for one that is given, and as settings.judge does."""
    if cfg.rate is not None:
        raise ValueError(f"rate={cfg.rate:g}: the rate is what is sought; leave it out (./plumbline plan rate=... tells latencies at one)")
    return settings.judge(cfg)


def _prepared(chosen: Mapping[str, str], cfg: DictConfig) -> tuple[str, Judge] | Candidate:
    """One combination of settings, ready to be judged, or why it cannot be had."""
    label = ", ".join(f"{key}={value}" for key, value in chosen.items()) or "as set"
    try:
        settings.check(cfg)
        return label, _judge(cfg)
    except (SimulatorError, ValueError) as error:
        if not chosen:
            raise
        return Candidate(label=label, devices=None, why_not=str(error).removeprefix("native: "))


def _compared(found: Sequence[Candidate]) -> Table:
    best = front(found)
    latencies = [f"{metric} {stat} (ms)" for metric, stat in SHOWN]
    table = Table("settings", "devices", "requests/s", "interval", "a device", *latencies, "front, or why not")
    for one in ranked(found):
        latencies = [_milliseconds((one.latencies or {}).get(key)) for key in SHOWN]
        known = one.capacity
        rates = (f"{known.rate:.3g}", f"{known.low:.3g} to {known.high:.3g}", f"{one.rate_per_device:.3g}") if known else ("-", "-", "-")
        table.add_row(one.label, str(one.devices or "-"), *rates, *latencies, "*" if one in best else (one.why_not or ""))
    return table


def recommend(words: Sequence[str], console: Console) -> None:
    """The cheapest way to serve a rate within the SLO."""
    from simulators.native.recommending import printed  # here: it imports joblib, which the other commands need not wait for
    from simulators.native.recommending.recommend import recommend as recommended
    from simulators.native.recommending.sureness import how_sure

    found = recommended(words)
    sure = None if found.choice is None else how_sure(found.choice, found.demand, found.seen)
    printed.show(found, sure, console)
    if out := found.assessed[0].way.cfg.out:
        from simulators.native.recommending import plan_file  # here: it imports Plotly

        console.print(f"page: {plan_file.write(found, sure, Path(out))}")


def day(words: Sequence[str], console: Console) -> None:
    """A day on a static fleet and on one that is scaled."""
    from simulators.native.autoscaling import printed  # here: it imports what the other commands need not wait for
    from simulators.native.autoscaling.day import plan_day

    cfg = settings.settings(words)
    found = plan_day(cfg)
    printed.show(found, console)
    if cfg.out:
        from simulators.native.autoscaling import day_file  # here: it imports Plotly

        console.print(f"page: {day_file.write(found, Path(cfg.out))}")


COMMANDS = {"predict": predict, "capacity": capacity, "compare": compare, "recommend": recommend, "day": day}


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1e3 * seconds:.4g}"


if __name__ == "__main__":
    gc.set_threshold(1_000_000)  # objects; by default all that is imported is gone through again and again: a seventh of a small simulation
    main()
