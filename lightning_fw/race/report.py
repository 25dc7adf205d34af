"""The command ``lightning-fw report``: races on one page that needs nothing but a browser."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, get_args

from lightning_fw.command_line.arguments import Parser, file_to_write
from lightning_fw.command_line.exit_status import CANNOT_START
from lightning_fw.command_line.json_result import add_json, console_beside, write_json
from lightning_fw.race.plot import BANDS
from lightning_fw.race.points import Point, Unit
from lightning_fw.race.results import Results, read_results, those_read
from lightning_fw.race.search_space import written
from lightning_fw.race.summary import Line, by_point, for_machines, runs_of, summarize

_UNITS: dict[Unit, str] = {"evaluations": "gradient evaluations", "seconds": "seconds of training"}
_HEADINGS = ("method", "setting", "reached", "evaluations", "seconds", "final", "worst")
# Okabe and Ito's: told apart by the colour-blind, too.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("solid", "dash", "dot")

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0; }
th, td { border-bottom: 1px solid #ddd; padding: 0.2rem 0.8rem; text-align: right; }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left; }
dl { display: grid; grid-template-columns: max-content auto; gap: 0 1rem; }
dd { margin: 0; }
"""


def report(races: Sequence[Results]) -> str:
    """The page: of each race its curves, its table and its settings.

    Raises:
        ModuleNotFoundError: If plotly is missing.
    """
    numbered = list(enumerate(races, 1))
    titles = [f'<li><a href="#race-{n}">{escape(race.title)}</a></li>' for n, race in numbered]
    sections = [_section(n, race) for n, race in numbered]
    return "\n".join(
        (
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            "<title>lightning_fw: races</title>",
            f"<style>{_STYLE}</style></head><body>",
            "<h1>Races</h1>",
            f"<ul>{''.join(titles)}</ul>",
            *sections,
            "</body></html>",
            "",
        )
    )


def _section(number: int, race: Results) -> str:
    lines = summarize(race.points, race.entrants, race.task)
    seeds = sorted({point.seed for point in race.points})
    told = {
        "target": f"{race.task.metric} {race.task.goal}",
        "seeds": ", ".join(map(str, seeds)),
        "batches of": str(race.task.batch_size),
        "directory": str(race.directory),
        **{
            name.replace("_", " "): str(value)
            for name, value in race.settings.items()
            if name not in ("task", "methods", "batch_size") and value not in (None, {}, 0)
        },
    }
    settings = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in told.items())
    return "\n".join(
        (
            f'<h2 id="race-{number}">{escape(race.title)}</h2>',
            _curves(race, with_library=number == 1),
            _table(race, lines),
            "<p>Medians over the seeds; – where the median run does not arrive.</p>",
            f"<details><summary>Settings</summary><dl>{settings}</dl></details>",
        )
    )


