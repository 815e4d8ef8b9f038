/**
 * The Worker's half of Edge-Identity: every request to the load balancer carries a token that is signed with a key only
 * this Worker holds (with HS256: the load balancer too), and bound to this method, authority and target; to the client
 * certificate where there is one; and to the body where that is asked for. One file, no dependencies.
 *
 * Invariants:
 * - A token describes the request as it goes on the wire: the URL is made final, then signed, then sent unchanged.
 * - A token is sent by us once; a second sending is signed anew. (The runtime itself may repeat a GET; see README.)
 * - What a visitor sent under a name that the load balancer or the kit sets never leaves the Worker.
 * - A signed body is held whole before it is sent, so that the digest is of the bytes that leave the Worker.
 * - No key and no token is in an error message or an audit line.
 */

const HEADER = "Edge-Identity";
const DIGEST_HEADER = "Content-Digest";
const TOKEN_TYPE = "edge-identity+jwt";
/** The load balancer answers 400 to a longer one; failing here says why. */
const TOKEN_BYTES_MAX = 8192;
const TTL_SECONDS_DEFAULT = 60;
const TTL_SECONDS_MAX = 300;
/** Without a client certificate, and with a shared secret. */
const TTL_SECONDS_MAX_STRICT = 60;
const RSA_BITS_MIN = 2048;
const SECRET_BYTES_MIN = 32;
const EXTRA_CLAIMS_MAX = 16;
const EXTRA_CLAIM_VALUES_MAX = 64;
/** Under 2 KiB, as JSON. */
const EXTRA_CLAIMS_BYTES_MAX = 2047;
const BODY_BYTES_DEFAULT = 64 * 1024;
/** A load balancer that has just started may ask for a few seconds' patience; longer is the caller's decision. */
const STALE_WAIT_SECONDS_MAX = 10;
/** More than one key per isolate happens only while a secret is rotated. */
const CACHED_KEYS_MAX = 4;

