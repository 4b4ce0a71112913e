"""docs/deploy.md names every option of `segedge triton`, and none that there is not."""

from __future__ import annotations

import re
from pathlib import Path

import typer

from segedge.cli.groups import expanded
from segedge.cli.verbs.triton import triton_command

PAGE = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text(encoding="utf-8")


def test_options_of_the_page() -> None:
    app = typer.Typer()
    app.command()(expanded(triton_command))
    command = typer.main.get_command(app)
    there = {
        name
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
        if name.startswith("--") and "completion" not in name
    }
    table = PAGE.partition("| option | meaning |")[2].partition("\n\n")[0]
    named = {
        name
        for row in table.splitlines()
        for name in re.findall(r"--[a-z][a-z-]*", row.partition("|")[2].partition("|")[0])
    }
    assert named - there == set()
    # -o is in the example; what is on anyhow has its opposite in the table.
    assert there - named - {"--help"} == {"--out", "--warm-up", "--frames"}


def test_addresses_of_the_page() -> None:
    from segedge.backends.remote.address import parse_address

    addresses = re.findall(r"(?:grpc|http)s?://(?:host|server)\S*/street\S*?(?=[`\s])", PAGE)
    assert len(addresses) >= 3
    assert {parse_address(address)[0].model for address in addresses} == {"street"}
