/** The module alone, under Node, whose WebCrypto and fetch classes are the ones that Workers have. */
import assert from "node:assert/strict";
import { createHash, generateKeyPairSync, verify } from "node:crypto";
import { describe, test } from "node:test";
import { EdgeIdentityError, originFetch, signRequest } from "../edge-worker.js";

const NOW_MS = 1_800_000_000_500;
const THUMBPRINT = createHash("sha256").update("a certificate").digest("base64url");
const es256 = generateKeyPairSync("ec", { namedCurve: "P-256" });
const ed25519 = generateKeyPairSync("ed25519");
const RESERVED_CLAIMS = "iss aud sub iat exp nbf jti htm hta htt cnf rid cip ohost cdg ath".split(" ");
const pem = (pair, type = "pkcs8") => pair.privateKey.export({ type, format: "pem" });
const sha256 = (text) => createHash("sha256").update(text).digest("base64url");

function environment(changes = {}) {
  return {
    EDGE_IDENTITY: JSON.stringify({ kid: "checkout-1", alg: "ES256", key: pem(es256) }),
    EDGE_ISSUER: "https://edge.example.com",
    EDGE_AUDIENCE: "https://shop.example.com",
    EDGE_SUBJECT: "spiffe://shop.example/checkout",
    EDGE_CERTIFICATE_THUMBPRINT: THUMBPRINT,
    ...changes,
  };
}

const identity = (changes) => ({ EDGE_IDENTITY: { kid: "checkout-1", alg: "ES256", key: pem(es256), ...changes } });

const URL_PLAIN = "https://shop.example.com/orders/7?q=1";
const quiet = (options = {}) => ({ log: false, now: () => NOW_MS, ...options });
const sign = (request, env = {}, options = {}) => signRequest(request, environment(env), quiet(options));

function decoded(request) {
  const token = request.headers.get("Edge-Identity");
  const [header, payload] = token.split(".").map((part) => Buffer.from(part, "base64url"));
  return { token, header: JSON.parse(header), claims: JSON.parse(payload) };
}

const claimsOf = async (...args) => decoded(await sign(...args)).claims;

