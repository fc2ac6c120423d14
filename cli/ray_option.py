"""The option `--ray-address` of commands that place work on a Ray cluster."""

from __future__ import annotations

import os
from typing import Annotated

import typer

RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="ADDRESS",
        help="For --executor ray: address of the cluster. Default: RAY_ADDRESS, else what `ray start` began, else this "
        "machine.",
    ),
]


def use_ray_address(address: str | None) -> None:
    """Make Ray connect to an address, as if the environment variable RAY_ADDRESS named it."""
    if address is not None:
        os.environ["RAY_ADDRESS"] = address
