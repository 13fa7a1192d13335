"""A command line in, that command run inside a sandbox and its exit code out."""

import argparse
import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from polygon_async.sandbox import Sandbox
from polygon_async.sandbox.trouble import describe_kinds

USAGE_ERROR = 2
NOT_EXECUTABLE = 126
NOT_FOUND = 127
SIGNALLED = 128

_FOREIGN = (
    # Whatever would lead the command to another account or another store.
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "AWS_ENDPOINT_URL",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "MASSIVE_API_KEY",
)
_LOOPBACK = ("127.0.0.1", "localhost")


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m polygon_async.sandbox",
        usage="%(prog)s [options] -- COMMAND...",
        description="Run a command against a local Polygon and a local S3 store, without an account.",
        epilog="A SPEC is 'TICKER PAGE KIND[=ARG] [Nx]': * stands for all tickers or pages; without Nx it never ends.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--trouble",
        action="append",
        default=[],
        metavar="SPEC",
        help="trouble, such as 'MSFT 1 status=503 3x'; repeatable",
    )
    parser.add_argument("--page-size", type=int, metavar="N", help="most rows per page")
    parser.add_argument("--latency", type=float, default=0.0, metavar="S", help="seconds before each answer")
    parser.add_argument("--rate-limit", metavar="R", help="such as 5/min; more gets a 429")
    parser.add_argument("--history-from", metavar="DATE", help="first day of the plan")
    parser.add_argument("--list-troubles", action="store_true", help="list the kinds of trouble and exit")
    return parser


def environment(own: Mapping[str, str], box: Mapping[str, str]) -> dict[str, str]:
    """The command's variables: one's own, without what leads elsewhere, and the sandbox's."""
    kept = {name: value for name, value in own.items() if name not in _FOREIGN}
    for name in ("NO_PROXY", "no_proxy"):
        known = [host for host in kept.get(name, "").split(",") if host and host not in _LOOPBACK]
        kept[name] = ",".join([*known, *_LOOPBACK])
    return {**kept, **box}


def run(command: Sequence[str], variables: Mapping[str, str]) -> int:
    """Run the command to its end and return the exit code that a shell would give.

    Raises:
        OSError: it cannot be started.
    """
    waiting: list[int] = []
    child: subprocess.Popen[bytes] | None = None

    def forward(number: int, _frame: object) -> None:
        if child is None:
            waiting.append(number)
        else:
            child.send_signal(number)

    # Ctrl-C in a terminal reaches the child by itself: it decides, and we wait for it. A handler
    # (unlike SIG_IGN) is not inherited by the child.
    before = [
        (signal.SIGINT, signal.signal(signal.SIGINT, lambda _number, _frame: None)),
        (signal.SIGTERM, signal.signal(signal.SIGTERM, forward)),
    ]
    try:
        child = subprocess.Popen(command, env=dict(variables))
        for number in waiting:
            child.send_signal(number)
        code = _wait(child)
    finally:
        for number, handler in before:
            signal.signal(number, handler)
    return code if code >= 0 else SIGNALLED - code


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, run the command, return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    split = given.index("--") if "--" in given else len(given)
    command = given[split + 1 :]
    parser = _parser()
    options = parser.parse_args(given[:split])
    if options.list_troubles:
        sys.stdout.write(describe_kinds() + "\n")
        return 0
    if importlib.util.find_spec("moto") is None or importlib.util.find_spec("flask") is None:
        parser.error("it needs more packages; pip install 'polygon-async[sandbox]'")
    if not command:
        parser.error("no COMMAND: python -m polygon_async.sandbox [options] -- COMMAND...")
    if options.page_size is not None and options.page_size < 1:
        parser.error("--page-size must be at least 1")
    try:
        box = Sandbox(
            troubles=options.trouble,
            page_size=options.page_size,
            latency=options.latency,
            rate_limit=options.rate_limit,
            history_from=options.history_from,
            s3=True,
        )
    except ValueError as problem:
        parser.error(str(problem))
    if shutil.which(command[0]) is None:
        return _cannot_run(command, "not found")
    # What a command learns of this API is of no use beyond it.
    with box, tempfile.TemporaryDirectory() as cache:
        try:
            return run(command, environment(os.environ, box.environment | {"XDG_CACHE_HOME": cache}))
        except OSError as problem:
            return _cannot_run(command, str(problem.strerror))


def _wait(child: "subprocess.Popen[bytes]") -> int:
    """Wait for the child and let signal handlers run meanwhile.

    A signal that arrives just before an endless wait begins (or in another thread) would be
    handled only after it, when there is nobody left to pass it on to.
    """
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(timeout=1)


def _cannot_run(command: Sequence[str], reason: str) -> int:
    """Say so, and return the exit code that a shell would give."""
    sys.stderr.write(f"sandbox: cannot run {command[0]}: {reason}\n")
    return NOT_EXECUTABLE if Path(command[0]).exists() else NOT_FOUND


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        # Ctrl-C before the command has begun.
        sys.exit(SIGNALLED + signal.SIGINT)
