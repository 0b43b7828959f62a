"""Downloads from the Hugging Face hub, with one clear error where it cannot be reached."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from mmalign.errors import UserError, first_line

TIMEOUT = 5.0
"""Seconds to wait for an answer of the hub."""


@contextmanager
def hub(name: str) -> Iterator[None]:
    """Let a library load a model of the hub: from its cache alone where the hub does not answer one request.

    Without this, the libraries repeat each request of each file for about a minute, and print every attempt.

    Args:
        name: The model, for the message.

    Raises:
        UserError: the model can neither be downloaded nor found in the cache.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    reachable = not before and _reachable(constants.ENDPOINT)
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    constants.HF_HUB_OFFLINE = not reachable
    logger.setLevel(logging.ERROR)
    try:
        yield
    except UserError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        reason = first_line(error)
        if reachable:
            raise UserError(f"cannot load {name!r} from the hub: {reason}") from error
        why = "HF_HUB_OFFLINE is set" if before else "it does not answer"
        raise UserError(
            f"cannot load {name!r} from the hub ({why}), and it is not in the cache: check the connection, or download "
            "the model on another computer and give the path of its file or folder instead of its name"
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = before
        logger.setLevel(level)


@contextmanager
def local_or_hub(name: str, *, local: bool) -> Iterator[None]:
    """As `hub`, or for a folder: one error that names it.

    Args:
        name: The model or its folder.
        local: Whether it is a folder.

    Raises:
        UserError: the model cannot be loaded.
    """
    if not local:
        with hub(name):
            yield
        return
    try:
        yield
    except UserError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise UserError(f"cannot load {name}: {first_line(error)}") from error


def _reachable(endpoint: str) -> bool:
    from huggingface_hub import get_session

    try:
        get_session().head(endpoint, timeout=TIMEOUT)
    except Exception:  # versions of the library use different HTTP clients, each with its own errors
        return False
    return True
