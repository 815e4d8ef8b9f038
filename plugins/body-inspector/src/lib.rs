//! Body inspector: a request whose body has a denied text in it, or is too long, is refused before any of it goes on;
//! long numbers in a text that comes back are starred. `config` reads what is wanted, `texts` finds texts, `digits`
//! finds numbers, and each direction of an exchange has a file of its own.

mod config;
mod digits;
mod request;
mod response;
mod texts;

use config::Config;
use log::error;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};
use std::rc::Rc;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Plugin { config: None }));
}}

struct Plugin {
    config: Option<Rc<Config>>,
}

impl Context for Plugin {}

impl RootContext for Plugin {
    fn on_configure(&mut self, _size: usize) -> bool {
        let text = self.get_plugin_configuration().unwrap_or_default();
        match Config::parse(&text) {
            Ok(config) => {
                self.config = Some(Rc::new(config));
                true
            }
            Err(fault) => {
                error!("body-inspector: {fault}");
                false
            }
        }
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    // Without a configuration there is no context, and the host has to refuse the request.
    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        let config = Rc::clone(self.config.as_ref()?);
        Some(Box::new(Exchange {
            config,
            is_refused: false,
            request: Default::default(),
            response: Default::default(),
        }))
    }
}

struct Exchange {
    config: Rc<Config>,
    is_refused: bool,
    request: request::Progress,
    response: response::Progress,
}

impl Context for Exchange {}

// The host keeps what is paused and shows all of it with the next piece, so that a size counts from the body's start.
// Once refused there is nothing left to do: what the host may still show is the refusal itself.
impl HttpContext for Exchange {
    fn on_http_request_headers(&mut self, _count: usize, end: bool) -> Action {
        self.request_headers(end)
    }

    fn on_http_request_body(&mut self, size: usize, end: bool) -> Action {
        if self.is_refused {
            return Action::Pause;
        }
        self.request_body(size, end)
    }

    fn on_http_response_headers(&mut self, _count: usize, end: bool) -> Action {
        if self.is_refused {
            return Action::Continue;
        }
        self.response_headers(end)
    }

    fn on_http_response_body(&mut self, size: usize, end: bool) -> Action {
        self.response_body(size, end)
    }

    // Trailers end a body whose last piece did not say so.
    fn on_http_response_trailers(&mut self, _count: usize) -> Action {
        self.response_trailers()
    }
}

impl Exchange {
    /// Answers in the upstream's place. The detail is for the client: it says what, never which text or where.
    fn refuse(&mut self, status: u32, title: &str, detail: &str) -> Action {
        self.is_refused = true;
        let body = format!(r#"{{"title":"{title}","status":{status},"detail":"{detail}"}}"#);
        self.send_http_response(status, vec![("content-type", "application/problem+json")], Some(body.as_bytes()));
        Action::Pause
    }
}

type Headers = [(String, Vec<u8>)];

/// Every value of a header, as a client may send several.
fn values<'a>(headers: &'a Headers, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    headers.iter().filter(move |(present, _)| present.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim_ascii())
}

/// Whether the body is other than it reads, for example compressed.
fn is_encoded(headers: &Headers) -> bool {
    values(headers, "content-encoding").any(|value| !value.is_empty() && !value.eq_ignore_ascii_case(b"identity"))
}

/// Whether a length is declared that is over the limit. Without one, or with nonsense, the body itself will tell.
fn declares_more_than(headers: &Headers, bytes_max: usize) -> bool {
    values(headers, "content-length")
        .filter_map(|value| std::str::from_utf8(value).ok()?.parse::<u64>().ok())
        .any(|length| usize::try_from(length).map_or(true, |length| length > bytes_max))
}
