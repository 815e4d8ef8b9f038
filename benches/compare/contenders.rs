//! The load balancers, each with the same job in its own words.

use super::process::{self, Cores};
use super::site::{SECRET_BYTES, Site};
use std::{
    fmt, fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tokio::net::TcpStream;
use tokio::time;

/// How many routes there are where there are many.
pub const MANY: usize = 1_000;
/// How many plugins a request passes where it passes any.
pub const PLUGINS: usize = 10;
/// For a process that has to come up.
const WITHIN: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Contender {
    Belay,
    HaProxy,
    Nginx,
}

impl Contender {
    pub const ALL: [Self; 3] = [Self::Belay, Self::HaProxy, Self::Nginx];

    /// What is run: another build, where the environment names one.
    pub fn program(self) -> PathBuf {
        let (variable, usual) = match self {
            Self::Belay => ("BELAY", env!("CARGO_BIN_EXE_belay")),
            Self::HaProxy => ("HAPROXY", "haproxy"),
            Self::Nginx => ("NGINX", "nginx"),
        };
        environment(variable).map_or_else(|| usual.into(), PathBuf::from)
    }

    /// Its version, if it is there.
    pub fn version(self) -> Option<String> {
        let flag = match self {
            Self::Belay => "--version",
            Self::HaProxy => "-v",
            Self::Nginx => "-V",
        };
        let output = Command::new(self.program()).arg(flag).output().ok().filter(|output| output.status.success())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        let word = |text: &str, index| text.split_whitespace().nth(index).map(str::to_owned);
        match self {
            Self::Belay => word(&text, 1),
            Self::HaProxy => word(&text, 2),
            Self::Nginx => text.split_once("nginx/").and_then(|(_, rest)| word(rest, 0)),
        }
    }

    /// What it computes keys and signatures with, as far as it tells.
    pub fn cryptography(self) -> String {
        let told = |flag: &str, before: &str| {
            let output = Command::new(self.program()).arg(flag).output().ok()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            let line = text.split_once(before)?.1.lines().next()?;
            Some(line.trim_end_matches(')').trim().to_owned())
        };
        match self {
            Self::Belay => Some("AWS-LC".to_owned()),
            Self::HaProxy => told("-vv", "Running on OpenSSL version : "),
            Self::Nginx => told("-V", "running with "),
        }
        .unwrap_or_else(|| "unknown".to_owned())
    }

    /// Its config before it is filled in.
    pub const fn template(self) -> &'static str {
        match self {
            Self::Belay => include_str!("belay.yaml"),
            Self::HaProxy => include_str!("haproxy.cfg"),
            Self::Nginx => include_str!("nginx.conf"),
        }
    }

    /// A further route, by its host.
    fn route(self, number: usize) -> String {
        match self {
            Self::Belay => format!(
                "  - {{ name: r{number}, match: {{ host: h{number}.example.com, path: /plain/** }}, allow: public, pool: origin }}\n"
            ),
            Self::HaProxy => format!("h{number}.example.com origin\n"),
            Self::Nginx => format!(
                "  server {{ listen 127.0.0.1:PLAIN; server_name h{number}.example.com; location /plain/ {{ proxy_pass http://origin; }} }}\n"
            ),
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Belay => "Belay",
            Self::HaProxy => "HAProxy",
            Self::Nginx => "nginx",
        })
    }
}

/// What the environment says.
#[expect(clippy::disallowed_methods, reason = "a bench is no part of the program, whose command line reads it")]
pub fn environment(variable: &str) -> Option<String> {
    std::env::var(variable).ok()
}

/// What differs between configs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Setup {
    Usual,
    /// With a thousand routes more.
    ManyRoutes,
    /// With ten plugins on the plain route.
    Plugins,
}

/// How it is started.
#[derive(Debug, Clone, Copy)]
pub enum Launch<'a> {
    Alone,
    /// By callgrind, which writes into that file what it has counted.
    Counted(&'a Path),
}

impl Launch<'_> {
    fn command(self, contender: Contender) -> Command {
        match self {
            Self::Alone => Command::new(contender.program()),
            Self::Counted(file) => {
                let mut command = Command::new("valgrind");
                command.args(["--quiet", "--tool=callgrind"]);
                // The C library has other ways to copy on each kind of processor; this is the one that all have.
                command.env("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-ERMS,-FSRM,-AVX2,-AVX512F,-AVX512VL");
                command.arg(format!("--callgrind-out-file={}", file.display())).arg(contender.program());
                command
            }
        }
    }

    const fn within(self) -> Duration {
        match self {
            Self::Alone => WITHIN,
            Self::Counted(_) => super::instructions::WITHIN,
        }
    }
}

