"""The one table of a run."""

import sys

HEADER = ("measured", "ESTA", "other", "ratio", "goal")


class Table:
    """Rows under section titles; a title says what its two columns of numbers are."""

    def __init__(self):
        self.rows = [HEADER]

    def section(self, title):
        self.rows.append((title,))

    def row(self, what, ours, theirs="", ratio="", goal=""):
        self.rows.append((what, ours, theirs, ratio, goal))
        print("bench:", what, ours, theirs, ratio, file=sys.stderr, flush=True)

    def __str__(self):
        cells = [row for row in self.rows if len(row) > 1]
        widths = [max(len(row[column]) for row in cells) for column in range(len(HEADER))]
        return "\n".join(f"\n{row[0]}" if len(row) == 1 else aligned(row, widths) for row in self.rows)


def aligned(row, widths):
    first, *rest = zip(row, widths)
    cells = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]
    return ("  " + "  ".join(cells)).rstrip()


def milliseconds(value):
    return f"{value:.3f} ms" if value < 10 else f"{value:.1f} ms"


def kibibytes(value):
    return f"{value / 1024:.1f} KiB"


def mebibytes(value):
    return f"{value / 2**20:.1f} MiB"


def per_second(tokens, ms):
    return f"{tokens * 1e3 / ms:.0f} tokens/s"
