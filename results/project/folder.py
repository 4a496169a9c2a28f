"""Where this project lies: its folder, and the folder of its configuration."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
CONF = ROOT / "conf"
