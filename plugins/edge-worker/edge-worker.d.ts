/** What `env` must hold; the names are the ones that wrangler.toml and the load balancer's tools write. */
export interface EdgeIdentityEnv {
  /** The binding that presents the client certificate. Only `originFetch` needs it. */
  ORIGIN?: { fetch(request: Request): Promise<Response> };
  /** One secret, so that its parts can never be seen out of step: JSON text of {@link EdgeIdentity}, or the object. */
  EDGE_IDENTITY: string | EdgeIdentity;
  /** `iss`: this Worker's issuer. */
  EDGE_ISSUER: string;
  /** `aud`: the load balancer. */
  EDGE_AUDIENCE: string;
  /** `sub`: the workload's SPIFFE id, the same as the client certificate's URI SAN. */
  EDGE_SUBJECT: string;
  /**
   * `cnf."x5t#S256"`: base64url SHA-256 of the client certificate's DER. Unset or empty: no `cnf`, which only the
   * profiles `jwt` and `psk` accept, those for Workers without a client certificate.
   */
  EDGE_CERTIFICATE_THUMBPRINT?: string;
  /** Whole seconds from 1 to 300, by default 60; with HS256, and without a thumbprint, at most 60. */
  EDGE_TOKEN_TTL?: string | number;
  /**
   * `on` or `off`: whether the body's digest is signed. By default `on` with HS256, and without a thumbprint, where the
   * load balancer demands it; otherwise `off`.
   */
  EDGE_BODY_DIGEST?: string;
}

export interface EdgeIdentity {
  /** 1 to 64 characters of A-Z a-z 0-9 . _ - */
  kid: string;
  alg: "ES256" | "EdDSA" | "RS256" | "HS256";
  /**
   * A PKCS#8 private key in PEM, for RS256 of at least 2048 bits. For HS256 base64 or base64url of at least 32 random
   * bytes, for example what `openssl rand -base64 48` prints.
   */
  key: string;
}

export type ClaimScalar = string | number | boolean;

export interface SignOptions {
  /** Scheme and authority to send to, for example `https://origin.example.net:8443`; the target is kept as it is. */
  origin?: string;
  /** Request id of both audit trails, `[A-Za-z0-9-]{8,64}`; by default a fresh UUID, never an inbound header. */
  rid?: string;
  /** The client's address; by default CF-Connecting-IP. Signed in its canonical text form. Null asserts none. */
  cip?: string | null;
  /**
   * The host that the visitor asked for, where it is not the one on the wire. Signed in lower case and without a
   * trailing dot.
   */
  ohost?: string;
  /** An end-user token that travels in a header of its own; the signature covers its hash (`ath`). */
  userToken?: string;
  /**
   * Further facts to assert: at most 16, under 2 KiB of JSON together, arrays of at most 64. The kit's own claims
   * cannot be set here, and the load balancer accepts what its `may_assert` lists for the workload.
   */
  claims?: Record<string, ClaimScalar | ClaimScalar[]>;
  /**
   * Whether the body's digest is signed (`cdg`) and sent (`Content-Digest`); by default what `EDGE_BODY_DIGEST` says.
   * The body is held for it: one over `bodyBytesMax` is an error, `body_size`.
   */
  bodyDigest?: boolean;
  /**
   * The longest body that is held, by default 65536. Without a digest a longer one is streamed and has no second
   * sending, and 0 streams at once.
   */
  bodyBytesMax?: number;
  /** The clock in milliseconds, by default `Date.now`. */
  now?: () => number;
  /** Receives each audit entry, by default as one line of JSON on the console; false switches it off. */
  log?: ((entry: AuditEntry) => void) | false;
}

export type OriginFetchOptions = SignOptions;

/** The edge's half of the audit trail. No query values, no token, no key. */
export interface AuditEntry {
  /** `signed`: handed to the caller by `signRequest`. `sent`: sent by `originFetch`. */
  event: "signed" | "sent";
  /** RFC 3339, UTC. */
  time: string;
  rid: string;
  /** As it came; plain text, proof of nothing. */
  cf_ray: string | null;
  /** base64url SHA-256 of the token's `jti`. */
  jti_sha256: string;
  kid: string;
  method: string;
  host: string;
  path: string;
  /** 1, or 2 for a request that was signed again. Only for `sent`, as are the following. */
  attempt?: 1 | 2;
  /** Null where no response came. */
  status?: number | null;
  /** The name of the error where no response came. */
  error?: string | null;
  ms?: number;
}

/**
 * `env` and `option`: what the author configured or passed. `request`: a request that cannot be signed. `body_size`: a
 * body too long to be held for its digest. `token_size`: a URL too long, about 5,600 characters fit.
 */
export type EdgeIdentityErrorCode = "env" | "option" | "request" | "body_size" | "token_size";

/** Something the Worker's author has to mend. Network errors are passed on as the runtime throws them. */
export class EdgeIdentityError extends Error {
  readonly name: "EdgeIdentityError";
  readonly code: EdgeIdentityErrorCode;
  constructor(code: EdgeIdentityErrorCode, message: string);
}

/**
 * Signs the request and returns the one to send, good for one sending: final URL, reserved headers removed, fresh
 * `Edge-Identity`, with `bodyDigest` a `Content-Digest`, redirects not followed.
 */
export function signRequest(request: Request, env: EdgeIdentityEnv, options?: SignOptions): Promise<Request>;

/**
 * Signs the request and sends it through `env.ORIGIN`. At most one second sending, signed anew: on a 401 that says
 * `stale_token` (after the Retry-After it names, up to 10 s); and where the request may be repeated (idempotent method,
 * or Idempotency-Key) on a network error or a 401 that says `replay`.
 */
export function originFetch(request: Request, env: EdgeIdentityEnv, options?: OriginFetchOptions): Promise<Response>;
