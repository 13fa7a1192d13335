"""A function in; what it returns in each worker that is there, by the worker's name, out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Client

__all__ = ["asked"]


async def asked(client: Client, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """What each worker answers, or the error that it raises.

    A worker that dies meanwhile is left out: it is nobody's mistake, and what comes in its place is asked when it
    is first given work.
    """
    answers: dict[str, Any] = await client.run(function, *arguments, on_error="return")
    return {name: answer for name, answer in answers.items() if not isinstance(answer, OSError)}
