//! The real OpenID Connect provider, in a process of its own.

use super::pki::Ca;
use super::{Needs, Site};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Lines, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

pub struct Oidc {
    pub issuer: String,
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Oidc {
    /// Starts it, with a certificate of a new CA, `login-ca.pem`. Its client shows the certificate of checkout. None if
    /// this machine lacks what it needs.
    pub fn start(site: &Site) -> Option<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/provider");
        let parts = folder.join("node_modules/oidc-provider").is_dir();
        let is_there = Needs::program("node", "apt-get install nodejs")
            && Needs::met(parts, "a real OpenID Connect provider", "cd tests/provider && npm ci");
        if !is_there {
            return None;
        }
        let ca = Ca::new(site.now);
        let (server, client) = (ca.server("localhost"), &site.identities["checkout"]);
        site.write("login-ca.pem", &ca.pem);
        site.write("login.pem", &server.pem);
        site.write("login.key", &server.key_pem);
        site.write("client.pem", &client.pem);
        site.write("client.key", &client.key_pem);
        let mut child = Command::new("node")
            .arg("provider.js")
            .arg(site.folder.path())
            .current_dir(folder)
            .env("NODE_NO_WARNINGS", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut oidc = Self { issuer: String::new(), child, input, output };
        oidc.issuer = oidc.line()["issuer"].as_str().unwrap().to_owned();
        Some(oidc)
    }

    fn line(&mut self) -> Value {
        // What it warns of stands on the same stream.
        let mut lines = self.output.by_ref().map(Result::unwrap);
        let line = lines.find(|line| line.starts_with('{'));
        serde_json::from_str(&line.unwrap_or_else(|| panic!("the provider has ended"))).unwrap()
    }

    fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.input, "{question}").unwrap();
        self.line()
    }

    /// Somebody logs in; what the client gets.
    pub fn tokens(&mut self, alg: &str, user: &str) -> Value {
        self.ask(&json!({ "alg": alg, "user": user }))
    }

    /// Somebody's access token.
    pub fn token(&mut self, alg: &str, user: &str) -> String {
        self.tokens(alg, user)["access_token"].as_str().unwrap().to_owned()
    }

    /// From now on it signs with other keys, and publishes no others.
    pub fn rotate(&mut self) {
        self.ask(&json!({ "rotate": true }));
    }
}

impl Drop for Oidc {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
