/**
 * A Worker in front of the load balancer: it knows its callers by a bearer key, and the load balancer knows it by the
 * client certificate behind env.ORIGIN and the signature on every request.
 */
import { originFetch } from "../edge-worker.js";

export default {
  async fetch(request, env) {
    if (!(await isCaller(request, env.API_KEY))) {
      return new Response("unauthorized\n", { status: 401, headers: { "WWW-Authenticate": "Bearer" } });
    }

    const inbound = new Request(request);
    // The key is for this Worker; the origin has no use for it.
    inbound.headers.delete("Authorization");

    try {
      const options = { origin: env.ORIGIN_URL, ohost: new URL(request.url).host };
      const response = await originFetch(inbound, env, options);
      return isAboutThisWorker(response) ? new Response("bad gateway\n", { status: 502 }) : response;
    } catch (error) {
      return answerIfTooLong(error);
    }
  },
};

/** Digests are compared, so that the time taken tells nothing about the key, not even its length. */
async function isCaller(request, key) {
  const given = request.headers.get("Authorization")?.replace(/^Bearer /i, "") ?? "";
  const digest = (text) => crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return Boolean(key) && crypto.subtle.timingSafeEqual(await digest(given), await digest(key));
}

/** The load balancer refused the Worker, not the visitor: something for the operator, who finds it in the logs. */
function isAboutThisWorker(response) {
  return response.status === 401 && /^EdgeIdentity\b/i.test(response.headers.get("WWW-Authenticate") ?? "");
}

/** These two are the visitor's doing; every other error is the operator's, and goes on. */
function answerIfTooLong(error) {
  if (error.code === "body_size") return new Response("content too large\n", { status: 413 });
  if (error.code === "token_size") return new Response("uri too long\n", { status: 414 });
  throw error;
}
