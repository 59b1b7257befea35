"""The command line: `sapnet-pipe COMMAND`. What a command is stands in `pipeline.commands`; here are its exit codes."""

import os
import signal
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from sapnet_pipe.data.errors import UserError
from sapnet_pipe.pipeline.commands import COMMANDS, GROUPS, Entry
from sapnet_pipe.pipeline.standard_files import open_standard_files

# typer carries its own copy of click from 0.20 on and needs the package before: take the class from where it is.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]

_INTERRUPTED = 130
_TYPER: dict[str, Any] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}


class _Command(TyperCommand):
    """A command whose models are loaded when it is called: the list of all commands takes its name and help alone."""

    def __init__(self, name: str, entry: Entry) -> None:
        super().__init__(name, help=entry.help)
        self.entry = entry

    def make_context(self, *args: Any, **more: Any) -> Any:
        """The first that is called of a command; the context is that of the command with its options."""
        return load_command(self.entry).make_context(*args, **more)


def load_command(entry: Entry) -> TyperCommand:
    """The command with its options, made of the models of its function."""
    from sapnet_pipe.pipeline.command import typer_command

    return typer_command(entry.help, entry.load())


def _program() -> TyperGroup:
    app = typer.Typer(**_TYPER)
    app.callback()(_version)
    program = typer.main.get_group(app)
    groups = {name: typer.main.get_group(typer.Typer(name=name, help=text, **_TYPER)) for name, text in GROUPS.items()}
    for name, entry in COMMANDS.items():
        parent, _, last = name.rpartition(" ")
        (groups[parent] if parent else program).add_command(_Command(last, entry))
    for group in groups.values():
        program.add_command(group)
    return program


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        typer.echo(f"sapnet-pipe {metadata.version('sapnet-pipe')}")
        raise typer.Exit


def _version(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """From one click per object to an instance-segmentation model: points -> bags of SAM masks -> pseudo labels ->
    SOLOv2."""


def main() -> None:
    """Run the command line. Exit codes: 0 done, 2 the user can fix it, 1 our fault, 130 interrupted."""
    open_standard_files()
    # Read by torch's OpenMP when it is imported, later on. Threads that spin while they wait make a busy machine many
    # times slower; GNU's may spin for some microseconds, which is less than it takes to wake them.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what is open is closed, and the code is 130
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; user errors become one line on standard error."""
    try:
        code = _program()(args=arguments or ["--help"], prog_name="sapnet-pipe", standalone_mode=False)
        return _interrupted(arguments) if code == _INTERRUPTED else code if isinstance(code, int) else 0
    except UserError as error:
        return _fail(str(error), 2)
    except _UsageError as error:
        return _fail(_usage(error, arguments), 2)
    except (KeyboardInterrupt, typer.Abort):  # newer releases of typer return the code instead
        return _interrupted(arguments)
    except Exception as error:
        from sapnet_pipe.pipeline.machine_faults import machine_fault

        if (line := machine_fault(error)) is not None:
            return _fail(line, 2)
        import traceback

        traceback.print_exc()
        return _fail("a fault of sapnet-pipe; please report it with the lines above.", 1)


def _interrupted(arguments: list[str]) -> int:
    entry = COMMANDS.get(" ".join(arguments[:1])) or COMMANDS.get(" ".join(arguments[:2]))
    how = "Run the same command again." if entry is None else entry.after_interruption
    return _fail(f"interrupted. {how}", _INTERRUPTED)


def _usage(error: Exception, arguments: list[str]) -> str:
    """What is wrong with the command line, and where its options are explained."""
    text = error.format_message() if hasattr(error, "format_message") else str(error)
    names = getattr(getattr(error, "param", None), "opts", ())
    given = next((arguments[place + 1] for place, name in enumerate(arguments[:-1]) if name in names), None)
    value = f" ({given!r} was given)" if given is not None and given not in text else ""
    context = getattr(error, "ctx", None)
    command = "sapnet-pipe" if context is None else context.command_path
    stop = "" if text.endswith("?") else "."
    return f"{text.rstrip('.')}{value}{stop} See {command} --help."


def _fail(message: str, code: int) -> int:
    typer.echo(f"sapnet-pipe: {' '.join(message.split())}", err=True)
    return code


if __name__ == "__main__":  # for torchrun -m sapnet_pipe.pipeline.cli
    main()
