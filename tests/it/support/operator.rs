//! What an operator does: commands that ask the running process, and a look at the audit log.

use super::{Belay, Site, record};
use serde_json::Value;

/// The config with a socket for operators.
pub fn with_socket(text: String) -> String {
    text.replace("admin: { http: '127.0.0.1:0' }", "admin: { http: '127.0.0.1:0', socket: admin.sock }")
}

pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// A command for the process that runs with a site's config.
pub fn command(site: &Site, words: &[&str]) -> Said {
    let output = Belay::output(&[words, &["-c", site.config().to_str().unwrap()]].concat());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Said { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

/// Reloads with another text, which must be applied.
pub fn apply(site: &Site, text: &str) {
    site.write("belay.yaml", text);
    let said = command(site, &["reload", "--accept", "all"]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{}", said.out);
}

/// The records of an administrative act.
pub fn acts(site: &Site, action: &str) -> Vec<Value> {
    let log = std::fs::read_to_string(site.folder.path().join("audit.jsonl")).unwrap();
    // The last line may be in the middle of being written.
    let whole = log.rfind('\n').map_or("", |end| &log[..end]);
    whole.lines().map(record).filter(|record| record["event"]["action"] == action).collect()
}
