/** A key for each algorithm, and what the other side knows of it: how WebCrypto verifies its signatures. */
import { generateKeyPairSync, randomBytes } from "node:crypto";

export const es256 = generateKeyPairSync("ec", { namedCurve: "P-256" });
export const ed25519 = generateKeyPairSync("ed25519");
export const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
export const secret = randomBytes(32);

export const pem = (pair, type = "pkcs8") => pair.privateKey.export({ type, format: "pem" });

const publicHalf = (pair) => ({
  format: "spki",
  bytes: pair.publicKey.export({ type: "spki", format: "der" }),
  file: pair.publicKey.export({ type: "spki", format: "pem" }),
});

export const SIGNERS = {
  ES256: {
    key: pem(es256),
    known: publicHalf(es256),
    algorithm: { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" },
    signatureBytes: 64,
  },
  EdDSA: {
    key: pem(ed25519),
    known: publicHalf(ed25519),
    algorithm: { name: "Ed25519" },
    signatureBytes: 64,
  },
  RS256: {
    key: pem(rsa),
    known: publicHalf(rsa),
    algorithm: { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" },
    signatureBytes: 256,
  },
  HS256: {
    key: secret.toString("base64"),
    known: { format: "raw", bytes: secret, file: secret.toString("base64") },
    algorithm: { name: "HMAC", hash: "SHA-256" },
    signatureBytes: 32,
  },
};

export async function isSignedBy(token, { known, algorithm }) {
  const [header, payload, signature] = token.split(".");
  const key = await crypto.subtle.importKey(known.format, known.bytes, algorithm, false, ["verify"]);
  const input = Buffer.from(`${header}.${payload}`);
  return crypto.subtle.verify(algorithm, key, Buffer.from(signature, "base64url"), input);
}

export function decoded(token) {
  const [header, claims] = token.split(".").map((part) => Buffer.from(part, "base64url"));
  return { header: JSON.parse(header), claims: JSON.parse(claims) };
}
