"""A bucket's objects in, one DataFrame out: a loop with boto3, lzop and pandas, the plain way."""

import io
import os
import subprocess

import boto3  # type: ignore[import-untyped]
import pandas as pd

s3 = boto3.client("s3")
frames = []
for page in s3.get_paginator("list_objects_v2").paginate(Bucket=os.environ["S3_BUCKET"]):
    for entry in page.get("Contents", []):
        packed = s3.get_object(Bucket=os.environ["S3_BUCKET"], Key=entry["Key"])["Body"].read()
        with subprocess.Popen(["lzop", "-dc"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as lzop:  # noqa: S607
            text, _ = lzop.communicate(packed)
        frame = pd.read_csv(io.BytesIO(text), dtype={"transactions": "Int64", "otc": "boolean"})
        frame.insert(0, "ticker", entry["Key"].split("/")[1])
        frame.index = pd.to_datetime(frame.pop("timestamp"), unit="ms", utc=True).dt.tz_convert("America/New_York")
        frames.append(frame)
bars = pd.concat(frames)
print(len(bars), int(bars["close"].sum()))
