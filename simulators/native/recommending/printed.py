"""A recommendation as people read it in a terminal."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from simulators.native.planning import settings
from simulators.native.planning.question import asked
from simulators.native.recommending import engine_words
from simulators.native.recommending.assessing import Assessment
from simulators.native.recommending.recommend import MEASURES, Recommendation
from simulators.native.recommending.sureness import Sureness, seen_of

ROWS = 12  # of the table
CHANGES_ANSWERS = {"effects.weights", "effects.kv"}  # settings that change what the model says


def show(found: Recommendation, sure: Sureness | None, console: Console) -> None:
    """sure: of the choice, where there is one. The choice, the table, the command lines, and why the others cannot."""
    choice = found.choice
    console.print(question(found))
    console.print(headline(found))
    if choice is None:
        _reasons(found, console)
        return
    console.print(_table(found))
    console.print(str(sure))
    _reasons(found, console)
    for line in notes(found):
        console.print(line)
    for line in starts(choice, found):
        console.print(line, soft_wrap=True)


def question(found: Recommendation) -> str:
    """What was asked, beside the rate."""
    return asked(found.assessed[0].way.cfg, found.demand.slo, varied=found.told)


def headline(found: Recommendation) -> str:
    """What to take, in one sentence."""
    demand, choice = found.demand, found.choice
    asked = f"{demand.rate:g} requests/s with {demand.wanted:.0%} of them within the limits"
    if choice is None:
        return f"None of {len(found.assessed)} ways to serve meets {asked}."
    cost = f" for {choice.dollars:.2f} dollars an hour" if choice.dollars is not None else ""
    return (
        f"{asked}: {choice.devices} x {choice.hardware}{cost}, as {choice.replicas} replica(s) of {choice.devices_each} device(s) "
        f"({choice.way.label([name for name in found.told if name != 'hardware']) or 'as set'}); limited by {choice.limit}. "
        f"{len(found.served)} of {len(found.assessed)} ways meet it; this is the cheapest, in {found.measure}."
    )


def notes(found: Recommendation) -> list[str]:
    """What a reader must know beside the numbers."""
    said = []
    unpriced = sorted({a.hardware for a in found.served if a.price is None})
    if unpriced:
        said.append(f"No price is known of {', '.join(unpriced)} (price_per_hour in conf/hardware): there, devices are counted only.")
    choice = found.choice
    if choice is not None and any(choice.way.chosen.get(name, "null") != "null" for name in CHANGES_ANSWERS):
        said.append("Weights or KV in fewer bits change the model's answers, which nothing here looks at; effects.weights=null keeps them.")
    if choice is not None and (caveat := settings.deployment(choice.way.cfg).caveat()):
        said.append(caveat)
    said.append("Energy is not known: conf/hardware has no power. Replicas are taken to get their requests at random, and to be alike.")
    return said


def starts(one: Assessment, found: Recommendation) -> list[str]:
    """The command lines of one way, MODEL being its folder or its name on the hub."""
    deployment = settings.deployment(one.way.cfg)
    limits = deployment.limits(found.demand.trace())
    simulated = "SGLang" if deployment.native.policy == "sglang" else "vLLM"
    lines = []
    for name, words in (("vLLM", engine_words.vllm(deployment, limits)), ("SGLang", engine_words.sglang(deployment, limits))):
        other = "" if name == simulated else f" (its scheduler was not simulated, {simulated}'s was)"
        lines += [f"{name}{other}: {line}" for line in words or ["no words for these settings"]]
    return lines


def _table(found: Recommendation) -> Table:
    front = {a.way.number for a in found.front}
    heads = ("GPU", "settings", "replicas", *MEASURES, "good", "TTFT p99 (ms)", "TPOT p50 (ms)", "tokens/s a GPU", "a user", "limited by")
    table = Table(*heads, "error seen", "front")
    told = [name for name in found.told if name != "hardware"]
    cheapest = found.cheapest(found.measure)
    shown = cheapest[:ROWS] + [a for a in cheapest[ROWS:] if a.way.number in front]
    for a in shown:
        metrics = a.metrics or {}
        costs = [_number(cost(a)) for cost in MEASURES.values()]
        share = f"{a.attainment.share:.1%}" if a.attainment else "-"
        latencies = [_milliseconds(metrics.get(key)) for key in (("ttft", "p99"), ("tpot", "p50"))]
        rates = [_number(a.tokens_per_device), _number(a.tokens_per_user)]
        seen = seen_of(a, found.seen)
        held = "never held" if seen is None else f"{seen.mean:.0%} ({seen.measurements})"
        mark = "*" if a.way.number in front else ""
        table.add_row(a.hardware, a.way.label(told), str(a.replicas), *costs, share, *latencies, *rates, a.limit or "-", held, mark)
    if len(shown) < len(cheapest):
        table.caption = f"{len(cheapest) - len(shown)} dearer ways that are not on the front are left out"
    return table


def _reasons(found: Recommendation, console: Console) -> None:
    """Why others cannot: how many for which limit, and one of the messages."""
    lost = [a for a in found.assessed if a.why_not is not None]
    for limit, number in Counter(a.limit or "settings" for a in lost).most_common():
        console.print(f"{number} cannot, for {limit}: e.g. {_first(lost, limit, found.told)}")


def _first(lost: Sequence[Assessment], limit: str, told: Sequence[str]) -> str:
    one = next(a for a in lost if (a.limit or "settings") == limit)
    return f"{one.way.label(told)}: {one.why_not}"


def _number(value: float | None) -> str:
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.4g}"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1e3 * seconds:.4g}"
