//! The file that `revoked` names, word for word.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What counts no more. It is read again when it changes, counts from the next request on, and ends what is in flight.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RevokedFile {
    /// Names of workloads: whatever they sign and show.
    pub workloads: Vec<String>,
    /// Users, as the audit log names them in `user.id`: `issuer|subject`.
    pub users: Vec<String>,
    /// Ids (`kid`) of keys of workloads.
    pub keys: Vec<String>,
    /// SHA-256 of certificates of clients: hexadecimal, or base64url as in the audit log.
    pub certificates: Vec<String>,
    /// Single tokens of workloads or users: their `jti`, or for those of workloads what the audit log says of it.
    pub tokens: Vec<String>,
}