describe("the token", () => {
  test("is signed with ES256 in JOSE form under an exact header", async () => {
    const { token, header } = decoded(await sign(new Request(URL_PLAIN)));
    const [head, payload, signature] = token.split(".");
    assert.equal(JSON.stringify(header), `{"typ":"edge-identity+jwt","alg":"ES256","kid":"checkout-1"}`);
    const key = { key: es256.publicKey, dsaEncoding: "ieee-p1363" };
    assert.ok(verify("sha256", Buffer.from(`${head}.${payload}`), key, Buffer.from(signature, "base64url")));
    assert.match(token, /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86}$/);
  });

  test("is signed with EdDSA where the key says so", async () => {
    const env = identity({ alg: "EdDSA", key: pem(ed25519) });
    const { token, header } = decoded(await sign(new Request(URL_PLAIN), env));
    const [head, payload, signature] = token.split(".");
    assert.equal(header.alg, "EdDSA");
    assert.ok(verify(null, Buffer.from(`${head}.${payload}`), ed25519.publicKey, Buffer.from(signature, "base64url")));
  });

  test("holds these claims and no others", async () => {
    const { jti, rid, ...rest } = await claimsOf(new Request(URL_PLAIN, { method: "POST" }));
    assert.deepEqual(rest, {
      iss: "https://edge.example.com",
      aud: "https://shop.example.com",
      sub: "spiffe://shop.example/checkout",
      cnf: { "x5t#S256": THUMBPRINT },
      iat: 1_800_000_000,
      exp: 1_800_000_060,
      htm: "POST",
      hta: "shop.example.com",
      htt: "/orders/7?q=1",
    });
    assert.equal(Buffer.from(jti, "base64url").length, 16);
    assert.match(rid, /^[0-9a-f-]{36}$/);
  });

  test("is another one each time", async () => {
    const request = new Request(URL_PLAIN);
    const [first, second] = [await claimsOf(request), await claimsOf(request)];
    assert.notEqual(first.jti, second.jti);
    assert.notEqual(first.rid, second.rid);
  });

  test("needs its key imported once", async (context) => {
    const { mock } = context.mock.method(crypto.subtle, "importKey");
    const env = identity({ key: pem(generateKeyPairSync("ec", { namedCurve: "P-256" })) });
    await sign(new Request(URL_PLAIN), env);
    await sign(new Request(URL_PLAIN), env);
    assert.equal(mock.callCount(), 1);
  });

  test("has no cnf where no thumbprint is set, and the ttl that is", async () => {
    for (const unset of [undefined, ""]) {
      const env = { EDGE_CERTIFICATE_THUMBPRINT: unset, EDGE_TOKEN_TTL: "300" };
      const claims = await claimsOf(new Request(URL_PLAIN), env);
      assert.equal("cnf" in claims, false);
      assert.equal(claims.exp - claims.iat, 300);
    }
  });

  test("carries what the caller asserts", async () => {
    const named = { rid: "0123abcd-request", ohost: "www.example.com" };
    const facts = { country: "NZ", roles: ["buyer"], limit: null };
    const options = { ...named, claims: facts, userToken: "a.user.token" };
    const { rid, ohost, ath, country, roles, limit } = await claimsOf(new Request(URL_PLAIN), {}, options);
    assert.deepEqual({ rid, ohost, country, roles, limit }, { ...named, ...facts });
    assert.equal(ath, sha256("a.user.token"));
  });

  const addresses = [
    ["IPv4", { "CF-Connecting-IP": "192.0.2.7" }, {}, "192.0.2.7"],
    ["IPv6", { "CF-Connecting-IP": "2001:db8::7" }, {}, "2001:db8::7"],
    ["the caller's own", { "CF-Connecting-IP": "192.0.2.7" }, { cip: "192.0.2.8" }, "192.0.2.8"],
    ["none there", {}, {}, undefined],
    ["none wanted", { "CF-Connecting-IP": "192.0.2.7" }, { cip: null }, undefined],
    ["not an address", { "CF-Connecting-IP": "localhost" }, {}, undefined],
    ["a list", { "CF-Connecting-IP": "192.0.2.7, 192.0.2.8" }, {}, undefined],
    ["a visitor's word", { "X-Forwarded-For": "192.0.2.7", "X-Real-IP": "192.0.2.7" }, {}, undefined],
  ];
  for (const [name, headers, options, expected] of addresses) {
    test(`cip: ${name}`, async () => {
      assert.equal((await claimsOf(new Request(URL_PLAIN, { headers }), {}, options)).cip, expected);
    });
  }

  test("takes no request id from a visitor", async () => {
    const headers = { "X-Request-Id": "chosen-by-visitor", "CF-Ray": "0123456789abcdef-AKL" };
    const { rid } = await claimsOf(new Request(URL_PLAIN, { headers }));
    assert.match(rid, /^[0-9a-f]{8}-[0-9a-f]{4}-4/);
  });
});

describe("the wire form", () => {
  const O = "https://shop.example.com:8443";
  const targets = [
    [O, "shop.example.com:8443", "/"],
    [`${O}/a?`, "shop.example.com:8443", "/a?"],
    [`${O}/a?#part`, "shop.example.com:8443", "/a?"],
    [`${O}/a#part`, "shop.example.com:8443", "/a"],
    ["https://shop.example.com:443/a", "shop.example.com", "/a"],
    ["https://SHOP.example.com/a", "shop.example.com", "/a"],
    ["https://[2001:db8::1]:8443/a", "[2001:db8::1]:8443", "/a"],
    [`${O}//other.example/a`, "shop.example.com:8443", "//other.example/a"],
    [`${O}/%7e%7E/%2f/%zz`, "shop.example.com:8443", "/%7e%7E/%2f/%zz"],
    [`${O}/a/../b/%2e%2E/c`, "shop.example.com:8443", "/c"],
    [`${O}/ü x?ü|^[]`, "shop.example.com:8443", "/%C3%BC%20x?%C3%BC|^[]"],
    [`${O}/a?b=1&&b=2?+%20`, "shop.example.com:8443", "/a?b=1&&b=2?+%20"],
  ];
  for (const [url, hta, htt] of targets) {
    test(url, async () => {
      const signed = await sign(new Request(url));
      const { claims } = decoded(signed);
      assert.equal(claims.hta, hta);
      assert.equal(claims.htt, htt);
      // What is signed is what is sent: the runtime takes authority and target from this text.
      assert.equal(signed.url, `https://${hta}${htt}`);
      assert.equal(signed.redirect, "manual");
    });
  }

  const moved = [
    ["http://www.example.com/a?", "/a?"],
    ["https://www.example.com//other.example/a", "//other.example/a"],
    ["https://www.example.com/\\other.example/@b", "//other.example/@b"],
  ];
  for (const [url, target] of moved) {
    test(`${url} sent to another origin keeps its target`, async () => {
      const signed = await sign(new Request(url), {}, { origin: "https://origin.example.net:8443" });
      assert.equal(signed.url, `https://origin.example.net:8443${target}`);
      assert.equal(decoded(signed).claims.hta, "origin.example.net:8443");
    });
  }

  test("method and body are kept", async () => {
    const signed = await sign(new Request(URL_PLAIN, { method: "put", body: "words" }));
    assert.equal(signed.method, "PUT");
    assert.equal(decoded(signed).claims.htm, "PUT");
    assert.equal(await signed.text(), "words");
  });
});

