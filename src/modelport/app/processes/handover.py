"""Settings on their way from the owner to its workers: every object as it is, secrets too. The socket is in a directory
of the owner's alone, and only the owner, which has started the worker, sends these."""

from __future__ import annotations

import base64
import io
import pickle
from typing import Any

from msgspec import Struct

from modelport.app.configuration import ControlState
from modelport.app.processes.engines import EngineNews
from modelport.config.secrets import Secret
from modelport.config.settings import Settings


class Reconfiguration(Struct, frozen=True):
    """The body of the message `configure`. `settings`: what `packed` returns."""

    settings: str
    engines: list[EngineNews]

    def __repr__(self) -> str:
        return f"Reconfiguration({len(self.engines)} engines)"  # secrets are for the wire alone


class Packer(pickle.Pickler):
    """Knows how a Secret, which refuses to be pickled, is handed over."""

    def reducer_override(self, value: Any) -> Any:
        """pickle.Pickler"""
        return (secret, (value.reveal(), value.origin, value.is_hash)) if isinstance(value, Secret) else NotImplemented


def secret(value: str, origin: str, is_hash: bool) -> Secret:
    """A Secret on the other side."""
    return Secret(value, origin, is_hash=is_hash)


def packed(settings: Settings, generated: Secret | None, control: ControlState) -> str:
    """As text, for a message."""
    buffer = io.BytesIO()
    Packer(buffer).dump((settings, generated, control))
    return base64.b64encode(buffer.getvalue()).decode()


def unpacked(text: str) -> tuple[Settings, Secret | None, ControlState]:
    """What `packed` was given."""
    found: tuple[Settings, Secret | None, ControlState] = pickle.loads(base64.b64decode(text))  # noqa: S301  from the owner alone
    return found
