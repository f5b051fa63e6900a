"""``vimdeploy models``."""

from __future__ import annotations

import dataclasses

import click

from vimdeploy.cli.console import print_json, print_table
from vimdeploy.cli.options import json_option


@click.command()
@json_option
def models(as_json: bool) -> None:
    """List the variants that can be exported, and where their released weights are."""
    from vimdeploy.models import VARIANTS

    if as_json:
        derived = [
            {"short_name": v.short_name, "parameters": v.config.parameters, "tokens": v.config.tokens}
            for v in VARIANTS.values()
        ]
        print_json([dataclasses.asdict(v) | d for v, d in zip(VARIANTS.values(), derived, strict=True)])
        return
    rows = [
        (
            v.short_name,
            f"{v.config.parameters:,}",
            v.config.tokens,
            "x".join(map(str, v.config.image_size)),
            v.top1,
            v.checkpoint or "-",
        )
        for v in VARIANTS.values()
    ]
    print_table(("variant", "parameters", "tokens", "image size", "top-1 %", "released weights"), rows)
