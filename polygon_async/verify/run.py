"""A verification from its checks to its report: of a ledger's objects and local files, or a bucket's objects."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from polygon_async.errors import ConfigError, RunError, first_of
from polygon_async.ledger.inventory import recorded_units
from polygon_async.model.layout import VERIFY_CSV
from polygon_async.model.spelling import with_likely
from polygon_async.model.states import UploadState
from polygon_async.report.progress import showing
from polygon_async.report.words import counted, size
from polygon_async.run.directory import claim
from polygon_async.run.steps import own_bucket
from polygon_async.store.lzop import check_lzop, find_lzop
from polygon_async.system.files import check_replaceable, disk_errors
from polygon_async.system.machine import provide_files
from polygon_async.system.threads import Threads
from polygon_async.verify.expected import CLAIMED, as_recorded
from polygon_async.verify.findings import Kind
from polygon_async.verify.local import check_files
from polygon_async.verify.report import Verification
from polygon_async.verify.verifier import Count, Verifier

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from polygon_async.ledger.inventory import RecordedUnit
    from polygon_async.settings.settings import Settings
    from polygon_async.system.redaction import Redactor
    from polygon_async.verify.findings import Checked, CheckedFile, Expected

__all__ = ["Wanted", "verify"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a verification is asked to do."""

    settings: Settings
    deep: bool = False
    """Whether to check the objects' content, too."""
    prefix: str | None = None
    """Check every object whose key, below the prefix of all keys, starts with it, without a ledger; None: those of
    the ledger."""
    repair: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subjects:
    """Which of the ledger's objects to check, and which not."""

    expected: Sequence[Expected]
    elsewhere: int
    """Objects in other destinations."""
    pending: int
    """Uploads to here that are not confirmed."""
    abandoned: int = 0
    """How many of those no run will continue."""
    lost: frozenset[int] = field(default=frozenset())
    """Units whose object an earlier verification found lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Objects:
    """The objects that were checked."""

    where: str | None
    """None if there was nothing to ask a store for."""
    subjects: _Subjects
    checked: Sequence[Checked] = ()
    """As they are now."""
    before: Sequence[Checked] = ()
    """As they were found."""
    bytes_read: int = 0


async def verify(wanted: Wanted, *, redact: Redactor) -> Verification:
    """Check every object and local history; on request repair objects that are wrong, and check these again.

    Raises:
        RunError: the bucket, the ledger or the disk cannot be used.
    """
    listed = wanted.settings.output_dir / VERIFY_CSV
    with disk_errors(listed):
        check_replaceable(listed)
    try:
        with ExitStack() as held:
            if wanted.repair:
                # No download may change the ledger and the CSVs meanwhile.
                held.enter_context(claim(wanted.settings.output_dir, ()))
            return await _verify(wanted, redact)
    except* RunError as group:
        raise first_of(group) from None


async def _verify(wanted: Wanted, redact: Redactor) -> Verification:
    settings = wanted.settings
    began = asyncio.get_running_loop().time()
    async with Threads() as offload:
        units = None
        if wanted.prefix is None:
            units = _chosen(await offload(recorded_units, settings.output_dir), settings.tickers)
        if units is None or any(upload.state in CLAIMED for unit in units for upload in unit.uploads):
            objects = await _objects(wanted, units, redact, offload)
        else:
            uploads = [upload for unit in units for upload in unit.uploads]
            abandoned = sum(not upload.is_resumable for upload in uploads)
            subjects = _Subjects(expected=(), elsewhere=0, pending=len(uploads), abandoned=abandoned)
            objects = _Objects(where=None, subjects=subjects)
        files: list[CheckedFile] = []
        if units is not None:
            files = await check_files(settings.output_dir, settings.tickers, deep=wanted.deep, offload=offload)
    return Verification(
        checked=sorted(objects.checked, key=lambda each: each.key),
        before=sorted(objects.before, key=lambda each: each.key),
        files=files,
        where=objects.where,
        directory=settings.output_dir,
        deep=wanted.deep,
        repaired=wanted.repair,
        by_prefix=wanted.prefix is not None,
        elsewhere=objects.subjects.elsewhere,
        pending=objects.subjects.pending,
        abandoned=objects.subjects.abandoned,
        bytes_read=objects.bytes_read,
        seconds=asyncio.get_running_loop().time() - began,
    )


def _chosen(units: Sequence[RecordedUnit], tickers: Sequence[str] | None) -> Sequence[RecordedUnit]:
    """The units of these tickers; None: all.

    Raises:
        ConfigError: the ledger does not know one of the tickers.
    """
    if tickers is None:
        return units
    known = {unit.symbol for unit in units}
    if unknown := [ticker for ticker in tickers if ticker not in known]:
        raise ConfigError(f"--tickers: the ledger does not know {', '.join(map(with_likely, unknown))}")
    return [unit for unit in units if unit.symbol in set(tickers)]


async def _objects(
    wanted: Wanted, units: Sequence[RecordedUnit] | None, redact: Redactor, offload: Threads
) -> _Objects:
    """Check the objects of a ledger's units, or all in the bucket; repair them on request."""
    settings, count = wanted.settings, Count()
    lzop = find_lzop() if wanted.deep or wanted.repair else None
    # A connection, or those and the pipes of the lzop that reads what comes.
    provide_files(settings.concurrency, each=5 if lzop else 1)
    async with AsyncExitStack() as stack:
        if lzop is not None:
            await check_lzop(lzop, offload=offload)
        bucket = await stack.enter_async_context(own_bucket(settings, redact))
        await bucket.check()
        verifier = Verifier(
            bucket=bucket,
            offload=offload,
            lzop=lzop if wanted.deep else None,
            concurrency=settings.concurrency,
            patience=settings.patience,
            count=count,
        )
        await stack.enter_async_context(showing(lambda: _words(count)))
        subjects = _Subjects(expected=(), elsewhere=0, pending=0)
        if units is None:
            checked = await verifier.alone(bucket.key(wanted.prefix or ""))
        else:
            subjects = _subjects(units, bucket.destination)
            checked = await verifier.recorded(_each(subjects.expected))
        if any(finding.kind is Kind.MISSING for each in checked for finding in each.findings):
            await bucket.check()  # if the bucket itself has gone, that is the error
        first = checked
        if wanted.repair and lzop is not None:
            todo = [each for each in checked if each.findings or _was_lost(each, subjects)]
            if todo:
                from polygon_async.store.upload import Uploader
                from polygon_async.verify.repair import Repair

                uploader = Uploader(bucket, offload=offload)
                await Repair(settings=settings, uploader=uploader, lzop=lzop, offload=offload, redact=redact)(todo)
                checked = await _again(checked, todo, verifier, offload, settings)
    return _Objects(
        where=bucket.where(bucket.key(wanted.prefix or "")),
        checked=checked,
        before=first,
        subjects=subjects,
        bytes_read=count.bytes_read,
    )