/** The algorithm is a property of the key; a name that is not here is refused. */
const ALGORITHMS = {
  ES256: {
    format: "pkcs8",
    key: { name: "ECDSA", namedCurve: "P-256" },
    signature: { name: "ECDSA", hash: "SHA-256" },
  },
  EdDSA: { format: "pkcs8", key: { name: "Ed25519" }, signature: { name: "Ed25519" } },
  RS256: {
    format: "pkcs8",
    key: { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" },
    signature: { name: "RSASSA-PKCS1-v1_5" },
  },
  HS256: { format: "raw", key: { name: "HMAC", hash: "SHA-256" }, signature: { name: "HMAC" } },
};

/** Claims that the kit alone sets; `nbf` and `crit` are kept free of other meanings. */
const RESERVED_CLAIMS = new Set([
  "iss", "aud", "sub", "iat", "exp", "nbf", "jti", "htm", "hta", "htt", "cnf", "rid", "cip", "ohost", "cdg", "ath",
  "crit",
]);

/** RFC 9110 section 9.2.2: sending one of these twice means the same as sending it once. */
const IDEMPOTENT_METHODS = new Set(["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"]);

const encoder = new TextEncoder();
const importedKeys = new Map();

/** Something the Worker's author has to mend; `code` is for programs, the message for people. */
export class EdgeIdentityError extends Error {
  /** @param {"env" | "option" | "request" | "body_size" | "token_size"} code */
  constructor(code, message) {
    super(message);
    this.name = "EdgeIdentityError";
    this.code = code;
  }
}

/**
 * Signs `request` and sends it through `env.ORIGIN`. It is signed and sent a second time, once, when that is safe: the
 * load balancer refused the token as `stale_token`, or the request may be repeated (idempotent method, or an
 * Idempotency-Key) and the connection failed, or the token counts as used (`replay`). Any other response is returned
 * as it came: 502 and 503 are the load balancer's verdict after retries of its own, and asking again would add to its
 * load.
 */
export async function originFetch(request, env, options = {}) {
  const origin = requireBinding(env);
  const draft = await draftRequest(request, env, options);
  const body = draft.bodyDigest ? await digestedBody(request, options) : await replayableBody(request, options);

  const first = await deliver(origin, await seal(draft, body), 1);
  const wait = body.replayable ? secondsUntilRetry(first, request) : null;
  if (wait === null) return conclude(first);

  // An unread body would hold the connection until the runtime collects it.
  await first.response?.body?.cancel();
  if (wait > 0) await new Promise((resume) => setTimeout(resume, wait * 1000));
  return conclude(await deliver(origin, await seal(draft, body), 2));
}

/**
 * The request as it should be sent: final URL, cleaned headers, a fresh token. For callers that send it themselves,
 * through the binding and without changing anything; each result is good for one sending.
 */
export async function signRequest(request, env, options = {}) {
  const draft = await draftRequest(request, env, options);
  const body = draft.bodyDigest ? await digestedBody(request, options) : { content: request.body };
  const sealed = await seal(draft, body);
  draft.log(auditEntry("signed", sealed));
  return sealed.request;
}

// ---- one request's life: draft (everything but the token), seal (token), deliver ---------------------------------

async function draftRequest(request, env, options) {
  requireRequest(request);
  requireOptions(options);
  const identity = readIdentity(env);
  const settings = readSettings(env, identity.alg);
  const bodyDigest = options.bodyDigest ?? settings.bodyDigest;
  const url = finalUrl(request.url, options.origin);
  return {
    url,
    method: request.method,
    headers: cleanHeaders(request.headers, bodyDigest),
    signal: request.signal,
    signer: { kid: identity.kid, alg: identity.alg, key: await signingKey(identity) },
    ttl: settings.ttl,
    bodyDigest,
    claims: { ...settings.claims, ...(await requestClaims(request, options)) },
    extra: extraClaims(options.claims),
    cfRay: cfRay(request.headers),
    now: options.now ?? Date.now,
    log: logger(options.log),
  };
}

/** One draft can be sealed more than once: the request id stays, the token id and the times are new. */
async function seal(draft, body) {
  const request = new Request(draft.url.href, {
    method: draft.method,
    headers: draft.headers,
    body: body.content,
    // A redirect followed by the runtime would carry this token to an address that it was not signed for.
    redirect: "manual",
    signal: draft.signal,
    duplex: "half",
  });
  const iat = Math.floor(draft.now() / 1000);
  const jti = base64url(crypto.getRandomValues(new Uint8Array(16)));
  const binding = { htm: request.method, hta: draft.url.host, htt: requestTarget(draft.url) };
  const claims = { ...draft.claims, iat, exp: iat + draft.ttl, jti, ...binding, cdg: body.digest, ...draft.extra };
  const token = await compactJws(draft.signer, claims);
  requireTokenSize(token, draft.url);
  request.headers.set(HEADER, token);
  if (body.digest !== undefined) request.headers.set(DIGEST_HEADER, body.digest);
  return { draft, request, jtiDigest: await sha256(jti) };
}

/** A failed connection is a fact to decide on, not yet an exception. */
async function deliver(origin, sealed, attempt) {
  const { draft, request } = sealed;
  const started = draft.now();
  const outcome = await origin.fetch(request).then(
    (response) => ({ response }),
    (error) => ({ error }),
  );
  draft.log({
    ...auditEntry("sent", sealed),
    attempt,
    status: outcome.response?.status ?? null,
    // The message may quote a URL with its query; the name is enough to tell a time-out from a refusal.
    error: outcome.error === undefined ? null : String(outcome.error?.name ?? "Error"),
    ms: draft.now() - started,
  });
  return outcome;
}

function conclude({ response, error }) {
  if (response === undefined) throw error;
  return response;
}

/** Pure: how long to wait before the second and last sending; null is "do not". */
function secondsUntilRetry({ response, error }, request) {
  if (error !== undefined) return mayRepeat(request) ? 0 : null;
  const reason = refusalReason(response);
  // Refused before it was forwarded, so that any method may be signed again.
  if (reason === "stale_token") return patience(response);
  // Each token is sent once by us: the runtime repeated this one when a kept-alive connection died. It does so for
  // idempotent methods without a body, of which the load balancer's replay store tolerates GET and HEAD.
  return reason === "replay" && mayRepeat(request) ? 0 : null;
}

function mayRepeat(request) {
  if (request.signal?.aborted) return false;
  return IDEMPOTENT_METHODS.has(request.method) || Boolean(request.headers.get("Idempotency-Key"));
}

/** What the load balancer says about our token; undefined for every other answer. */
function refusalReason(response) {
  if (response.status !== 401) return undefined;
  const challenge = response.headers.get("WWW-Authenticate") ?? "";
  return /(?:^|,)\s*EdgeIdentity\s[^]*?\berror_description="([^"]*)"/i.exec(challenge)?.[1];
}

