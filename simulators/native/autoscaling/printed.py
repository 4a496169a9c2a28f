"""A day as people read it in a terminal."""

from rich.console import Console
from rich.table import Table

from simulators.native.autoscaling.classes import NAMES
from simulators.native.autoscaling.day import HOURS, Day, FleetDay
from simulators.native.autoscaling.requests import LENGTHS
from simulators.native.planning import settings
from simulators.native.planning.question import asked

A_DAY = 86_400.0  # s


def show(day: Day, console: Console) -> None:
    """The answer in a sentence, both fleets beside each other, hour by hour, and what to know of it."""
    console.print(question(day))
    console.print(headline(day))
    console.print(_fleets(day))
    console.print(_hours(day))
    for line in notes(day):
        console.print(line)


def question(day: Day) -> str:
    """What was asked, beside the rate."""
    return asked(day.cfg, *(day.classes.slos[number] for number in day.classes.present))


def headline(day: Day) -> str:
    """What scaling saves, and what it costs those who are served."""
    static, scaled = day.gpu_hours(day.static), day.gpu_hours(day.scaled)
    missed = [f"{name} class, hour {hour}: {share:.0%}" for name, hour, share in below(day, day.scaled)]
    worst = f" In {len(missed)} hour(s) fewer than {day.cfg.attainment:.0%} are within the limits ({missed[0]})." if missed else ""
    change = f"{abs(1 - scaled / static):.0%} {'fewer' if scaled <= static else 'more'}"
    return (
        f"{day.rates.mean:.3g} requests/s in the mean and {day.rates.peak:.3g} at the peak: {scaled:.4g} GPU-hours a day, scaled by the "
        f"rule {day.cfg.autoscale.rule}, {change} than the {static:.4g} of {_replicas(day.static)} replica(s) of {day.devices_each} x "
        f"{day.cfg.hardware} that stand all day for the peak.{worst}"
    )


def below(day: Day, one: FleetDay) -> list[tuple[str, int, float]]:
    """(class, hour, share) of hours with too few good requests, the worst first."""
    found = [
        (NAMES[number], hour, share)
        for number in day.classes.present
        for hour, share in enumerate(one.by_hour(number))
        if share is not None and share < day.cfg.attainment
    ]
    return sorted(found, key=lambda row: row[2])


def notes(day: Day) -> list[str]:
    """What a reader must know beside the numbers."""
    sustained, scale = day.sustained, day.cfg.autoscale
    said = [
        f"A replica sustains {sustained.rate:.3g} requests/s, 95% interval {sustained.low:.3g} to {sustained.high:.3g}. "
        + ("Never held against a measurement like this." if day.seen is None else f"Such predictions were off by {day.seen}."),
    ]
    if day.target is not None:
        said.append(
            f"Rule in_flight: {day.target:.3g} requests in flight a replica, a look every {scale.interval:g} s, fewer replicas when for "
            f"{scale.stabilisation:g} s no more were wanted, {scale.start_up:g} s to start one."
        )
    else:
        said.append(f"Rule forecast: the day's rate is known beforehand; {scale.start_up:g} s to start a replica.")
    if day.rates.seconds != A_DAY:
        said.append(
            f"The day is over in {day.rates.seconds:,.0f} s: its rate rises and falls {A_DAY / day.rates.seconds:.3g} times as fast as in "
            "a real day, while starting a replica takes as long as ever, so scaling looks worse than it would."
        )
    if day.classes.share:
        order = "the first class goes first (--scheduling-policy priority)" if day.classes.by_priority else "both wait in one queue"
        said.append(f"{day.classes.share:.0%} of the requests are of the second class; {order}.")
    again = f", lengths of {LENGTHS:,} requests over and over" if len(day.requests.second) > LENGTHS and day.cfg.trace is None else ""
    said.append(
        f"{len(day.requests.second):,} requests of {day.requests.name} were simulated on both fleets, with Poisson arrivals"
        f"{again}. The router ({day.cfg.arrangement.router}) looks into no engine."
    )
    if caveat := settings.deployment(day.cfg).caveat():
        said.append(caveat)
    return said


def _fleets(day: Day) -> Table:
    heads = ("fleet", "replicas", "GPU-hours", "dollars a day")
    table = Table(*heads, *(head for n in day.classes.present for head in _heads(day, n)))
    for name, one in day.fleets.items():
        cells = [_replicas(one), f"{day.gpu_hours(one):.4g}"]
        cells.append("-" if day.price is None else f"{day.gpu_hours(one) * day.price:.2f}")
        for number in day.classes.present:
            shares = [share for share in one.by_hour(number) if share is not None]
            cells += [f"{one.share(number):.1%}", f"{min(shares):.1%}" if shares else "-"]
            cells += [_milliseconds(one.quantile(number, "ttft", 0.99)), _milliseconds(one.quantile(number, "tpot", 0.5))]
        table.add_row(name, *cells)
    return table


def _heads(day: Day, number: int) -> list[str]:
    whose = f"{NAMES[number]}: " if day.classes.share else ""
    return [f"{whose}good", "worst hour", "TTFT p99 (ms)", "TPOT p50 (ms)"]


def _hours(day: Day) -> Table:
    shares = [
        (f"{NAMES[n]} {name}" if day.classes.share else name, one.by_hour(n))
        for n in day.classes.present
        for name, one in day.fleets.items()
    ]
    table = Table("hour", "requests/s", *(f"{name} replicas" for name in day.fleets), *(f"good, {name}" for name, _ in shares))
    rates, replicas = day.rate_by_hour(), [one.replicas_by_hour() for one in day.fleets.values()]
    for hour in range(HOURS):
        good = ["-" if (share := by_hour[hour]) is None else f"{share:.1%}" for _, by_hour in shares]
        table.add_row(str(hour), f"{rates[hour]:.3g}", *(f"{mean[hour]:.3g}" for mean in replicas), *good)
    return table


def _replicas(one: FleetDay) -> str:
    means = one.replicas_by_hour()
    least, most = round(min(means), 1), round(max(means), 1)
    return f"{least:g}" if least == most else f"{least:g} to {most:g}"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1e3 * seconds:.4g}"
