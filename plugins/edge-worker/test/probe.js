/**
 * The Worker under test: it does what the test's plan says and tells what came of it. With `sends` it plays a thief,
 * who puts one token on requests of his own; without, the kit does everything.
 */
import { originFetch, signRequest } from "./edge-worker.js";

export default {
  async fetch(inbound, env) {
    const { request, options: more = {}, sends, unsigned = false, age = 0 } = await inbound.json();
    const log = [];
    const options = { ...more, log: (entry) => log.push(entry), now: () => Date.now() - age * 1000 };
    if (sends === undefined) {
      return Response.json({ answers: [await answer(originFetch(build(request), env, options))], log });
    }
    const signed = await signRequest(build(request), env, options);
    const token = unsigned ? null : signed.headers.get("Edge-Identity");
    return Response.json({ answers: await sendAll(sends, token, env), log });
  },
};

async function sendAll(sends, token, env) {
  const answers = [];
  for (const plan of sends) {
    const request = build(plan);
    if (token !== null) request.headers.set("Edge-Identity", token);
    answers.push(await answer(env.ORIGIN.fetch(request)));
  }
  return answers;
}

function build({ url, ...init }) {
  return new Request(url, { ...init, redirect: "manual" });
}

async function answer(promise) {
  try {
    const response = await promise;
    return { status: response.status, headers: Object.fromEntries(response.headers), body: await response.text() };
  } catch (error) {
    return { status: null, error: String(error) };
  }
}