/// A running load balancer; it is killed when this is dropped.
pub struct Running {
    process: Child,
    /// The processes that do its work.
    pub workers: Vec<u32>,
    pub plain: String,
    pub edge: String,
}

impl Running {
    /// Starts it on the core for load balancers, and waits until it listens.
    pub async fn start(contender: Contender, setup: Setup, site: &Site, origin: &str) -> Result<Self, String> {
        Self::launch(contender, setup, site, origin, Launch::Alone).await
    }

    /// The same in another way.
    pub async fn launch(
        contender: Contender,
        setup: Setup,
        site: &Site,
        origin: &str,
        launch: Launch<'_>,
    ) -> Result<Self, String> {
        let folder = site.folder.path();
        let ports: Vec<_> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<_> = ports.iter().map(|port| port.local_addr().unwrap().to_string()).collect();
        drop(ports);
        let config = write_config(contender, setup, folder, [&addresses[0], &addresses[1], origin]);
        let mut command = launch.command(contender);
        match contender {
            Contender::Belay => command.args(["run", "--json", "-c"]).arg(&config),
            Contender::HaProxy => command.arg("-db").arg("-f").arg(&config),
            Contender::Nginx => command.arg("-p").arg(folder).arg("-c").arg(&config),
        };
        let log = fs::File::create(folder.join(format!("{contender}.log"))).unwrap();
        command.stdout(Stdio::piped()).stderr(log);
        let cores = Cores::Balancer.enter();
        let spawned = command.spawn();
        drop(cores);
        let mut process = spawned.map_err(|error| format!("{contender} cannot be started: {error}"))?;
        if contender == Contender::Belay {
            let mut ready = String::new();
            BufReader::new(process.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        }
        let [plain, edge] = addresses.try_into().unwrap();
        let mut running = Self { process, workers: Vec::new(), plain, edge };
        if !matches!(time::timeout(launch.within(), running.listens()).await, Ok(true)) {
            let log = fs::read_to_string(folder.join(format!("{contender}.log"))).unwrap();
            return Err(format!("{contender} does not come up: {log}"));
        }
        running.workers = process::workers(running.process.id());
        Ok(running)
    }

    /// Waits until it does; whether it does not end instead.
    async fn listens(&mut self) -> bool {
        while TcpStream::connect(&self.plain).await.is_err() {
            if self.process.try_wait().unwrap().is_some() {
                return false;
            }
            time::sleep(Duration::from_millis(20)).await;
        }
        true
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Workers end with who has started them only if he ends in peace.
        process::end(&self.process);
        self.process.wait().unwrap();
    }
}

fn write_config(contender: Contender, setup: Setup, folder: &Path, [plain, edge, origin]: [&str; 3]) -> PathBuf {
    let port = |address: &str| address.rsplit_once(':').unwrap().1.to_owned();
    let folder_name = folder.to_str().unwrap();
    let routes: String = match setup {
        Setup::ManyRoutes => (0..MANY).map(|number| contender.route(number)).collect(),
        Setup::Usual | Setup::Plugins => String::new(),
    };
    // HAProxy finds a backend among many fastest by a map.
    let routes = if contender == Contender::HaProxy && !routes.is_empty() {
        fs::write(folder.join("routes.map"), routes).unwrap();
        "  use_backend %[req.hdr(host),map_str(FOLDER/routes.map,origin)]\n".to_owned()
    } else {
        routes
    };
    let filters = match setup {
        Setup::Plugins => format!("filters: [{}]", ["PLUGIN"; PLUGINS].join(", ")),
        Setup::Usual | Setup::ManyRoutes => "filters: []".to_owned(),
    };
    let plugin = concat!(env!("CARGO_MANIFEST_DIR"), "/plugins/quota/quota.wasm");
    let plugin = format!("{{ plugin: {{ wasm: {plugin:?}, config: {{ requests: 1000000000, seconds: 60 }} }} }}");
    let today = super::figures::today();
    let text = contender
        .template()
        .replace("  # MORE ROUTES\n", &routes)
        .replace("FILTERS", &filters)
        .replace("PLUGIN", &plugin)
        .replace("TODAY", &today)
        .replace("PLAIN", &port(plain))
        .replace("EDGE", &port(edge))
        .replace("ORIGIN", &port(origin))
        .replace("FOLDER", folder_name)
        .replace("SECRET", SECRET_BYTES);
    let file = folder.join(format!("{contender}-{setup:?}.yaml"));
    fs::write(&file, text).unwrap();
    file
}