describe("inbound headers", () => {
  const removed = [
    "Belay-Workload", "belay-user", "BELAY-ROLES", "Belay_Route", "belay_roles", "Belay-", "belay_-x",
    "Forwarded", "X-Forwarded-For", "x-forwarded-proto", "X_Forwarded_Host", "x-forwarded_for",
    "X-Forwarded-Client-Cert", "Client-Cert", "Client-Cert-Chain", "client_cert", "Client-Certificate", "Edge_Identity",
  ];
  const kept = [
    "Accept", "Authorization", "Cf-Access-Jwt-Assertion", "CF-Connecting-IP", "Content-Type", "Cookie", "Traceparent",
    "Idempotency-Key", "Upgrade", "X-Request-Id", "X-Belay-Note", "X-Edge-Identity", "Belayed", "X-Forward",
  ];
  for (const name of removed) {
    test(`${name} is removed`, async () => {
      const signed = await sign(new Request(URL_PLAIN, { headers: { [name]: "forged" } }));
      assert.equal(signed.headers.has(name), false);
    });
  }
  for (const name of kept) {
    test(`${name} is kept`, async () => {
      const signed = await sign(new Request(URL_PLAIN, { headers: { [name]: "value" } }));
      assert.equal(signed.headers.get(name), "value");
    });
  }

  test("a forged token is replaced, not joined", async () => {
    const request = new Request(URL_PLAIN, { headers: { "Edge-Identity": "forged" } });
    assert.doesNotMatch((await sign(request)).headers.get("Edge-Identity"), /forged/);
    assert.equal(request.headers.get("Edge-Identity"), "forged", "the caller's request is left as it was");
  });
});

/** An origin that gives scripted outcomes and remembers what it was asked. */
function fakeOrigin(...outcomes) {
  const seen = [];
  const fetch = async (request) => {
    seen.push({ ...decoded(request), method: request.method, body: await request.text() });
    const outcome = outcomes[seen.length - 1];
    if (outcome instanceof Error) throw outcome;
    return outcome;
  };
  return { seen, fetch };
}

const challenge = (description, more = {}) => {
  const text = `EdgeIdentity realm="shop", error="invalid_token", error_description="${description}"`;
  return new Response(null, { status: 401, headers: { "WWW-Authenticate": text, ...more } });
};
const answer = (status, headers = {}) => new Response("body", { status, headers });
const lost = () => new Error("connection lost");

