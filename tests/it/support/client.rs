//! A client: requests, responses, and TLS as a Worker speaks it.

use super::site::HOST;
use bytes::Bytes;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::client::TlsStream;

/// A request to make.
#[derive(Clone)]
pub struct Ask {
    /// Whose certificate: a name of `World::identities`.
    pub certificate: Option<&'static str>,
    /// Whose token key signs; none sends no token.
    pub signer: Option<&'static str>,
    pub method: &'static str,
    pub target: &'static str,
    /// Headers beside Host and the token.
    pub headers: Vec<(&'static str, String)>,
    pub body: &'static str,
    pub h2: bool,
    /// What the token says, where it differs.
    pub claims: Vec<(&'static str, Value)>,
}

impl Ask {
    /// A good GET of checkout's.
    pub fn get(target: &'static str) -> Self {
        Self {
            certificate: Some("checkout"),
            signer: Some("checkout"),
            method: "GET",
            target,
            headers: Vec::new(),
            body: "",
            h2: false,
            claims: Vec::new(),
        }
    }

    pub fn claim(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.claims.push((name, value.into()));
        self
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// The body as it came.
    pub bytes: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// What the origin says that it was asked.
    pub fn echo(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("no echo: {error}: {self:?}"))
    }
}

/// Makes a request over HTTP/1.1 and ends the connection.
pub async fn over_h1<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: TlsStream<S>,
    ask: &Ask,
    headers: &[(String, String)],
) -> Reply {
    let mut head = format!("{} {} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n", ask.method, ask.target);
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !ask.body.is_empty() {
        head.push_str(&format!("Content-Length: {}\r\n", ask.body.len()));
    }
    stream.write_all(format!("{head}\r\n{}", ask.body).as_bytes()).await.unwrap();
    let mut raw = Vec::new();
    // A connection that ends without close_notify has ended all the same.
    stream.read_to_end(&mut raw).await.unwrap_or_default();
    parse(&String::from_utf8_lossy(&raw))
}

/// Reads a response whose body ends with the connection.
pub fn parse(raw: &str) -> Reply {
    let (head, body) = raw.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response: {raw:?}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let split = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
    let bytes = body.as_bytes().to_vec();
    Reply { status, headers: lines.filter_map(split).collect(), body: body.to_owned(), bytes }
}

/// Makes a request over HTTP/2.
pub async fn over_h2<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: TlsStream<S>,
    ask: &Ask,
    headers: &[(String, String)],
) -> Reply {
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let mut request = http::Request::builder().method(ask.method).uri(format!("https://{HOST}{}", ask.target));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let (response, mut body) = sender.send_request(request.body(()).unwrap(), ask.body.is_empty()).unwrap();
    if !ask.body.is_empty() {
        body.send_data(Bytes::from_static(ask.body.as_bytes()), true).unwrap();
    }
    let (head, mut body) = response.await.unwrap().into_parts();
    let mut text = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        text.extend_from_slice(&piece);
    }
    let pair =
        |(name, value): (&http::HeaderName, &http::HeaderValue)| (name.to_string(), value.to_str().unwrap().to_owned());
    let headers = head.headers.iter().map(pair).collect();
    let body = String::from_utf8_lossy(&text).into_owned();
    Reply { status: head.status.as_u16(), headers, body, bytes: text }
}
