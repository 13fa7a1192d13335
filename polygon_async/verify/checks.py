"""What an object should be, and what it is, in; findings out. Pure."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from polygon_async.model.layout import CSV_SHA256, IDENTITY, METADATA, OBJECT_SUFFIX
from polygon_async.report.words import counted, moment
from polygon_async.verify.findings import Finding, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from polygon_async.bars.check import CsvCheck
    from polygon_async.store.objects import StoredObject
    from polygon_async.verify.findings import Expected

__all__ = ["finding", "of_content", "of_key", "of_object", "of_own_words"]

_AGAIN = "--repair uploads it again"
_FETCHED_AGAIN = "download it again: --universe verify.csv"


def finding(expected: Expected, kind: Kind, text: str) -> Finding:
    """One thing that is wrong, with its remedy."""
    if expected.recorded is None:
        remedy = _FETCHED_AGAIN
    elif kind is Kind.TAGS:
        remedy = "--repair restores them"
    elif kind is Kind.UNREADABLE:
        remedy = "check the policy and the store, then verify again"
    else:
        remedy = _AGAIN
    return Finding(kind=kind, ticker=expected.ticker.symbol, key=expected.key, text=text, remedy=remedy)


def of_key(key: str) -> Finding | None:
    """What is wrong with a key of another layout; None for a key that does not end as ours do."""
    if not key.endswith(OBJECT_SUFFIX):
        return None
    text, remedy = "its key does not have this tool's layout", "move it, or ignore it if another program wrote it"
    return Finding(kind=Kind.KEY, ticker="", key=key, text=text, remedy=remedy)


def of_object(expected: Expected, stored: StoredObject | None) -> list[Finding]:
    """What is wrong with an object, by what the ledger says of it."""
    told = partial(finding, expected)
    if stored is None:
        return [told(Kind.MISSING, "the object is missing")]
    found = []
    if expected.size is not None and stored.size != expected.size:
        found.append(told(Kind.SIZE, f"it has {counted(stored.size, 'byte')}, expected {expected.size:,}"))
    elif expected.checksum and stored.etag != expected.checksum:
        found.append(told(Kind.CHECKSUM, f"its ETag is {stored.etag}, expected {expected.checksum}"))
    if (text := _metadata(expected.metadata, stored.metadata)) is not None:
        found.append(told(Kind.METADATA, text))
    if (text := _differences(expected.tags, stored.tags or {})) is not None:
        found.append(told(Kind.TAGS, f"its tags are wrong: {text}" if stored.tags else "its tags are lost"))
    return found


def of_own_words(expected: Expected, stored: StoredObject) -> list[Finding]:
    """What is wrong with an object, by its own key and metadata."""
    told, found = partial(finding, expected), []
    missing = [name for name in METADATA if name not in expected.metadata]
    if missing:
        found.append(told(Kind.METADATA, f"its metadata has no usable {', '.join(missing)}"))
    elif (text := _contradiction(expected)) is not None:
        found.append(told(Kind.METADATA, text))
    tags = stored.tags or {}
    wanted = {**expected.tags, **{name: tags.get(name) or "…" for name in ("exchange", "currency")}}
    if not tags:
        found.append(told(Kind.TAGS, "its tags are lost"))
    elif (text := _differences(wanted, tags)) is not None:
        found.append(told(Kind.TAGS, f"its tags are wrong: {text}"))
    return found


def _contradiction(expected: Expected) -> str | None:
    """What cannot be true of complete metadata."""
    if expected.unit is None or expected.unit.start > expected.unit.end:
        return f"its range is impossible: {expected.metadata['from']} to {expected.metadata['to']}"
    bars, first, last = (int(expected.metadata[name]) for name in ("bars", "first", "last"))
    earliest, latest = expected.unit.bounds()
    if not earliest <= first <= last <= latest:
        return f"its first and last bar ({first}, {last}) are out of order or outside its range"
    if (bars == 1) != (first == last) or bars > (last - first) // 60_000 + 1:
        return f"its number of bars, {bars:,}, does not fit its first and last bar ({first}, {last})"
    return None


def _metadata(wanted: Mapping[str, str], found: Mapping[str, str]) -> str | None:
    text = _differences(wanted, {name: found[name] for name in wanted if name in found})
    if text is None:
        return None
    if not any(name in found for name in wanted):
        return "its metadata is lost"
    # It belongs to another unit, and a repair must not replace it.
    others = any(name in found and found[name] != wanted[name] for name in IDENTITY)
    return f"another download's object is there: {text}" if others else f"its metadata is wrong: {text}"


def _differences(wanted: Mapping[str, str], found: Mapping[str, str]) -> str | None:
    """What is missing or different; additional names are allowed, for the owner's own use."""
    told = [
        f"{name} is {repr(found[name]) if name in found else 'missing'}, expected {value!r}"
        if value != "…"
        else f"{name} is missing"
        for name, value in wanted.items()
        if found.get(name) != value
    ]
    return ", ".join(told) or None


def of_content(expected: Expected, csv: CsvCheck) -> list[Finding]:
    """What is wrong with the CSV inside an object."""
    return list(_of_content(expected, csv))


def _of_content(expected: Expected, csv: CsvCheck) -> Iterator[Finding]:
    told: Callable[[Kind, str], Finding] = partial(finding, expected)
    wanted = expected.metadata
    if csv.sha256 != wanted.get(CSV_SHA256, csv.sha256):
        yield told(Kind.SHA256, f"the CSV inside has the sha256 {csv.sha256}, expected {wanted[CSV_SHA256]}")
    if not csv.is_headed:
        yield told(Kind.HEADER, f"the CSV inside starts with {csv.header[:80]!r} instead of its header")
    if csv.broken is not None:
        yield told(Kind.ROWS, f"line {csv.broken:,} of the CSV inside is not a bar")
    if str(csv.bars) != wanted.get("bars", str(csv.bars)):
        yield told(Kind.BARS, f"it contains {counted(csv.bars, 'bar')}, expected {int(wanted['bars']):,}")
    ends = {"first": csv.first, "last": csv.last}
    for name, found in ends.items():
        if name in wanted and str(found) != wanted[name]:
            yield told(Kind.ENDS, f"its {name} bar is at {_moment(found)}, expected {_moment(wanted[name])}")
    if csv.disorder is not None:
        yield told(Kind.ORDER, f"line {csv.disorder:,} of the CSV inside is not later than the line before")
    if expected.unit is not None and csv.earliest is not None and csv.latest is not None:
        earliest, latest = expected.unit.bounds()
        if csv.earliest < earliest or csv.latest > latest:
            inside = f"{expected.unit.start} to {expected.unit.end}"
            found_range = f"{_moment(csv.earliest)} to {_moment(csv.latest)}"
            yield told(Kind.RANGE, f"its bars run from {found_range}, outside {inside}")


def _moment(ms: int | str | None) -> str:
    try:
        return "nothing" if ms is None else moment(int(ms))
    except (OverflowError, ValueError, OSError):
        return str(ms)
