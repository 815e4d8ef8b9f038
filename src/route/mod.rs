//! Which route a request belongs to: pure, first match wins, nothing revealed.

mod examples;
mod pattern;
mod shadow;

pub use examples::{Others, examples};
pub use pattern::{HostPattern, Malformed, PathPattern, Pattern};
pub use shadow::hiding;

use crate::request::Facts;
use http::Method;
use std::collections::{HashMap, HashSet};

/// Routes in the config's order, found by host first.
#[derive(Debug)]
pub struct Table<T> {
    routes: Box<[(Pattern, T)]>,
    /// For each host that some route names: every route that could match it, in order.
    by_host: HashMap<Box<str>, Box<[usize]>>,
    /// The routes for any other host, in order.
    elsewhere: Box<[usize]>,
}

impl<T> Table<T> {
    /// Takes the routes in their order.
    pub fn new(routes: impl IntoIterator<Item = (Pattern, T)>) -> Self {
        let routes: Box<[_]> = routes.into_iter().collect();
        let indices = |takes: &dyn Fn(&HostPattern) -> bool| {
            let fitting = routes.iter().enumerate().filter(|(_, (pattern, _))| takes(&pattern.host));
            fitting.map(|(index, _)| index).collect::<Box<[usize]>>()
        };
        let named: HashSet<_> = routes.iter().filter_map(|(pattern, _)| pattern.host.exact()).collect();
        let by_host = named.into_iter().map(|host| (host.into(), indices(&|pattern| pattern.takes(host)))).collect();
        let elsewhere = indices(&|pattern| pattern.exact().is_none());
        Self { routes, by_host, elsewhere }
    }

    /// The first route that takes the request.
    #[must_use]
    pub fn find(&self, facts: &Facts) -> Option<&T> {
        self.first(&facts.method, &facts.host, facts.path.as_str())
    }

    /// The first route that takes such a request. The host is in lower case.
    #[must_use]
    pub fn first(&self, method: &Method, host: &str, path: &str) -> Option<&T> {
        self.first_of(method, host, path, |_| true)
    }

    /// The first route that takes such a request, among some.
    #[must_use]
    pub fn first_of(&self, method: &Method, host: &str, path: &str, is_one: impl Fn(&T) -> bool) -> Option<&T> {
        let indices = self.by_host.get(host).unwrap_or(&self.elsewhere);
        let candidates = indices.iter().filter_map(|index| self.routes.get(*index));
        let mut fitting = candidates.filter(|(pattern, route)| pattern.takes(method, host, path) && is_one(route));
        fitting.next().map(|(_, route)| route)
    }

    /// The routes in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.routes.iter().map(|(_, route)| route)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Head, Protocol};
    use http::Method;
    use test_case::test_case;

    pub(super) fn facts(method: &Method, host: &str, target: &str) -> Facts {
        let hosts = [Some(host.as_bytes()), None];
        let protocol = Protocol::Http1;
        Facts::read(&Head { method, target: target.as_bytes(), authority: None, hosts, protocol }).unwrap()
    }

    fn pattern(host: &str, path: &str, methods: Option<&[Method]>) -> Pattern {
        Pattern {
            host: HostPattern::parse(host).unwrap(),
            path: PathPattern::parse(path).unwrap(),
            methods: methods.map(Into::into),
        }
    }

    fn table() -> Table<&'static str> {
        Table::new([
            (pattern("shop.example.com", "/orders/**", Some(&[Method::GET, Method::POST])), "orders"),
            (pattern("shop.example.com", "/orders/*", None), "any method"),
            (pattern("*.example.com", "/health", None), "one label"),
            (pattern("*", "/status", None), "any host"),
            (pattern("api.example.com", "/**", None), "api"),
        ])
    }

    #[test_case(Method::GET, "shop.example.com", "/orders", Some("orders"))]
    #[test_case(Method::GET, "SHOP.example.COM:443", "/orders/1/2?x", Some("orders"); "case, port and query")]
    #[test_case(Method::DELETE, "shop.example.com", "/orders/1", Some("any method"); "falls to the next")]
    #[test_case(Method::DELETE, "shop.example.com", "/orders/1/2", None; "one segment only")]
    #[test_case(Method::DELETE, "shop.example.com", "/orders/", None; "an empty segment is none")]
    #[test_case(Method::GET, "shop.example.com", "/ordersx", None; "whole segments")]
    #[test_case(Method::GET, "shop.example.com", "/health", Some("one label"))]
    #[test_case(Method::GET, "other.example.com", "/health", Some("one label"); "a host that no route names")]
    #[test_case(Method::GET, "a.b.example.com", "/health", None; "two labels")]
    #[test_case(Method::GET, "example.com", "/health", None; "no label")]
    #[test_case(Method::GET, "evil.com", "/status", Some("any host"))]
    #[test_case(Method::GET, "api.example.com", "/status", Some("any host"); "order wins over host")]
    #[test_case(Method::GET, "api.example.com", "/health", Some("one label"); "order wins over exact host")]
    #[test_case(Method::GET, "api.example.com", "/", Some("api"))]
    #[test_case(Method::GET, "evil.com", "/orders", None; "other host")]
    fn finds(method: Method, host: &str, target: &str, expected: Option<&str>) {
        assert_eq!(table().find(&facts(&method, host, target)).copied(), expected);
    }

    /// Caddy CVE-2026-27588: host matching that changes its ways with the number of hosts.
    #[test]
    fn many_hosts_match_like_few() {
        let many = Table::new((0..500).map(|n| (pattern(&format!("h{n}.example.com"), "/**", None), n)));
        for n in [0, 99, 100, 101, 499] {
            assert_eq!(many.find(&facts(&Method::GET, &format!("H{n}.Example.com"), "/")), Some(&n));
        }
    }
}