describe("a second sending", () => {
  const get = {};
  const post = { method: "POST", body: "words" };
  const keyed = { ...post, headers: { "Idempotency-Key": "k1" } };
  const long = { method: "PUT", body: "x".repeat(64 * 1024 + 1) };
  const cases = [
    // name, request, first outcome, sent again?
    ["stale token of a GET", get, challenge("stale_token"), true],
    ["stale token of a POST", post, challenge("stale_token"), true],
    ["stale token, to be retried at once", post, challenge("stale_token", { "Retry-After": "0" }), true],
    ["network error of a GET", get, lost(), true],
    ["network error of a HEAD", { method: "HEAD" }, lost(), true],
    ["network error of a PUT", { method: "PUT", body: "words" }, lost(), true],
    ["network error of a DELETE", { method: "DELETE" }, lost(), true],
    ["network error of a POST with Idempotency-Key", keyed, lost(), true],
    ["a GET that the runtime repeated", get, challenge("replay"), true],
    ["a DELETE that the runtime repeated", { method: "DELETE" }, challenge("replay"), true],
    ["a body at the limit", { method: "PUT", body: "x".repeat(64 * 1024) }, lost(), true],
    ["network error of a POST", post, lost(), false],
    ["network error of a PATCH", { method: "PATCH", body: "words" }, lost(), false],
    ["replay of a POST", post, challenge("replay"), false],
    ["a body over the limit", long, lost(), false],
    ["a body over the limit, stale token", long, challenge("stale_token"), false],
    ["stale token, to be retried too late", post, challenge("stale_token", { "Retry-After": "11" }), false],
    ["stale token, to be retried at a date", post, challenge("stale_token", { "Retry-After": "Sun, 22 Nov" }), false],
    ["expired", get, challenge("expired"), false],
    ["binding", get, challenge("binding"), false],
    ["key_expired", get, challenge("key_expired"), false],
    ["a challenge without a reason", get, answer(401, { "WWW-Authenticate": 'EdgeIdentity realm="shop"' }), false],
    ["another scheme", get, answer(401, { "WWW-Authenticate": 'Bearer error_description="stale_token"' }), false],
    ["another status", get, answer(403, { "WWW-Authenticate": 'EdgeIdentity error_description="stale_token"' }), false],
    ["500", get, answer(500), false],
    ["502", get, answer(502), false],
    ["503", get, answer(503, { "Retry-After": "1" }), false],
    ["429", get, answer(429), false],
    ["a redirect", get, answer(302, { Location: "https://other.example/" }), false],
    ["200", get, answer(200), false],
  ];
  for (const [name, init, outcome, again] of cases) {
    test(`${name}: ${again ? "yes" : "no"}`, async () => {
      const ORIGIN = fakeOrigin(outcome, answer(200));
      const sending = originFetch(new Request(URL_PLAIN, init), environment({ ORIGIN }), quiet());
      if (outcome instanceof Error && !again) await assert.rejects(sending, outcome);
      else assert.equal((await sending).status, again ? 200 : outcome.status);
      assert.equal(ORIGIN.seen.length, again ? 2 : 1);
      for (const { body } of ORIGIN.seen) assert.equal(body, init.body ?? "");
    });
  }

  test("has a new token id under the same request id", async () => {
    const ORIGIN = fakeOrigin(challenge("stale_token"), answer(200));
    await originFetch(new Request(URL_PLAIN), environment({ ORIGIN }), quiet());
    const [first, second] = ORIGIN.seen.map(({ claims }) => claims);
    assert.equal(first.rid, second.rid);
    assert.notEqual(first.jti, second.jti);
  });

  test("waits as long as the load balancer asks", async (context) => {
    const { mock } = context.mock.method(globalThis, "setTimeout", (resume) => void resume());
    const ORIGIN = fakeOrigin(challenge("stale_token", { "Retry-After": "6" }), answer(200));
    await originFetch(new Request(URL_PLAIN, post), environment({ ORIGIN }), quiet());
    assert.deepEqual(mock.calls.map((call) => call.arguments[1]), [6000]);
  });

  test("is the last one", async () => {
    const ORIGIN = fakeOrigin(lost(), challenge("stale_token"), answer(200));
    const response = await originFetch(new Request(URL_PLAIN), environment({ ORIGIN }), quiet());
    assert.equal(response.status, 401);
    assert.equal(ORIGIN.seen.length, 2);
  });

  test("does not follow a request that was called off", async () => {
    const controller = new AbortController();
    const ORIGIN = { fetch: async () => (controller.abort(), Promise.reject(lost())) };
    const request = new Request(URL_PLAIN, { signal: controller.signal });
    await assert.rejects(originFetch(request, environment({ ORIGIN }), quiet()), /connection lost/);
  });

  const limits = [
    ["a stream of unknown length over the limit", {}, 8],
    ["a declared length over the limit", { "Content-Length": "12" }, 8],
    ["no holding at all", {}, 0],
  ];
  for (const [name, headers, bodyBytesMax] of limits) {
    test(`a body is passed on whole: ${name}`, async () => {
      const chunks = ["some ", "words", "!!"].map((text) => new TextEncoder().encode(text));
      const body = ReadableStream.from(chunks);
      const ORIGIN = fakeOrigin(lost());
      const request = new Request(URL_PLAIN, { method: "PUT", body, headers, duplex: "half" });
      const sending = originFetch(request, environment({ ORIGIN }), quiet({ bodyBytesMax }));
      await assert.rejects(sending, /connection lost/);
      assert.deepEqual(ORIGIN.seen.map((each) => each.body), ["some words!!"]);
    });
  }
});

