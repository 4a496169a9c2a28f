"""The command line of every verb: what is wrong with it is told in one line."""

import argparse
import sys
from typing import NoReturn


class ArgumentParser(argparse.ArgumentParser):
    """Ends with one line on stderr and exit code 1, as all that is asked wrongly does: 2 says that a measured run is INVALID."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong."""
        sys.exit(f"plumbline: {message}; {self.prog} --help tells more")
