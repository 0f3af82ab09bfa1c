// Asks one deployment through one client, streamed and whole, and prints what came as JSON.
//
//   node talk.mjs CLIENT DEPLOYMENT QUESTION
//
// From the environment: BASE_URL of the server, and API_KEY.
import { createAzure } from "@ai-sdk/azure";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText } from "ai";
import OpenAI from "openai";

const { BASE_URL: base, API_KEY: apiKey } = process.env;
const [, , client, deployment, question] = process.argv;
const azure = { baseURL: `${base}/openai`, apiKey, useDeploymentBasedUrls: true, apiVersion: "2024-10-21" };
const models = {
  openai: () => createOpenAI({ baseURL: `${base}/openai/v1`, apiKey }).chat(deployment),
  azure: () => createAzure(azure).chat(deployment),
  compatible: () => createOpenAICompatible({ name: "x", baseURL: `${base}/models`, apiKey }).chatModel(deployment),
};

async function bySdk() {
  const asked = { model: models[client](), prompt: question, maxRetries: 0 };
  const errors = [];
  const streamed = streamText({ ...asked, onError: ({ error }) => errors.push(error) });
  let text = "";
  for await (const piece of streamed.textStream) {
    text += piece;
  }
  if (errors.length) {
    throw errors[0];
  }
  const whole = await generateText(asked);
  return { streamed: [text, await streamed.finishReason], whole: [whole.text, whole.finishReason] };
}

async function byOpenAI() {
  const asked = { model: deployment, messages: [{ role: "user", content: question }] };
  const completions = new OpenAI({ baseURL: `${base}/openai/v1`, apiKey, maxRetries: 0 }).chat.completions;
  const found = [await completions.stream(asked).finalChatCompletion(), await completions.create(asked)];
  const [streamed, whole] = found.map(({ choices: [{ message, finish_reason }] }) => [message.content, finish_reason]);
  return { streamed, whole };
}

try {
  console.log(JSON.stringify(await (client === "openai-js" ? byOpenAI() : bySdk())));
} catch (error) {
  console.log(JSON.stringify({ status: error.statusCode ?? error.status, message: error.message }));
}
