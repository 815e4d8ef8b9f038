//! What there is to try: lines for a shell, each with what will happen.

use super::Error;
use super::folder::{CALLERS, HOST, write};
use crate::cli::terminal::Terminal;
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    fmt::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// One thing to try.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Step {
    /// What it shows.
    name: &'static str,
    /// The line for a shell in the demo's folder, with the demo's URL in `$URL`.
    command: String,
    /// The statuses that it prints.
    statuses: &'static [u16],
    /// Why.
    why: &'static str,
}

/// A running demo.
#[derive(Debug)]
pub(super) struct Demo {
    folder: PathBuf,
    address: SocketAddr,
    admin: Option<SocketAddr>,
}

impl Demo {
    pub(super) fn new(folder: &Path, address: SocketAddr, admin: Option<SocketAddr>) -> Self {
        Self { folder: folder.to_owned(), address, admin }
    }

    fn authority(&self) -> String {
        format!("{HOST}:{}", self.address.port())
    }

    fn url(&self) -> String {
        format!("https://{}", self.authority())
    }

    fn admin(&self) -> String {
        self.admin.map_or_else(String::new, |admin| format!("http://{admin}"))
    }

    /// Writes curl's settings of each caller, which need the port.
    pub(super) fn write_files(&self) -> Result<(), Error> {
        let common = format!(
            "silent\nshow-error\ncacert = \"certs/ca.pem\"\nresolve = \"{}:{}\"\nwrite-out = \"-> %{{http_code}}\\n\"\n",
            self.authority(),
            self.address.ip(),
        );
        write(&self.folder.join("nobody.curl"), &common)?;
        for caller in CALLERS {
            let own = format!("cert = \"certs/{caller}.pem\"\nkey = \"keys/{caller}.tls.pem\"\n");
            write(&self.folder.join(format!("{caller}.curl")), &format!("{common}{own}"))?;
        }
        Ok(())
    }

    /// A request by a caller with a token for just that request.
    fn request(&self, caller: &str, path: &str, token_options: &str) -> String {
        self.signed(caller, token_options, [path, path])
    }

    /// A request with a token that was made for another path.
    fn borrowed(&self, signed: &str, asked: &str) -> String {
        self.signed("checkout", "", [signed, asked])
    }

    fn signed(&self, caller: &str, token_options: &str, paths: [&str; 2]) -> String {
        let [signed, asked] = paths.map(|path| format!("$URL{path}"));
        let token = format!("./belay token --env {caller}.env.json{token_options} GET {signed}");
        format!("curl -K {caller}.curl -H \"Edge-Identity: $({token})\" {asked}")
    }

    /// A request for a user, whose token the Worker's names.
    fn for_user(&self, user: &str, path: &str) -> String {
        let file = format!("people/{user}.jwt");
        let request = self.request("checkout", path, &format!(" --user-token {file}"));
        format!("{request} -H \"Authorization: Bearer $(cat {file})\"")
    }

    fn passing(&self) -> Vec<Step> {
        let step = |name, command, why| Step { name, command, statuses: &[200], why };
        vec![
            step(
                "the Worker checkout asks for an order",
                self.request("checkout", "/orders/7", ""),
                "its certificate and a token for just this request; see who the origin is told that it is",
            ),
            step(
                "the Worker reports reads a report",
                self.request("reports", "/reports/daily", ""),
                "it may by its role: allow: [reader]",
            ),
            step(
                "Ada, who is of support, through the Worker checkout",
                self.for_user("ada", "/admin/orders"),
                "identity: mtls+jwt+user; her provider's token says that she is in the group",
            ),
            step("anybody reads the status", "curl -K nobody.curl $URL/status".into(), "the route says allow: public"),
        ]
    }

