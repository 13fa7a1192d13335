"""Runs the program as if it were another moment: `python another_day.py SECONDS ARGUMENTS`, SECONDS from now on.

Without a range, two weeks are asked for, and not two years.
"""

from __future__ import annotations

import datetime as dt
import sys
import time
from typing import Self

TWO_WEEKS = dt.timedelta(days=14)
_now = time.time


def main() -> int:
    """Shift the clocks, then run the program."""
    shift = float(sys.argv.pop(1))

    class Shifted(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Self:
            return cls.fromtimestamp(_now() + shift, tz)

    def two_weeks(today: dt.date) -> tuple[dt.date, dt.date]:
        return today - TWO_WEEKS, today - dt.timedelta(days=1)

    time.time = lambda: _now() + shift
    # Before others take what is in here.
    from polygon_async.model import units

    vars(units)["datetime"] = Shifted
    from polygon_async.run import pipeline, unit
    from polygon_async.settings import ranges

    for module in (pipeline, unit):
        vars(module)["datetime"] = Shifted
    vars(ranges)["default_range"] = two_weeks
    from polygon_async.cli.main import main as program

    return program()


if __name__ == "__main__":
    sys.exit(main())
