"""``thyme rl-data``: problems to train on by reinforcement: filtered from public sets, or annotated by people."""

from __future__ import annotations

import typer

from thyme.cli.rl_data_collect import collect
from thyme.cli.rl_data_exchange import export, import_
from thyme.cli.rl_data_filter import filter_rows

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()
def rl_data() -> None:
    """Find and annotate problems for reinforcement. See docs/rl_data.md and docs/annotation.md."""


app.command("filter")(filter_rows)
app.command()(collect)
app.command()(export)
app.command("import")(import_)
