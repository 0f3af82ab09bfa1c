"""What a 200 says about how it was made, in the fields of its head."""

from __future__ import annotations

from typing import Final

from modelport.gateway.call import Origin
from modelport.surfaces.asgi import Headers
from modelport.surfaces.headers import listed, printable, quota_headers

STREAM_HEADERS: Final = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))


def answer_headers(origin: Origin) -> Headers:
    """Beside what every response carries."""
    headers = quota_headers(origin.quota)
    headers.append((b"x-ms-deployment-name", printable(origin.deployment.name)))
    headers.append((b"x-modelport-snapshot", printable(origin.snapshot.id)))
    if origin.dropped:
        headers.append((b"x-modelport-dropped-parameters", listed(origin.dropped)))
    if origin.load_seconds is not None:
        headers.append((b"x-modelport-load-seconds", b"%.3f" % origin.load_seconds))
    return headers
