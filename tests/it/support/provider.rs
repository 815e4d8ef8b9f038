//! An identity provider's server, as good or as bad as a test wants it.

use super::pki::Ca;
use super::site::NOW;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use serde_json::json;
use std::{
    future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// How it answers.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Metadata that are true, and these keys.
    Keys(String),
    /// To a path that ends so, that whole answer; to others as [`Answer::Keys`].
    At(&'static str, String),
    /// Never.
    Silence,
    /// Without an end.
    Endless,
}

/// The server at `https://localhost:PORT`.
pub struct Provider {
    pub issuer: String,
    pub ca: Ca,
    answer: Arc<Mutex<Answer>>,
    connections: Arc<AtomicUsize>,
}

impl Provider {
    pub async fn start(answer: Answer) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("https://localhost:{}", socket.local_addr().unwrap().port());
        let ca = Ca::new(NOW);
        let identity = ca.server("localhost");
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = config.with_single_cert(vec![identity.der.clone()], identity.key()).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let provider = Self { issuer, ca, answer: Arc::new(Mutex::new(answer)), connections: Arc::default() };
        let (answer, connections) = (Arc::clone(&provider.answer), Arc::clone(&provider.connections));
        let issuer = provider.issuer.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, acceptor.clone(), answer.lock().clone(), issuer.clone()));
            }
        });
        provider
    }

    /// From now on it answers so.
    pub fn answers(&self, answer: Answer) {
        *self.answer.lock() = answer;
    }

    /// How many connections were made to it.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Ends with the connection, or when the client has gone.
async fn serve(stream: TcpStream, acceptor: TlsAcceptor, answer: Answer, issuer: String) -> Option<()> {
    let mut stream = acceptor.accept(stream).await.ok()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let path = head.split(' ').nth(1)?;
    let whole = |body: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let metadata = || whole(&json!({ "issuer": issuer, "jwks_uri": format!("{issuer}/keys") }).to_string());
    let text = match answer {
        Answer::At(end, text) if path.ends_with(end) => text,
        Answer::Silence => return future::pending().await,
        _ if path == "/.well-known/openid-configuration" => metadata(),
        Answer::Keys(keys) => whole(&keys),
        Answer::At(_, _) => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".into(),
        Answer::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
            loop {
                stream.write_all(&[b' '; 16 * 1024]).await.ok()?;
            }
        }
    };
    stream.write_all(text.as_bytes()).await.ok()?;
    stream.shutdown().await.ok()
}
