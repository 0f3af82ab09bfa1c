"""The transport against real sockets: pooling, time-outs, hang-ups, and what the caller may read about them."""

import asyncio
import ssl
import zlib
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from modelport.core.catalog import Timeouts
from modelport.core.errors import Unavailable, UpstreamFailed, UpstreamTimedOut
from modelport.core.ports.providers import Address, UpstreamRequest
from modelport.upstream.transports.aiohttp import AiohttpTransport

PATIENT = Timeouts(connect=5, first_event=20, between_events=20, whole=40)
ASK = UpstreamRequest(path="/chat/completions", body=b'{"a":1}', headers=(("Content-Type", "application/json"),))
ASK_STREAM = UpstreamRequest(path="/chat/completions", body=b"{}", streamed=True)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Request-Id: r1\r\n\r\nhi"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.fixture
async def transport() -> AsyncIterator[AiohttpTransport]:
    made = AiohttpTransport()
    yield made
    await made.close()


async def whole(transport, address, request=ASK, timeouts=PATIENT) -> tuple[int, dict, bytes]:
    async with transport.send(address, request, timeouts) as answer:
        return answer.status, answer.headers, b"".join([piece async for piece in answer.chunks()])


async def test_request_arrives_as_encoded_and_the_answer_comes_back(transport, serving):
    seen = []

    async def script(connection):
        seen.append(await connection.request())
        await connection.send(OK)

    async with serving(script) as server:
        status, headers, body = await whole(transport, Address(server.base_url))
    assert (status, headers["x-request-id"], body) == (200, "r1", b"hi")
    head, _, sent = seen[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert b"content-type: application/json" in head.lower()
    assert b"accept-encoding: identity" in head.lower()
    assert sent == b'{"a":1}'


async def test_connection_is_used_again(transport, serving):
    async def script(connection):
        while await connection.request():
            await connection.send(OK)

    async with serving(script) as server:
        for _ in range(3):
            await whole(transport, Address(server.base_url))
        assert len(server.connections) == 1


async def test_unix_socket_is_asked_with_the_path_of_the_base_url(transport, serving, tmp_path):
    seen = []

    async def script(connection):
        seen.append(await connection.request())
        await connection.send(OK)

    place = str(tmp_path / "engine.sock")
    async with serving(script, place) as server:
        assert (await whole(transport, Address(server.base_url, unix_socket=place)))[0] == 200
    assert seen[0].startswith(b"POST /v1/chat/completions ")


async def test_query_and_odd_path_are_sent_as_they_are(transport, serving):
    seen = []

    async def script(connection):
        seen.append(await connection.request())
        await connection.send(OK)

    async with serving(script) as server:
        request = UpstreamRequest(path="/d/a%2Fb/chat?api-version=2024-10-21", body=b"{}")
        await whole(transport, Address(server.base_url + "/"), request)
    assert seen[0].startswith(b"POST /v1/d/a%2Fb/chat?api-version=2024-10-21 ")


async def test_stale_connection_is_replaced_once_without_the_caller_noticing(transport, serving):
    async def script(connection):
        await connection.request()
        if connection.number == 0:
            await connection.send(OK)
            await connection.request()  # taken from the kept connection, and then nothing but its end
            return
        await connection.send(OK)

    async with serving(script) as server:
        await whole(transport, Address(server.base_url))
        assert (await whole(transport, Address(server.base_url)))[2] == b"hi"
        assert len(server.connections) == 2


async def test_fresh_connection_that_closes_is_not_tried_again(transport, serving):
    async def script(connection):
        await connection.request()

    async with serving(script) as server:
        with pytest.raises(UpstreamFailed, match="closed the connection before it answered"):
            await whole(transport, Address(server.base_url))
        assert len(server.connections) == 1


async def test_kept_connection_that_breaks_in_the_answer_is_not_tried_again(transport, serving):
    async def script(connection):
        await connection.request()
        await connection.send(OK)
        await connection.request()
        await connection.send(STREAM_HEAD, chunk(b"part"))

    async with serving(script) as server:
        await whole(transport, Address(server.base_url))
        with pytest.raises(UpstreamFailed, match="broke its answer off"):
            await whole(transport, Address(server.base_url))
        assert len(server.connections) == 1


async def test_upstream_that_is_not_there_is_a_failure_without_its_address(transport, unused_tcp_port):
    with pytest.raises(UpstreamFailed) as caught:
        await whole(transport, Address(f"http://user:hunter2@127.0.0.1:{unused_tcp_port}/v1"))
    assert caught.value.message == "The upstream could not be reached."
    assert caught.value.retry_after == 1


async def test_silent_upstream_is_a_time_out_and_sees_the_hang_up(transport, serving):
    gone = asyncio.Event()

    async def script(connection):
        await connection.request()
        await connection.watch()
        gone.set()

    async with serving(script) as server:
        with pytest.raises(UpstreamTimedOut, match="did not answer in time"):
            await whole(transport, Address(server.base_url), ASK_STREAM, Timeouts(first_event=0.05))
        await asyncio.wait_for(gone.wait(), 20)


async def test_headers_without_a_first_byte_are_a_time_out(transport, serving):
    async def script(connection):
        await connection.request()
        await connection.send(STREAM_HEAD)
        await connection.watch()

    limits = Timeouts(first_event=0.1)
    async with serving(script) as server, transport.send(Address(server.base_url), ASK_STREAM, limits) as answer:
        with pytest.raises(UpstreamTimedOut):
            await anext(answer.chunks())


async def test_whole_answer_may_take_longer_than_a_first_event(transport, serving):
    release = asyncio.Event()

    async def script(connection):
        await connection.request()
        await release.wait()
        await connection.send(OK)

    async with serving(script) as server:
        asyncio.get_running_loop().call_later(0.2, release.set)
        answer = await whole(transport, Address(server.base_url), ASK, Timeouts(first_event=0.01, whole=30))
    assert answer[2] == b"hi"


async def test_whole_answer_is_bounded_too(transport, serving):
    async def script(connection):
        await connection.request()
        await connection.watch()

    async with serving(script) as server:
        with pytest.raises(UpstreamTimedOut):
            await whole(transport, Address(server.base_url), ASK, Timeouts(whole=0.05))


@pytest.mark.parametrize("streamed", [True, False])
async def test_times_of_a_queued_target_begin_with_the_head_of_its_answer(transport, serving, streamed):
    async def script(connection):
        await connection.request()
        await asyncio.sleep(1.5)
        await connection.send(STREAM_HEAD, chunk(b"one"), b"0\r\n\r\n")
        await connection.watch()

    request = UpstreamRequest(path="/x", body=b"{}", streamed=streamed, queued=True)
    limits = Timeouts(first_event=0.9, whole=0.9, queue=20)
    async with serving(script) as server:
        assert (await whole(transport, Address(server.base_url), request, limits))[2] == b"one"


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_queue_that_is_too_long_is_told_as_such_and_left(transport, serving, streamed):
    gone = asyncio.Event()

    async def script(connection):
        await connection.request()
        await connection.watch()
        gone.set()

    request = UpstreamRequest(path="/x", body=b"{}", streamed=streamed, queued=True)
    async with serving(script) as server:
        with pytest.raises(Unavailable, match="waited in its queue") as caught:
            await whole(transport, Address(server.base_url), request, Timeouts(first_event=20, queue=0.1))
        await asyncio.wait_for(gone.wait(), 20)
    assert (caught.value.status, caught.value.code, caught.value.retry_after) == (503, "NoCapacity", 10)


@pytest.mark.parametrize(
    ("streamed", "limits"), [(True, Timeouts(first_event=0.1, queue=20)), (False, Timeouts(whole=0.1, queue=20))]
)
async def test_a_queued_target_that_has_begun_and_says_nothing_is_a_time_out(transport, serving, streamed, limits):
    async def script(connection):
        await connection.request()
        await connection.send(STREAM_HEAD)
        await connection.watch()

    request = UpstreamRequest(path="/x", body=b"{}", streamed=streamed, queued=True)
    async with serving(script) as server:
        with pytest.raises(UpstreamTimedOut):
            await whole(transport, Address(server.base_url), request, limits)


async def test_stream_that_stops_in_the_middle_is_a_time_out_and_aborted(transport, serving):
    gone = asyncio.Event()

    async def script(connection):
        await connection.request()
        await connection.send(STREAM_HEAD, chunk(b"one"))
        await connection.watch()
        gone.set()

    received = []
    async with serving(script) as server:
        with pytest.raises(UpstreamTimedOut, match="stopped sending"):
            limits = Timeouts(first_event=20, between_events=0.05)
            async with transport.send(Address(server.base_url), ASK_STREAM, limits) as answer:
                async for piece in answer.chunks():
                    received.append(piece)
        await asyncio.wait_for(gone.wait(), 20)
    assert received == [b"one"]


async def test_slow_reader_is_not_the_upstreams_fault(transport, serving):
    async def script(connection):
        await connection.request()
        await connection.send(STREAM_HEAD, chunk(b"one"))
        await connection.send(chunk(b"two"), b"0\r\n\r\n")
        await connection.watch()

    async with serving(script) as server:
        limits = Timeouts(first_event=20, between_events=5)
        async with transport.send(Address(server.base_url), ASK_STREAM, limits) as answer:
            reader = answer.chunks()
            first = await anext(reader)
            await asyncio.sleep(0.1)
            rest = [piece async for piece in reader]
    assert first + b"".join(rest) == b"onetwo"


async def test_while_the_reader_is_away_the_whole_answer_has_its_time_still(transport, serving):
    async def script(connection):
        await connection.request()
        await connection.send(STREAM_HEAD, chunk(b"one"))
        await asyncio.sleep(3.5)
        await connection.send(chunk(b"two"), b"0\r\n\r\n")
        await connection.watch()

    limits = Timeouts(first_event=20, between_events=20, whole=2)
    async with serving(script) as server, transport.send(Address(server.base_url), ASK_STREAM, limits) as answer:
        reader = answer.chunks()
        first = await anext(reader)
        await asyncio.sleep(3)
        rest = [piece async for piece in reader]
    assert first + b"".join(rest) == b"onetwo"


async def test_leaving_a_stream_early_is_seen_by_the_upstream(transport, serving):
    gone = asyncio.Event()

    async def script(connection):
        await connection.request()
        await connection.send(STREAM_HEAD, chunk(b"one"))
        await connection.watch()
        gone.set()

    async with serving(script) as server:
        async with transport.send(Address(server.base_url), ASK_STREAM, PATIENT) as answer:
            assert await anext(answer.chunks()) == b"one"
        await asyncio.wait_for(gone.wait(), 20)


async def test_cancelled_wait_for_headers_is_seen_by_the_upstream(transport, serving):
    asked, gone = asyncio.Event(), asyncio.Event()

    async def script(connection):
        await connection.request()
        asked.set()
        await connection.watch()
        gone.set()

    async with serving(script) as server:
        task = asyncio.create_task(whole(transport, Address(server.base_url)))
        await asyncio.wait_for(asked.wait(), 20)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await asyncio.wait_for(gone.wait(), 20)


@pytest.mark.parametrize(
    "answer",
    [
        STREAM_HEAD + chunk(b"part"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart",
    ],
)
async def test_cut_body_is_a_failure(transport, serving, answer):
    async def script(connection):
        await connection.request()
        await connection.send(answer)

    async with serving(script) as server:
        with pytest.raises(UpstreamFailed, match="broke its answer off"):
            await whole(transport, Address(server.base_url))


async def test_body_without_a_length_ends_with_the_connection(transport, serving):
    async def script(connection):
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\nall of it")

    async with serving(script) as server:
        assert (await whole(transport, Address(server.base_url)))[2] == b"all of it"


async def test_answer_that_is_not_http_is_a_failure(transport, serving):
    async def script(connection):
        await connection.request()
        await connection.send(b"SSH-2.0-OpenSSH_9.2\r\n")

    async with serving(script) as server:
        with pytest.raises(UpstreamFailed, match="no HTTP answer"):
            await whole(transport, Address(server.base_url))


async def test_redirect_is_not_followed(transport, serving):
    async def script(connection):
        await connection.request()
        await connection.send(b"HTTP/1.1 307 Go\r\nLocation: /v1/elsewhere\r\nContent-Length: 0\r\n\r\n")

    async with serving(script) as server:
        assert (await whole(transport, Address(server.base_url)))[0] == 307
        assert len(server.connections) == 1


async def test_cookies_are_not_kept(transport, serving):
    seen = []

    async def script(connection):
        while request := await connection.request():
            seen.append(request)
            await connection.send(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")

    async with serving(script) as server:
        await whole(transport, Address(server.base_url))
        await whole(transport, Address(server.base_url))
    assert b"cookie" not in seen[1].lower()


async def test_answer_compressed_against_our_wish_is_unpacked(transport, serving):
    packer = zlib.compressobj(wbits=31)
    packed = packer.compress(b"text") + packer.flush()

    async def script(connection):
        await connection.request()
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
        await connection.send(head, packed)

    async with serving(script) as server:
        assert (await whole(transport, Address(server.base_url)))[2] == b"text"


async def test_error_body_is_cut_at_the_limit_and_may_break_off(transport, serving):
    async def script(connection):
        await connection.request()
        await connection.send(b"HTTP/1.1 500 No\r\nContent-Length: 1000\r\n\r\n" + b"x" * 500)

    async with serving(script) as server:
        for limit, length in ((100, 100), (10_000, 500)):
            async with transport.send(Address(server.base_url), ASK, PATIENT) as answer:
                assert len(await answer.body(limit)) == length


async def test_proxy_is_used_when_configured_and_only_then(transport, serving, monkeypatch):
    seen = []

    async def script(connection):
        seen.append(await connection.request())
        await connection.send(OK)

    async with serving(script) as server:
        proxy = server.base_url.removesuffix("/v1")
        address = Address("http://upstream.invalid/v1", proxy=proxy)
        assert (await whole(transport, address))[2] == b"hi"
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        assert (await whole(transport, Address(server.base_url)))[2] == b"hi"
    assert seen[0].startswith(b"POST http://upstream.invalid/v1/chat/completions ")


async def test_tls_is_verified_against_the_ca_file(transport, tmp_path, serving_tls):
    async with serving_tls() as (base_url, ca_file):
        assert (await whole(transport, Address(base_url, ca_file=ca_file)))[2] == b"hi"
        assert (await whole(transport, Address(base_url, verify_tls=False)))[2] == b"hi"
        with pytest.raises(UpstreamFailed, match="No trusted connection"):
            await whole(transport, Address(base_url))


async def test_handshake_that_never_ends_is_a_time_out(transport, serving):
    async def script(connection):
        await connection.watch()

    async with serving(script) as server:
        silent = Address(server.base_url.replace("http://", "https://"))
        with pytest.raises(UpstreamTimedOut, match="could not be reached in time"):
            await whole(transport, silent, ASK, Timeouts(connect=0.1))


async def test_missing_ca_file_is_a_failure(transport, tmp_path):
    with pytest.raises(UpstreamFailed, match="CA file"):
        await whole(transport, Address("https://127.0.0.1:1", ca_file=str(tmp_path / "none.pem")))


async def test_closed_transport_opens_no_new_pool(transport):
    await transport.close()
    with pytest.raises(UpstreamFailed, match="shutting down"):
        await whole(transport, Address("http://127.0.0.1:1"))


async def test_slow_reader_slows_the_upstream_down(transport, serving):
    """Backpressure: what nobody reads is not piled up here."""
    blocked = asyncio.Event()
    total = 64 * 1024 * 1024

    async def script(connection):
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        sent = 0
        while sent < total:
            connection.writer.write(bytes(1024 * 1024))
            sent += 1024 * 1024
            drained = asyncio.ensure_future(connection.writer.drain())
            done, _ = await asyncio.wait({drained}, timeout=0.5)
            if not done:
                blocked.set()
                await drained

    async with serving(script) as server, transport.send(Address(server.base_url), ASK, PATIENT) as answer:
        await asyncio.wait_for(blocked.wait(), 20)
        length = 0
        async for piece in answer.chunks():
            length += len(piece)
    assert length == total


@pytest.fixture
def serving_tls(tmp_path: Path):
    from contextlib import asynccontextmanager

    key, certificate = _certificate(tmp_path)

    @asynccontextmanager
    async def serve():
        async def accept(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(len(ASK.body))
            writer.write(OK)
            await writer.drain()
            writer.close()

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
        try:
            yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", certificate
        finally:
            server.close()

    return serve


def _certificate(directory: Path) -> tuple[str, str]:
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "upstream")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(private, hashes.SHA256())
    )
    key_file, certificate_file = directory / "key.pem", directory / "certificate.pem"
    key_file.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return str(key_file), str(certificate_file)
