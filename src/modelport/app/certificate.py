"""The listener's certificate follows its files while the server runs."""

from __future__ import annotations

import asyncio
from typing import Final

from modelport.config.tls import RenewedCertificate

LOOK_SECONDS: Final = 2.0


async def watch_certificate(certificate: RenewedCertificate | None) -> None:
    """Looks at the files until it is cancelled; ends at once without TLS."""
    while certificate is not None:
        await asyncio.sleep(LOOK_SECONDS)
        certificate.renew_if_due()