/** While it warms up the load balancer refuses tokens older than a moment in the near future, and says when that is. */
function patience(response) {
  const seconds = Number(response.headers.get("Retry-After") ?? 0);
  return seconds >= 0 && seconds <= STALE_WAIT_SECONDS_MAX ? seconds : null;
}

// ---- the wire form ------------------------------------------------------------------------------------------------

/**
 * With `origin`, scheme and authority are exchanged and the target is kept byte for byte. Strings are joined on
 * purpose: `new URL(path, base)` takes a path such as `//other.example/` for another host.
 */
function finalUrl(text, origin) {
  const url = parseUrl(text);
  if (url.username || url.password) fail("request", "the request's URL must not hold a user name or password");
  url.hash = "";
  const final = origin === undefined ? url : parseUrl(originOf(origin) + requestTarget(url));
  if (final.protocol === "https:") return final;
  return fail(origin === undefined ? "request" : "option", "the final URL must be https: a token is not for the clear");
}

function originOf(text) {
  const url = parseUrl(text, "option");
  if (url.href !== `${url.origin}/`) fail("option", "options.origin must be a scheme and an authority, nothing more");
  return url.origin;
}

/** Cut from `href`, because `pathname + search` loses a lone `?`, which is on the wire. */
function requestTarget(url) {
  return url.href.slice(url.origin.length);
}

function parseUrl(text, code = "request") {
  try {
    return new URL(text);
  } catch {
    return fail(code, code === "option" ? "options.origin is not a URL" : "the request's URL is not absolute");
  }
}

function cleanHeaders(inbound, bodyDigest) {
  const headers = new Headers(inbound);
  for (const name of [...headers.keys()]) {
    if (isReservedHeader(name, bodyDigest)) headers.delete(name);
  }
  return headers;
}

/** Many origins read `_` as `-` (CGI's rule), so that both spellings are one name. */
function isReservedHeader(name, bodyDigest) {
  const plain = name.toLowerCase().replaceAll("_", "-");
  if (plain === HEADER.toLowerCase() || plain === "forwarded") return true;
  // A visitor's own digest may hold other algorithms; beside ours there must be no second opinion.
  if (plain === DIGEST_HEADER.toLowerCase()) return bodyDigest;
  return ["belay-", "x-forwarded-", "client-cert"].some((prefix) => plain.startsWith(prefix));
}

// ---- claims -------------------------------------------------------------------------------------------------------

/**
 * A visitor chooses every inbound header except those that Cloudflare's edge overwrites. So `rid` is never taken from
 * the request: an id chosen by a visitor could be made to collide with another's in both audit trails.
 */
async function requestClaims(request, options) {
  return {
    rid: options.rid === undefined ? crypto.randomUUID() : checked(options, "rid", /^[A-Za-z0-9-]{8,64}$/),
    cip: options.cip === undefined ? connectingIp(request.headers) : clientIp(options),
    ohost: options.ohost === undefined ? undefined : originalHost(options),
    ath: options.userToken === undefined ? undefined : await sha256(checked(options, "userToken", /^[\x21-\x7e]+$/)),
  };
}

/** Null says that the caller knows of an address in the headers that must not be asserted. */
function clientIp({ cip }) {
  if (cip === null) return undefined;
  return canonicalIp(cip) ?? fail("option", "options.cip must be an IPv4 or IPv6 address, or null for none");
}

/** Set by Cloudflare's edge, which overwrites what a visitor sent; an odd value did not come from there. */
function connectingIp(headers) {
  return canonicalIp(headers.get("CF-Connecting-IP"));
}

/** One text for one address, so that rules and logs can compare texts; undefined for what is no address. */
function canonicalIp(text) {
  if (typeof text !== "string") return undefined;
  if (isIpv4(text)) return text;
  const isPerhapsIpv6 = /^[0-9A-Fa-f:.]{2,45}$/.test(text) && text.includes(":");
  return isPerhapsIpv6 ? canonicalIpv6(text) : undefined;
}

