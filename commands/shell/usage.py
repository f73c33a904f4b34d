"""A command line and its help, without slow imports.

Prefect takes seconds to import. Help and the check of a command line need only the signature of a flow, or the fields
of a command. So they are read from the module's source, without importing it.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import inspect
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from pydantic import AliasChoices, BaseModel, Field, ValidationError, create_model
from pydantic_settings import CliApp, CliSettingsSource

from jobs.profiles import PROFILES
from jobs.program import typed

__all__ = ["TerminalOptions", "check_command_line", "choices_of", "command_in", "command_of", "parse", "started_as"]

started_as = ""
"""The command that started the program, e.g. "rebel-nerf page"; "" for `python -m commands.page`."""

T = TypeVar("T", bound=BaseModel)

_LIGHT = (
    *("typing", "pathlib", "pydantic", "pydantic_settings", "jobs.names", "jobs.options", "jobs.profiles"),
    *("jobs.metric.given", "deployments.azure.options"),
)
_NOISE = re.compile(r" ?\((default factory: .*|ifdef: required|required|default: (None|null|False|\[\]|\(\)|))\)$")
_KINDS = {"str": "TEXT", "int": "N", "float": "X", "Path": "PATH", "{str,int}": "TEXT", "{int,float}": "X"}
"""How help names the kinds of values."""


class TerminalOptions(BaseModel):
    """Options of a run on a terminal that Prefect's form does not have."""

    verbose: bool = Field(
        False, validation_alias=AliasChoices("v", "verbose"), description="show Prefect's log, line by line"
    )
    open: bool = Field(False, description="open the scene's page in the browser at the end")


def check_command_line() -> None:
    """Check the command line of `python -m flows.NAME` or `commands.NAME`: show help and exit, or exit with 2."""
    module = sys.orig_argv[-len(sys.argv)]
    file = Path(__file__).parents[2].joinpath(*module.split(".")).with_suffix(".py")
    if re.fullmatch(r"(flows|commands)\.\w+", module) and file.is_file():
        parse(command_in(file), sys.argv[1:], f"python -m {module}")


def command_in(file: Path) -> type[BaseModel]:
    """Return the command of a module without importing what its run needs.

    Args:
        file: has one function decorated with `@flow`, or classes derived from BaseModel or AzureOptions. The last of
            them whose name does not begin with an underscore is the command.
    """
    imports: list[ast.stmt] = []
    classes: list[ast.ClassDef] = []
    for node in ast.parse(file.read_bytes()).body:
        if isinstance(node, ast.ImportFrom) and node.module in _LIGHT:
            imports.append(node)
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            if any(ast.unparse(base) in ("BaseModel", "AzureOptions") for base in node.bases):
                node.body = [part for part in node.body if not _is_method(part)]
                classes.append(node)
        elif isinstance(node, ast.AsyncFunctionDef) and node.decorator_list:
            node.decorator_list, node.returns, node.body = [], None, node.body[:1]
            return command_of(_run([*imports, node], file)[node.name])
    if not classes:
        raise ValueError(f"{file} has no command")
    command: type[BaseModel] = _run([*imports, *classes], file)[classes[-1].name]
    return command


def _is_method(node: ast.stmt) -> bool:
    """Return whether a statement of a class is a method, other than a validator or property."""
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not node.decorator_list


def _run(body: list[ast.stmt], file: Path) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": file.stem}
    exec(compile(ast.Module(body, []), str(file), "exec", dont_inherit=True), names)
    return names


def command_of(function: Callable[..., Any]) -> type[BaseModel]:
    """Return the command whose options are a function's parameters, with the descriptions of its docstring."""
    import griffe

    hints = get_type_hints(function, include_extras=True)
    text = inspect.getdoc(function) or ""
    described = {
        each.name: each.description
        for section in griffe.Docstring(text).parse("google", warnings=False)
        if section.kind is griffe.DocstringSectionKind.parameters
        for each in section.value
    }
    fields: dict[str, Any] = {
        name: (
            hints[name],
            Field(
                ... if parameter.default is inspect.Parameter.empty else parameter.default,
                description=" ".join(described.get(name, "").split()),
            ),
        )
        for name, parameter in inspect.signature(function).parameters.items()
    }
    base = TerminalOptions if "scene" in fields else BaseModel
    command: type[BaseModel] = create_model(
        function.__name__, __base__=base, __doc__=text.partition("\n\n")[0], **fields
    )
    return command


