"""A change that takes long because a worker does not answer: Azure's SDK follows it to its end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager

import requests
from azure.core.pipeline.transport import RequestsTransport

from managed import CONFIG, GPT, GROUP, GUEST, NAME, authority, management
from served import Served
from worker_processes import worker_at, workers_of


def transport_of(served: Served, session: requests.Session) -> RequestsTransport:
    return RequestsTransport(session=session, session_owner=False, connection_verify=authority(served))


def test_the_sdk_follows_a_change_that_waits_for_a_worker(serve: Callable[..., AbstractContextManager[Served]]) -> None:
    with (
        serve(CONFIG, GUEST_KEY=GUEST, MODELPORT_WORKERS="2", MODELPORT_TLS_SELF_SIGNED="true") as served,
        requests.Session() as session,
        management(served, transport=transport_of(served, session), retry_total=3) as sdk,
    ):
        assert [found.name for found in sdk.deployments.list(GROUP, NAME)] == ["file"]
        pools = session.get_adapter(served.url).poolmanager.pools
        (key,) = pools.keys()
        (connection,) = [found for found in pools[key].pool.queue if found is not None]
        answers = worker_at(served, connection.sock)
        (stopped,) = [worker for worker in workers_of(served) if worker != answers]
        os.kill(stopped, signal.SIGSTOP)
        poller = sdk.deployments.begin_create_or_update(GROUP, NAME, "chat", GPT)
        assert not poller.done()
        assert poller.result().properties.provisioning_state == "Succeeded"
        assert [found.name for found in sdk.deployments.list(GROUP, NAME)] == ["chat", "file"]
        assert stopped not in workers_of(served)
