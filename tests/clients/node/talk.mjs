// Runs one conversation with one version of @azure-rest/ai-inference, or printed samples, and prints what came as JSON.
//
//   node talk.mjs CONVERSATION [SAMPLE ...]
//
// From the environment: AZURE_INFERENCE_ENDPOINT, AZURE_INFERENCE_CREDENTIAL (a key; absent: what DefaultAzureCredential
// finds), CLIENT_PACKAGE, CLIENT_SAMPLES (a folder).
import { readFileSync } from "node:fs";
import { AzureKeyCredential } from "@azure/core-auth";
import { createSseStream } from "@azure/core-sse";
import { DefaultAzureCredential } from "@azure/identity";

const { default: ModelClient, isUnexpected } = await import(process.env.CLIENT_PACKAGE);
const endpoint = process.env.AZURE_INFERENCE_ENDPOINT;
const key = process.env.AZURE_INFERENCE_CREDENTIAL;
const credential = key ? new AzureKeyCredential(key) : new DefaultAzureCredential();
const options = { allowInsecureConnection: true };
const messages = [{ role: "user", content: "How many languages are in the world?" }];

async function textOf(response) {
  let text = "";
  const chunks = [];
  for await (const event of createSseStream(response.body)) {
    if (event.data === "[DONE]") {
      return { text, chunks, done: true };
    }
    const chunk = JSON.parse(event.data);
    chunks.push(chunk);
    for (const choice of chunk.choices) {
      text += choice.delta?.content ?? "";
    }
  }
  return { text, chunks, done: false };
}

const conversations = {
  async chat(body) {
    const called = await ModelClient(endpoint, credential, options).path("/chat/completions").post({ body: { messages, ...body } });
    const constructed = await new ModelClient(endpoint, credential, options)
      .path("/chat/completions")
      .post({ body: { messages, ...body } });
    return [called, constructed].map((r) => ({ status: r.status, body: r.body, unexpected: isUnexpected(r) }));
  },
  async post(request) {
    const response = await ModelClient(endpoint, credential, options).path("/chat/completions").post(request);
    return { status: response.status, body: response.body, unexpected: isUnexpected(response) };
  },
  async embed(request) {
    const response = await ModelClient(endpoint, credential, options).path(request.path).post({ body: request.body });
    return { status: response.status, body: response.body };
  },
  async info(query) {
    const response = await ModelClient(endpoint, credential, options).path("/info").get(query);
    return { status: response.status, body: response.body };
  },
  async stream(body) {
    const response = await ModelClient(endpoint, credential, options)
      .path("/chat/completions")
      .post({ body: { messages, stream: true, ...body } })
      .asNodeStream();
    try {
      return { status: response.status, ...(await textOf(response)) };
    } catch (error) {
      return { status: response.status, error: String(error) };
    }
  },
};

const [, , conversation, ...rest] = process.argv;
if (conversation === "printed") {
  // The samples as printed, one after the other, in one async function: `import` lines are what is above.
  const program = rest
    .map((name) => readFileSync(`${process.env.CLIENT_SAMPLES}/${name}.js.txt`, "utf-8"))
    .map((text) => text.replace(/^import .*;$/gm, ""))
    .join("\n");
  const AsyncFunction = (async () => {}).constructor;
  const known = { ModelClient, isUnexpected, AzureKeyCredential, DefaultAzureCredential, createSseStream };
  await new AsyncFunction(...Object.keys(known), program)(...Object.values(known));
} else {
  console.log(JSON.stringify(await conversations[conversation](JSON.parse(rest[0] ?? "{}"))));
}
