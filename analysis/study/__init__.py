"""The report on a study: many measured runs, every simulator held against them. Start in report.py; page/study/ has the script."""