describe("the audit line", () => {
  const request = () => new Request(`${URL_PLAIN}&card=4111`, { headers: { "CF-Ray": "0123456789abcdef-AKL" } });

  test("joins both trails and tells no secret", async () => {
    const entries = [];
    const ORIGIN = fakeOrigin(lost(), answer(200));
    const options = { log: (entry) => entries.push(entry), now: () => NOW_MS, rid: "0123abcd-request" };
    await originFetch(request(), environment({ ORIGIN }), options);
    const entry = (attempt, status, error) => ({
      event: "sent",
      time: "2027-01-15T08:00:00.500Z",
      rid: "0123abcd-request",
      cf_ray: "0123456789abcdef-AKL",
      jti_sha256: sha256(ORIGIN.seen[attempt - 1].claims.jti),
      kid: "checkout-1",
      method: "GET",
      host: "shop.example.com",
      path: "/orders/7",
      attempt,
      status,
      error,
      ms: 0,
    });
    assert.deepEqual(entries, [entry(1, null, "Error"), entry(2, 200, null)]);
    const written = JSON.stringify(entries);
    for (const { token, claims } of ORIGIN.seen) assert.ok(!written.includes(token) && !written.includes(claims.jti));
    assert.doesNotMatch(written, /4111|PRIVATE/);
  });

  test("is one line of JSON on the console by default, and none when switched off", async (context) => {
    const { mock } = context.mock.method(console, "log", () => {});
    await signRequest(request(), environment());
    assert.equal(mock.callCount(), 1);
    assert.equal(JSON.parse(mock.calls[0].arguments[0]).event, "signed");
    await signRequest(request(), environment(), { log: false });
    assert.equal(mock.callCount(), 1);
  });

  test("keeps an odd CF-Ray out", async () => {
    const entries = [];
    const odd = new Request(URL_PLAIN, { headers: { "CF-Ray": `"},{"forged":"line` } });
    await signRequest(odd, environment(), { log: (entry) => entries.push(entry) });
    assert.equal(entries[0].cf_ray, null);
  });
});

