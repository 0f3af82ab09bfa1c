"""The filter `image` on every route whose requests may hold pictures: what is sexual is refused, and of what was not
looked at the answer says so."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from modelport.core.operations import Operation
from word_filter import double_modules

from .harness import post
from .shared import Client, Scenario, Shared, player, shared
from .test_content_filters import CONFIG, ROUTES, answers, target

POLICY = "{filters: [classifier, image], annotate: true}"
PICTURED = {
    name: route
    for name, route in ROUTES.items()
    if route.endpoint.operation in (Operation.CHAT_COMPLETIONS, Operation.IMAGE_EMBEDDINGS)  # type: ignore[union-attr]
}
GREEN, RED = "data:image/png;base64,green", "data:image/png;base64,red0"
REMOTE = "https://example.com/red.png"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    config = CONFIG.replace("POLICY", POLICY.replace("{", "{{").replace("}", "}}"))
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr("modelport.app.filters.filter_module", double_modules().__getitem__)
        with shared(tmp_path_factory.mktemp("images"), config) as found:
            yield found


@pytest.fixture
def play(server: Shared) -> Callable[[Scenario], None]:
    return player(server)


def request(name: str, *urls: str) -> bytes:
    route = PICTURED[name]
    if route.endpoint.operation is Operation.IMAGE_EMBEDDINGS:  # type: ignore[union-attr]
        return json.dumps({"model": "served", "input": [{"image": url} for url in urls]}).encode()
    parts = [{"type": "text", "text": "hello"}, *({"type": "image_url", "image_url": {"url": url}} for url in urls)]
    said: dict[str, Any] = {"messages": [{"role": "user", "content": parts}]}
    if route.path.endswith("/score"):
        return json.dumps({"input_data": {"input_string": said["messages"], "parameters": {}}}).encode()
    return json.dumps({"model": "served", **said}).encode()


@pytest.mark.check(108)
@pytest.mark.parametrize("name", PICTURED)
def test_no_picture_gets_by(play: Callable[[Scenario], None], name: str) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        server.upstream.seen.clear()
        answer = await client.ask(post(target(PICTURED[name]), request(name, GREEN, RED)))
        assert answer.status == 400, answer.body
        assert json.loads(answer.body)["error"]["code"] == "content_filter"
        assert server.upstream.seen == []

    play(scenario)


@pytest.mark.parametrize("base", ["/models", "/openai/v1"])
def test_what_was_not_looked_at_is_said(play: Callable[[Scenario], None], base: str) -> None:
    name = f"POST {base}/chat/completions"

    async def scenario(server: Shared, client: Client) -> None:
        server.upstream.pieces = answers(Operation.CHAT_COMPLETIONS, "soup", stream=False)["content"]
        for url, said, unsaid in (
            (GREEN, "image_partly_scanned", "image_not_scanned"),
            (REMOTE, "image_not_scanned", "image_partly_scanned"),
        ):
            answer = await client.ask(post(target(PICTURED[name]), request(name, url)))
            assert answer.status == 200, answer.body
            (annotation,) = json.loads(answer.body)["prompt_filter_results"]
            found = annotation["content_filter_results"]
            assert found[said] == {"filtered": False, "detected": True}
            assert unsaid not in found

    play(scenario)
