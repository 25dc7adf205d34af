"""Every error that the package raises names the parameter, what was found and what to do."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import lightning_fw

PACKAGE = Path(lightning_fw.__file__).parent

# Where there is no parameter, or where the message is part of another.
OTHERWISE = {
    "Another rank is gone": "the parameter is another machine",
    "format {}": "page.py reads reports that the bench wrote; its caller names the file",
    "must be NAME=VALUE": "the command line puts the option in front",
    "finished runs of {}": "read_results puts the directory around it",
    "{} with other columns than {}": "both callers of read_points put the directory around it",
    "{} with a row that is no point, {}": "both callers of read_points put the directory around it",
    "the setting of {} must hold": "race.json's reader puts the file around it",
    "Muon came with torch 2.9": "a missing method of torch, not an extra",
    "{} Log it before the scheduler's turn": "the first sentence is the same as the warning's",
}


FINDING = re.compile(
    r"\b(got|has|must hold no|holds .* with another|only one of them has"
    r"|nothing was recorded|there is none)\b"
)


class Raised(NamedTuple):
    """An error that stands in the code; ``{}`` for what it fills in."""

    place: str
    error: str
    message: str


def raised() -> Iterator[Raised]:
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        constants = {
            target.id: text(node.value, {})
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for made in filter(None, map(made_exception, ast.walk(tree))):
            if made.args:
                place = f"{path.relative_to(PACKAGE)}:{made.lineno}"
                yield Raised(place, ast.unparse(made.func), text(made.args[0], constants))


def made_exception(node: ast.AST) -> ast.Call | None:
    """The exception that is raised here, or returned to whoever raises it, or told by argparse."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "arguments.error":
        return node
    found = node.exc if isinstance(node, ast.Raise) else None
    found = node.value if isinstance(node, ast.Return) else found
    is_made = isinstance(found, ast.Call) and ast.unparse(found.func).endswith(
        ("Error", "Exception")
    )
    return found if is_made else None


def text(node: ast.expr, constants: dict[str, str]) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(text(value, constants) for value in node.values)
    if isinstance(node, ast.FormattedValue):
        return "{}"
    if isinstance(node, ast.BinOp):
        return text(node.left, constants) + text(node.right, constants)
    if isinstance(node, ast.Name):
        return constants.get(node.id, "")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return text(node.func.value, constants)
    return ""


# argparse itself tells which option the first kind is of.
BY_ARGPARSE = ("argparse.ArgumentTypeError", "arguments.error")

ALL = list(raised())
WRONG_ARGUMENTS = [one for one in ALL if one.error in BY_ARGPARSE]
MISSING_EXTRAS = [one for one in ALL if one.error == "ModuleNotFoundError"]
MISTAKES = [
    one
    for one in ALL
    # An IndexError is how Python's own iteration ends.
    if one.error not in ("ModuleNotFoundError", "IndexError", *BY_ARGPARSE)
    and not any(one.message.startswith(beginning) for beginning in OTHERWISE)
]


def place(one):
    return one.place


def test_there_are_many():
    assert len(MISTAKES) > 100
    assert len(MISSING_EXTRAS) > 5


def test_no_exception_is_out_of_date():
    assert all(any(one.message.startswith(known) for one in ALL) for known in OTHERWISE)


@pytest.mark.parametrize("one", MISTAKES, ids=place)
def test_a_mistake_is_told_with_name_finding_and_way_out(one):
    assert "`" in one.message or "()" in one.message, one.message
    assert FINDING.search(one.message), one.message
    sentences = [part for part in one.message.replace(": ", ". ").split(". ") if part]
    assert len(sentences) >= 2, one.message
    assert one.message.rstrip()[-1] in ".})", one.message


@pytest.mark.parametrize("one", WRONG_ARGUMENTS, ids=place)
def test_a_wrong_argument_is_told_with_option_finding_and_way_out(one):
    way_out = re.search(r"\bmust\b.*\bgot\b|: (pass|leave out) |; run pip install", one.message)
    assert way_out or one.message == "--set {}", one.message
    if one.error == "arguments.error":
        assert "--" in one.message


@pytest.mark.parametrize("one", MISSING_EXTRAS, ids=place)
def test_a_missing_package_is_told_with_the_line_that_installs_it(one):
    assert "pip install" in one.message or "torch>=" in one.message
