"""The environment in, the bucket's objects with their tags and the first lines of one of them out."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import botocore.session

LINES = 5


def _objects(client: Any, bucket: str) -> Iterator[tuple[str, int]]:
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for entry in page.get("Contents", []):
            yield entry["Key"], entry["Size"]


def _tags(client: Any, bucket: str, key: str) -> str:
    tags = client.get_object_tagging(Bucket=bucket, Key=key).get("TagSet", [])
    return " ".join(f"{tag['Key']}={tag['Value']}" for tag in tags)


def _first_lines(client: Any, bucket: str, key: str) -> str:
    """The first lines of a compressed object, as lzop unpacks them."""
    body = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    unpacked = subprocess.run(["lzop", "-dc"], input=body, stdout=subprocess.PIPE, check=True)  # noqa: S607
    return "\n".join(unpacked.stdout.decode().splitlines()[:LINES])


def main() -> None:
    """Print what is in the bucket."""
    bucket = os.environ["S3_BUCKET"]
    with contextlib.closing(botocore.session.get_session().create_client("s3")) as client:
        objects = list(_objects(client, bucket))
        sys.stdout.write(f"{len(objects)} object{'s' * (len(objects) != 1)} in {bucket}\n")
        for key, size in objects:
            sys.stdout.write(f"\n{key}  {size:,} bytes\n  {_tags(client, bucket, key)}\n")
        packed = [key for key, _ in objects if key.endswith(".lzo")]
        if packed:
            lines = _first_lines(client, bucket, packed[0])
            sys.stdout.write(f"\n{packed[0]} begins with\n{lines}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        # Whoever reads this has seen enough; nothing more is written at the end either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