describe("what cannot be signed is refused", () => {
  const EC_PEM = pem(es256, "sec1");
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const environments = [
    ["no identity", { EDGE_IDENTITY: undefined }, /env\.EDGE_IDENTITY is missing/],
    ["identity not JSON", { EDGE_IDENTITY: pem(es256) }, /env\.EDGE_IDENTITY is not JSON/],
    ["identity not an object", { EDGE_IDENTITY: "[]" }, /env\.EDGE_IDENTITY must be a JSON object/],
    ["no kid", identity({ kid: undefined }), /EDGE_IDENTITY: "kid"/],
    ["odd kid", identity({ kid: "a/b" }), /EDGE_IDENTITY: "kid"/],
    ["long kid", identity({ kid: "k".repeat(65) }), /EDGE_IDENTITY: "kid"/],
    ["no alg", identity({ alg: undefined }), /"alg" must be one of ES256, EdDSA/],
    ["alg none", identity({ alg: "none" }), /"alg" must be one of/],
    ["alg HS256", identity({ alg: "HS256" }), /"alg" must be one of/],
    ["alg RS256", identity({ alg: "RS256", key: pem(rsa) }), /"alg" must be one of/],
    ["alg of Object.prototype", identity({ alg: "constructor" }), /"alg" must be one of/],
    ["no key", identity({ key: undefined }), /"key" is missing/],
    ["EC key of another form", identity({ key: EC_PEM }), /PKCS#8 PEM block/],
    ["two keys", identity({ key: pem(es256) + pem(es256) }), /one PKCS#8 PEM block/],
    ["key not base64", identity({ key: pem(es256).replace(/[A-Z]{3}/, "=") }), /PKCS#8|not a private key/],
    ["key of another algorithm", identity({ key: pem(rsa) }), /not a private key for ES256/],
    ["no issuer", { EDGE_ISSUER: undefined }, /env\.EDGE_ISSUER is missing/],
    ["no audience", { EDGE_AUDIENCE: "" }, /env\.EDGE_AUDIENCE is missing/],
    ["no subject", { EDGE_SUBJECT: undefined }, /env\.EDGE_SUBJECT is missing/],
    ["subject with a line break", { EDGE_SUBJECT: "spiffe://a\n" }, /env\.EDGE_SUBJECT must be text/],
    ["thumbprint in hex", { EDGE_CERTIFICATE_THUMBPRINT: "ab".repeat(32) }, /env\.EDGE_CERTIFICATE_THUMBPRINT/],
    ["thumbprint padded", { EDGE_CERTIFICATE_THUMBPRINT: `${THUMBPRINT}=` }, /env\.EDGE_CERTIFICATE_THUMBPRINT/],
    ["ttl 0", { EDGE_TOKEN_TTL: 0 }, /env\.EDGE_TOKEN_TTL/],
    ["ttl 301", { EDGE_TOKEN_TTL: "301" }, /env\.EDGE_TOKEN_TTL/],
    ["ttl 1m", { EDGE_TOKEN_TTL: "1m" }, /env\.EDGE_TOKEN_TTL/],
  ];
  const options = [
    ["unknown option", { claim: {} }, /options\.claim is not known/],
    ["rid too short", { rid: "short" }, /options\.rid/],
    ["rid with a line break", { rid: "0123abcd\n" }, /options\.rid/],
    ["cip a name", { cip: "localhost" }, /options\.cip/],
    ["ohost with a path", { ohost: "www.example.com/a" }, /options\.ohost/],
    ["ohost with a user", { ohost: "a@www.example.com" }, /options\.ohost/],
    ["ohost with port 443", { ohost: "www.example.com:443" }, /options\.ohost/],
    ["userToken with a space", { userToken: "Bearer x" }, /options\.userToken/],
    ["claims not an object", { claims: [] }, /options\.claims must be an object/],
    ["claim undefined", { claims: { country: undefined } }, /options\.claims\["country"\] is not JSON/],
    ["claim NaN", { claims: { score: NaN } }, /options\.claims\["score"\] is not JSON/],
    ["origin with a path", { origin: "https://origin.example.net/a" }, /options\.origin must be/],
    ["origin with a user", { origin: "https://a@origin.example.net" }, /options\.origin must be/],
    ["origin not a URL", { origin: "origin.example.net" }, /options\.origin is not a URL/],
    ["origin in the clear", { origin: "http://origin.example.net" }, /must be https/],
    ["now not a function", { now: 0 }, /options\.now/],
    ["log not a function", { log: true }, /options\.log/],
    ...RESERVED_CLAIMS.map((name) => [`claim ${name}`, { claims: { [name]: "x" } }, /must not set/]),
  ];
  const requests = [
    ["in the clear", () => new Request("http://shop.example.com/"), "request", /must be https/],
    ["not a Request", () => URL_PLAIN, "request", /must be a Request/],
    ["a URL that makes the token too long", () => new Request(URL_PLAIN + "x".repeat(8192)), "token_size", /over 8192/],
  ];
  const cases = [
    ...environments.map(([name, env, message]) => [name, () => sign(new Request(URL_PLAIN), env), "env", message]),
    ...options.map(([name, more, message]) => [name, () => sign(new Request(URL_PLAIN), {}, more), "option", message]),
    ...requests.map(([name, request, code, message]) => [name, async () => sign(request()), code, message]),
  ];
  for (const [name, attempt, code, message] of cases) {
    test(name, async () => {
      const error = await attempt().then(() => assert.fail("it was signed"), (reason) => reason);
      assert.ok(error instanceof EdgeIdentityError, String(error));
      assert.equal(error.code, code);
      assert.match(error.message, message);
      assert.equal(error.cause, undefined);
      assert.doesNotMatch(error.message, /MIG|-----|Bearer x/, "no secret in a message");
    });
  }

  test("a body that has been read", async () => {
    const request = new Request(URL_PLAIN, { method: "POST", body: "words" });
    await request.text();
    await assert.rejects(sign(request), { code: "request", message: /has been read/ });
  });

  test("an origin that is not bound", async () => {
    for (const ORIGIN of [undefined, {}, "https://shop.example.com"]) {
      const sending = originFetch(new Request(URL_PLAIN), environment({ ORIGIN }), quiet());
      await assert.rejects(sending, { code: "env", message: /env\.ORIGIN is missing/ });
    }
  });

  test("a limit that is not one", async () => {
    for (const bodyBytesMax of [-1, 1.5, "64k"]) {
      const env = environment({ ORIGIN: fakeOrigin() });
      const sending = originFetch(new Request(URL_PLAIN), env, quiet({ bodyBytesMax }));
      await assert.rejects(sending, { code: "option", message: /bodyBytesMax/ });
    }
  });
});