    fn refused(&self) -> Vec<Step> {
        let step = |name, command, statuses, why| Step { name, command, statuses, why };
        let replay = "T=$(./belay token --env checkout.env.json POST $URL/orders); for i in 1 2; do \
             curl -K checkout.curl -H \"Edge-Identity: $T\" -d order=1 $URL/orders; done";
        vec![
            step("no certificate", "curl -K nobody.curl $URL/orders/7".into(), &[401], "nobody is let in without one"),
            step(
                "no token",
                "curl -K checkout.curl $URL/orders/7".into(),
                &[401],
                "the certificate alone is not enough",
            ),
            step(
                "a certificate of another CA",
                self.request("rogue", "/orders/7", ""),
                &[401],
                "it names checkout, but our CA did not sign it",
            ),
            step(
                "a token signed with another key",
                self.request("forger", "/orders/7", ""),
                &[401],
                "the certificate is checkout's, the signature is not",
            ),
            step(
                "a token that is an hour old",
                self.request("checkout", "/orders/7", " --age 3600"),
                &[401],
                "it lived for a minute",
            ),
            step(
                "a token for another path",
                self.borrowed("/orders/7", "/orders/8"),
                &[401],
                "it is bound to method, host and path",
            ),
            step("a token used twice", replay.into(), &[200, 401], "the POST passes once; its copy is a replay"),
            step(
                "another Worker's order",
                self.request("reports", "/orders/7", ""),
                &[403],
                "known, but not in allow: [checkout]",
            ),
            step(
                "Bob, who is not of support",
                self.for_user("bob", "/admin/orders"),
                &[403],
                "a good token, but it says nothing of that group",
            ),
            step(
                "Ada's token beside a Worker's that does not name it",
                format!(
                    "{} -H \"Authorization: Bearer $(cat people/ada.jwt)\"",
                    self.request("checkout", "/admin/orders", "")
                ),
                &[401],
                "whoever has stolen it cannot use it",
            ),
            step(
                "a path that two servers could read in two ways",
                self.request("checkout", "/orders/%2e%2e%2fadmin", ""),
                &[400],
                "ambiguity is refused, never repaired",
            ),
            step(
                "a path without a route",
                self.request("checkout", "/nothing", ""),
                &[404],
                "and 401 without a valid identity: strangers learn nothing",
            ),
        ]
    }

    /// Everything, for a program.
    pub(super) fn json(&self) -> Value {
        let file = |name: String| self.folder.join(name);
        let worker = |caller: &&str| {
            let files = json!({
                "env": file(format!("{caller}.env.json")),
                "cert": file(format!("certs/{caller}.pem")),
                "key": file(format!("keys/{caller}.tls.pem")),
            });
            ((*caller).to_owned(), files)
        };
        json!({
            "event": "ready",
            "folder": self.folder,
            "address": self.address,
            "authority": self.authority(),
            "url": self.url(),
            "admin": self.admin(),
            "ca": file("certs/ca.pem".into()),
            "audit": file("audit.jsonl".into()),
            "config": file("belay.yaml".into()),
            "workers": CALLERS.iter().map(worker).collect::<serde_json::Map<_, _>>(),
            "passing": self.passing(),
            "refused": self.refused(),
        })
    }

    /// Everything, for a person.
    pub(super) fn text(&self, terminal: &Terminal) -> String {
        let mut text = String::new();
        let folder = self.folder.display();
        let title = |text: &str| terminal.bold(text);
        let mut line = |line: &str| {
            // Writing to a String cannot fail.
            writeln!(text, "{line}").ok();
        };
        line(&format!("Belay listens on {} as {}, before two origins.", self.address, title(&self.authority())));
        line(&format!("\nIn another terminal:\n\n  cd {folder}\n  URL={}", self.url()));
        for (heading, steps) in [("These pass:", self.passing()), ("These are refused:", self.refused())] {
            line(&format!("\n{}", title(heading)));
            for step in steps {
                let statuses: Vec<_> = step.statuses.iter().map(ToString::to_string).collect();
                line(&format!(
                    "\n  {}",
                    terminal.dim(&format!("# {}: {} — {}", step.name, statuses.join(", then "), step.why))
                ));
                line(&format!("  {}", step.command));
            }
        }
        line(&format!("\n{}\n", title("And look around:")));
        let around = [
            ("the routes, in the order in which they are tried", "./belay routes".to_owned()),
            ("take a server out without losing a request", "./belay drain shop/a && ./belay status".to_owned()),
            ("change belay.yaml, and apply it", "./belay reload".to_owned()),
            ("two records a request: the decision and the outcome", "tail -f audit.jsonl".to_owned()),
            ("for Prometheus", format!("curl -s {}/metrics", self.admin())),
        ];
        for (what, command) in around {
            line(&format!("  {}\n  {command}\n", terminal.dim(&format!("# {what}"))));
        }
        line("Ctrl-C stops it and removes the folder.");
        text
    }
}
