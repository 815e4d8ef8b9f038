//! A small origin that says what it was asked: the demo's, so that its reader sees what a private service sees.

use async_trait::async_trait;
use http::{HeaderName, Response, StatusCode, header::CONTENT_TYPE};
use pingora::apps::ServerApp;
use pingora::apps::http_app::{HttpServer, ServeHttp};
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::stream::Stream;
use serde_json::{Map, Value, json};
use std::{io, sync::Arc};
use tokio::net::TcpListener;

/// The longest body that it counts, in bytes.
const BODY_MAX: usize = 16 * 1024 * 1024;

/// Answers every request with a JSON object that repeats it.
#[derive(Debug)]
pub struct Echo {
    name: &'static str,
}

impl Echo {
    /// An origin of that name.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name }
    }

    /// Serves the connections of a socket until it is dropped.
    ///
    /// # Errors
    /// If the socket stops working.
    pub async fn serve(self, socket: TcpListener) -> io::Result<()> {
        let app = Arc::new(HttpServer::new_app(self));
        let (_never, going_on) = tokio::sync::watch::channel(false);
        loop {
            let (stream, _peer) = socket.accept().await?;
            // Head and body are written apart: the body would wait 40 ms for the head's acknowledgement. Whoever has
            // gone by now needs neither.
            stream.set_nodelay(true).ok();
            let (app, going_on) = (Arc::clone(&app), going_on.clone());
            tokio::spawn(async move { app.process_new(Box::new(Stream::from(stream)), &going_on).await });
        }
    }
}

#[async_trait]
impl ServeHttp for Echo {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let mut body_bytes = 0usize;
        while let Ok(Some(piece)) = session.read_request_body().await {
            body_bytes = body_bytes.saturating_add(piece.len());
            if body_bytes > BODY_MAX {
                return answer(StatusCode::PAYLOAD_TOO_LARGE, &json!({ "origin": self.name }));
            }
        }
        let head = session.req_header();
        let text = |bytes: &[u8]| Value::from(String::from_utf8_lossy(bytes));
        let all = |name: &HeaderName| {
            let values = head.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
            Value::from(values.collect::<Vec<_>>().join(", "))
        };
        let headers: Map<_, _> = head.headers.keys().map(|name| (name.as_str().to_owned(), all(name))).collect();
        let echo = json!({
            "origin": self.name,
            "method": head.method.as_str(),
            "path": text(head.raw_path()),
            "headers": headers,
            "body_bytes": body_bytes,
        });
        answer(StatusCode::OK, &echo)
    }
}

fn answer(status: StatusCode, body: &Value) -> Response<Vec<u8>> {
    let body = format!("{body}\n").into_bytes();
    let response = Response::builder().status(status).header(CONTENT_TYPE, "application/json");
    // The headers are well formed, so the builder has no fault to report.
    response.header("content-length", body.len()).body(body).unwrap_or_default()
}
