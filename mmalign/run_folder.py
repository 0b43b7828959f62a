"""The data settings in a run folder: those of its config.yaml, checked against this version of mmalign."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmalign.bundles import bundle
from mmalign.configuration.arguments import Argument
from mmalign.configuration.keys import Section, check_configuration
from mmalign.data.config import DataConfig
from mmalign.errors import UserError
from mmalign.safe_io.safe_yaml import read_yaml
from mmalign.version import __version__


def settings_hash(run: Path) -> str:
    """Hash of a run's config.yaml."""
    return hashlib.sha256((run / "config.yaml").read_bytes()).hexdigest()[:16]


def data_settings(run: Path) -> dict[str, Any] | None:
    """The key `data` of a run's config.yaml.

    Args:
        run: The run folder, which contains config.yaml and the folder bundle.

    Returns:
        Keyword arguments of `DataConfig`; None if there is no config.yaml, or it is not that of a run.

    Raises:
        UserError: a key does not exist in this version, or a value has another type; the message names the key, the
            nearest one and the version of mmalign that wrote the run.
    """
    file = run / "config.yaml"
    try:
        config = read_yaml(file, str(file))
    except UserError:
        return None
    if not isinstance(config, Mapping) or not isinstance(config.get("data"), Mapping):
        return None
    keys = {"data": Argument("data", Section(DataConfig))}
    try:
        check_configuration({"data": config["data"]}, keys, lambda path: f"{file}: {'.'.join(path)}")
    except UserError as error:
        writer = bundle.version_of(run)
        raise UserError(f"{error}; mmalign {writer} wrote this file, this is {__version__}") from error
    trained = bundle.provenance(run).get("settings")
    if trained is not None and trained != settings_hash(run):
        raise UserError(
            f"{file}: these are not the settings that the bundle was trained with: a later run in this folder has not "
            "ended (go on with mmalign train --resume), or the file was edited; name the data with --data.*"
        )
    return dict(config["data"])