function isIpv4(text) {
  const numbers = text.split(".");
  return numbers.length === 4 && numbers.every(isOctet);
}

/** Without leading zeros, which some parsers read as octal. */
function isOctet(text) {
  return /^(?:0|[1-9][0-9]{0,2})$/.test(text) && Number(text) <= 255;
}

/** The URL standard writes addresses as RFC 5952 section 4 asks, in lower case and compressed. */
function canonicalIpv6(text) {
  const url = `https://[${text}]/`;
  if (!URL.canParse(url)) return undefined;
  const address = new URL(url).hostname.slice(1, -1);
  const mapped = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(address);
  return mapped === null ? address : `::ffff:${twoOctets(mapped[1])}.${twoOctets(mapped[2])}`;
}

/** RFC 5952 section 5: an IPv4 address in an IPv6 one is written as people know it. */
function twoOctets(hexadecimal) {
  const number = Number.parseInt(hexadecimal, 16);
  return `${number >> 8}.${number & 0xff}`;
}

/** A host with the root's dot is the same host, and must not pass for another one in the routes. */
function originalHost(options) {
  const given = checked(options, "ohost", /^[A-Za-z0-9.\-_:[\]]{1,261}$/).toLowerCase();
  const host = given.replace(/\.(?=(?::[0-9]+)?$)/, "");
  return isHost(host) ? host : fail("option", "options.ohost must be a host name, with a port where it is not 443");
}

function isHost(text) {
  if (!URL.canParse(`https://${text}/`)) return false;
  const { host, hostname } = new URL(`https://${text}/`);
  return host === text && !hostname.endsWith(".");
}

function extraClaims(claims = {}) {
  if (!isRecord(claims)) fail("option", "options.claims must be an object");
  const entries = Object.entries(claims);
  if (entries.length > EXTRA_CLAIMS_MAX) fail("option", `options.claims must hold at most ${EXTRA_CLAIMS_MAX} facts`);
  for (const [name, value] of entries) requireExtraClaim(name, value);
  if (extraClaimsBytes(claims) <= EXTRA_CLAIMS_BYTES_MAX) return claims;
  return fail("option", `options.claims must be at most ${EXTRA_CLAIMS_BYTES_MAX} bytes of JSON together`);
}

function requireExtraClaim(name, value) {
  if (RESERVED_CLAIMS.has(name)) fail("option", `options.claims must not set "${name}": the kit sets it`);
  if (!/^[A-Za-z0-9_.:/-]{1,128}$/.test(name)) {
    fail("option", "options.claims: a name must be 1 to 128 of A-Z a-z 0-9 _ - . : /");
  }
  const scalars = Array.isArray(value) ? Array.from(value) : [value];
  if (!scalars.every(isScalar)) {
    fail("option", `options.claims["${name}"] must be a text, number or boolean, or an array of these`);
  }
  if (scalars.length > EXTRA_CLAIM_VALUES_MAX) {
    fail("option", `options.claims["${name}"] must hold at most ${EXTRA_CLAIM_VALUES_MAX} values`);
  }
}

/** The load balancer refuses null: a fact that is not known is left out. Half a character is no text in JSON. */
function isScalar(value) {
  if (typeof value === "string") return value.isWellFormed();
  if (typeof value === "number") return Number.isFinite(value);
  return typeof value === "boolean";
}

function extraClaimsBytes(claims) {
  return encoder.encode(JSON.stringify(claims)).byteLength;
}

// ---- signing (RFC 7515) -------------------------------------------------------------------------------------------

async function compactJws({ kid, alg, key }, claims) {
  const header = base64url(encoder.encode(JSON.stringify({ typ: TOKEN_TYPE, alg, kid })));
  const input = `${header}.${base64url(encoder.encode(JSON.stringify(claims)))}`;
  // For ECDSA WebCrypto returns r||s, which is the form that RFC 7518 section 3.4 asks for.
  const signature = await crypto.subtle.sign(ALGORITHMS[alg].signature, key, encoder.encode(input));
  return `${input}.${base64url(new Uint8Array(signature))}`;
}

