"""The command ``lightning-fw``."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, get_args

from lightning_fw.arguments import one_of
from lightning_fw.checks import require_choice

_LIGHTNING_COMMANDS = ("fit", "validate", "test")
_COMMANDS = ("race", "bench", "report", "tasks", "completion", *_LIGHTNING_COMMANDS)
_EXAMPLES = {
    "fit": "--model FrankWolfeClassifier --data SequentialDigits",
    "validate": "--config config.yaml --ckpt_path model.ckpt",
    "test": "--config config.yaml --ckpt_path model.ckpt",
}
_DEFAULTS = {
    "model": "lightning_fw.nn.FrankWolfeRegressor",
    "data": "lightning_fw.data.AddingProblem",
}
_CANNOT_START = 2
# As a shell tells of SIGINT and SIGPIPE.
_INTERRUPTED = 130
_PIPE_CLOSED = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Args:
        argv: Arguments; those of the process by default.

    Returns:
        The exit status.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _write_what_the_terminal_can()
    command = _parser().parse_args(arguments[:1]).command
    try:
        return _run(command, arguments[1:], None if argv is None else arguments)
    except BrokenPipeError:
        # Whoever read has read enough, as `head` does; the interpreter must not write again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return _INTERRUPTED


def _write_what_the_terminal_can() -> None:
    """A "?" for what its encoding lacks, such as ≤ in cp1252, in place of an error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _run(command: str, rest: list[str], arguments: list[str] | None) -> int:
    if command == "race":
        from lightning_fw.race.command import main as race

        return race(rest)
    if command == "bench":
        from lightning_fw.bench.command import main as bench

        return bench(rest)
    if command == "report":
        from lightning_fw.race.report import main as report

        return report(rest)
    if command == "tasks":
        from lightning_fw.catalogue import main as tasks

        return tasks(rest)
    if command == "completion":
        from lightning_fw.completion import main as completion

        return completion(rest)
    if find_spec("jsonargparse") is None:
        print(
            f"lightning-fw {command} needs jsonargparse. Run pip install 'lightning-fw[cli]'.",
            file=sys.stderr,
        )
        return _CANNOT_START
    # LightningCLI reads the process's arguments itself, and warns when it gets them, too.
    lightning_cli(arguments)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lightning-fw",
        description="Train recurrent networks by Frank-Wolfe.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=(
            "race       Frank-Wolfe against back-propagation at equal gradient evaluations\n"
            "bench      an inner step beside an optimizer's step; --comm: messages between ranks\n"
            "report     races as one page for a browser\n"
            "tasks      what there is to race: tasks, cells, methods, presets, balls\n"
            "completion what a shell completes\n"
            "fit, validate, test\n"
            "           LightningCLI on the networks and data of lightning_fw; a network's\n"
            "           input_size, output_size and per_step are always those of the data\n\n"
            "lightning-fw COMMAND --help tells the options of a command.\n\n"
            "example: lightning-fw race --task digits --out runs/digits"
        ),
    )
    parser.add_argument("command", type=one_of(_COMMANDS), metavar="command")
    parser.add_argument("--version", action="version", version=f"lightning-fw {_version()}")
    return parser


def _version() -> str:
    try:
        return version("lightning-fw")
    except PackageNotFoundError:
        return "(not installed)"


def lightning_cli(arguments: list[str] | None) -> None:
    """Run LightningCLI on these arguments; None: those of the process."""
    from lightning import LightningDataModule
    from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

    from lightning_fw.nn import SequenceModel

    given = sys.argv[1:] if arguments is None else arguments
    _require_known_names(given)
    asked = {argument.partition("=")[0] for argument in given}

    class CLI(LightningCLI):
        """The network takes its sizes from the data."""

        def _prepare_subcommand_parser(
            self, klass: Any, subcommand: str, **settings: Any
        ) -> LightningArgumentParser:
            parser = super()._prepare_subcommand_parser(klass, subcommand, **settings)
            parser.epilog = f"example: lightning-fw {subcommand} {_EXAMPLES[subcommand]}"
            return parser

        @staticmethod
        def subcommands() -> dict[str, set[str]]:
            known = LightningCLI.subcommands()
            return {name: known[name] for name in _LIGHTNING_COMMANDS}

        def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            # jsonargparse hands a default class's arguments on to another class that is asked for:
            # AddingProblem's batch_size would be every data's.
            for name, class_path in _DEFAULTS.items():
                if not asked & {f"--{name}", f"--{name}.class_path", "--config", "-c"}:
                    parser.set_defaults({name: {"class_path": class_path}})
            _take_from_the_data(parser)

    CLI(
        SequenceModel,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,
        # Without a logger it would refuse to run twice in one directory.
        save_config_kwargs={"overwrite": True},
        args=arguments,
        parser_kwargs={"prog": "lightning-fw"},
    )


def _take_from_the_data(parser: Any) -> None:
    """Sizes of the network, and whether it answers at every step."""
    for name in ("input_size", "output_size"):
        parser.link_arguments(f"data.{name}", f"model.init_args.{name}", apply_on="instantiate")
    parser.link_arguments(
        "data.kind",
        "model.init_args.per_step",
        compute_fn=lambda kind: kind == "classification_per_step",
        apply_on="instantiate",
    )


def _require_known_names(given: Sequence[str]) -> None:
    """End where a bare name is unknown, with the nearest; jsonargparse tells a page without it."""
    from lightning_fw import data, nn
    from lightning_fw.nn.cells import CELLS
    from lightning_fw.nn.frank_wolfe import Preset

    known: dict[str, Sequence[str]] = {
        "--model": [name for name in nn.__all__ if _is_a(getattr(nn, name), nn.SequenceModel)],
        "--data": data.__all__,
        "--model.cell": list(CELLS),
        "--model.preset": get_args(Preset),
    }
    for argument, following in zip(given, [*given[1:], ""], strict=True):
        option, attached, value = argument.partition("=")
        value = value if attached else following
        # With a dot a class of one's own or a file, with a brace a whole setting.
        if option in known and value and not {".", "/", "{"} & set(value):
            try:
                require_choice(option, value, known[option])
            except ValueError as error:
                print(f"lightning-fw: {error}", file=sys.stderr)
                raise SystemExit(_CANNOT_START) from None


def _is_a(member: object, kind: type) -> bool:
    return isinstance(member, type) and issubclass(member, kind) and member is not kind


if __name__ == "__main__":
    sys.exit(main())
