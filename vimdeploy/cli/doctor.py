"""``vimdeploy doctor``."""

from __future__ import annotations

import dataclasses

import click

from vimdeploy.cli.console import print_json, print_table
from vimdeploy.cli.options import json_option


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Show what this machine can run and what is missing, with the command that installs it.

    The exit code is 1 if something that is installed does not work.
    """
    from vimdeploy.doctor import PROBLEM, examine

    findings = examine()
    if as_json:
        print_json([dataclasses.asdict(finding) for finding in findings])
    else:
        rows = [
            (f.name, f.state, f.found + (f"; get it with: {f.cure}" if f.cure and f.state != "ready" else ""))
            for f in findings
        ]
        print_table(("what", "state", "found"), rows)
    if any(finding.state == PROBLEM for finding in findings):
        click.get_current_context().exit(1)