def _table(race: Results, lines: Sequence[Line]) -> str:
    entrants = {entrant.name: entrant for entrant in race.entrants}
    head = "".join(f"<th>{heading}</th>" for heading in _HEADINGS)
    rows = []
    for line in lines:
        entrant = entrants[line.method]
        cells = (
            entrant.method.title,
            f"{entrant.origin}: {written(entrant.setting)}" if entrant.setting else entrant.origin,
            *line.cells(),
        )
        rows.append("".join(f"<td>{escape(cell)}</td>" for cell in cells))
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _curves(race: Results, *, with_library: bool) -> str:
    try:
        from plotly.subplots import make_subplots
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "The report draws with plotly. Run pip install 'lightning-fw[report]'."
        ) from error
    figure = make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.04)
    for number, entrant in enumerate(race.entrants):
        runs = runs_of(race.points, entrant.name)
        line = {
            "color": _COLORS[number % len(_COLORS)],
            "dash": _DASHES[number // len(_COLORS) % len(_DASHES)],
        }
        for column, unit in enumerate(get_args(Unit), 1):
            shown = {"name": entrant.method.title, "legendgroup": entrant.name, "line": line}
            figure.add_trace(_median(runs, unit, shown, labelled=column == 1), row=1, col=column)
            if number == 0 or len(race.entrants) <= BANDS:
                figure.add_traces(_band(runs, unit, shown), rows=1, cols=column)
    figure.add_hline(race.task.target, line={"color": "gray", "dash": "dot", "width": 1})
    for column, unit in enumerate(get_args(Unit), 1):
        figure.update_xaxes(title_text=_UNITS[unit], rangemode="tozero", row=1, col=column)
    log = {"type": "log"} if race.task.spans_decades else {}
    figure.update_yaxes(title_text=race.task.metric, row=1, col=1)
    figure.update_yaxes(**log)
    figure.update_layout(
        template="plotly_white",
        height=480,
        margin={"t": 20, "b": 20},
        legend={"orientation": "h", "y": -0.2},
    )
    html: str = figure.to_html(full_html=False, include_plotlyjs=with_library)
    return html


def _median(
    runs: Sequence[Sequence[Point]], unit: Unit, shown: dict[str, Any], *, labelled: bool
) -> Any:
    from plotly.graph_objects import Scatter

    x, metrics = by_point(runs, unit)
    return Scatter(x=x, y=list(map(statistics.median, metrics)), showlegend=labelled, **shown)


def _band(runs: Sequence[Sequence[Point]], unit: Unit, shown: dict[str, Any]) -> list[Any]:
    """From the best to the worst of the seeds."""
    from plotly.colors import hex_to_rgb
    from plotly.graph_objects import Scatter

    x, metrics = by_point(runs, unit)
    rim = {
        "mode": "lines",
        "line": {"width": 0},
        "hoverinfo": "skip",
        "showlegend": False,
        "legendgroup": shown["legendgroup"],
    }
    color = "rgba({},{},{},0.15)".format(*hex_to_rgb(shown["line"]["color"]))
    return [
        Scatter(x=x, y=list(map(min, metrics)), **rim),
        Scatter(x=x, y=list(map(max, metrics)), fill="tonexty", fillcolor=color, **rim),
    ]


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    arguments = Parser(
        prog="lightning-fw report",
        description="Write the curves, tables and settings of races on one self-contained page.",
        epilog="example: lightning-fw report runs/adding runs/digits --out report.html",
    )
    arguments.add_argument(
        "run", nargs="+", type=Path, help="what --out of a race wrote, before --json", metavar="RUN"
    )
    arguments.add_argument(
        "--out", type=file_to_write, default="report.html", help="(default: report.html)"
    )
    add_json(arguments)
    return arguments


def main(argv: Sequence[str]) -> int:
    """Run the command.

    Args:
        argv: Arguments after ``report``.

    Returns:
        0; 1 where a directory is left out that holds no race; 2 where all are or plotly is missing.
    """
    arguments = parser()
    options = arguments.parse_args(argv)
    if options.json and Path(options.json).resolve() == options.out.resolve():
        arguments.error(f"--json must be another file than --out, got {options.json} for both")
    try:
        races, status = those_read(options.run, read_results, "report")
        page = report(races)
    except (ValueError, ModuleNotFoundError) as error:
        print(f"lightning-fw report: {error}", file=sys.stderr)
        return CANNOT_START
    options.out.write_text(page, encoding="utf-8")
    console = console_beside(options.json)
    console.print(f"Wrote {options.out}", soft_wrap=True, highlight=False, markup=False)
    write_json(options.json, [_for_machines(race) for race in races])
    return status


def _for_machines(race: Results) -> dict[str, Any]:
    lines = summarize(race.points, race.entrants, race.task)
    told = {name: race.settings.get(name) for name in ("cell", "budget", "every")}
    return for_machines(lines, race.entrants, race.task, directory=str(race.directory), **told)
