"""Networks by name. Importing this module imports no network, and no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vclimb.model.settings import ModelConfig
from vclimb.pipeline.system.plugins import Registry

if TYPE_CHECKING:
    from vclimb.model.clip_model import ClipModel

NETWORKS: Registry[ClipModel] = Registry(
    "network", "vclimb.model", "vclimb.networks", "vclimb.model.clip_model:ClipModel"
)


def make_network(config: ModelConfig, n_classes: int) -> ClipModel:
    """Make a network. Its weights depend on torch's global random state.

    Raises:
        SettingsError: no network has the name, or the settings don't fit it.
    """
    network = NETWORKS.find(config.network)
    network.check(config)
    return network(n_classes, config)  # type: ignore[arg-type, call-arg]  # a subclass's constructor


def list_networks() -> dict[str, str]:
    """Map the names of all networks, vclimb's and those of installed packages, to one-line descriptions."""
    return NETWORKS.summaries()
