/**
 * A real OpenID Connect provider on loopback, and a person who logs in there: each line on stdin asks for a token or for
 * other keys, each line on stdout answers. Certificates are read from the folder that is the only argument.
 */

import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import https from "node:https";
import path from "node:path";
import readline from "node:readline";
import { exportJWK, generateKeyPair } from "jose";
import Provider from "oidc-provider";

const AUDIENCE = "api://shop";
const CALLBACK = "https://localhost/callback";
const KINDS = [
  { alg: "ES256", kty: "EC" },
  { alg: "RS256", kty: "RSA" },
  { alg: "EdDSA", kty: "OKP", options: { crv: "Ed25519" } },
];

const folder = process.argv[2];
const file = (name) => readFileSync(path.join(folder, name));

let callback;
const server = https.createServer(
  { cert: file("login.pem"), key: file("login.key"), requestCert: true, rejectUnauthorized: false },
  (request, response) => callback(request, response),
);
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const issuer = `https://localhost:${server.address().port}`;

/** A set of keys, one of each kind; each set names its own. */
async function newKeys(generation) {
  const make = async ({ alg, options }) => {
    const { privateKey } = await generateKeyPair(alg, { extractable: true, ...options });
    return { ...(await exportJWK(privateKey)), alg, use: "sig", kid: `${alg}-${generation}` };
  };
  return Promise.all(KINDS.map(make));
}

/** The algorithm is that of the client's resource, so each algorithm is a client of its own. */
function newProvider(keys) {
  const client = ({ alg }) => ({
    client_id: alg,
    client_secret: "secret-of-a-test",
    grant_types: ["authorization_code"],
    response_types: ["code"],
    redirect_uris: [CALLBACK],
    id_token_signed_response_alg: alg,
    tls_client_certificate_bound_access_tokens: alg === "ES256",
  });
  const provider = new Provider(issuer, {
    jwks: { keys },
    clients: KINDS.map(client),
    cookies: { keys: [randomBytes(32).toString("hex")] },
    claims: { openid: ["sub"] },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    extraTokenClaims: (_, token) => ({ groups: token.accountId === "ada" ? ["support", "it"] : ["it"] }),
    ttl: { AccessToken: 600, IdToken: 600, Session: 600, Interaction: 600, Grant: 600 },
    features: {
      devInteractions: { enabled: true },
      mTLS: {
        enabled: true,
        certificateBoundAccessTokens: true,
        getCertificate: (context) => context.socket.getPeerX509Certificate()?.toString(),
      },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => AUDIENCE,
        useGrantedResource: () => true,
        getResourceServerInfo: (_, __, { clientId }) => ({
          audience: AUDIENCE,
          scope: "orders",
          accessTokenFormat: "jwt",
          jwt: { sign: { alg: clientId } },
        }),
      },
    },
  });
  provider.on("server_error", (_, error) => console.error(error));
  return provider;
}

/** One request of the person's browser or of the client; redirects are followed by hand, cookies kept. */
function ask(url, { method = "GET", form, headers = {}, cookies } = {}) {
  const body = form && new URLSearchParams(form).toString();
  const cookie = cookies && [...cookies].map(([name, value]) => `${name}=${value}`).join("; ");
  return new Promise((answered, failed) => {
    const request = https.request(url, {
      method,
      ca: file("login-ca.pem"),
      cert: file("client.pem"),
      key: file("client.key"),
      headers: {
        ...(cookie && { cookie }),
        ...(body && { "content-type": "application/x-www-form-urlencoded", "content-length": body.length }),
        ...headers,
      },
    });
    request.on("error", failed);
    request.on("response", async (response) => {
      for (const set of response.headers["set-cookie"] ?? []) {
        const [name, value] = set.split(";")[0].split("=");
        cookies?.set(name, value);
      }
      const text = (await response.toArray()).join("");
      answered({ status: response.statusCode, location: response.headers.location, text });
    });
    request.end(body);
  });
}

/** The whole way: authorise, log in, consent, and change the code for a token. */
async function logIn(alg, user) {
  const verifier = randomBytes(32).toString("base64url");
  const challenge = createHash("sha256").update(verifier).digest("base64url");
  const query = new URLSearchParams({
    client_id: alg,
    response_type: "code",
    redirect_uri: CALLBACK,
    scope: "openid orders",
    resource: AUDIENCE,
    code_challenge: challenge,
    code_challenge_method: "S256",
  });
  const cookies = new Map();
  let url = `${issuer}/auth?${query}`;
  for (let step = 0; step < 20; step += 1) {
    const here = new URL(url, issuer);
    if (here.href.startsWith(CALLBACK)) return exchange(alg, here.searchParams.get("code"), verifier);
    const page = await ask(here, { cookies });
    url = page.location ?? (await submit(here, page.text, user, cookies));
  }
  throw new Error("the login does not end");
}

/** The provider's own pages: the first asks who it is, the second for consent. */
async function submit(page, text, user, cookies) {
  const prompt = /name="prompt" value="([a-z]+)"/.exec(text)?.[1];
  const form = prompt === "login" ? { prompt, login: user, password: "any" } : { prompt };
  const answer = await ask(page, { method: "POST", form, cookies });
  if (answer.location === undefined) throw new Error(`no redirect after ${prompt}: ${answer.status} ${answer.text}`);
  return answer.location;
}

async function exchange(alg, code, verifier) {
  const form = { grant_type: "authorization_code", code, redirect_uri: CALLBACK, code_verifier: verifier };
  const authorization = `Basic ${Buffer.from(`${alg}:secret-of-a-test`).toString("base64")}`;
  const answer = await ask(`${issuer}/token`, { method: "POST", form, headers: { authorization } });
  return JSON.parse(answer.text);
}

let generation = 1;
callback = newProvider(await newKeys(generation)).callback();
console.log(JSON.stringify({ issuer }));

for await (const line of readline.createInterface({ input: process.stdin })) {
  const wanted = JSON.parse(line);
  if (wanted.rotate) {
    generation += 1;
    callback = newProvider(await newKeys(generation)).callback();
    console.log(JSON.stringify({ rotated: generation }));
  } else {
    console.log(JSON.stringify(await logIn(wanted.alg, wanted.user)));
  }
}
process.exit(0);
