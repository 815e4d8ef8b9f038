//! Clients: what they send, and what becomes of it.

use super::contenders::Running;
use super::origin::{LARGE, SMALL};
use super::site::{HOST, Site};
use belay::identity::Algorithm;
use bytes::Bytes;
use rustls::HandshakeKind;
use rustls::pki_types::ServerName;
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time;
use tokio_rustls::TlsConnector;

/// For an answer. Who does not answer within it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is asked, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    Plain {
        large: bool,
    },
    /// The same of one host of a thousand.
    Routed,
    Mtls,
    /// Each by a connection of its own, whose session is resumed, or new.
    NewConnection {
        resumed: bool,
    },
    Token(Algorithm),
    Http2,
}

impl Ask {
    pub const fn path(self) -> &'static str {
        match self {
            Self::Plain { large: true } => "/plain/large",
            Self::Plain { large: false } | Self::Routed => "/plain/small",
            Self::Mtls | Self::NewConnection { .. } | Self::Http2 => "/mtls/small",
            Self::Token(Algorithm::Es256) => "/token/es256",
            Self::Token(Algorithm::EdDsa) => "/token/eddsa",
            Self::Token(Algorithm::Rs256) => "/token/rs256",
            Self::Token(Algorithm::Hs256) => "/token/hs256",
        }
    }

    const fn size(self) -> usize {
        if matches!(self, Self::Plain { large: true }) { LARGE } else { SMALL }
    }

    const fn is_plain(self) -> bool {
        matches!(self, Self::Plain { .. } | Self::Routed)
    }

    /// The requests, whole. Only those with tokens differ from each other.
    pub fn requests(self, count: usize, site: &Site) -> Arc<[Bytes]> {
        let host = if self == Self::Routed { "h500.example.com" } else { HOST };
        let token = |algorithm| format!("edge-identity: {}\r\n", site.token(algorithm, self.path()));
        let request = || {
            let token = match self {
                Self::Token(algorithm) => token(algorithm),
                Self::Plain { .. } | Self::Routed | Self::Mtls | Self::NewConnection { .. } | Self::Http2 => {
                    String::new()
                }
            };
            let path = self.path();
            Bytes::from(format!(
                "GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: compare/1\r\naccept: */*\r\n{token}\r\n"
            ))
        };
        if matches!(self, Self::Token(_)) {
            return (0..count).map(|_| request()).collect();
        }
        let same = request();
        (0..count).map(|_| same.clone()).collect()
    }
}

/// How fast requests come.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// The next as soon as the last was answered.
    Closed,
    /// So many a second over all connections, whatever becomes of others; a request's time counts from when it was due.
    Steady(u32),
}

/// What became of them.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How long each took.
    pub times: Vec<Duration>,
    pub failures: Vec<String>,
    pub took: Duration,
}

impl Outcome {
    /// The time within which so many of a thousand were answered.
    pub fn percentile(&mut self, per_mille: usize) -> Duration {
        self.times.sort_unstable();
        let index = (self.times.len() * per_mille).div_ceil(1_000).saturating_sub(1);
        self.times.get(index).copied().unwrap_or_default()
    }
}

/// Connections that are kept.
pub struct Clients {
    ask: Ask,
    target: Target,
    connections: Vec<Connection>,
}

/// Where, and how.
#[derive(Clone)]
struct Target {
    address: String,
    tls: Option<Arc<rustls::ClientConfig>>,
    resumes: bool,
}

enum Connection {
    Stream(Box<dyn Stream>),
    Http2(h2::client::SendRequest<Bytes>),
    /// Made when it is needed.
    None,
}

pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Target {
    fn of(ask: Ask, running: &Running, site: &Site) -> Self {
        if ask.is_plain() {
            return Self { address: running.plain.clone(), tls: None, resumes: false };
        }
        let protocol: &[u8] = if ask == Ask::Http2 { b"h2" } else { b"http/1.1" };
        let resumes = ask == Ask::NewConnection { resumed: true };
        Self { address: running.edge.clone(), tls: Some(site.client(protocol, resumes)), resumes }
    }

    /// Connects, from that address of this machine if it matters.
    async fn connect(&self, from: Option<SocketAddr>) -> Result<Box<dyn Stream>, String> {
        self.connect_anew(from).await.map(|(stream, _)| stream)
    }

    /// Makes connections that bring tickets for so many others. All are open before the first of them has any.
    async fn fetch_tickets(&self, count: usize, request: &Bytes) -> Result<(), String> {
        let mut streams = Vec::new();
        for _ in 0..count {
            streams.push(self.connect(None).await?);
        }
        let mut buffer = vec![0; 4096];
        for stream in &mut streams {
            exchange(stream, request, SMALL, &mut buffer).await?;
        }
        Ok(())
    }

    /// Connects by a session that is resumed, if such are wanted.
    async fn connect_as_wanted(&self) -> Result<Box<dyn Stream>, String> {
        let (stream, was_resumed) = self.connect_anew(None).await?;
        if was_resumed == self.resumes { Ok(stream) } else { Err("the session was not resumed".to_owned()) }
    }

    /// Connects; whether a session was resumed.
    async fn connect_anew(&self, from: Option<SocketAddr>) -> Result<(Box<dyn Stream>, bool), String> {
        let said = |error: std::io::Error| error.to_string();
        let socket = TcpSocket::new_v4().map_err(said)?;
        socket.set_nodelay(true).map_err(said)?;
        from.map_or(Ok(()), |from| socket.bind(from)).map_err(said)?;
        let stream: TcpStream = socket.connect(self.address.parse().unwrap()).await.map_err(said)?;
        let Some(config) = &self.tls else { return Ok((Box::new(stream), false)) };
        let connector = TlsConnector::from(Arc::clone(config));
        let stream = connector.connect(ServerName::try_from(HOST).unwrap(), stream).await.map_err(said)?;
        let was_resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        Ok((Box::new(stream), was_resumed))
    }
}

impl Clients {
    pub async fn connect(ask: Ask, count: usize, running: &Running, site: &Site) -> Result<Self, String> {
        let target = Target::of(ask, running, site);
        if target.resumes {
            target.fetch_tickets(count, &ask.requests(1, site)[0]).await?;
        }
        let mut connections = Vec::new();
        for _ in 0..count {
            connections.push(match ask {
                Ask::NewConnection { .. } => Connection::None,
                Ask::Http2 => {
                    let stream = target.connect(None).await?;
                    let (sender, connection) =
                        h2::client::handshake(stream).await.map_err(|error| error.to_string())?;
                    tokio::spawn(connection);
                    Connection::Http2(sender)
                }
                Ask::Plain { .. } | Ask::Routed | Ask::Mtls | Ask::Token(_) => {
                    Connection::Stream(target.connect(None).await?)
                }
            });
        }
        Ok(Self { ask, target, connections })
    }

    /// Sends all requests, each once. With HTTP/2 a connection has several on the way.
    pub async fn run(self, requests: &Arc<[Bytes]>, pace: Pace) -> Outcome {
        const STREAMS: usize = 8;
        let started = Instant::now();
        let mut lines = Vec::new();
        for connection in self.connections {
            match connection {
                Connection::Http2(sender) => {
                    lines.extend((0..STREAMS).map(|_| Connection::Http2(sender.clone())));
                }
                Connection::Stream(_) | Connection::None => lines.push(connection),
            }
        }
        let count = lines.len();
        let mut running = JoinSet::new();
        for (index, connection) in lines.into_iter().enumerate() {
            let schedule = Schedule { started, pace, index, count };
            let line = Line { ask: self.ask, target: self.target.clone(), connection, schedule };
            running.spawn(line.run(Arc::clone(requests)));
        }
        let mut outcome = Outcome::default();
        while let Some(line) = running.join_next().await {
            let (times, failure) = line.unwrap();
            outcome.times.extend(times);
            outcome.failures.extend(failure);
        }
        outcome.took = started.elapsed();
        outcome
    }
}

/// When the requests of one line are due.
#[derive(Clone, Copy)]
struct Schedule {
    started: Instant,
    pace: Pace,
    index: usize,
    count: usize,
}

impl Schedule {
    /// Waits until a request is due, and says since when it is.
    async fn due(self, number: usize) -> Instant {
        match self.pace {
            Pace::Closed => Instant::now(),
            Pace::Steady(rate) => {
                let number = u32::try_from(number * self.count + self.index).unwrap();
                let due = self.started + Duration::from_secs(1) * number / rate;
                time::sleep_until(due.into()).await;
                due
            }
        }
    }
}

/// What sends one request after the other.
struct Line {
    ask: Ask,
    target: Target,
    connection: Connection,
    schedule: Schedule,
}

