//! The usual site behind the real binary.

use super::binary::Belay;
use super::client::{Ask, parse};
use super::parts::eventually;
use super::site::Site;
use belay::clock::{Clock, System};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

/// The usual site, served by the real binary.
pub struct Running {
    pub site: Site,
    pub belay: Belay,
}

impl Running {
    pub async fn new() -> Self {
        Self::with(|text| text).await
    }

    /// The usual config, edited.
    pub async fn with(edit: impl FnOnce(String) -> String) -> Self {
        let Self { site, belay } = Self::started(edit).await;
        Self::healthy(site, belay).await
    }

    /// The same, as it starts.
    pub async fn started(edit: impl FnOnce(String) -> String) -> Self {
        let with_admin = |site: &Site| format!("{}admin: {{ http: '127.0.0.1:0' }}\n", site.config_text());
        Self::started_at(|site| site.write("belay.yaml", &edit(with_admin(site)))).await
    }

    /// The same, at a site that is prepared.
    pub async fn started_at(prepare: impl FnOnce(&Site)) -> Self {
        let site = Site::new(System.now().unix_seconds()).await;
        prepare(&site);
        let belay = Belay::start(&["run", "--json", "-c", site.config().to_str().unwrap()]);
        Self { site, belay }
    }

    /// The usual config, edited, run by a program that may be upgraded. There is a folder for a history.
    pub async fn upgradable(edit: impl FnOnce(String) -> String) -> Self {
        let site = Site::new(System.now().unix_seconds()).await;
        site.write("belay.yaml", &edit(format!("{}admin: {{ http: '127.0.0.1:0' }}\n", site.config_text())));
        std::fs::create_dir(site.folder.path().join("history")).unwrap();
        let mut program = Belay::roots_program();
        program.args(["run", "--json", "-c", site.config().to_str().unwrap()]);
        Self::healthy(site, Belay::spawn(program)).await
    }

    /// Waits until the origins are asked.
    pub async fn healthy(site: Site, belay: Belay) -> Self {
        let running = Self { site, belay };
        running
            .eventually("both origins are healthy", |metrics| {
                metrics.matches("belay_server_up{").count() == 2
                    && !metrics.contains("belay_server_up{pool=\"shop\",server=\"a\"} 0")
                    && !metrics.contains("belay_server_up{pool=\"shop\",server=\"b\"} 0")
            })
            .await;
        running
    }

    pub fn address(&self) -> &str {
        self.belay.ready["listeners"][0]["address"].as_str().unwrap()
    }

    pub fn admin(&self, path: &str) -> (u16, String) {
        admin(self.belay.ready["admin"].as_str().unwrap(), path)
    }

    pub async fn eventually(&self, what: &str, is_true: impl Fn(&str) -> bool + Send + 'static) {
        let (what, address) = (what.to_owned(), self.belay.ready["admin"].as_str().unwrap().to_owned());
        let wait = move || eventually(&what, || is_true(&admin(&address, "/metrics").1).then_some(()));
        tokio::task::spawn_blocking(wait).await.unwrap();
    }

    /// The site, which may be shared, and the process.
    pub fn parts(self) -> (Arc<Site>, Belay, String) {
        let address = self.address().to_owned();
        (Arc::new(self.site), self.belay, address)
    }

    pub async fn status(&self, ask: &Ask) -> u16 {
        self.site.ask_at(self.address(), ask).await.status
    }
}

/// Asks the admin address.
pub fn admin(address: &str, path: &str) -> (u16, String) {
    admin_as(address, "localhost", path)
}

/// The same, by another name.
pub fn admin_as(address: &str, host: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut raw = String::new();
    stream.read_to_string(&mut raw).unwrap();
    let reply = parse(&raw);
    (reply.status, reply.body)
}
