"""``lightning-fw fit``, ``validate`` and ``test``: LightningCLI on our networks and data."""

from __future__ import annotations

import sys
from argparse import ArgumentParser as ArgumentParserOfPython
from collections.abc import Collection, Iterator, Sequence
from contextlib import nullcontext, redirect_stdout
from inspect import isabstract
from types import ModuleType
from typing import Any, get_args

from jsonargparse import ArgumentParser
from lightning import LightningDataModule
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from typing_extensions import override

from lightning_fw import data, nn
from lightning_fw.checks import require_choice
from lightning_fw.command_line.arguments import nearest_option
from lightning_fw.command_line.exit_status import CANNOT_START
from lightning_fw.command_line.fitting import is_interruption
from lightning_fw.command_line.json_result import STDOUT, add_json, write_json
from lightning_fw.command_line.mistakes import WrongArgument, require_checkpoint, told_in_a_line
from lightning_fw.nn.cells import CELLS
from lightning_fw.nn.frank_wolfe import Preset

_EXAMPLES = {
    "fit": "--model FrankWolfeClassifier --data SequentialDigits",
    "validate": "--config config.yaml --ckpt_path model.ckpt",
    "test": "--config config.yaml --ckpt_path model.ckpt",
}
_DEFAULTS = {
    "model": "lightning_fw.nn.FrankWolfeRegressor",
    "data": "lightning_fw.data.AddingProblem",
}
_NAMED: dict[str, Sequence[str]] = {
    "--model.cell": list(CELLS),
    "--model.preset": get_args(Preset),
}
_SIZES = ("input_size", "output_size")
_OF_JSONARGPARSE = ("class_path", "init_args", "dict_kwargs", "help")


def lightning_cli(arguments: list[str] | None) -> None:
    """Run LightningCLI on these arguments; None: those of the process.

    Raises:
        SystemExit: With status 2 and a line about what is wrong, where arguments are.
    """
    of_process = arguments is None
    given = sys.argv[1:] if arguments is None else arguments
    path, given = _without_json(given)
    if of_process:
        # LightningCLI reads these. A config that it saves must not name the file of this run.
        sys.argv[1:] = given
    try:
        _require_known_names(given)
        with (
            redirect_stdout(sys.stderr) if path == STDOUT else nullcontext(),
            told_in_a_line(),
        ):
            cli = _CLI(None if of_process else given, given)
    except WrongArgument as error:
        print(f"lightning-fw: {error}", file=sys.stderr)
        raise SystemExit(CANNOT_START) from None
    if cli.trainer.is_global_zero:
        write_json(path, cli.found())
    if cli.is_interrupted:
        raise KeyboardInterrupt


def _without_json(given: Sequence[str]) -> tuple[str | None, list[str]]:
    """What ``--json`` says, and the other arguments."""
    parser = ArgumentParserOfPython(
        prog=f"lightning-fw {' '.join(given[:1])}", add_help=False, allow_abbrev=False
    )
    add_json(parser)
    options, others = parser.parse_known_args(given)
    return options.json, others


class _CLI(LightningCLI):
    """The network takes its sizes from the data."""

    def __init__(self, arguments: list[str] | None, given: Sequence[str]) -> None:
        self._given = given
        self.is_interrupted = False
        super().__init__(
            nn.SequenceModel,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            # Without a logger it would refuse to run twice in one directory.
            save_config_kwargs={"overwrite": True},
            args=arguments,
            parser_kwargs={"prog": "lightning-fw"},
        )

    @override
    def _prepare_subcommand_parser(
        self, klass: Any, subcommand: str, **settings: Any
    ) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **settings)
        parser.epilog = f"example: lightning-fw {subcommand} {_EXAMPLES[subcommand]}"
        return parser

    @staticmethod
    @override
    def subcommands() -> dict[str, set[str]]:
        known = LightningCLI.subcommands()
        return {name: known[name] for name in _EXAMPLES}

    @override
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        # jsonargparse hands a default class's arguments on to another class that is asked for:
        # AddingProblem's batch_size would be every data's.
        asked = {argument.partition("=")[0] for argument in self._given}
        for name, class_path in _DEFAULTS.items():
            if not asked & {f"--{name}", f"--{name}.class_path", "--config", "-c"}:
                parser.set_defaults({name: {"class_path": class_path}})
        # For its help alone, which would show the address of a function.
        add_json(parser).type = None
        _take_from_the_data(parser)

    @override
    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        mine = subcommand_parsers(parser).get(self._given[0])
        if mine is not None:
            _require_known_options(self._given, mine._option_string_actions)
        super().parse_arguments(parser, args)
        # Before LightningCLI reads the file's settings.
        require_checkpoint(self.config[self.config["subcommand"]].get("ckpt_path"))

    @override
    def instantiate_classes(self) -> None:
        super().instantiate_classes()
        try:
            self.model.require_kind(self.datamodule)
        except ValueError as error:
            raise WrongArgument(error) from None

    @override
    def _run_subcommand(self, subcommand: str) -> None:
        self._tell_what_was_left_out(subcommand)
        try:
            super()._run_subcommand(subcommand)
        except SystemExit as error:
            if isinstance(error.__context__, BrokenPipeError):
                # rich's way to end where nobody reads its bars.
                raise error.__context__ from None
            if not is_interruption(error, self.trainer):
                raise
            self.is_interrupted = True

    def _tell_what_was_left_out(self, subcommand: str) -> None:
        if not self.trainer.is_global_zero:
            return
        options = {argument.partition("=")[0].partition(".")[0] for argument in self._given}
        if not options & {"--model", "--data", "--config", "-c"}:
            network, data = (type(each).__name__ for each in (self.model, self.datamodule))
            print(f"Neither --model nor --data is given: {network} on {data}.", file=sys.stderr)
        if subcommand != "fit" and self.config[subcommand].get("ckpt_path") is None:
            print("No --ckpt_path is given: the network is not trained.", file=sys.stderr)

    def found(self) -> dict[str, Any]:
        """What came of the run."""
        trainer = self.trainer
        told = {
            "command": self.subcommand,
            "complete": not self.is_interrupted,
            "metrics": {name: float(value) for name, value in trainer.callback_metrics.items()},
        }
        if self.subcommand != "fit":
            return {**told, "checkpoint": trainer.ckpt_path}
        return {
            **told,
            "epochs": trainer.current_epoch,
            "steps": trainer.global_step,
            "checkpoint": getattr(trainer.checkpoint_callback, "best_model_path", None) or None,
        }


