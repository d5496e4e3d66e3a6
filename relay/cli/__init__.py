"""The command line: one file for each command, imported only when it is called, so that `--help` is fast.

Errors end here, as one line on stderr (one for each key of a bad configuration) and an exit status: 2 for a wrong call,
1 for any other failure. With `PYTHONDEVMODE=1` an unexpected error shows its traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from relay import __version__
from relay.cli.errors import CommandFailed
from relay.mail.visible import visible

PROGRAM = "srs-relay"

# name: (module, function or typer application in it, the line that the help shows)
COMMANDS = {
    "demo": ("relay.cli.demo", "demo", "Show the way of one message and its bounce, on loopback."),
    "init": ("relay.cli.init", "init", "Write config, SRS secret, DKIM key; print the DNS records."),
    "import": ("relay.cli.import_", "import_", "Turn the configuration of another program into one of ours."),
    "serve": ("relay.cli.serve", "serve", "Run the relay."),
    "check": ("relay.cli.check", "check", "Check configuration and live DNS; say how to mend them."),
    "explain": ("relay.cli.explain", "explain", "Show what would become of a message, and why."),
    "queue": ("relay.cli.queue", "app", "See the queue and act on it, also while the relay runs."),
    "keys": ("relay.cli.keys", "app", "Make DKIM keys, see what DNS has of them, change them."),
    "aliases": ("relay.cli.aliases", "app", "Add, list and remove aliases; show the way of an address."),
    "users": ("relay.cli.users", "app", "Add, list and remove users who may log in."),
    "dns": ("relay.cli.dns", "dns", "Print the DNS records to publish."),
    "srs": ("relay.cli.srs", "app", "Rewrite one address, there or back."),
}

_STYLE: dict[str, Any] = {"rich_markup_mode": None, "pretty_exceptions_enable": False}


class LazyGroup(TyperGroup):
    """A group that lists names and help lines, and imports a command when it is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else _imported(name), rest


def _imported(name: str) -> Any:
    module, attribute, text = COMMANDS[name]
    command = getattr(import_module(module), attribute)
    parent = typer.Typer(add_completion=False, **_STYLE)
    if isinstance(command, typer.Typer):
        parent.add_typer(command, name=name, no_args_is_help=True)
    else:
        parent.command(name, cls=getattr(command, "command_class", None), help=command.__doc__ or text)(command)
    return get_group(parent).commands[name]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"{PROGRAM} {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """A forwarding SMTP relay that keeps SPF, DKIM and bounces intact."""


def _not_imported() -> None:
    """The placeholder of a command in the help, until it is called."""


def application() -> TyperGroup:
    """The command line, with the commands that are imported when they are called."""
    settings = {"help_option_names": ["-h", "--help"]}
    app = typer.Typer(cls=LazyGroup, no_args_is_help=True, context_settings=settings, **_STYLE)
    app.callback()(_options)
    for name, (_, _, text) in COMMANDS.items():
        app.command(name, help=text)(_not_imported)
    return cast(TyperGroup, get_command(app))  # unlike get_group, with --install-completion and --show-completion


def run(args: Sequence[str]) -> int:
    """Run one command line, given without the program's name; returns the exit status."""
    try:
        status = application().main(args, prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        return _wrong_call(error)
    except KeyboardInterrupt:
        return 130
    except typer.Abort:
        return _failed("aborted")
    except BrokenPipeError:
        # The reader has gone: what the interpreter flushes at its exit goes to /dev/null.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except CommandFailed as error:
        return _failed(str(error))
    except OSError as error:
        return _failed(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error))
    except Exception as error:
        from relay.config.model import ConfigError

        if isinstance(error, ConfigError):
            return _failed(str(error))
        if sys.flags.dev_mode:
            raise
        first = str(error).partition("\n")[0]
        return _failed(f"internal error: {type(error).__name__}: {first} (PYTHONDEVMODE=1 shows where)")
    return status if isinstance(status, int) else 0


def _wrong_call(error: typer.TyperException) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else PROGRAM
    text = error.format_message().replace("Value error, ", "")  # pydantic's
    # A group called without a command prints its help only.
    line = text if text.startswith("Usage: ") else f"{path}: {text.rstrip('.')} (see {path} --help)"
    print("\n".join(map(visible, line.split("\n"))), file=sys.stderr)
    return error.exit_code


def _failed(text: str) -> int:
    for line in text.strip("\n").split("\n"):
        print(f"{PROGRAM}: {visible(line)}", file=sys.stderr)
    return 1


def main() -> None:
    """The entry point of `srs-relay` and of `python -m relay`."""
    sys.exit(run(sys.argv[1:]))
