//! The load balancers, with the same config each in its own words.

use super::PATIENCE;
use super::origin::Origin;
use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time;

/// How the next server is chosen.
#[derive(Clone, Copy)]
pub enum Balancing {
    RoundRobin,
    LeastConnections,
    LeastLatency,
}

impl Balancing {
    pub const fn words(self) -> &'static str {
        match self {
            Self::RoundRobin => "round robin",
            Self::LeastConnections => "least connections",
            Self::LeastLatency => "least latency",
        }
    }
}

pub fn has_haproxy() -> bool {
    Command::new("haproxy").arg("-v").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// A running load balancer; it is killed when this is dropped.
pub struct Proxy {
    process: Child,
    pub address: String,
    _folder: TempDir,
}

impl Proxy {
    pub fn start(is_haproxy: bool, balancing: Balancing, origins: &[Origin; 3], weights: [u32; 3]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (process, address) = if is_haproxy {
            haproxy(folder.path(), balancing, origins, weights)
        } else {
            belay(folder.path(), balancing, origins, weights)
        };
        Self { process, address, _folder: folder }
    }

    /// Until it answers well ten times in a row, so that the checks of all servers have passed.
    pub async fn warm_up(&self) {
        for _ in 0..200 {
            time::sleep(Duration::from_millis(50)).await;
            if TcpStream::connect(&self.address).await.is_ok() {
                break;
            }
        }
        loop {
            let answers = super::load::Load::new(self, 100).run(Duration::from_millis(300)).await;
            let mut servers: Vec<_> = answers.iter().filter_map(|answer| answer.server.as_deref()).collect();
            let all_well = servers.len() == answers.len();
            servers.sort_unstable();
            servers.dedup();
            if all_well && servers.len() == 3 {
                return;
            }
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn belay(folder: &Path, balancing: Balancing, origins: &[Origin; 3], weights: [u32; 3]) -> (Child, String) {
    let balance = match balancing {
        Balancing::RoundRobin => "round_robin",
        Balancing::LeastConnections => "least_connections",
        Balancing::LeastLatency => "least_latency",
    };
    let servers: String = origins
        .iter()
        .zip(weights)
        .map(|(origin, weight)| {
            format!("      - {{ name: {}, address: \"{}\", weight: {weight} }}\n", origin.name, origin.address)
        })
        .collect();
    let patience = PATIENCE.as_millis();
    let config = format!(
        "version: 1
listeners:
  edge: {{ bind: [\"127.0.0.1:0\"], identity: none }}
routes:
  - {{ name: all, match: {{ host: shop.example.com, path: /** }}, allow: public, pool: shop }}
pools:
  shop:
    balance: {balance}
    servers:
{servers}    health: {{ http: {{ path: /healthz }}, interval: 200ms, timeout: 200ms, rise: 2, fall: 3 }}
    timeouts: {{ connect: {patience}ms, between_bytes: {patience}ms }}
    retry: {{ attempts: 3, on: [connect_failure, no_response, timeout], budget: 100% }}
audit: {{ file: audit.jsonl }}
"
    );
    let file = folder.join("belay.yaml");
    fs::write(&file, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_belay"));
    command.args(["run", "--json", "-c"]).arg(&file).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = command.spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
    (process, ready["listeners"][0]["address"].as_str().unwrap().to_owned())
}

fn haproxy(folder: &Path, balancing: Balancing, origins: &[Origin; 3], weights: [u32; 3]) -> (Child, String) {
    let balance = match balancing {
        Balancing::RoundRobin => "roundrobin",
        Balancing::LeastConnections | Balancing::LeastLatency => "leastconn",
    };
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let servers: String = origins
        .iter()
        .zip(weights)
        .map(|(origin, weight)| format!("  server {} {} weight {weight} check\n", origin.name, origin.address))
        .collect();
    let patience = PATIENCE.as_millis();
    let config = format!(
        "defaults
  mode http
  timeout client 30s
  timeout connect {patience}ms
  timeout server {patience}ms
  timeout check 200ms
  retries 2
  retry-on conn-failure empty-response response-timeout
  option redispatch 1
frontend edge
  bind {address}
  default_backend shop
backend shop
  balance {balance}
  option httpchk GET /healthz
  default-server inter 200ms rise 2 fall 3
{servers}"
    );
    let file = folder.join("haproxy.cfg");
    fs::write(&file, config).unwrap();
    let mut command = Command::new("haproxy");
    let process = command.arg("-f").arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    (process, address.to_string())
}