/** Everything else in a token is limited, so that a long URL is the cause; base64url makes four bytes of three. */
function requireTokenSize(token, url) {
  const excess = token.length - TOKEN_BYTES_MAX;
  if (excess <= 0) return;
  const length = url.href.length;
  const room = length - Math.ceil((excess * 3) / 4);
  const limit = `the token is over ${TOKEN_BYTES_MAX} bytes, the most that the load balancer reads`;
  fail("token_size", `${limit}: the URL is too long, it has ${length} characters and about ${room} fit`);
}

/** The key is kept, not the promise: in a Worker a promise belongs to the request that made it. */
async function signingKey({ alg, key }) {
  const name = `${alg} ${key}`;
  const cached = importedKeys.get(name);
  if (cached !== undefined) return cached;
  const imported = await importKey(alg, key);
  if (importedKeys.size >= CACHED_KEYS_MAX) importedKeys.delete(importedKeys.keys().next().value);
  importedKeys.set(name, imported);
  return imported;
}

async function importKey(alg, text) {
  const { format, key } = ALGORITHMS[alg];
  const bytes = format === "raw" ? secretBytes(text) : pkcs8Bytes(text);
  const imported = await importBytes(alg, format, bytes, key);
  if (alg === "RS256" && imported.algorithm.modulusLength < RSA_BITS_MIN) {
    fail("env", `env.EDGE_IDENTITY: "key" must have at least ${RSA_BITS_MIN} bits for RS256`);
  }
  return imported;
}

async function importBytes(alg, format, bytes, key) {
  try {
    return await crypto.subtle.importKey(format, bytes, key, false, ["sign"]);
  } catch {
    return fail("env", `env.EDGE_IDENTITY: "key" is not a private key for ${alg}`);
  }
}

function pkcs8Bytes(pem) {
  const match = /^\s*-----BEGIN PRIVATE KEY-----([A-Za-z0-9+/=\s]+)-----END PRIVATE KEY-----\s*$/.exec(pem);
  try {
    return bytesOfBase64(match[1].replace(/\s/g, ""));
  } catch {
    const hint = `convert others with "openssl pkcs8 -topk8 -nocrypt"`;
    return fail("env", `env.EDGE_IDENTITY: "key" must be one PKCS#8 PEM block, BEGIN PRIVATE KEY; ${hint}`);
  }
}

/** Line breaks are openssl's; spaces are refused, so that no PEM file passes for base64url. */
function secretBytes(text) {
  const secret = text.replace(/[\r\n]/g, "");
  const bytes = bytesOfEitherBase64(secret);
  if (bytes !== null && bytes.byteLength >= SECRET_BYTES_MIN) return bytes;
  const hint = `make one with "openssl rand -base64 48"`;
  const form = `base64 or base64url of at least ${SECRET_BYTES_MIN} bytes`;
  return fail("env", `env.EDGE_IDENTITY: "key" must be ${form} for HS256; ${hint}`);
}

/** Null for text in neither alphabet, or in a mixture. */
function bytesOfEitherBase64(text) {
  if (!/^(?:[A-Za-z0-9+/]+|[A-Za-z0-9_-]+)={0,2}$/.test(text)) return null;
  try {
    return bytesOfBase64(text.replaceAll("-", "+").replaceAll("_", "/"));
  } catch {
    return null;
  }
}

function bytesOfBase64(text) {
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}

async function sha256(text) {
  return base64url(new Uint8Array(await crypto.subtle.digest("SHA-256", encoder.encode(text))));
}

function base64url(bytes) {
  return base64(bytes).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

function base64(bytes) {
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary);
}

// ---- bodies -------------------------------------------------------------------------------------------------------

/** The digest comes before the body on the wire, so that a body past the limit cannot be sent at all. */
async function digestedBody(request, options) {
  const limit = bodyLimit(options);
  const { content, replayable } = await bufferBody(request, limit);
  if (replayable) return { content, replayable, digest: await contentDigest(content ?? new Uint8Array()) };
  const remedy = "raise options.bodyBytesMax, and what the load balancer holds, or switch the body digest off";
  return fail("body_size", `the body is over ${limit} bytes, the most that is held for its digest: ${remedy}`);
}

