"""Nothing in, an S3 store on a free local port with one user and a bucket out."""

import contextlib
import json
import logging
import os
import secrets
import urllib.request
from types import TracebackType
from typing import Any, Self

import botocore.session
from botocore.config import Config
from moto.server import ThreadedMotoServer

REGION = "us-east-1"
BUCKET = "mochi-tickdata-historical"

_LAX_REQUESTS = 1_000_000
_POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}],
}
# The developer's own profile, files and certificates have no say in the sandbox's own clients.
_OWN_SETTINGS = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
    "ca_bundle": (None, None, None, None),
}


class EmbeddedS3:
    """moto's server in a thread, with real signature checks.

    moto keeps its objects per process. Two stores of one process therefore share their bucket
    names: create one and hand it to many sandboxes.
    """

    def __init__(self, bucket: str = BUCKET) -> None:
        """Nothing is opened before start()."""
        self.bucket = bucket
        self.endpoint = ""
        self.access_key = ""
        self.secret_key = ""
        self._server: ThreadedMotoServer | None = None
        self._buckets: list[str] = []
        # One for all clients: it keeps the service descriptions, which take long to read.
        self._session = botocore.session.Session(session_vars=_OWN_SETTINGS)

    def __enter__(self) -> Self:
        """Start, as a context manager."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def start(self) -> None:
        """Open the port, create the user and the bucket, then check signatures."""
        logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.endpoint = f"http://{host}:{port}"
        self._check_signatures(after=_LAX_REQUESTS)
        self._create_user()
        self._check_signatures(after=0)
        self.create_bucket(self.bucket)

    def stop(self) -> None:
        """Throw away the buckets and close the port."""
        if self._server is None:
            return
        with self._client() as client:
            for bucket in self._buckets:
                _remove(client, bucket)
        self._buckets.clear()
        self._server.stop()
        self._server = None

    def client(self) -> Any:
        """A botocore client (boto3's own) of the one user who may do everything in S3."""
        return self._connect("s3", self.access_key, self.secret_key)

    def create_bucket(self, name: str | None = None) -> str:
        """Create a bucket (with a name of its own when none is given) and return its name."""
        bucket = name or f"sandbox-{secrets.token_hex(8)}"
        with self._client() as client:
            client.create_bucket(Bucket=bucket)
        self._buckets.append(bucket)
        return bucket

    def _connect(self, service: str, access_key: str, secret_key: str) -> Any:
        return self._session.create_client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            config=Config(proxies={}),
        )

    def _client(self) -> Any:
        return contextlib.closing(self.client())

    def _check_signatures(self, *, after: int) -> None:
        """Let so many requests pass unchecked from now on."""
        request = urllib.request.Request(  # noqa: S310 - our own loopback address
            f"{self.endpoint}/moto-api/reset-auth",
            data=str(after).encode(),
            headers={"Content-Type": "text/plain"},
            method="POST",
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10) as answer:
            answer.read()

    def _create_user(self) -> None:
        name = f"sandbox-{secrets.token_hex(8)}"
        with contextlib.closing(self._connect("iam", "anyone", "not checked yet")) as iam:
            iam.create_user(UserName=name)
            iam.put_user_policy(UserName=name, PolicyName="s3", PolicyDocument=json.dumps(_POLICY))
            key = iam.create_access_key(UserName=name)["AccessKey"]
        self.access_key, self.secret_key = key["AccessKeyId"], key["SecretAccessKey"]


def _remove(client: Any, bucket: str) -> None:
    """Delete a bucket and all that is in it, if it still is there."""
    with contextlib.suppress(client.exceptions.NoSuchBucket):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            if found := [{"Key": entry["Key"]} for entry in page.get("Contents", [])]:
                client.delete_objects(Bucket=bucket, Delete={"Objects": found, "Quiet": True})
        client.delete_bucket(Bucket=bucket)
