"""What the HTTP client library raises, as our own errors: the one place that translates them.

The texts name no host, path or credential: a caller reads them.
"""

from __future__ import annotations

import asyncio

import aiohttp

from modelport.core.errors import ModelportError, UpstreamFailed, UpstreamTimedOut

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
            return UpstreamTimedOut("The upstream could not be reached in time.")
        case asyncio.TimeoutError():
            return UpstreamTimedOut("The upstream did not answer in time.")
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            return UpstreamFailed("No trusted connection to the upstream could be made.")
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return UpstreamFailed("The upstream could not be reached through the configured proxy.")
        case aiohttp.ClientConnectorError():
            return UpstreamFailed("The upstream could not be reached.")
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError():
            return UpstreamFailed("The upstream closed the connection before it answered.")
        case aiohttp.InvalidURL() | ValueError():
            return UpstreamFailed("The upstream is set up wrongly: no request can be made for it.")
        case _:
            return UpstreamFailed("The upstream sent what is no HTTP answer.")


def failed_in_answer(exc: BaseException) -> ModelportError:
    """Our error for one that came while the body was read."""
    if isinstance(exc, asyncio.TimeoutError):
        return UpstreamTimedOut("The upstream stopped sending its answer.")
    return UpstreamFailed("The upstream broke its answer off.")
