"""azure-ai-inference with its OpenTelemetry instrumentation switched on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from azure.ai.inference import ChatCompletionsClient
from azure.ai.inference.models import UserMessage
from azure.ai.inference.tracing import AIInferenceInstrumentor
from azure.core.credentials import AzureKeyCredential
from azure.core.settings import settings
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from clients.serving import Server

pytestmark = pytest.mark.check(125)


@pytest.fixture(scope="module")
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    settings.tracing_implementation = "opentelemetry"
    AIInferenceInstrumentor().instrument()
    yield exporter
    AIInferenceInstrumentor().uninstrument()


@pytest.mark.parametrize("streaming", [False, True])
def test_spans_are_filled_from_the_answer(server: Server, spans: InMemorySpanExporter, streaming: bool) -> None:
    spans.clear()
    with ChatCompletionsClient(server.models, AzureKeyCredential(server.key)) as client:
        answer = client.complete(messages=[UserMessage("Hello")], model="mistral-large", stream=streaming)
        if streaming:
            list(answer)
    (span,) = [s for s in spans.get_finished_spans() if s.name == "chat mistral-large"]
    attributes = dict(span.attributes or {})
    assert attributes["gen_ai.system"] == "az.ai.inference"
    assert attributes["gen_ai.response.model"] == "Mistral-large-2411"
    assert attributes["gen_ai.response.id"]
    assert attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert attributes["gen_ai.usage.input_tokens"] > 0
    assert attributes["gen_ai.usage.output_tokens"] > 0
