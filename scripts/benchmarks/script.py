"""Tickers and a range of days in, a CSV and a tagged S3 object for each out: one after another, the plain way."""

import argparse
import os
import subprocess
from pathlib import Path

import boto3  # type: ignore[import-untyped]
import pandas as pd
from massive import RESTClient

parser = argparse.ArgumentParser()
parser.add_argument("--tickers", nargs="+", required=True)
parser.add_argument("--from", dest="start", required=True)
parser.add_argument("--to", dest="end", required=True)
parser.add_argument("--output-dir", type=Path, required=True)
args = parser.parse_args()

args.output_dir.mkdir(parents=True, exist_ok=True)
client = RESTClient(api_key=os.environ["POLYGON_API_KEY"], base=os.environ["POLYGON_BASE_URL"])
s3 = boto3.client("s3")

for ticker in args.tickers:
    bars = list(client.list_aggs(ticker, 1, "minute", args.start, args.end, limit=50_000))
    name = ticker.replace(":", "-")
    path = args.output_dir / f"{name}_historical.csv"
    pd.DataFrame(bars).to_csv(path, index=False)
    subprocess.run(["lzop", "-f", str(path)], check=True)  # noqa: S607
    compressed = Path(f"{path}.lzo")
    s3.put_object(
        Bucket=os.environ["S3_BUCKET"],
        Key=f"script/{name}/{name}.csv.lzo",
        Body=compressed.read_bytes(),
        Tagging=f"symbol={ticker}&source=polygon&timeframe=1min&quality=raw",
    )
    compressed.unlink()
