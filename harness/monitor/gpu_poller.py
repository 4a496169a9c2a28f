"""Reads GPUs through NVML into a file, one JSON line a poll, until standard input closes.

Run as a script: `python gpu_poller.py INDICES INTERVAL FILE`, INDICES such as 0,1. Needs nvidia-ml-py and nothing else.
It keeps an absolute schedule and a low priority, as metrics_poller.py does. Readings that a GPU does not have are left out.
"""

import json
import os
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml

READINGS: dict[str, Callable[[Any], float]] = {
    "power_w": lambda gpu: pynvml.nvmlDeviceGetPowerUsage(gpu) / 1e3,
    "energy_j": lambda gpu: pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1e3,  # since the driver was loaded
    "sm_clock_mhz": lambda gpu: pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM),
    "memory_clock_mhz": lambda gpu: pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_MEM),
    "utilization": lambda gpu: pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100,  # share of the time with a kernel running
    "memory_used_gb": lambda gpu: pynvml.nvmlDeviceGetMemoryInfo(gpu).used / 1e9,
    "temperature_c": lambda gpu: pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU),
    "throttle_reasons": lambda gpu: pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu),  # NVML's bit mask; 0: none
}


def main(indices: list[int], interval: float, file: Path) -> None:
    """Read every GPU of `indices` each `interval` s until standard input closes."""
    os.nice(10)
    pynvml.nvmlInit()
    gpus = {index: pynvml.nvmlDeviceGetHandleByIndex(index) for index in indices}
    started, polls = time.monotonic(), 0
    with file.open("w") as out:
        while True:
            values = {f"gpu{place}_{name}": value for place, gpu in gpus.items() for name, value in read(gpu).items()}
            out.write(json.dumps({"time": time.monotonic(), "values": values}) + "\n")
            polls = max(polls + 1, int((time.monotonic() - started) / interval))
            wait = started + polls * interval - time.monotonic()
            if select.select([sys.stdin], [], [], max(0.0, wait))[0]:
                return


def read(gpu: Any) -> dict[str, float]:
    """The READINGS that this GPU has."""
    values = {}
    for name, reading in READINGS.items():
        try:
            values[name] = float(reading(gpu))
        except pynvml.NVMLError:
            continue
    return values


if __name__ == "__main__":
    main([int(index) for index in sys.argv[1].split(",")], float(sys.argv[2]), Path(sys.argv[3]))
