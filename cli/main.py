"""The `vclimb` command."""

from __future__ import annotations

import typer

from vclimb import __version__
from vclimb.cli import bench as bench_command
from vclimb.cli import inspect as inspect_command
from vclimb.cli import memory as memory_command
from vclimb.cli import prepare as prepare_command
from vclimb.cli import scenario as scenario_command
from vclimb.cli import show as show_command
from vclimb.cli import study as study_command
from vclimb.cli import synth as synth_command
from vclimb.cli import train as train_command
from vclimb.cli import verify as verify_command

app = typer.Typer(
    name="vclimb",
    help="Video class-incremental learning under a storage budget.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("prepare")(prepare_command.command)
app.command("verify")(verify_command.command)
app.command("inspect")(inspect_command.command)
app.command("synth")(synth_command.synth)
app.command("bench")(bench_command.command)
app.command("train")(train_command.command)
app.command("show")(show_command.command)
app.add_typer(memory_command.app, name="memory")
app.add_typer(scenario_command.app, name="scenario")
app.add_typer(study_command.app, name="study")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vclimb {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def main() -> None:
    """Run the command that the arguments name."""
    app()
