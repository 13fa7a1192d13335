"""The house's rule: imports run downwards only, wing by wing."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import polygon_async

if TYPE_CHECKING:
    from collections.abc import Iterator

HOUSE = Path(polygon_async.__file__).parent
STEPS: tuple[frozenset[str], ...] = tuple(
    frozenset(step.split())
    for step in (
        "__main__",
        "cli",
        "verify api",
        "run",
        "archive",
        "report polygon",
        "store ledger settings bars",
        "model",
        "system",
        "errors _version",
    )
)
"""From the top down; a wing imports from the steps below its own, and from itself."""
SANDBOX = "sandbox"
EDGES = frozenset({"polygon", "store", "bars"})
"""They take plain values, so that a notebook or a cluster can use them, too."""


def test_imports_run_downwards_only() -> None:
    height = {wing: len(STEPS) - number for number, step in enumerate(STEPS) for wing in step}
    broken = [
        f"{path.relative_to(HOUSE)} imports polygon_async.{target or 'the package root'}"
        for path, wing in modules()
        for target in imports(path)
        if target is None or (target != wing and (SANDBOX in (wing, target) or height[target] >= height[wing]))
    ]

    assert not broken


def test_the_edges_see_no_settings() -> None:
    broken = [str(path.relative_to(HOUSE)) for path, wing in modules() if wing in EDGES and "settings" in imports(path)]

    assert not broken


def test_a_unit_is_fetched_from_any_source() -> None:
    assert "polygon" not in imports(HOUSE / "run" / "fetch.py")


def test_every_module_stands_in_a_wing() -> None:
    wings = {wing for _, wing in modules()}

    assert wings == {*(wing for step in STEPS for wing in step), SANDBOX}


def test_a_wings_own_init_is_its_description_only() -> None:
    """Else a process that reads pages, or `--help`, would load all of a wing for one module of it."""
    heavy = [
        str(path.relative_to(HOUSE))
        for path, wing in modules()
        if path.name == "__init__.py" and path.parent.parent == HOUSE and wing != SANDBOX
        if [type(node) for node in ast.parse(path.read_text()).body] != [ast.Expr]
    ]

    assert not heavy


def test_only_the_command_line_prints() -> None:
    printing = {
        wing
        for path, wing in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }

    assert printing <= {"__main__", "cli", SANDBOX}


def modules() -> Iterator[tuple[Path, str]]:
    """Every module but the package's own face, and the wing in which it stands."""
    for path in sorted(HOUSE.rglob("*.py")):
        place = path.relative_to(HOUSE).parts
        if place != ("__init__.py",):
            yield path, place[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str | None]:
    """The wings that a module imports from, wherever in it and for types only, too; None for the package root."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for parts in (name.split(".") for name in names):
            if parts[0] == "polygon_async":
                known = len(parts) > 1 and any(parts[1] in step for step in (*STEPS, {SANDBOX}))
                yield parts[1] if known else None
