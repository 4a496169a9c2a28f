"""LoopFront: what a request spends outside the engine until its first token, before API servers that also stream a loop's tokens."""

from dataclasses import dataclass

from simulators.native.frontend.station import Station

MOST_BUSY = 0.8  # of the time: beyond it tokens of several steps leave together, which costs less than one after another


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopFront:
    """A station, and what a closed loop asks of it. A station's costs are of its CPU; it serves what comes in turn."""

    station: Station
    prompt_tokens: float  # of a request, mean
    output_tokens: float  # of a request, mean
    in_flight: int  # requests, of all engines behind the station
    engines: int  # that each send a message a step
    stream_interval: int = 1  # tokens that leave together after a request's first

    def idle(self) -> float:
        """Seconds that a request alone spends outside the engine until its first token."""
        return self.station.idle(self.prompt_tokens)

    def busy(self, tpot: float) -> float:
        """Share of the time that a server is busy, at one step every `tpot` seconds; at most MOST_BUSY."""
        each, share = self.station, 1 / self.station.servers
        requests = self.in_flight / self.output_tokens * (each.request + each.prompt_token * self.prompt_tokens)
        step = self.engines * each.step + share * (self.in_flight * each.token / self.stream_interval + requests)
        return min(MOST_BUSY, step / tpot)

    def seconds(self, tpot: float, factor: float = 1.0) -> float:
        """Seconds that a request spends there, on a CPU that takes `factor` times as long.

        It shares the server with the streams of the others: work at rate 1 - busy (processor sharing, Kleinrock 1967).
        """
        return factor * self.idle() / (1 - min(MOST_BUSY, factor * self.busy(tpot)))
