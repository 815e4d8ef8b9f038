/** The module alone, under Node, whose WebCrypto and fetch classes are the ones that Workers have. */
import assert from "node:assert/strict";
import { createHash, generateKeyPairSync, randomBytes } from "node:crypto";
import { describe, test } from "node:test";
import { EdgeIdentityError, originFetch, signRequest } from "../edge-worker.js";
import * as signers from "./signers.js";
import { ed25519, es256, isSignedBy, pem, rsa, secret, SIGNERS } from "./signers.js";

const NOW_MS = 1_800_000_000_500;
const THUMBPRINT = createHash("sha256").update("a certificate").digest("base64url");
const RESERVED_CLAIMS = "iss aud sub iat exp nbf jti htm hta htt cnf rid cip ohost cdg ath crit".split(" ");
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
  return { token, ...signers.decoded(token) };
}

const facts = (count) => Object.fromEntries(Array.from({ length: count }, (_, index) => [`fact-${index}`, index]));
const claimsOf = async (...args) => decoded(await sign(...args)).claims;

describe("the token", () => {
  for (const [alg, signer] of Object.entries(SIGNERS)) {
    test(`is signed with ${alg} in JOSE form under an exact header`, async () => {
      const { token, header } = decoded(await sign(new Request(URL_PLAIN), identity({ alg, key: signer.key })));
      assert.equal(JSON.stringify(header), `{"typ":"edge-identity+jwt","alg":"${alg}","kid":"checkout-1"}`);
      assert.match(token, /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/);
      const signature = token.split(".")[2];
      assert.equal(Buffer.from(signature, "base64url").length, signer.signatureBytes);
      assert.ok(await isSignedBy(token, signer));
    });

    test(`is worth nothing with another payload under ${alg}'s signature`, async () => {
      const { token } = decoded(await sign(new Request(URL_PLAIN), identity({ alg, key: signer.key })));
      const other = decoded(await sign(new Request(URL_PLAIN), identity({ alg, key: signer.key }))).token;
      const [header, payload] = other.split(".");
      assert.equal(await isSignedBy([header, payload, token.split(".")[2]].join("."), signer), false);
    });
  }

  const long = randomBytes(99);
  const secrets = [
    ["base64", secret, secret.toString("base64")],
    ["base64 without padding", secret, secret.toString("base64").replace(/=+$/, "")],
    ["base64url", secret, secret.toString("base64url")],
    ["base64url with padding", secret, `${secret.toString("base64url")}=`],
    ["in the lines that openssl prints", long, long.toString("base64").replace(/.{64}/g, "$&\n") + "\n"],
    ["in lines of another system", long, long.toString("base64url").replace(/.{64}/g, "$&\r\n")],
    ["with every odd character", Buffer.alloc(48, "\xfb\xef\xff", "latin1"), "++//".repeat(16)],
    ["with every odd character of base64url", Buffer.alloc(48, "\xfb\xef\xff", "latin1"), "--__".repeat(16)],
  ];
  for (const [name, bytes, key] of secrets) {
    test(`is signed with a shared secret: ${name}`, async () => {
      const { token } = decoded(await sign(new Request(URL_PLAIN), identity({ alg: "HS256", key })));
      assert.ok(await isSignedBy(token, { ...SIGNERS.HS256, known: { format: "raw", bytes } }));
    });
  }

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

  const hs256 = identity({ alg: "HS256", key: SIGNERS.HS256.key });
  const lifetimes = [
    ["a certificate", {}, 60],
    ["a certificate, set", { EDGE_TOKEN_TTL: "300" }, 300],
    ["no certificate", { EDGE_CERTIFICATE_THUMBPRINT: undefined }, 60],
    ["an empty thumbprint, set", { EDGE_CERTIFICATE_THUMBPRINT: "", EDGE_TOKEN_TTL: "60" }, 60],
    ["no certificate, set lower", { EDGE_CERTIFICATE_THUMBPRINT: null, EDGE_TOKEN_TTL: 5 }, 5],
    ["a shared secret", hs256, 60],
    ["a shared secret, set", { ...hs256, EDGE_TOKEN_TTL: 60 }, 60],
  ];
  for (const [name, env, seconds] of lifetimes) {
    test(`lives as long as it may: ${name}`, async () => {
      const claims = await claimsOf(new Request(URL_PLAIN), env);
      assert.equal(claims.exp - claims.iat, seconds);
      const hasCertificate = !("EDGE_CERTIFICATE_THUMBPRINT" in env);
      assert.deepEqual(claims.cnf, hasCertificate ? { "x5t#S256": THUMBPRINT } : undefined);
      assert.equal("cnf" in claims, hasCertificate);
    });
  }

  test("carries what the caller asserts", async () => {
    const named = { rid: "0123abcd-request", ohost: "www.example.com" };
    const facts = { country: "NZ", roles: ["buyer"], limit: false };
    const options = { ...named, claims: facts, userToken: "a.user.token" };
    const { rid, ohost, ath, country, roles, limit } = await claimsOf(new Request(URL_PLAIN), {}, options);
    assert.deepEqual({ rid, ohost, country, roles, limit }, { ...named, ...facts });
    assert.equal(ath, sha256("a.user.token"));
  });

  const addresses = [
    ["IPv4", { "CF-Connecting-IP": "192.0.2.7" }, {}, "192.0.2.7"],
    ["IPv4 with the highest numbers", { "CF-Connecting-IP": "255.250.199.0" }, {}, "255.250.199.0"],
    ["IPv6", { "CF-Connecting-IP": "2001:db8::7" }, {}, "2001:db8::7"],
    ["IPv6 in capitals", { "CF-Connecting-IP": "2001:DB8::AB" }, {}, "2001:db8::ab"],
    ["IPv6 in full", { "CF-Connecting-IP": "2001:0db8:0000:0000:0000:0000:0000:0007" }, {}, "2001:db8::7"],
    ["IPv6 with two runs of zeros", { "CF-Connecting-IP": "2001:db8:0:0:1:0:0:1" }, {}, "2001:db8::1:0:0:1"],
    ["IPv6 with the longer run later", { "CF-Connecting-IP": "2001:0:0:1:0:0:0:1" }, {}, "2001:0:0:1::1"],
    ["IPv6 with one zero alone", { "CF-Connecting-IP": "2001:db8::1:1:1:1:1" }, {}, "2001:db8:0:1:1:1:1:1"],
    ["IPv6, nothing but zeros", { "CF-Connecting-IP": "0:0:0:0:0:0:0:0" }, {}, "::"],
    ["IPv6 that holds IPv4", { "CF-Connecting-IP": "::FFFF:C000:0207" }, {}, "::ffff:192.0.2.7"],
    ["IPv6 that holds IPv4, as people write it", { "CF-Connecting-IP": "::ffff:192.0.2.7" }, {}, "::ffff:192.0.2.7"],
    ["IPv6 that holds IPv4 zeros", { "CF-Connecting-IP": "::ffff:0:0" }, {}, "::ffff:0.0.0.0"],
    ["IPv6 that ends like IPv4", { "CF-Connecting-IP": "2001:db8::192.0.2.7" }, {}, "2001:db8::c000:207"],
    ["the caller's own", { "CF-Connecting-IP": "192.0.2.7" }, { cip: "192.0.2.8" }, "192.0.2.8"],
    ["the caller's own IPv6", {}, { cip: "2001:DB8::0" }, "2001:db8::"],
    ["none there", {}, {}, undefined],
    ["none wanted", { "CF-Connecting-IP": "192.0.2.7" }, { cip: null }, undefined],
    ["not an address", { "CF-Connecting-IP": "localhost" }, {}, undefined],
    ["a number too high", { "CF-Connecting-IP": "192.0.2.256" }, {}, undefined],
    ["a leading zero", { "CF-Connecting-IP": "192.0.2.07" }, {}, undefined],
    ["three numbers", { "CF-Connecting-IP": "192.0.2" }, {}, undefined],
    ["five numbers", { "CF-Connecting-IP": "192.0.2.7.1" }, {}, undefined],
    ["a last dot", { "CF-Connecting-IP": "192.0.2.7." }, {}, undefined],
    ["a number", { "CF-Connecting-IP": "3221225991" }, {}, undefined],
    ["IPv4 with a port", { "CF-Connecting-IP": "192.0.2.7:443" }, {}, undefined],
    ["IPv6 in brackets", { "CF-Connecting-IP": "[2001:db8::7]" }, {}, undefined],
    ["IPv6 with a zone", { "CF-Connecting-IP": "fe80::1%eth0" }, {}, undefined],
    ["IPv6 with two gaps", { "CF-Connecting-IP": "2001::db8::7" }, {}, undefined],
    ["IPv6 too long", { "CF-Connecting-IP": "1:2:3:4:5:6:7:8:9" }, {}, undefined],
    ["IPv6 too short", { "CF-Connecting-IP": "1:2:3" }, {}, undefined],
    ["a list", { "CF-Connecting-IP": "192.0.2.7, 192.0.2.8" }, {}, undefined],
    ["a visitor's word", { "X-Forwarded-For": "192.0.2.7", "X-Real-IP": "192.0.2.7" }, {}, undefined],
  ];
  for (const [name, headers, options, expected] of addresses) {
    test(`cip: ${name}`, async () => {
      assert.equal((await claimsOf(new Request(URL_PLAIN, { headers }), {}, options)).cip, expected);
    });
  }

  const hosts = [
    ["www.example.com", "www.example.com"],
    ["WWW.Example.COM", "www.example.com"],
    ["www.example.com.", "www.example.com"],
    ["WWW.Example.COM.:8443", "www.example.com:8443"],
    ["[2001:db8::1]:8443", "[2001:db8::1]:8443"],
    ["192.0.2.7", "192.0.2.7"],
  ];
  for (const [given, expected] of hosts) {
    test(`ohost: ${given}`, async () => {
      assert.equal((await claimsOf(new Request(URL_PLAIN), {}, { ohost: given })).ohost, expected);
    });
  }

  const asserted = [
    ["none", {}],
    ["every kind of scalar", { text: "NZ", empty: "", whole: 7, broken: -0.5, yes: true, no: false }],
    ["arrays of scalars", { roles: ["buyer", "seller"], mixed: ["a", 1, false], empty: [] }],
    ["an array at the limit", { scores: new Array(64).fill(7) }],
    ["every kind of name", { "https://edge.example.com/bot_score-v1.2": 30, ["n".repeat(128)]: true }],
    ["text that is not ASCII", { city: "Ōtautahi 🥝" }],
    ["the most", facts(16)],
    ["the longest", { text: "x".repeat(2047 - `{"text":""}`.length) }],
  ];
  for (const [name, claims] of asserted) {
    test(`asserts facts: ${name}`, async () => {
      const signed = await claimsOf(new Request(URL_PLAIN), {}, { claims });
      const own = await claimsOf(new Request(URL_PLAIN));
      assert.deepEqual(Object.keys(signed), [...Object.keys(own), ...Object.keys(claims)]);
      for (const [fact, value] of Object.entries(claims)) assert.deepEqual(signed[fact], value);
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
    "Content-Digest",
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

describe("the body's digest", () => {
  const digestOf = (bytes) => `sha-256=:${createHash("sha256").update(bytes).digest("base64")}:`;
  const NO_BODY = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:";
  const post = (body, more = {}) => new Request(URL_PLAIN, { method: "POST", body, ...more });
  const bare = { EDGE_CERTIFICATE_THUMBPRINT: undefined };
  const hs256 = identity({ alg: "HS256", key: SIGNERS.HS256.key });

  const switches = [
    // name, env, options, signed?
    ["by default with a certificate", {}, {}, false],
    ["by default with a certificate and RS256", identity({ alg: "RS256", key: pem(rsa) }), {}, false],
    ["by default without a thumbprint", bare, {}, true],
    ["by default with an empty thumbprint", { EDGE_CERTIFICATE_THUMBPRINT: "" }, {}, true],
    ["by default with HS256", hs256, {}, true],
    ["by default with neither certificate nor key pair", { ...bare, ...hs256 }, {}, true],
    ["switched on for all", { EDGE_BODY_DIGEST: "on" }, {}, true],
    ["switched off for all", { ...bare, EDGE_BODY_DIGEST: "off" }, {}, false],
    ["switched off for all with HS256", { ...hs256, EDGE_BODY_DIGEST: "off" }, {}, false],
    ["an empty switch, with a certificate", { EDGE_BODY_DIGEST: "" }, {}, false],
    ["an empty switch, without", { ...bare, EDGE_BODY_DIGEST: "" }, {}, true],
    ["on for this request", {}, { bodyDigest: true }, true],
    ["on for this request against the switch", { EDGE_BODY_DIGEST: "off" }, { bodyDigest: true }, true],
    ["off for this request", bare, { bodyDigest: false }, false],
    ["off for this request against the switch", { EDGE_BODY_DIGEST: "on" }, { bodyDigest: false }, false],
    ["undefined for this request", bare, { bodyDigest: undefined }, true],
  ];
  for (const [name, env, options, expected] of switches) {
    test(`${name}: ${expected ? "signed" : "not signed"}`, async () => {
      const signed = await sign(post("words"), env, options);
      const digest = expected ? digestOf("words") : undefined;
      assert.equal(decoded(signed).claims.cdg, digest);
      assert.equal(signed.headers.get("Content-Digest"), digest ?? null);
      assert.equal(await signed.text(), "words");
    });
  }

  const binary = Uint8Array.from({ length: 256 }, (_, index) => index);
  const streamed = () => ReadableStream.from([new TextEncoder().encode("some "), new TextEncoder().encode("words")]);
  const bodies = [
    ["no body", () => new Request(URL_PLAIN), NO_BODY, ""],
    ["no body of a POST", () => post(null), NO_BODY, ""],
    ["an empty body", () => post(""), NO_BODY, ""],
    ["an empty stream", () => post(ReadableStream.from([]), { duplex: "half" }), NO_BODY, ""],
    ["text", () => post("words"), digestOf("words"), "words"],
    ["text that is not ASCII", () => post("Ōtautahi 🥝"), digestOf("Ōtautahi 🥝"), "Ōtautahi 🥝"],
    ["bytes that are not text", () => post(binary), digestOf(binary), Buffer.from(binary).toString()],
    ["a stream", () => post(streamed(), { duplex: "half" }), digestOf("some words"), "some words"],
    ["a body at the limit", () => post("x".repeat(65_536)), digestOf("x".repeat(65_536)), "x".repeat(65_536)],
  ];
  for (const [name, request, expected, text] of bodies) {
    test(`is of the bytes that are sent: ${name}`, async () => {
      const signed = await sign(request(), {}, { bodyDigest: true });
      assert.equal(decoded(signed).claims.cdg, expected);
      assert.equal(signed.headers.get("Content-Digest"), expected);
      assert.equal(await signed.text(), text);
    });
  }

  const limits = [
    ["raised", { bodyBytesMax: 70_000 }, "x".repeat(70_000)],
    ["0", { bodyBytesMax: 0 }, ""],
  ];
  for (const [name, options, body] of limits) {
    test(`fits a body within a limit that is ${name}`, async () => {
      const ORIGIN = fakeOrigin(answer(200));
      await originFetch(post(body), environment({ ...bare, ORIGIN }), quiet(options));
      assert.equal(ORIGIN.seen[0].claims.cdg, digestOf(body));
      assert.equal(ORIGIN.seen[0].body, body);
    });
  }

  const tooLong = [
    ["over 64 KiB", () => post("x".repeat(65_537)), {}, /over 65536 bytes/],
    ["over a lower limit", () => post("words"), { bodyBytesMax: 4 }, /over 4 bytes/],
    ["over nothing", () => post("w"), { bodyBytesMax: 0 }, /over 0 bytes/],
    ["a stream over the limit", () => post(streamed(), { duplex: "half" }), { bodyBytesMax: 9 }, /over 9 bytes/],
    ["declared over the limit", () => post("x", { headers: { "Content-Length": "65537" } }), {}, /over 65536 bytes/],
  ];
  for (const [name, request, options, message] of tooLong) {
    test(`is not to be had of a body ${name}, and nothing is sent`, async () => {
      const ORIGIN = fakeOrigin(answer(200));
      const env = environment({ ...bare, ORIGIN });
      await assert.rejects(originFetch(request(), env, quiet(options)), { code: "body_size", message });
      await assert.rejects(signRequest(request(), env, quiet(options)), { code: "body_size", message });
      assert.equal(ORIGIN.seen.length, 0);
    });
  }

  const inbound = [
    ["Content-Digest", "sha-256=:forged:"],
    ["content-digest", "sha-512=:forged:"],
    ["Content_Digest", "sha-256=:forged:"],
  ];
  for (const [name, value] of inbound) {
    test(`a visitor's ${name} (${value}) gives way to it`, async () => {
      const request = post("words", { headers: { [name]: value } });
      const signed = await sign(request, {}, { bodyDigest: true });
      assert.equal(signed.headers.get("Content-Digest"), digestOf("words"));
      assert.doesNotMatch(JSON.stringify([...signed.headers]), /forged/);
    });

    test(`a visitor's ${name} (${value}) is kept where none is signed`, async () => {
      const signed = await sign(post("words", { headers: { [name]: value } }));
      assert.equal(signed.headers.get(name), value);
      assert.equal("cdg" in decoded(signed).claims, false);
    });
  }

  for (const outcome of ["stale_token", "replay"]) {
    test(`is the same in a second sending after ${outcome}`, async () => {
      const ORIGIN = fakeOrigin(challenge(outcome), answer(200));
      const request = new Request(URL_PLAIN, { method: "PUT", body: "words" });
      const response = await originFetch(request, environment({ ...bare, ORIGIN }), quiet());
      assert.equal(response.status, 200);
      assert.deepEqual(ORIGIN.seen.map(({ claims }) => claims.cdg), [digestOf("words"), digestOf("words")]);
      assert.deepEqual(ORIGIN.seen.map(({ body }) => body), ["words", "words"]);
      assert.notEqual(ORIGIN.seen[0].claims.jti, ORIGIN.seen[1].claims.jti);
    });
  }
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

  test("tells no shared secret, no digest and no fact", async () => {
    const entries = [];
    const ORIGIN = fakeOrigin(lost(), answer(200));
    const key = SIGNERS.HS256.key;
    const env = environment({ ORIGIN, ...identity({ alg: "HS256", key }) });
    const options = { log: (entry) => entries.push(entry), claims: { card: "4111" } };
    await originFetch(request(), env, options);
    const written = JSON.stringify(entries);
    assert.equal(entries.length, 2);
    for (const hidden of [key, secret.toString("base64url"), secret.toString("hex"), "sha-256=", "4111"]) {
      assert.ok(!written.includes(hidden), hidden);
    }
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
  const weakRsa = generateKeyPairSync("rsa", { modulusLength: 1024 });
  const p384 = generateKeyPairSync("ec", { namedCurve: "P-384" });
  const hs256 = (key) => identity({ alg: "HS256", key });
  const base64 = (length) => Buffer.alloc(length, "\xfb\xef\xbe", "latin1").toString("base64");
  const NOT_A_SECRET = /"key" must be base64 or base64url of at least 32 bytes for HS256/;
  const environments = [
    ["no identity", { EDGE_IDENTITY: undefined }, /env\.EDGE_IDENTITY is missing/],
    ["identity not JSON", { EDGE_IDENTITY: pem(es256) }, /env\.EDGE_IDENTITY is not JSON/],
    ["identity not an object", { EDGE_IDENTITY: "[]" }, /env\.EDGE_IDENTITY must be a JSON object/],
    ["no kid", identity({ kid: undefined }), /EDGE_IDENTITY: "kid"/],
    ["odd kid", identity({ kid: "a/b" }), /EDGE_IDENTITY: "kid"/],
    ["long kid", identity({ kid: "k".repeat(65) }), /EDGE_IDENTITY: "kid"/],
    ["no alg", identity({ alg: undefined }), /"alg" must be one of ES256, EdDSA, RS256, HS256$/],
    ["alg none", identity({ alg: "none" }), /"alg" must be one of/],
    ["alg HS512", identity({ alg: "HS512" }), /"alg" must be one of/],
    ["alg RS512", identity({ alg: "RS512", key: pem(rsa) }), /"alg" must be one of/],
    ["alg PS256", identity({ alg: "PS256", key: pem(rsa) }), /"alg" must be one of/],
    ["alg in another case", identity({ alg: "es256" }), /"alg" must be one of/],
    ["alg of Object.prototype", identity({ alg: "constructor" }), /"alg" must be one of/],
    ["no key", identity({ key: undefined }), /"key" is missing/],
    ["EC key of another form", identity({ key: EC_PEM }), /PKCS#8 PEM block/],
    ["two keys", identity({ key: pem(es256) + pem(es256) }), /one PKCS#8 PEM block/],
    ["key not base64", identity({ key: pem(es256).replace(/[A-Z]{3}/, "=") }), /PKCS#8|not a private key/],
    ["RSA key for ES256", identity({ key: pem(rsa) }), /not a private key for ES256/],
    ["key of another curve", identity({ key: pem(p384) }), /not a private key for ES256/],
    ["EC key for EdDSA", identity({ alg: "EdDSA" }), /not a private key for EdDSA/],
    ["EC key for RS256", identity({ alg: "RS256" }), /not a private key for RS256/],
    ["RSA key of another form", identity({ alg: "RS256", key: pem(rsa, "pkcs1") }), /PKCS#8 PEM block/],
    ["RSA key too short", identity({ alg: "RS256", key: pem(weakRsa) }), /at least 2048 bits for RS256/],
    ["secret for ES256", identity({ key: base64(48) }), /PKCS#8 PEM block/],
    ["secret for RS256", identity({ alg: "RS256", key: base64(48) }), /PKCS#8 PEM block/],
    ["secret too short", hs256(base64(31)), NOT_A_SECRET],
    ["secret far too short", hs256("cGFzc3dvcmQ="), NOT_A_SECRET],
    ["secret empty", hs256(""), NOT_A_SECRET],
    ["secret of line breaks", hs256("\n".repeat(64)), NOT_A_SECRET],
    ["secret with spaces", hs256(base64(48).replace(/.{8}/g, "$& ")), NOT_A_SECRET],
    ["secret in two alphabets", hs256("+_".repeat(24)), NOT_A_SECRET],
    ["secret not base64", hs256("correct horse, battery staple! ".repeat(3)), NOT_A_SECRET],
    ["secret of an impossible length", hs256(`${base64(48)}A`), NOT_A_SECRET],
    ["secret padded twice", hs256(`${base64(32)}=`), NOT_A_SECRET],
    ["secret padded in the middle", hs256(base64(32) + base64(32)), NOT_A_SECRET],
    ["secret that is an EC key", hs256(pem(es256)), NOT_A_SECRET],
    ["secret that is an Ed25519 key", hs256(pem(ed25519)), NOT_A_SECRET],
    ["no issuer", { EDGE_ISSUER: undefined }, /env\.EDGE_ISSUER is missing/],
    ["no audience", { EDGE_AUDIENCE: "" }, /env\.EDGE_AUDIENCE is missing/],
    ["no subject", { EDGE_SUBJECT: undefined }, /env\.EDGE_SUBJECT is missing/],
    ["subject with a line break", { EDGE_SUBJECT: "spiffe://a\n" }, /env\.EDGE_SUBJECT must be text/],
    ["thumbprint in hex", { EDGE_CERTIFICATE_THUMBPRINT: "ab".repeat(32) }, /env\.EDGE_CERTIFICATE_THUMBPRINT/],
    ["thumbprint padded", { EDGE_CERTIFICATE_THUMBPRINT: `${THUMBPRINT}=` }, /env\.EDGE_CERTIFICATE_THUMBPRINT/],
    ["ttl 0", { EDGE_TOKEN_TTL: 0 }, /env\.EDGE_TOKEN_TTL/],
    ["ttl 301", { EDGE_TOKEN_TTL: "301" }, /env\.EDGE_TOKEN_TTL/],
    ["ttl 1m", { EDGE_TOKEN_TTL: "1m" }, /env\.EDGE_TOKEN_TTL/],
    ["ttl 61 without a thumbprint", { EDGE_CERTIFICATE_THUMBPRINT: "", EDGE_TOKEN_TTL: 61 }, /TTL must be at most 60/],
    ["ttl 300 with HS256", { ...hs256(base64(48)), EDGE_TOKEN_TTL: 300 }, /EDGE_TOKEN_TTL must be at most 60/],
    ["ttl 301 with HS256", { ...hs256(base64(48)), EDGE_TOKEN_TTL: 301 }, /EDGE_TOKEN_TTL must be whole seconds/],
    ["body digest true", { EDGE_BODY_DIGEST: true }, /env\.EDGE_BODY_DIGEST must be "on" or "off"/],
    ["body digest ON", { EDGE_BODY_DIGEST: "ON" }, /env\.EDGE_BODY_DIGEST must be/],
    ["body digest 1", { EDGE_BODY_DIGEST: "1" }, /env\.EDGE_BODY_DIGEST must be/],
  ];
  const options = [
    ["unknown option", { claim: {} }, /options\.claim is not known/],
    ["rid too short", { rid: "short" }, /options\.rid/],
    ["rid with a line break", { rid: "0123abcd\n" }, /options\.rid/],
    ["cip a name", { cip: "localhost" }, /options\.cip/],
    ["cip a network", { cip: "192.0.2.0/24" }, /options\.cip/],
    ["cip out of range", { cip: "192.0.2.300" }, /options\.cip/],
    ["cip a number", { cip: 3221225991 }, /options\.cip/],
    ["cip with a line break", { cip: "2001:db8::7\n" }, /options\.cip/],
    ["ohost with a path", { ohost: "www.example.com/a" }, /options\.ohost/],
    ["ohost with a user", { ohost: "a@www.example.com" }, /options\.ohost/],
    ["ohost with two last dots", { ohost: "www.example.com.." }, /options\.ohost/],
    ["ohost a dot", { ohost: "." }, /options\.ohost/],
    ["ohost a number", { ohost: "3221225991" }, /options\.ohost/],
    ["ohost with port 443", { ohost: "www.example.com:443" }, /options\.ohost/],
    ["userToken with a space", { userToken: "Bearer x" }, /options\.userToken/],
    ["claims not an object", { claims: [] }, /options\.claims must be an object/],
    ["claim undefined", { claims: { country: undefined } }, /options\.claims\["country"\] must be a text/],
    ["claim NaN", { claims: { score: NaN } }, /options\.claims\["score"\] must be a text/],
    ["claim Infinity", { claims: { score: [1, Infinity] } }, /options\.claims\["score"\] must be a text/],
    ["claim of 64 bits", { claims: { score: 1n } }, /options\.claims\["score"\] must be a text/],
    ["claim a function", { claims: { toJSON: () => ({}) } }, /options\.claims\["toJSON"\] must be a text/],
    ["claim an object", { claims: { cf: { country: "NZ" } } }, /options\.claims\["cf"\] must be a text/],
    ["claim a date", { claims: { since: new Date(0) } }, /options\.claims\["since"\] must be a text/],
    ["claim an array of arrays", { claims: { roles: [["buyer"]] } }, /options\.claims\["roles"\] must be a text/],
    ["claim an array of objects", { claims: { roles: [{}] } }, /options\.claims\["roles"\] must be a text/],
    ["claim an array with a hole", { claims: { roles: new Array(2) } }, /options\.claims\["roles"\] must be a text/],
    ["claim half a character", { claims: { city: "\ud83e" } }, /options\.claims\["city"\] must be a text/],
    ["claim null", { claims: { limit: null } }, /options\.claims\["limit"\] must be a text/],
    ["claim an array with null", { claims: { roles: ["buyer", null] } }, /options\.claims\["roles"\] must be a text/],
    ["claim an array too long", { claims: { scores: new Array(65).fill(7) } }, /\["scores"\] must hold at most 64/],
    ["claim named half a character", { claims: { "\ud83e": 1 } }, /a name must be/],
    ["claim without a name", { claims: { "": 1 } }, /a name must be/],
    ["claim named with a space", { claims: { "bot score": 1 } }, /a name must be/],
    ["claim with a long name", { claims: { ["n".repeat(129)]: 1 } }, /a name must be/],
    ["claims too many", { claims: facts(17) }, /at most 16/],
    ["claims too long", { claims: { text: "x".repeat(2048 - `{"text":""}`.length) } }, /at most 2047 bytes of JSON/],
    ["claims too long in bytes", { claims: { text: "ō".repeat(1020) } }, /at most 2047 bytes of JSON/],
    ["claims too long together", { claims: { a: "x".repeat(1500), b: ["x".repeat(1500)] } }, /at most 2047 bytes/],
    ["bodyDigest a text", { bodyDigest: "on" }, /options\.bodyDigest must be true or false/],
    ["bodyDigest null", { bodyDigest: null }, /options\.bodyDigest must be true or false/],
    ["bodyDigest a number", { bodyDigest: 1 }, /options\.bodyDigest must be true or false/],
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
      const secrets = /MI[GIC]|-----|Bearer x|[A-Za-z0-9+/]{24}|cGFz|horse/;
      assert.doesNotMatch(error.message, secrets, "no secret in a message");
    });
  }

  const urls = [
    ["ES256", {}, {}, 5600],
    ["RS256, body digest and the longest facts", identity({ alg: "RS256", key: pem(rsa) }), {
      bodyDigest: true,
      claims: { text: "x".repeat(2000) },
    }, 3300],
  ];
  for (const [name, env, more, promised] of urls) {
    test(`a URL is too long for a token, and the error says what fits: ${name}`, async () => {
      const request = (length) => new Request(`https://shop.example.com/${"x".repeat(length - 25)}`);
      const error = await sign(request(9000), env, more).then(() => assert.fail("it was signed"), (reason) => reason);
      assert.equal(error.code, "token_size");
      assert.match(error.message, /the URL is too long, it has 9000 characters and about [0-9]+ fit$/);
      const room = Number(/about ([0-9]+) fit/.exec(error.message)[1]);
      assert.ok(room >= promised, `${room}`);
      const signed = await sign(request(room), env, more);
      assert.ok(signed.headers.get("Edge-Identity").length <= 8192);
      await assert.rejects(sign(request(room + 2), env, more), { code: "token_size" });
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