def _subjects(units: Iterable[RecordedUnit], destination: str) -> _Subjects:
    expected, elsewhere, pending, abandoned, lost = [], 0, 0, 0, set()
    for unit in units:
        for upload in unit.uploads:
            if upload.destination != destination:
                elsewhere += upload.state in CLAIMED
            elif upload.state in CLAIMED and upload.key is not None:
                expected.append(as_recorded(unit, upload))
                lost |= {unit.id} if upload.state is UploadState.LOST else set()
            else:
                pending += 1
                abandoned += not upload.is_resumable
    return _Subjects(expected=expected, elsewhere=elsewhere, pending=pending, abandoned=abandoned, lost=frozenset(lost))


async def _again(
    checked: Sequence[Checked], repaired: Sequence[Checked], verifier: Verifier, offload: Threads, settings: Settings
) -> list[Checked]:
    """All objects, those that were repaired checked a second time; their keys may have changed."""
    ids = {each.expected.recorded.id for each in repaired if each.expected and each.expected.recorded}
    units = [unit for unit in await offload(recorded_units, settings.output_dir) if unit.id in ids]
    now = _subjects(units, verifier.bucket.destination)
    looked = await verifier.recorded(_each(now.expected))
    seen = {each.expected.recorded.id for each in looked if each.expected and each.expected.recorded}
    left = [
        each
        for each in checked
        if not (each.expected and each.expected.recorded) or each.expected.recorded.id not in seen
    ]
    return left + looked


def _was_lost(checked: Checked, subjects: _Subjects) -> bool:
    recorded = checked.expected.recorded if checked.expected else None
    return recorded is not None and recorded.id in subjects.lost


async def _each(expected: Iterable[Expected]) -> AsyncIterator[Expected]:
    for one in expected:
        yield one


def _words(count: Count) -> str:
    read = f", {size(count.bytes_read)} read" if count.bytes_read else ""
    return f"{counted(count.objects, 'object')} checked, {counted(count.findings, 'finding')}{read}"