def choices_of(command: type[BaseModel]) -> dict[str, tuple[str, ...]]:
    """Return the values that each option of a command accepts; () if they are not a fixed list."""
    parser, _ = _parser_of(command, "")
    values = dict(_literals_of(command, "--"))
    return {option: values.get(option, ()) for option in parser._option_string_actions if option.startswith("--")}


def _literals_of(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, field in model.model_fields.items():
        option = prefix + name.replace("_", "-")
        kinds = [field.annotation, *get_args(field.annotation)]  # a group of options may be optional
        groups = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if groups:
            yield from _literals_of(groups[0], f"{option}.")
        else:
            yield option, _literals(field.annotation)


def _literals(annotation: Any) -> tuple[str, ...]:
    arguments = get_args(annotation)
    if get_origin(annotation) is Literal:
        return tuple(map(str, arguments))
    return tuple(value for argument in arguments for value in _literals(argument))


def parse(command: type[T], arguments: list[str], program: str) -> T:
    """Return the options of a command line. Exit with 2 if it is wrong, and with 0 after showing help."""
    parser, source = _parser_of(command, program)
    try:
        return CliApp.run(command, cli_args=arguments, cli_settings_source=source)
    except ValidationError as error:
        for each in error.errors():
            option = "--" + ".".join(str(part).replace("_", "-") for part in each["loc"] if isinstance(part, str))
            message = each["msg"].removeprefix("Value error, ")
            wrong = f"{option}: {message}" if each["loc"] else message
            print(f"{parser.prog}: {wrong}. All options: {parser.help_command}", file=sys.stderr)
        sys.exit(2)


def _parser_of(command: type[BaseModel], program: str) -> tuple[_Parser, CliSettingsSource[Any]]:
    parser = _Parser(prog=program, description=command.__doc__, formatter_class=_Formatter, allow_abbrev=False)
    source: CliSettingsSource[Any] = CliSettingsSource(
        command,  # type: ignore[arg-type]
        root_parser=parser,
        formatter_class=_Formatter,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_enforce_required=True,
        cli_implicit_flags=True,
        cli_kebab_case=True,
    )
    return parser, source


class _HelpAll(argparse.Action):
    """Describes every option in full, and exits."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        assert isinstance(parser, _Parser)
        print(parser.full_help(), end="")
        parser.exit()


class _Parser(argparse.ArgumentParser):
    """Prints help that fits a screen, and explains a wrong command line in one line with a suggestion."""

    _given: tuple[str, ...] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        full = "describe all options in full"
        self.add_argument("--help-all", action=_HelpAll, nargs=0, default=argparse.SUPPRESS, help=full)

    @property
    def help_command(self) -> str:
        """Return the command line that describes all options, as it can be typed here."""
        program, _, words = self.prog.partition(" ")
        return typed(f"{words} --help-all") if program == "rebel-nerf" else f"{self.prog} --help-all"

    def format_help(self) -> str:
        """Return the help of `--help`: a sentence per option. Options of the stages are only listed."""
        formatter = _Brief(self.prog, max_help_position=34, width=_width())
        formatter.add_usage(self._needed(), self._actions, self._mutually_exclusive_groups)
        formatter.add_text((self.description or "").partition("\n\n")[0])
        stages: dict[str, list[str]] = {}
        for group in self._action_groups:
            options = [option for action in group._group_actions for option in action.option_strings[:1]]
            of_stages = [option.removeprefix("--").split(".") for option in options if "." in option]
            for stage, name, *_ in of_stages:
                stages.setdefault(stage, []).append(name)
            if not of_stages and group._group_actions:
                formatter.start_section(group.title)
                formatter.add_arguments(group._group_actions)
                formatter.end_section()
        if stages:
            formatter.start_section("options of the stages, which --help-all describes")
            for stage, found in stages.items():
                *names, last = dict.fromkeys(found)
                text = f"--{stage}.X, where X is {', '.join(names)} or {last}" if names else f"--{stage}.{last}"
                formatter._add_item(partial(_fill, text), [])
            formatter.end_section()
        return formatter.format_help()

    def _needed(self) -> str:
        """Return the usage: the program and its required arguments."""
        words = ["%(prog)s"]
        for action in self._actions:
            if action.choices and not action.option_strings:
                words.append(f"{{{','.join(map(str, action.choices))}}}")
            elif action.required or not action.option_strings:
                words += [*action.option_strings, action.dest.rpartition(".")[2].upper()]
        return " ".join([*words, "[options]"])

    def full_help(self) -> str:
        """Return the help of `--help-all`."""
        self.usage = self._needed()
        return super().format_help()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._given = tuple(args or ())
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        unknown = [word.partition("=")[0] for word in self._given if word.startswith("--")]
        meant = [f"{word}: did you mean {found}? " for word in unknown if (found := self._like(word))]
        first, positional = (*self._given, "-")[0], any(not action.option_strings for action in self._actions)
        if not (first.startswith("-") or positional) and "--scene" in self._option_string_actions:
            is_path = os.sep in first and "--images" in self._option_string_actions
            meant.append(f"{first}: did you mean {'--images' if is_path else '--scene'} {first}? ")
        if "--images" in self._given:
            after = self._given[self._given.index("--images") + 1 :]
            if len(list(takewhile(lambda word: not word.startswith("-"), after))) > 1:  # the shell has expanded *.jpg
                meant.append("--images takes one folder or one video: give the folder, not its files. ")
        self.exit(2, f"{self.prog}: {message}. {''.join(meant)}All options: {self.help_command}\n")

    def _like(self, word: str) -> str | None:
        """Return the option that a mistyped word resembles, or None."""
        known = list(self._option_string_actions)
        if word in known:
            return None
        # Compare with the last parts ("--camera-path" of "--render.camera-path") and with whole options.
        last = {f"--{option.lstrip('-').rpartition('.')[2]}": option for option in reversed(known)}
        close = difflib.get_close_matches(word, [*last, *known], n=1, cutoff=0.75)
        return last.get(close[0], close[0]) if close else None


def _width() -> int:
    """Return the width of help in columns: that of the terminal, at most 100."""
    return min(shutil.get_terminal_size((100, 40)).columns, 100)


def _fill(text: str) -> str:
    return textwrap.fill(text, _width(), initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False) + "\n"


class _Formatter(argparse.HelpFormatter):
    """Shows the defaults of each profile, and leaves out empty defaults."""

    def _format_text(self, text: str) -> str:
        text = text.removeprefix("default: None (undefined)").strip()  # of an optional group
        return super()._format_text(text) if text else ""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = _NOISE.sub("", action.help or "")
        stage, _, name = action.dest.partition(".")
        defaults = {profile: PROFILES[profile].get(stage, {}).get(name) for profile in ("full", "preview")}
        shown = ", ".join(f"{profile}: {value}" for profile, value in defaults.items() if value)
        return f"{text} (default: {shown})" if shown else text

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or (action.help or "").endswith("(default: True)"):
            return super()._format_action_invocation(action)
        names = [name for name in action.option_strings if not name.startswith("--no-")]
        metavar = re.sub(r"^list\[(.*)\]$", r"\1", str(action.metavar))
        value = "" if action.nargs == 0 else f" {_KINDS.get(metavar, metavar)}"
        return ", ".join(names) + value


class _Brief(_Formatter):
    """Shows the first clause of an option's description and its default, but no long list of values."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text, _, default = super()._get_help_string(action).partition(" (default: ")
        words = re.split(r"(?<!\w\.\w)[.;] ", text, maxsplit=1)[0].removesuffix(".")
        return f"{words} (default: {default}" if default else words

    def _format_action_invocation(self, action: argparse.Action) -> str:
        return re.sub(r"{.{60,}}", "NAME", super()._format_action_invocation(action))
