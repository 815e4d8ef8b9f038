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
  /** `cnf."x5t#S256"`: base64url SHA-256 of the client certificate's DER. Unset or empty: no `cnf`. */
  EDGE_CERTIFICATE_THUMBPRINT?: string;
  /** Whole seconds from 1 to 300, by default 60. */
  EDGE_TOKEN_TTL?: string | number;
}

export interface EdgeIdentity {
  /** 1 to 64 characters of A-Z a-z 0-9 . _ - */
  kid: string;
  alg: "ES256" | "EdDSA";
  /** A PKCS#8 private key in PEM. */
  key: string;
}

export interface SignOptions {
  /** Scheme and authority to send to, for example `https://origin.example.net:8443`; the target is kept as it is. */
  origin?: string;
  /** Request id of both audit trails, `[A-Za-z0-9-]{8,64}`; by default a fresh UUID, never an inbound header. */
  rid?: string;
  /** The client's address; by default CF-Connecting-IP. Null asserts none. */
  cip?: string | null;
  /** The host that the visitor asked for, where it is not the one on the wire. */
  ohost?: string;
  /** An end-user token that travels in a header of its own; the signature covers its hash (`ath`). */
  userToken?: string;
  /** Further facts to assert. The kit's own claims cannot be set here; the key must be allowed to assert them. */
  claims?: Record<string, unknown>;
  /** The clock in milliseconds, by default `Date.now`. */
  now?: () => number;
  /** Receives each audit entry, by default as one line of JSON on the console; false switches it off. */
  log?: ((entry: AuditEntry) => void) | false;
}

export interface OriginFetchOptions extends SignOptions {
  /** The longest body that is held for a second sending, by default 65536; 0 holds none and streams at once. */
  bodyBytesMax?: number;
}

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

export type EdgeIdentityErrorCode = "env" | "option" | "request" | "token_size";

/** Something the Worker's author has to mend. Network errors are passed on as the runtime throws them. */
export class EdgeIdentityError extends Error {
  readonly name: "EdgeIdentityError";
  readonly code: EdgeIdentityErrorCode;
  constructor(code: EdgeIdentityErrorCode, message: string);
}

/**
 * Signs the request and returns the one to send, good for one sending: final URL, reserved headers removed, fresh
 * `Edge-Identity`, redirects not followed.
 */
export function signRequest(request: Request, env: EdgeIdentityEnv, options?: SignOptions): Promise<Request>;

/**
 * Signs the request and sends it through `env.ORIGIN`. At most one second sending, signed anew: on a 401 that says
 * `stale_token` (after the Retry-After it names, up to 10 s); and where the request may be repeated (idempotent method,
 * or Idempotency-Key) on a network error or a 401 that says `replay`.
 */
export function originFetch(request: Request, env: EdgeIdentityEnv, options?: OriginFetchOptions): Promise<Response>;
