"""A choice of conf/ as the commands compose it: its defaults filled in, its interpolations resolved."""

from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from results.project.folder import CONF


def settings_of(group: str, name: str) -> dict[str, Any]:
    """What conf/<group>/<name>.yaml gives the class it names, _target_ included."""
    with initialize_config_dir(str(CONF), version_base=None):
        config = compose(overrides=[f"+{group}@chosen={name}"])
    settings = OmegaConf.to_container(config.chosen, resolve=True)
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}