/** RFC 9530 section 2, as a dictionary of this one member. */
async function contentDigest(bytes) {
  return `sha-256=:${base64(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)))}:`;
}

/**
 * A stream can be read once, so that a body which may have to be sent twice is held; past the limit it is passed on as
 * it comes and the request has one try.
 */
async function replayableBody(request, options) {
  const limit = bodyLimit(options);
  if (limit === 0 && request.body !== null) return { content: request.body, replayable: false };
  return bufferBody(request, limit);
}

async function bufferBody(request, limit) {
  if (request.body === null) return { content: null, replayable: true };
  const declared = Number(request.headers.get("Content-Length") ?? 0);
  if (declared > limit) return { content: request.body, replayable: false };

  const reader = request.body.getReader();
  const chunks = [];
  for (let size = 0; size <= limit; ) {
    const { done, value } = await reader.read();
    if (done) return { content: joined(chunks, size), replayable: true };
    if (!(value instanceof Uint8Array)) fail("request", "the request's body must be a stream of bytes");
    chunks.push(value);
    size += value.byteLength;
  }
  return { content: resumed(chunks, reader), replayable: false };
}

function joined(chunks, size) {
  const bytes = new Uint8Array(size);
  let offset = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, offset);
    offset += chunk.byteLength;
  }
  return bytes;
}

function resumed(chunks, reader) {
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = chunks.length > 0 ? { done: false, value: chunks.shift() } : await reader.read();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    cancel: (reason) => reader.cancel(reason),
  });
}

// ---- the audit trail's edge half ----------------------------------------------------------------------------------

/** `rid` and `jti_sha256` join this line to the load balancer's; query values and tokens stay out. */
function auditEntry(event, { draft, jtiDigest }) {
  return {
    event,
    time: new Date(draft.now()).toISOString(),
    rid: draft.claims.rid,
    cf_ray: draft.cfRay,
    jti_sha256: jtiDigest,
    kid: draft.signer.kid,
    method: draft.method,
    host: draft.url.host,
    path: draft.url.pathname,
  };
}

function logger(log) {
  if (log === false) return () => {};
  if (log === undefined) return (entry) => console.log(JSON.stringify(entry));
  return typeof log === "function" ? log : fail("option", "options.log must be a function or false");
}

/** Plain text from whoever connects: fit for a log line, proof of nothing. */
function cfRay(headers) {
  const text = headers.get("CF-Ray") ?? "";
  return /^[A-Za-z0-9-]{1,64}$/.test(text) ? text : null;
}

// ---- what the Worker's author configured --------------------------------------------------------------------------

function requireBinding(env) {
  if (typeof env?.ORIGIN?.fetch === "function") return env.ORIGIN;
  return fail("env", "env.ORIGIN is missing: bind the client certificate under this name (mtls_certificates)");
}

function readIdentity(env) {
  const identity = parsedIdentity(required(env, "EDGE_IDENTITY"));
  const { kid, alg, key } = identity;
  if (!/^[A-Za-z0-9._-]{1,64}$/.test(typeof kid === "string" ? kid : "")) {
    fail("env", `env.EDGE_IDENTITY: "kid" must be 1 to 64 of A-Z a-z 0-9 . _ -`);
  }
  if (typeof alg !== "string" || !Object.hasOwn(ALGORITHMS, alg)) {
    fail("env", `env.EDGE_IDENTITY: "alg" must be one of ${Object.keys(ALGORITHMS).join(", ")}`);
  }
  if (typeof key !== "string") fail("env", `env.EDGE_IDENTITY: "key" is missing`);
  return identity;
}

function parsedIdentity(value) {
  let identity = value;
  try {
    if (typeof value === "string") identity = JSON.parse(value);
  } catch {
    // JSON.parse quotes what it was given, which is the secret.
    fail("env", "env.EDGE_IDENTITY is not JSON");
  }
  return isRecord(identity) ? identity : fail("env", "env.EDGE_IDENTITY must be a JSON object with kid, alg, key");
}

