"""The `vclimb` command."""

from __future__ import annotations

import typer

from vclimb import __version__
from vclimb.cli import bench, inspect, memory, prepare, scenario, show, study, synth, train, verify
from vclimb.cli.console import print_any_text

app = typer.Typer(
    name="vclimb",
    help="Video class-incremental learning under a storage budget.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("prepare")(prepare.command)
app.command("verify")(verify.command)
app.command("inspect")(inspect.command)
app.command("synth")(synth.synth)
app.command("bench")(bench.command)
app.command("train")(train.command)
app.command("show")(show.command)
app.add_typer(memory.app, name="memory")
app.add_typer(scenario.app, name="scenario")
app.add_typer(study.app, name="study")


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
    print_any_text()
    app()
