"""What is in a sandbox's bucket, read and written as a test needs it."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from polygon_async.model.units import CsvFile
from polygon_async.store.multipart import PartSizes
from polygon_async.store.objects import ObjectDescription

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from polygon_async.sandbox import Sandbox
    from polygon_async.store.bucket import Bucket

DAY = dt.date(2026, 3, 2)
RANGE = ("--from", f"{DAY}", "--to", f"{DAY}", "--rate", "unlimited")

DESCRIPTION = ObjectDescription(
    key="stocks/A/polygon/2026/01/31/12/A_polygon_202601311200.csv.lzo",
    tags={
        "asset_type": "stocks",
        "symbol": "A=+-_.:x",
        "source": "polygon",
        "exchange": "Börse + Markt / 1=@",
        "currency": "USD",
        "timeframe": "1min",
        "date": "2026-01-31",
        "quality": "raw",
    },
    metadata={"bars": "1", "from": "2026-01-01", "to": "2026-01-30", "adjusted": "true", "csv-sha256": "5ha"},
)
SECONDS = 30.0

MIB = 2**20
IN_PARTS = PartSizes(threshold=6 * MIB, least=5 * MIB)
"""The smallest parts that S3 takes."""
LZOP = shutil.which("lzop") or "lzop"


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as the store gives it."""

    key: str
    tags: dict[str, str]
    metadata: dict[str, str]
    body: bytes


def csv_file(path: Path) -> CsvFile:
    """What is known of a CSV, as far as compressing it needs that."""
    found = path.stat()
    return CsvFile(
        path=path,
        bars=1,
        first=0,
        last=0,
        duplicates=0,
        size=found.st_size,
        sha256="",
        modified=found.st_mtime_ns,
    )


def keys(box: Sandbox) -> list[str]:
    """The keys of all that is in the sandbox's bucket, in order."""
    with contextlib.closing(box.s3_client()) as s3:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=box.bucket)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


def stored(box: Sandbox) -> list[Stored]:
    """All that is in the sandbox's bucket, in the order of the keys."""
    found = []
    names = keys(box)
    with contextlib.closing(box.s3_client()) as s3:
        for key in names:
            answer = s3.get_object(Bucket=box.bucket, Key=key)
            tagging = s3.get_object_tagging(Bucket=box.bucket, Key=key)
            tags = {tag["Key"]: tag["Value"] for tag in tagging["TagSet"]}
            found.append(Stored(key, tags, answer["Metadata"], answer["Body"].read()))
    return found


def decompressed(item: Stored) -> bytes:
    """What lzop finds in an object."""
    return subprocess.run(["lzop", "-dc"], input=item.body, capture_output=True, check=True).stdout


def csvs(box: Sandbox) -> list[tuple[str, bytes]]:
    """The CSVs of all objects, by ticker; a ticker with two of them is there twice."""
    return sorted((item.tags["symbol"], decompressed(item)) for item in stored(box))


def put(box: Sandbox, items: Iterable[Stored]) -> None:
    """Put objects there, whatever there is."""
    with contextlib.closing(box.s3_client()) as s3:
        for item in items:
            tags = "&".join(f"{name}={value}" for name, value in item.tags.items())
            name = {"Bucket": box.bucket, "Key": item.key}
            s3.put_object(**name, Body=item.body, Metadata=item.metadata, Tagging=tags)


def at(item: Stored, moment: dt.datetime) -> Stored:
    """The same object as a run of another minute names it."""
    ticker = item.tags["symbol"].replace(":", "-")
    name = f"{ticker}_polygon_{moment:%Y%m%d%H%M}.csv.lzo"
    key = f"{item.tags['asset_type']}/{ticker}/polygon/{moment:%Y/%m/%d/%H}/{name}"
    return dataclasses.replace(item, key=key, tags=item.tags | {"date": f"{moment:%Y-%m-%d}"})


def minutes_from(moment: dt.datetime, count: int) -> list[dt.datetime]:
    """So many minutes, that of `moment` first."""
    start = moment.replace(second=0, microsecond=0)
    return [start + dt.timedelta(minutes=number) for number in range(count)]


async def open_uploads(bucket: Bucket) -> list[str]:
    """The keys of the uploads of parts that have not ended."""
    answer = await bucket.client.list_multipart_uploads(Bucket=bucket.name)
    return [upload["Key"] for upload in answer.get("Uploads", [])]