function readSettings(env, alg) {
  const thumbprint = env.EDGE_CERTIFICATE_THUMBPRINT;
  // Whoever finds such a token could use it from anywhere: it has to end soon, and to fit this body alone.
  const isStrict = alg === "HS256" || isUnset(thumbprint);
  return {
    ttl: tokenTtl(env.EDGE_TOKEN_TTL, isStrict),
    bodyDigest: isUnset(env.EDGE_BODY_DIGEST) ? isStrict : isSwitchedOn(env, "EDGE_BODY_DIGEST"),
    claims: {
      iss: requiredText(env, "EDGE_ISSUER"),
      aud: requiredText(env, "EDGE_AUDIENCE"),
      sub: requiredText(env, "EDGE_SUBJECT"),
      cnf: isUnset(thumbprint) ? undefined : { "x5t#S256": checkedThumbprint(thumbprint) },
    },
  };
}

function tokenTtl(value, isStrict) {
  if (isUnset(value)) return TTL_SECONDS_DEFAULT;
  const ttl = /^[0-9]{1,3}$/.test(String(value)) ? Number(value) : 0;
  if (ttl < 1 || ttl > TTL_SECONDS_MAX) {
    fail("env", `env.EDGE_TOKEN_TTL must be whole seconds from 1 to ${TTL_SECONDS_MAX}`);
  }
  if (!isStrict || ttl <= TTL_SECONDS_MAX_STRICT) return ttl;
  const where = "with HS256, and without EDGE_CERTIFICATE_THUMBPRINT";
  return fail("env", `env.EDGE_TOKEN_TTL must be at most ${TTL_SECONDS_MAX_STRICT} ${where}`);
}

function isSwitchedOn(env, name) {
  if (env[name] === "on") return true;
  return env[name] === "off" ? false : fail("env", `env.${name} must be "on" or "off"`);
}

/** 32 bytes are 43 characters, of which the last holds four bits. */
function checkedThumbprint(value) {
  if (/^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/.test(value)) return value;
  const what = "the base64url SHA-256 of the client certificate's DER (43 characters)";
  return fail("env", `env.EDGE_CERTIFICATE_THUMBPRINT must be ${what}`);
}

function required(env, name) {
  const value = env?.[name];
  return isUnset(value) ? fail("env", `env.${name} is missing`) : value;
}

function requiredText(env, name) {
  const value = required(env, name);
  if (typeof value === "string" && /^[\x21-\x7e]{1,512}$/.test(value)) return value;
  return fail("env", `env.${name} must be text without spaces, at most 512 characters`);
}

/** Wrangler has no way to unset a variable in one environment other than an empty text. */
function isUnset(value) {
  return value === undefined || value === null || value === "";
}

// ---- what the caller passed ---------------------------------------------------------------------------------------

const OPTIONS = new Set([
  "origin", "rid", "cip", "ohost", "userToken", "claims", "now", "log", "bodyBytesMax", "bodyDigest",
]);

/** A misspelt option would otherwise sign less than its author believes. */
function requireOptions(options) {
  if (!isRecord(options)) fail("option", "options must be an object");
  for (const name of Object.keys(options)) {
    if (!OPTIONS.has(name)) fail("option", `options.${name} is not known`);
  }
  if (options.now !== undefined && typeof options.now !== "function") {
    fail("option", "options.now must be a function that returns milliseconds");
  }
  if (options.bodyDigest !== undefined && typeof options.bodyDigest !== "boolean") {
    fail("option", "options.bodyDigest must be true or false");
  }
}

function requireRequest(request) {
  if (!(request instanceof Request)) fail("request", "the first argument must be a Request");
  if (request.bodyUsed) fail("request", "the request's body has been read already");
}

function bodyLimit({ bodyBytesMax = BODY_BYTES_DEFAULT }) {
  if (Number.isSafeInteger(bodyBytesMax) && bodyBytesMax >= 0) return bodyBytesMax;
  return fail("option", "options.bodyBytesMax must be a whole number of bytes, 0 to hold none");
}

function checked(options, name, pattern) {
  const value = options[name];
  if (typeof value === "string" && pattern.test(value)) return value;
  return fail("option", `options.${name} must match ${pattern}`);
}

function isRecord(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * It never returns, and so may stand where a value is wanted.
 * @returns {never}
 */
function fail(code, message) {
  throw new EdgeIdentityError(code, message);
}
