"""Polls a metrics URL into a file, one JSON line a poll, until standard input closes.

Run as a script: `python metrics_poller.py URL INTERVAL FILE`. It keeps an absolute schedule and a low priority, so that it
neither drifts nor takes a core from the run that it watches. Standard library only. A server that does not answer is skipped; the next
poll asks again.
"""

import http.client
import json
import os
import select
import sys
import time
import urllib.request
from pathlib import Path


def main(url: str, interval: float, file: Path) -> None:
    """Poll `url` every `interval` s until standard input closes."""
    os.nice(10)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    started, polls = time.monotonic(), 0
    with file.open("w") as out:
        while True:
            text = ask(opener, url, max(interval, 1.0))
            if text is not None:
                out.write(json.dumps({"time": time.monotonic(), "text": text}) + "\n")
            polls = max(polls + 1, int((time.monotonic() - started) / interval))
            wait = started + polls * interval - time.monotonic()
            if select.select([sys.stdin], [], [], max(0.0, wait))[0]:
                return


def ask(opener: urllib.request.OpenerDirector, url: str, timeout: float) -> str | None:
    """The answer's text, or None when the server gives none within `timeout` s."""
    try:
        with opener.open(url, timeout=timeout) as answer:
            return str(answer.read().decode(errors="replace"))
    except (OSError, http.client.HTTPException):
        return None


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]))