def subcommand_parsers(parser: ArgumentParser) -> dict[str, ArgumentParser]:
    """The parsers of fit, validate and test."""
    return next(a.choices for a in parser._actions if isinstance(a.choices, dict))


def _take_from_the_data(parser: LightningArgumentParser) -> None:
    """Sizes of the network, and whether it answers at every step."""
    for name in _SIZES:
        parser.link_arguments(f"data.{name}", f"model.init_args.{name}", apply_on="instantiate")
    parser.link_arguments(
        "data.kind",
        "model.init_args.per_step",
        compute_fn=lambda kind: kind == "classification_per_step",
        apply_on="instantiate",
    )


def _require_known_options(given: Sequence[str], options: Collection[str]) -> None:
    """Raise where an option is unknown, with the nearest."""
    groups = {each.rpartition(".")[0] for each in options if not each.endswith(".help")}
    # What classes take is not known here: --trainer.logger.save_dir, beside --trainer.logger.
    open_ended = tuple(f"{each}." for each in options if each not in groups)
    for argument in given:
        name = argument.partition("=")[0].removesuffix("+")
        known = name.startswith(open_ended) or any(each.startswith(name) for each in options)
        if name.startswith("--") and not known:
            raise WrongArgument(
                f"`{name}` must be an option of lightning-fw {given[0]}, which --help lists"
                f"{nearest_option(name, options)}."
            )


def _require_known_names(given: Sequence[str]) -> None:
    """Raise where a name is unknown, with the nearest; jsonargparse tells a page without it."""
    has_config = {"--config", "-c"} & {option for option, _ in _pairs(given)}
    for group, package, kind in (
        ("model", nn, nn.SequenceModel),
        ("data", data, LightningDataModule),
    ):
        members, chosen = _members(package, kind), "" if has_config else _DEFAULTS[group]
        for option, value in _pairs(given):
            if option in (f"--{group}", f"--{group}.class_path"):
                chosen = value
                if _is_bare(value):
                    _require_choice(option, value, list(members))
        name = chosen.removeprefix(f"{package.__name__}.")
        if name in members:
            _require_settings(given, group, members[name])


def _members(package: ModuleType, kind: type) -> dict[str, type]:
    """The classes of a package that a run can be made of, by name."""
    members = {name: getattr(package, name) for name in package.__all__}
    return {
        name: each
        for name, each in members.items()
        if isinstance(each, type) and issubclass(each, kind) and not isabstract(each)
    }


def names_of_values() -> dict[str, list[str]]:
    """The names that options take."""
    return {
        "--model": list(_members(nn, nn.SequenceModel)),
        "--data": list(_members(data, LightningDataModule)),
        **{option: list(names) for option, names in _NAMED.items()},
    }


def _is_bare(value: str) -> bool:
    """Whether a value is a name; with a dot it is a class of one's own, with a brace a setting."""
    return bool(value) and not {".", "/", "{"} & set(value)


def _pairs(given: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Every argument with its value, or with the argument that follows."""
    for argument, following in zip(given, [*given[1:], ""], strict=True):
        option, attached, value = argument.partition("=")
        yield option, value if attached else following


def _require_settings(given: Sequence[str], group: str, chosen: type) -> None:
    """Raise where ``--group.name`` is nothing that the chosen class takes, or its value no name."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(chosen)
    found = (action.dest.partition(".")[0] for action in parser._actions)
    takes = [name for name in dict.fromkeys(found) if name != "help"]
    for option, value in _pairs(given):
        if not option.startswith(f"--{group}."):
            continue
        name = option.removeprefix(f"--{group}.").partition(".")[0].removesuffix("+")
        if group == "model" and name in (*_SIZES, "per_step"):
            raise WrongArgument(
                f"`{option}` must be left out, got {value}: a network has the {name} of its data."
            )
        if name not in (*takes, *_OF_JSONARGPARSE):
            _require_choice(f"--{group}.{name}", name, takes)
        if option in _NAMED and _is_bare(value):
            _require_choice(option, value, _NAMED[option])


def _require_choice(option: str, value: str, choices: Sequence[str]) -> None:
    try:
        require_choice(option, value, choices)
    except ValueError as error:
        raise WrongArgument(error) from None
