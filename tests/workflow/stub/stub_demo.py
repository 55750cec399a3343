"""Cases that write themselves at once."""

from pathlib import Path

CASES = ("er_small",)


def simulate_case(case, out_tif, out_truth):
    Path(out_tif).write_text(f"{case}\nt=4\n")
    Path(out_truth).mkdir()
