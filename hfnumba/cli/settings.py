"""Options of `hfnumba train`, made from the table of settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
from click.shell_completion import CompletionItem
from click.types import OptionHelpExtra
from msgspec import inspect

from hfnumba.cli.common import Choice
from hfnumba.errors import UsageError
from hfnumba.run.config import read_text
from hfnumba.run.options import Option, flag, listed
from hfnumba.run.settings import OPTIONS, RENAMED, TrainSettings


class Widths(click.ParamType[tuple[int, ...]]):
    """Whole numbers separated by commas."""

    name = "widths"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse ``400,150``; an empty text means no hidden layer."""
        if not isinstance(value, str):
            return value
        try:
            return tuple(int(part) for part in value.split(",")) if value.strip() else ()
        except ValueError:
            self.fail(f"expected whole numbers separated by commas, such as 400,150, got {value!r}", param, ctx)


class ClassWeights(click.ParamType[Any]):
    """``balanced``, numbers separated by commas, or a file of numbers."""

    name = "weights"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse ``1,2.5``; any other text is the path of a file with one number per class."""
        if not isinstance(value, str) or value == "balanced":
            return value
        try:
            return tuple(float(part) for part in value.split(","))
        except ValueError:
            path = Path(value)
        try:
            return tuple(float(word) for word in read_text(path).split())
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            self.fail(
                f"expected balanced, numbers separated by commas, or a file of numbers, got {value!r} ({why})",
                param,
                ctx,
            )


class NumberOrWord(click.IntRange):
    """A whole number from a range, or one of some words.

    Parameters
    ----------
    lowest : int or None
    words : sequence of str
    """

    def __init__(self, lowest: int | None, words: Sequence[str]) -> None:
        super().__init__(lowest)
        self.words = tuple(words)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse ``4096`` to a number; a word stays."""
        if value in self.words:
            return value
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            wanted = listed([f"a whole number of at least {self.min}", *self.words])
            self.fail(f"expected {wanted}, got {value!r}", param, ctx)

    def shell_complete(self, _ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the words that begin as the text does."""
        return [CompletionItem(word) for word in self.words if word.startswith(incomplete)]


class NameOrNames(click.Choice[str]):
    """One of some names, or several of them separated by commas."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse ``tanh`` to a name and ``tanh,linear`` to names."""
        if not isinstance(value, str) or "," not in value:
            return super().convert(value, param, ctx)
        return tuple(super(NameOrNames, self).convert(part.strip(), param, ctx) for part in value.split(","))


_TEXTS: Mapping[str, click.ParamType[Any]] = {
    "hidden": Widths(),
    "class_weights": ClassWeights(),
    "activation": NameOrNames(OPTIONS["activation"].choices),
}
"""Types of options whose text is neither a number nor a word."""


class SettingOption(click.Option):
    """Option of a setting. Its value is None if it is not given, so that a settings file can give it.

    Parameters
    ----------
    name : str
        Name of the setting.
    kind : msgspec.inspect.Type
        Type of the setting, with bounds.
    default : object
        Constant default, if there is one.
    """

    def __init__(self, name: str, kind: inspect.Type, default: Any) -> None:
        option = OPTIONS[name]
        of_click = _TEXTS.get(name) or _click_type(kind, option)
        metavar = option.metavar
        if metavar is None and not isinstance(of_click, click.Choice):
            metavar = of_click.name.upper().removesuffix(" RANGE")
        is_flag = isinstance(kind, inspect.BoolType)
        # What may change within a run may also be switched off again.
        words = f"{flag(name)}/{flag(f'no-{name}')}" if is_flag and option.group.changeable else flag(name)
        super().__init__([words], type=of_click, is_flag=is_flag, default=None, help=option.help, metavar=metavar)
        self.heading = option.group.value
        self._default_text = option.default_text(default)

    def get_help_extra(self, ctx: click.Context) -> OptionHelpExtra:
        """Return what the help has in brackets: the default that the table describes, and the range."""
        extra = super().get_help_extra(ctx)
        if self._default_text is not None:
            extra["default"] = self._default_text
        return extra


def _click_type(kind: inspect.Type, option: Option) -> click.ParamType[Any]:
    match kind:
        case inspect.IntType() if option.choices:
            return NumberOrWord(kind.ge, option.choices)
        case _ if option.choices:
            return Choice(option.choices)
        case inspect.IntType():
            return click.IntRange(kind.ge, kind.le)
        case inspect.FloatType():
            low, high = (kind.ge if kind.gt is None else kind.gt), (kind.le if kind.lt is None else kind.lt)
            return click.FloatRange(low, high, min_open=kind.gt is not None, max_open=kind.lt is not None)
        case inspect.BoolType():
            return click.BOOL
        case _:
            return click.STRING


def setting_options() -> list[click.Parameter]:
    """Return an option for each row of the table."""
    struct = inspect.type_info(TrainSettings)
    assert isinstance(struct, inspect.StructType)
    options: list[click.Parameter] = []
    for field in struct.fields:
        kinds = field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,)
        default = None if field.default is msgspec.NODEFAULT else field.default
        options.append(SettingOption(field.name, kinds[0], default))
    return options


class SettingsCommand(click.Command):
    """Command whose help lists its options under the headings of their groups."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line; an option that has another name now is refused with that name."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            new = {flag(old): flag(new) for old, new in RENAMED.items()}.get(error.option_name)
            if new is None:
                raise
            raise UsageError(f"option {error.option_name} is called {new} now; give it that name") from None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, those of no group last."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                sections.setdefault(getattr(parameter, "heading", "Run"), []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)