impl Line {
    async fn run(mut self, requests: Arc<[Bytes]>) -> (Vec<Duration>, Option<String>) {
        let (index, count) = (self.schedule.index, self.schedule.count);
        let mut times = Vec::with_capacity(requests.len() / count + 1);
        let mut buffer = vec![0; 32 * 1024];
        for (number, request) in requests.iter().skip(index).step_by(count).enumerate() {
            let due = self.schedule.due(number).await;
            let asked = time::timeout(PATIENCE, self.send(request, &mut buffer)).await;
            if let Err(failure) = asked.unwrap_or_else(|_elapsed| Err("no answer".to_owned())) {
                return (times, Some(failure));
            }
            times.push(due.elapsed());
        }
        (times, None)
    }

    async fn send(&mut self, request: &Bytes, buffer: &mut [u8]) -> Result<(), String> {
        match &mut self.connection {
            Connection::Stream(stream) => exchange(stream, request, self.ask.size(), buffer).await,
            Connection::None => {
                let mut stream = self.target.connect_as_wanted().await?;
                exchange(&mut stream, request, self.ask.size(), buffer).await
            }
            Connection::Http2(sender) => exchange_h2(sender, self.ask).await,
        }
    }
}

/// One request and its answer, which must be good and whole.
async fn exchange(
    stream: &mut (impl Stream + ?Sized),
    request: &Bytes,
    size: usize,
    buffer: &mut [u8],
) -> Result<(), String> {
    let said = |error: std::io::Error| error.to_string();
    stream.write_all(request).await.map_err(said)?;
    let mut got = 0;
    let mut body_at = None;
    loop {
        let read = stream.read(&mut buffer[got..]).await.map_err(said)?;
        got += read;
        if body_at.is_none() {
            body_at = memchr::memmem::find(&buffer[..got], b"\r\n\r\n").map(|end| end + 4);
        }
        let is_good = buffer.starts_with(b"HTTP/1.1 200");
        if read == 0 || (body_at.is_some() && !is_good) {
            return Err(format!("answered with {:?}", String::from_utf8_lossy(&buffer[..got])));
        }
        if body_at.is_some_and(|at| got == at + size) {
            return Ok(());
        }
    }
}

async fn exchange_h2(sender: &mut h2::client::SendRequest<Bytes>, ask: Ask) -> Result<(), String> {
    let said = |error: h2::Error| error.to_string();
    let uri = format!("https://{HOST}{}", ask.path());
    let request = http::Request::get(uri).header("user-agent", "compare/1").header("accept", "*/*");
    let mut sender = sender.clone().ready().await.map_err(said)?;
    let (response, _) = sender.send_request(request.body(()).unwrap(), true).map_err(said)?;
    let response = response.await.map_err(said)?;
    if response.status() != 200 {
        return Err(format!("answered with {}", response.status()));
    }
    let (mut body, mut got) = (response.into_body(), 0);
    while let Some(piece) = body.data().await {
        let length = piece.map_err(said)?.len();
        got += length;
        body.flow_control().release_capacity(length).map_err(said)?;
    }
    if got == ask.size() { Ok(()) } else { Err(format!("{got} bytes came")) }
}

/// Connections that do nothing.
pub struct Idle(Vec<Box<dyn Stream>>);

impl Idle {
    /// Opens them from many addresses, each with one request answered.
    pub async fn open(count: usize, running: &Running, site: &Site) -> Result<Self, String> {
        let target = Target::of(Ask::Mtls, running, site);
        let request = Ask::Mtls.requests(1, site)[0].clone();
        let mut streams = Vec::new();
        let mut buffer = vec![0; 4096];
        for number in 0..count {
            let last = u8::try_from(2 + number % 200).unwrap();
            let mut stream = target.connect(Some(SocketAddr::from(([127, 0, 0, last], 0)))).await?;
            exchange(&mut stream, &request, SMALL, &mut buffer).await?;
            streams.push(stream);
        }
        Ok(Self(streams))
    }

    /// Asks once more by each; how many do not answer.
    pub async fn dead(self, site: &Site) -> usize {
        let request = Ask::Mtls.requests(1, site)[0].clone();
        let (mut dead, mut buffer) = (0, vec![0; 4096]);
        for mut stream in self.0 {
            let asked = time::timeout(PATIENCE, exchange(&mut stream, &request, SMALL, &mut buffer)).await;
            dead += usize::from(!matches!(asked, Ok(Ok(()))));
        }
        dead
    }
}
