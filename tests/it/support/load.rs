//! Clients that never stop asking, and count every answer.

use super::site::{HOST, Site, alpn};
use super::{Ask, eventually};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;

/// What the clients have seen.
#[derive(Debug, Default)]
pub struct Tally {
    pub answered: AtomicU64,
    pub connections: AtomicU64,
    /// Whether they end after their current request.
    over: AtomicBool,
}

/// Clients at work: on each connection one request after the other, until they are told that it ends.
pub struct Load {
    pub tally: Arc<Tally>,
    clients: Vec<JoinHandle<Result<(), String>>>,
}

impl Load {
    /// So many clients of HTTP/1.1, and so many of HTTP/2, at an address.
    pub fn start(site: &Arc<Site>, address: &str, (h1, h2): (usize, usize)) -> Self {
        let tally = Arc::<Tally>::default();
        let start = |h2: bool| {
            let (site, address, tally) = (Arc::clone(site), address.to_owned(), Arc::clone(&tally));
            tokio::spawn(async move { client(&site, &address, h2, &tally).await })
        };
        let clients = (0..h1).map(|_| start(false)).chain((0..h2).map(|_| start(true))).collect();
        Self { tally, clients }
    }

    /// Waits until so many more requests are answered, or a client has failed.
    pub fn more(&self, requests: u64) {
        let end = self.tally.answered.load(Ordering::Relaxed) + requests;
        // However many there are: only that none come any more takes too long.
        let mut seen = 0;
        while seen < end {
            seen = eventually("answers", || self.answered_after(seen).map(|answered| answered.unwrap_or(end)));
        }
    }

    /// How many were answered, once there are more than that; nothing, if a client has failed.
    fn answered_after(&self, seen: u64) -> Option<Option<u64>> {
        let answered = self.tally.answered.load(Ordering::Relaxed);
        if self.clients.iter().any(JoinHandle::is_finished) {
            return Some(None);
        }
        (answered > seen).then_some(Some(answered))
    }

    /// Ends it; how many were answered, and what has failed.
    pub async fn end(self) -> (u64, Vec<String>) {
        self.tally.over.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        for client in self.clients {
            failures.extend(client.await.unwrap().err());
        }
        (self.tally.answered.load(Ordering::Relaxed), failures)
    }
}

impl Tally {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// Connects again and again.
async fn client(site: &Site, address: &str, h2: bool, tally: &Tally) -> Result<(), String> {
    while !tally.is_over() {
        tally.connections.fetch_add(1, Ordering::Relaxed);
        let stream = connect(site, address, h2).await.map_err(|fault| format!("connecting: {fault}"))?;
        if h2 { on_h2(stream, tally).await? } else { on_h1(stream, tally).await? }
    }
    Ok(())
}

async fn connect(site: &Site, address: &str, h2: bool) -> std::io::Result<TlsStream<TcpStream>> {
    let ask = Ask { h2, ..Ask::get("/mtls") };
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    site.try_tls(stream, &site.client(ask.certificate, alpn(&ask), rustls::DEFAULT_VERSIONS)).await
}

/// Asks until the answer says that the connection ends. One that ends without having said so is a failure: whoever
/// sent a request in that moment would have lost it.
async fn on_h1(mut stream: TlsStream<TcpStream>, tally: &Tally) -> Result<(), String> {
    let request = format!("GET /mtls HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    loop {
        stream.write_all(request.as_bytes()).await.map_err(|fault| format!("HTTP/1.1, asking: {fault}"))?;
        let head = answer(&mut stream).await.map_err(|fault| format!("HTTP/1.1, after asking: {fault}"))?;
        if !head.starts_with("HTTP/1.1 200 ") {
            return Err(head);
        }
        tally.answered.fetch_add(1, Ordering::Relaxed);
        if tally.is_over() || head.to_ascii_lowercase().contains("\r\nconnection: close\r\n") {
            return Ok(());
        }
    }
}

/// The head of a response, whose body has been read, too.
async fn answer(stream: &mut TlsStream<TcpStream>) -> Result<String, String> {
    let mut raw = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let read = stream.read(&mut piece).await.map_err(|fault| fault.to_string())?;
        if read == 0 {
            return Err("the connection has ended".into());
        }
        raw.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&raw);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            return Ok(format!("{head}\r\n"));
        }
    }
}

/// Asks until the server says goodbye. A stream that it has not taken then may be asked for again.
async fn on_h2(stream: TlsStream<TcpStream>, tally: &Tally) -> Result<(), String> {
    let (mut sender, connection) = h2::client::handshake(stream).await.map_err(|fault| fault.to_string())?;
    tokio::spawn(connection);
    while !tally.is_over() {
        let Ok(mut ready) = sender.ready().await else { return Ok(()) };
        let request = http::Request::builder().uri(format!("https://{HOST}/mtls")).body(()).unwrap();
        let asked = ready.send_request(request, true);
        let Ok((response, _)) = asked else { return Ok(()) };
        match response.await {
            Ok(response) if response.status() == 200 => {
                let mut body = response.into_body();
                while let Some(piece) = body.data().await {
                    let piece = piece.map_err(|fault| format!("HTTP/2, a body: {fault}"))?;
                    body.flow_control().release_capacity(piece.len()).unwrap();
                }
                tally.answered.fetch_add(1, Ordering::Relaxed);
            }
            Ok(response) => return Err(format!("HTTP/2: {}", response.status())),
            Err(fault) if fault.is_go_away() && fault.reason() == Some(h2::Reason::NO_ERROR) => return Ok(()),
            Err(fault) => return Err(format!("HTTP/2: {fault}")),
        }
        sender = ready;
    }
    Ok(())
}
