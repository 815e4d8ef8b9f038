//! The digest of the policy: of all that decides a request, and of nothing that differs between nodes that are alike.

use crate::config::Config;
use crate::generation::Digest;
use crate::keys::Read;
use serde_json::Value;
use std::path::Path;

/// What concerns this node alone, or decides nothing. Of `audit` it counts what becomes of requests without a record.
const OWN: [&str; 10] =
    ["node", "log", "admin", "history", "audit", "stop", "reload", "dns", "external_secrets", "plugins"];

/// The digest of what the config decides, and of the files that decide: rules, CAs, public keys, shared secrets, and what
/// was revoked.
pub(super) fn digest(config: &Config, read: &[Read]) -> Digest {
    let decides = decides(config);
    let files = read.iter().filter(|read| read.kind.decides());
    let files: Vec<_> = files.map(|read| (name(config, &read.path), read.digest().to_string())).collect();
    let files = files.iter().map(|(name, digest)| (name.as_str(), digest.as_bytes()));
    Digest::of(&std::iter::once(("config", decides.as_bytes())).chain(files).collect::<Vec<_>>())
}

fn name(config: &Config, path: &Path) -> String {
    config.way_to(path).to_string_lossy().into_owned()
}

/// The document without what is this node's own, in one form.
fn decides(config: &Config) -> String {
    let mut document = serde_json::to_value(&*config.document).unwrap_or_default();
    if let Some(members) = document.as_object_mut() {
        members.retain(|key, _| !OWN.contains(&key.as_str()));
        members.insert("on_failure".into(), format!("{:?}", config.audit.on_failure).into());
    }
    document.get_mut("access").and_then(Value::as_object_mut).map(|access| access.remove("tests"));
    for listener in
        document.get_mut("listeners").and_then(Value::as_object_mut).into_iter().flat_map(|it| it.values_mut())
    {
        listener.as_object_mut().map(|listener| listener.remove("bind"));
        listener.get_mut("tls").and_then(Value::as_object_mut).map(|tls| tls.remove("certificates"));
    }
    document.sort_all_objects();
    document.to_string()
}
