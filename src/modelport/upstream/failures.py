"""What the HTTP client library raises, as our own errors: the one place that translates them.

The texts name no host, path or credential: a caller reads them.
"""

from __future__ import annotations

import asyncio
from typing import Final

import aiohttp

from modelport.core.errors import ModelportError, UpstreamFailed, UpstreamGivenUp, UpstreamTimedOut

NOT_REACHED_IN_TIME: Final = "The upstream could not be reached in time."
NOT_ANSWERED_IN_TIME: Final = "The upstream did not answer in time."
NOT_TRUSTED: Final = "No trusted connection to the upstream could be made."
NOT_REACHED: Final = "The upstream could not be reached."
CLOSED_BEFORE_ANSWER: Final = "The upstream closed the connection before it answered."
SET_UP_WRONGLY: Final = "The upstream is set up wrongly: no request can be made for it."
NO_HTTP: Final = "The upstream sent what is no HTTP answer."
STOPPED_SENDING: Final = "The upstream stopped sending its answer."
BROKE_OFF: Final = "The upstream broke its answer off."
TOO_LONG: Final = "The upstream's answer is longer than any answer."

CLIENT_FAILURES = (aiohttp.ClientError, OSError, asyncio.TimeoutError, ValueError)
"""Everything that the library raises for a request that could not be made or read to its end."""


def lost_connection(exc: BaseException) -> bool:
    """Did the connection end before any byte of an answer had come?"""
    if isinstance(exc, aiohttp.ServerDisconnectedError):
        return isinstance(exc.message, str)  # otherwise it is the unfinished head of an answer
    return isinstance(exc, aiohttp.ClientOSError) and not isinstance(exc, aiohttp.ClientConnectorError)


def failed_before_answer(exc: BaseException) -> ModelportError:
    """Our error for one that came before the answer's headers."""
    match exc:
        case aiohttp.ConnectionTimeoutError():
            return UpstreamTimedOut(NOT_REACHED_IN_TIME)
        case asyncio.TimeoutError():
            return UpstreamGivenUp(NOT_ANSWERED_IN_TIME)
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            return UpstreamFailed(NOT_TRUSTED)
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return UpstreamFailed("The upstream could not be reached through the configured proxy.")
        case aiohttp.ClientConnectorError():
            return UpstreamFailed(NOT_REACHED)
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError():
            return UpstreamFailed(CLOSED_BEFORE_ANSWER)
        case aiohttp.InvalidURL() | ValueError():
            return UpstreamFailed(SET_UP_WRONGLY)
        case _:
            return UpstreamFailed(NO_HTTP)


def failed_in_answer(exc: BaseException) -> ModelportError:
    """Our error for one that came while the body was read."""
    if isinstance(exc, asyncio.TimeoutError):
        return UpstreamGivenUp(STOPPED_SENDING)
    return UpstreamFailed(BROKE_OFF)
