//! Header policy: a request is refused for a header that it lacks or for a value that it must not have, and a response
//! is dressed. `policy` decides and knows nothing of the host; this file asks it and carries out what it says.

mod policy;

use log::error;
use policy::{Policy, Refusal};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};
use std::rc::Rc;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Plugin { policy: None }));
}}

struct Plugin {
    policy: Option<Rc<Policy>>,
}

impl Context for Plugin {}

impl RootContext for Plugin {
    fn on_configure(&mut self, _size: usize) -> bool {
        let text = self.get_plugin_configuration().unwrap_or_default();
        match Policy::parse(&text) {
            Ok(policy) => {
                self.policy = Some(Rc::new(policy));
                true
            }
            Err(fault) => {
                error!("header-policy: {fault}");
                false
            }
        }
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    // Without a policy there is no context, and the host has to refuse the request.
    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        let policy = Rc::clone(self.policy.as_ref()?);
        Some(Box::new(Exchange { policy }))
    }
}

struct Exchange {
    policy: Rc<Policy>,
}

impl Context for Exchange {}

impl HttpContext for Exchange {
    fn on_http_request_headers(&mut self, _count: usize, _end: bool) -> Action {
        // All headers at once: a look-up by name shows only the first of several, and the second could be the bad one.
        match self.policy.judge(&self.get_http_request_headers_bytes()) {
            Ok(()) => Action::Continue,
            Err(refusal) => self.refuse(&refusal),
        }
    }

    fn on_http_response_headers(&mut self, _count: usize, _end: bool) -> Action {
        for name in self.policy.removed() {
            self.set_http_response_header(name, None);
        }
        for (name, value) in self.policy.set() {
            self.set_http_response_header(name, Some(value));
        }
        Action::Continue
    }
}

impl Exchange {
    fn refuse(&self, refusal: &Refusal) -> Action {
        let (status, title, detail) = match refusal {
            Refusal::Missing(name) => (400, "Bad Request", format!("the header {name} is required")),
            Refusal::Denied(name) => (403, "Forbidden", format!("this value of the header {name} is not allowed")),
        };
        // Nothing to escape: a header's name has neither quotes nor backslashes.
        let body = format!(r#"{{"title":"{title}","status":{status},"detail":"{detail}"}}"#);
        self.send_http_response(status, vec![("content-type", "application/problem+json")], Some(body.as_bytes()));
        Action::Pause
    }
}
