//! Filters, through a whole load balancer: what the origin is asked, what the client gets, and what is written down.

use crate::support::checks::answering;
use crate::support::{Ask, HOST, World, show};
use serde_json::{Value, json};
use std::io::Read;
use test_case::test_case;

/// The usual world, with filters at the route of orders; `more` stands behind the pools.
async fn filtered(filters: &str, more: &str) -> World {
    World::with(|text| edited(text, filters, more)).await
}

fn edited(text: String, filters: &str, more: &str) -> String {
    let route = "    allow: [checkout]\n    pool: shop\n";
    let with = format!("    allow: [checkout]\n    filters: {filters}\n    pool: shop\n");
    text.replacen(route, &with, 1).replacen("audit: {", &format!("{more}audit: {{"), 1)
}

/// The same with an origin of its own, which answers like that.
async fn before_origin(filters: &str, answer: impl Fn(&str) -> String + Send + Sync + 'static) -> World {
    let address = answering("\r\n\r\n", answer).await;
    let pool = format!("  own: {{ servers: [{{ name: o, address: '{address}' }}] }}\n");
    World::with(|text| edited(text, filters, &pool).replacen("    pool: shop\n", "    pool: own\n", 1)).await
}

fn orders() -> Ask {
    Ask { h2: true, ..Ask::get("/orders/7?full=1") }
}

fn outcome(world: &World) -> Value {
    world.records_of("outcome").pop().unwrap()
}

#[tokio::test]
async fn headers_are_removed_replaced_set_and_added() {
    let filter = "[{ headers: { request: { remove: [x-debug], replace: { referer: { pattern: '^http:', with: 'https:' } }, \
                  set: { x-tenant: shop }, add: { accept: text/plain } } } }]";
    let world = filtered(filter, "").await;
    let ask = orders()
        .header("x-debug", "1")
        .header("referer", "http://a.example/http:")
        .header("x-tenant", "theirs")
        .header("accept", "text/html");
    let headers = world.ask(&ask).await.echo()["headers"].clone();
    assert_eq!(headers["x-debug"], Value::Null);
    assert_eq!(headers["referer"], "https://a.example/http:");
    assert_eq!(headers["x-tenant"], "shop");
    assert_eq!(headers["accept"], "text/html, text/plain");
}

#[tokio::test]
async fn headers_of_a_response_are_changed_too() {
    let filter = "[{ headers: { response: { remove: [server], replace: { location: { pattern: '^http://10\\.0\\.0\\.1', \
                  with: 'https://shop.example.com' } }, set: { x-frame-options: DENY }, add: { vary: origin } } } }]";
    let answer =
        "HTTP/1.1 302 Found\r\nserver: x\r\nvary: cookie\r\nlocation: http://10.0.0.1/a\r\ncontent-length: 0\r\n\r\n";
    let world = before_origin(filter, move |_| answer.into()).await;
    let reply = world.ask(&orders()).await;
    assert_eq!((reply.status, reply.header("server")), (302, None));
    assert_eq!(reply.header("location"), Some("https://shop.example.com/a"));
    assert_eq!(reply.header("x-frame-options"), Some("DENY"));
    let vary: Vec<_> = reply.headers.iter().filter(|(name, _)| name == "vary").map(|(_, value)| &**value).collect();
    assert_eq!(vary, ["cookie", "origin"]);
}

/// Filters of the listener come first, and see the response last.
#[tokio::test]
async fn filters_run_in_order_and_back_in_reverse() {
    let header = |value: &str| {
        format!(
            "[{{ headers: {{ request: {{ add: {{ x-way: {value} }} }}, response: {{ add: {{ x-back: {value} }} }} }} }}]"
        )
    };
    let (listener, route) = (header("listener"), header("route"));
    let world = World::with(|text| {
        let text = text.replacen("    tls:\n", &format!("    filters: {listener}\n    tls:\n"), 1);
        edited(text, &route, "")
    })
    .await;
    let reply = world.ask(&orders()).await;
    assert_eq!(reply.echo()["headers"]["x-way"], "listener, route");
    let back: Vec<_> = reply.headers.iter().filter(|(name, _)| name == "x-back").map(|(_, value)| &**value).collect();
    assert_eq!(back, ["route", "listener"]);
    // Routes without filters of their own have the listener's.
    let reply = world.ask(&Ask { signer: None, ..Ask::get("/status") }).await;
    assert_eq!(reply.header("x-back"), Some("listener"));
}

#[test_case("{ path: { prefix: /orders, with: /v2/orders } }", "/v2/orders/7?full=1", HOST; "a prefix")]
#[test_case("{ path: { pattern: '^/orders/([0-9]+)$', with: '/order/$1/show' } }", "/order/7/show?full=1", HOST; "a pattern")]
#[test_case("{ path: { prefix: /other, with: /v2 } }", "/orders/7?full=1", HOST; "another prefix")]
#[test_case("{ host: 'inner.example.net:8080' }", "/orders/7?full=1", "inner.example.net:8080"; "a host")]
#[tokio::test]
async fn a_rewrite_is_sent_and_written_down(rewrite: &str, target: &str, host: &str) {
    let world = filtered(&format!("[{{ rewrite: {rewrite} }}]"), "").await;
    for h2 in [false, true] {
        let echo = world.ask(&Ask { h2, ..orders() }).await.echo();
        assert_eq!((&echo["path"], &echo["headers"]["host"]), (&json!(target), &json!(host)));
        let told = echo["headers"]["x-forwarded-host"].clone();
        assert_eq!(told, HOST, "what was asked for is told all the same");
    }
    let sent = outcome(&world)["belay"]["sent"].clone();
    let path = target.split('?').next().filter(|path| *path != "/orders/7");
    assert_eq!(sent["path"], json!(path));
    assert_eq!(sent["host"], json!(Some(host).filter(|host| *host != HOST)));
    assert_eq!(world.records_of("decision")[0]["url"]["path"], "/orders/7", "it was judged by what came");
}

/// What a pattern puts together has one reading, or goes nowhere.
#[tokio::test]
async fn a_rewrite_does_not_lead_out() {
    let world =
        filtered("[{ rewrite: { path: { pattern: '^/orders/(.*)$', with: '/files/$1/../../admin' } } }]", "").await;
    assert_eq!(world.ask(&orders()).await.status, 500);
    assert_eq!(world.forwarded(), 0);
    assert_eq!(outcome(&world)["belay"]["filter"], "rewrite");
}

#[test_case("{ to: 'https://new.example.com{path}{query}' }", 308, "https://new.example.com/orders/7?full=1"; "elsewhere")]
#[test_case("{ to: '/moved', status: 303 }", 303, "/moved"; "a path")]
#[test_case("{ to: 'https://{host}/{path}' }", 308, "https://shop.example.com/orders/7"; "the same host")]
#[tokio::test]
async fn a_redirect_forwards_nothing(redirect: &str, status: u16, location: &str) {
    let world = filtered(&format!("[{{ redirect: {redirect} }}]"), "").await;
    for h2 in [false, true] {
        let reply = world.ask(&Ask { h2, ..orders() }).await;
        assert_eq!((reply.status, reply.header("location")), (status, Some(location)));
        assert!(reply.header("x-request-id").is_some());
    }
    assert_eq!(world.forwarded(), 0);
    let outcome = outcome(&world);
    assert_eq!((&outcome["belay"]["filter"], &outcome["event"]["outcome"]), (&json!("redirect"), &json!("success")));
}

#[tokio::test]
async fn a_fixed_answer_passes_the_filters_before_it() {
    let filters = "[{ headers: { response: { set: { x-served-by: belay } } } }, \
                   { respond: { status: 418, body: 'file:tea.txt', headers: { x-pot: short } } }]";
    let world = World::before_checks(
        {
            let site = crate::support::Site::new(crate::support::NOW).await;
            site.write("tea.txt", "I am a teapot.");
            site
        },
        |text| edited(text, filters, ""),
    );
    for (method, body) in [("GET", "I am a teapot."), ("HEAD", "")] {
        let reply = world.ask(&Ask { method, ..orders() }).await;
        assert_eq!((reply.status, reply.body.as_str()), (418, body));
        assert_eq!(reply.header("content-length"), Some("14"));
        assert_eq!((reply.header("x-served-by"), reply.header("x-pot")), (Some("belay"), Some("short")));
    }
    assert_eq!(world.forwarded(), 0);
}

/// The rest of an unread body is never taken for the next request.
#[tokio::test]
async fn an_answer_before_the_body_ends_the_connection() {
    let world = filtered("[{ respond: { body: no } }]", "").await;
    let reply = world.ask(&Ask { method: "POST", body: "GET /admin HTTP/1.1\r\n\r\n", h2: false, ..orders() }).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("connection"), Some("close"));
}

#[test_case("{ request: 4B }", "POST", "12345", 413; "too long a request")]
#[test_case("{ request: 5B }", "POST", "12345", 200; "as long as it may be")]
#[test_case("{ response: 20B }", "GET", "", 502; "too long a response")]
#[test_case("{ response: 1MiB }", "GET", "", 200; "a short response")]
#[tokio::test]
async fn bodies_have_limits(limits: &str, method: &'static str, body: &'static str, status: u16) {
    let world = filtered(&format!("[{{ body_limit: {limits} }}]"), "").await;
    for h2 in [false, true] {
        assert_eq!(world.ask(&Ask { method, body, h2, ..orders() }).await.status, status, "h2: {h2}");
    }
}

#[test_case("{ allow: [192.0.2.0/24] }", Some("192.0.2.7"), 200; "allowed")]
#[test_case("{ allow: [192.0.2.0/24] }", Some("198.51.100.7"), 403; "elsewhere")]
#[test_case("{ allow: [192.0.2.0/24] }", None, 403; "nobody knows where")]
#[test_case("{ deny: [192.0.2.0/24] }", Some("192.0.2.7"), 403; "denied")]
#[test_case("{ deny: [192.0.2.0/24] }", Some("198.51.100.7"), 200; "not denied")]
#[test_case("{ allow: [192.0.2.0/24], deny: [192.0.2.7] }", Some("192.0.2.7"), 403; "denied within")]
#[test_case("{ deny: ['file:blocked.txt'] }", Some("203.0.113.9"), 403; "denied by a file")]
#[tokio::test]
async fn a_network_may_or_may_not(lists: &str, client: Option<&str>, status: u16) {
    let site = crate::support::Site::new(crate::support::NOW).await;
    site.write("blocked.txt", "# last week\n203.0.113.0/24\n");
    let world = World::before_checks(site, |text| {
        let text = text.replacen("    tls:\n", "    client_address: claim:cip\n    tls:\n", 1);
        edited(text, &format!("[{{ networks: {lists} }}, {{ respond: {{}} }}]"), "")
    });
    let ask = client.into_iter().fold(orders(), |ask, client| ask.claim("cip", client));
    assert_eq!(world.ask(&ask).await.status, status);
    if status == 403 {
        let outcome = outcome(&world);
        assert_eq!(outcome["event"]["reason"], "filter.network_not_allowed");
        assert_eq!(outcome["belay"]["filter"], "networks");
    }
}

#[tokio::test]
async fn maintenance_keeps_all_but_some_out() {
    let text = "[{ maintenance: { retry_after: 90s, except: [reader], except_networks: [203.0.113.0/24], body: <p>Later., \
                content_type: text/html } }]";
    let world = World::with(|config| {
        config.replacen("    filters: [{ headers", "    filters: [{ maintenance: { except: [reader] } }, { headers", 1)
    })
    .await;
    let reports = Ask { certificate: Some("reports"), signer: Some("reports"), ..Ask::get("/reports/daily") };
    assert_eq!(world.ask(&reports).await.status, 200, "who looks whether it works again");
    let text =
        edited(world.config_text(), text, "").replacen("    tls:\n", "    client_address: claim:cip\n    tls:\n", 1);
    world.apply(&text).unwrap_or_else(|findings| panic!("{}", show(&findings)));
    let reply = world.ask(&orders()).await;
    assert_eq!((reply.status, reply.body.as_str(), reply.header("retry-after")), (503, "<p>Later.", Some("90")));
    assert_eq!(reply.header("content-type"), Some("text/html"));
    assert_eq!(world.ask(&orders().claim("cip", "203.0.113.7")).await.status, 200, "from the office");
}

#[test_case(200, "plain", "plain"; "no error")]
#[test_case(404, "not here", "not here"; "no page for it")]
#[test_case(502, "broken", "<h1>Sorry</h1>"; "of several")]
#[test_case(503, "broken", "<h1>Later</h1>"; "the narrowest")]
#[tokio::test]
async fn an_origins_error_shows_a_page(status: u16, said: &'static str, shown: &str) {
    let pages = "[{ error_pages: { of_origin: true, pages: { 500-599: { body: <h1>Sorry</h1> }, 503: { body: <h1>Later</h1> } } } }]";
    let answer = move |_: &str| {
        format!(
            "HTTP/1.1 {status} X\r\netag: \"a\"\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{said}",
            said.len()
        )
    };
    let world = before_origin(pages, answer).await;
    let reply = world.ask(&orders()).await;
    assert_eq!((reply.status, reply.body.as_str()), (status, shown));
    let is_ours = shown.starts_with('<');
    assert_eq!(reply.header("content-type"), Some(if is_ours { "text/html; charset=utf-8" } else { "text/plain" }));
    assert_eq!(reply.header("etag").is_some(), !is_ours);
}

/// A route that nobody is to know of does not show by its page.
#[tokio::test]
async fn an_error_of_ours_shows_a_page() {
    let pages = |text: &str| format!("[{{ error_pages: {{ pages: {{ 400-599: {{ body: {text} }} }} }} }}]");
    let world = World::with(|text| {
        let text = text.replacen("    tls:\n", &format!("    filters: {}\n    tls:\n", pages("general")), 1);
        edited(text, &pages("orders"), "").replacen(
            "    allow: [checkout]\n",
            "    hide: true\n    allow: [checkout]\n",
            1,
        )
    })
    .await;
    let as_reports = Ask { certificate: Some("reports"), signer: Some("reports"), ..orders() };
    let reply = world.ask(&as_reports).await;
    assert_eq!((reply.status, reply.body.as_str()), (404, "general"), "hidden from who may not pass");
    let reply = world.ask(&Ask::get("/nowhere")).await;
    assert_eq!((reply.status, reply.body.as_str()), (404, "general"));
    let too_long = Ask { method: "DELETE", ..orders() };
    assert_eq!(world.ask(&too_long).await.body, "general", "a method that the route does not take");
}

fn preflight(method: &str, origin: &str) -> Ask {
    let ask = Ask { method: "OPTIONS", ..orders() };
    ask.header("origin", origin.to_owned()).header("access-control-request-method", method.to_owned())
}

const CORS: &str = "[{ cors: { origins: ['https://app.example.com', 'https://*.example.org'], methods: [PUT], \
                    headers: [content-type], expose: [x-total], credentials: true, max_age: 1h } }]";

#[test_case("PUT", "https://app.example.com", true; "a page that may")]
#[test_case("PUT", "https://a.example.org", true; "one of many")]
#[test_case("PUT", "https://evil.example", false; "a page that may not")]
#[test_case("DELETE", "https://app.example.com", false; "a method that may not")]
#[tokio::test]
async fn a_browsers_question_is_answered(method: &str, origin: &str, may: bool) {
    let world = World::with(|text| edited(text, CORS, "").replacen("PUT]", "PUT, DELETE]", 1)).await;
    let reply = world.ask(&preflight(method, origin)).await;
    assert_eq!(reply.status, 204);
    assert_eq!(reply.header("access-control-allow-origin"), Some(origin).filter(|_| may));
    assert_eq!(reply.header("access-control-allow-methods"), Some("GET, HEAD, POST, PUT").filter(|_| may));
    assert_eq!(reply.header("access-control-max-age"), Some("3600").filter(|_| may));
    assert_eq!((reply.header("vary"), world.forwarded()), (Some("origin"), 0));
    let decision = world.records_of("decision").pop().unwrap();
    assert_eq!(
        (&decision["belay"]["rule"], &decision["belay"]["workload"]),
        (&json!("filters.cors"), &json!("checkout"))
    );
}

/// The question shows no user, but its Worker.
#[tokio::test]
async fn a_browsers_question_needs_the_workers_proofs() {
    let world = filtered(CORS, "").await;
    let ask = Ask { signer: None, ..preflight("PUT", "https://app.example.com") };
    let reply = world.ask(&ask).await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (401, None));
    // Without the filter it is a request like any other, for which there is no route.
    let reply = World::new().await.ask(&preflight("PUT", "https://app.example.com")).await;
    assert_eq!(reply.status, 404);
}

#[tokio::test]
async fn a_page_of_another_origin_may_read_the_answer() {
    let answer = "HTTP/1.1 200 OK\r\naccess-control-allow-origin: *\r\naccess-control-allow-headers: x\r\ncontent-length: 0\r\n\r\n";
    let world = before_origin(CORS, move |_| answer.into()).await;
    let reply = world.ask(&orders().header("origin", "https://app.example.com")).await;
    assert_eq!(reply.header("access-control-allow-origin"), Some("https://app.example.com"));
    assert_eq!(reply.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(reply.header("access-control-expose-headers"), Some("x-total"));
    assert_eq!(reply.header("access-control-allow-headers"), None, "what the origin says does not count");
    let reply = world.ask(&orders().header("origin", "https://evil.example")).await;
    assert_eq!((reply.header("access-control-allow-origin"), reply.header("vary")), (None, Some("origin")));
}

fn decoded(coding: Option<&str>, bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    match coding {
        Some("gzip") => flate2::read::GzDecoder::new(bytes).read_to_end(&mut text).unwrap(),
        Some("br") => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut text).unwrap(),
        Some("zstd") => zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut text).unwrap(),
        _ => return bytes.to_vec(),
    };
    text
}

#[test_case("gzip", "", Some("gzip"); "gzip")]
#[test_case("gzip, br", "", Some("br"); "brotli")]
#[test_case("gzip, br, zstd", "", Some("zstd"); "zstd")]
#[test_case("identity", "", None; "nothing that we know")]
#[test_case("gzip", "set-cookie: a=b\r\n", None; "a cookie")]
#[test_case("gzip", "content-encoding: br\r\n", None; "compressed already")]
#[test_case("gzip", "cache-control: no-transform\r\n", None; "not to be touched")]
#[tokio::test]
async fn a_response_is_compressed(accepted: &str, more: &'static str, coding: Option<&str>) {
    let text = "All work and no play makes Jack a dull boy. ".repeat(500);
    let body = text.clone();
    let answer = move |_: &str| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\netag: \"a\"\r\naccept-ranges: bytes\r\n";
        format!("{head}{more}content-length: {}\r\n\r\n{body}", body.len())
    };
    let world = before_origin("[{ compression: {} }]", answer).await;
    let reply = world.ask(&orders().header("accept-encoding", accepted.to_owned())).await;
    let own = more.strip_prefix("content-encoding: ").map(str::trim_end);
    assert_eq!(reply.header("content-encoding"), coding.or(own));
    assert_eq!(decoded(coding, &reply.bytes), text.as_bytes());
    assert_eq!(reply.header("etag"), Some(if coding.is_some() { "W/\"a\"" } else { "\"a\"" }));
    assert_eq!(reply.header("accept-ranges").is_some(), coding.is_none());
    let varies = more.is_empty();
    assert_eq!(reply.header("vary"), varies.then_some("accept-encoding"));
    if coding.is_some() {
        assert!(reply.bytes.len() < text.len() / 10, "{} bytes", reply.bytes.len());
        // Over HTTP/1.1 in pieces, since nobody knows its length.
        let reply = world.ask(&Ask { h2: false, ..orders() }.header("accept-encoding", accepted.to_owned())).await;
        assert_eq!((reply.header("content-length"), reply.header("transfer-encoding")), (None, Some("chunked")));
    }
}

#[test_case("algorithms: [gzip], min: 10B, with_cookies: true", Some("gzip"); "as it is said")]
#[test_case("min: 11B, with_cookies: true", None; "too short")]
#[test_case("min: 10B, with_cookies: true, types: [application/json]", None; "another type")]
#[tokio::test]
async fn compression_is_as_it_is_said(settings: &str, coding: Option<&str>) {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nset-cookie: a=b\r\ncontent-length: 10\r\n\r\n";
    let world =
        before_origin(&format!("[{{ compression: {{ {settings} }} }}]"), move |_| format!("{head}aaaaaaaaaa")).await;
    let reply = world.ask(&orders().header("accept-encoding", "zstd, gzip")).await;
    assert_eq!(reply.header("content-encoding"), coding);
    assert_eq!(decoded(coding, &reply.bytes), b"aaaaaaaaaa");
}

/// A cookie that another filter sets behind it is seen, too.
#[tokio::test]
async fn a_cookie_of_a_filters_own_is_not_compressed_with() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\netag: \"a\"\r\ncontent-length: 10\r\n\r\naaaaaaaaaa";
    let filters = "[{ headers: { response: { set: { set-cookie: a=b } } } }, { compression: { min: 0B } }]";
    let world = before_origin(filters, move |_| answer.into()).await;
    let reply = world.ask(&orders().header("accept-encoding", "gzip")).await;
    assert_eq!((reply.header("set-cookie"), reply.header("content-encoding")), (Some("a=b"), None));
    assert_eq!((reply.body.as_str(), reply.header("etag")), ("aaaaaaaaaa", Some("\"a\"")));
}

/// A service that decides: what it says is by the path.
async fn authorizer() -> String {
    answering("\r\n\r\n", |head| {
        let said = |status: &str, more: &str| format!("HTTP/1.1 {status}\r\n{more}content-length: 2\r\n\r\nno");
        match head.split(' ').nth(1).unwrap_or_default() {
            path if path.starts_with("/check/orders/yes") => said("200 OK", "x-plan: gold\r\n"),
            path if path.starts_with("/check/orders/no") => {
                said("403 Forbidden", "x-secret: s\r\ncontent-type: text/plain\r\n")
            }
            path if path.starts_with("/check/orders/login") => {
                said("302 Found", "location: https://login.example.com\r\n")
            }
            path if path.starts_with("/check/orders/broken") => said("500 Oh", ""),
            _ => String::new(),
        }
    })
    .await
}

async fn asking(settings: &str) -> World {
    let address = authorizer().await;
    let pool = format!("  judge: {{ servers: [{{ name: j, address: '{address}' }}] }}\n");
    filtered(&format!("[{{ ext_authz: {{ pool: judge, path: /check, {settings} }} }}]"), &pool).await
}

#[test_case("/orders/yes", 200, None; "he may")]
#[test_case("/orders/no", 403, None; "he may not")]
#[test_case("/orders/login", 302, None; "he is sent elsewhere")]
#[test_case("/orders/broken", 503, Some("filter.authorizer_silent"); "neither yes nor no")]
#[test_case("/orders/silent", 503, Some("filter.authorizer_silent"); "no answer")]
#[tokio::test]
async fn somebody_else_decides_too(target: &'static str, status: u16, reason: Option<&str>) {
    let world = asking("take: [x-plan]").await;
    for h2 in [false, true] {
        let reply = world.ask(&Ask { target, h2, ..orders() }.header("x-plan", "platinum")).await;
        assert_eq!(reply.status, status);
        match status {
            200 => assert_eq!(reply.echo()["headers"]["x-plan"], "gold", "his word, and not the client's"),
            302 => assert_eq!(reply.header("location"), Some("https://login.example.com")),
            403 => assert_eq!((reply.header("x-secret"), reply.header("content-type")), (None, Some("text/plain"))),
            _ => {}
        }
    }
    let outcome = outcome(&world);
    assert_eq!(outcome["event"]["reason"], json!(reason));
    assert_eq!(outcome["belay"]["filter"], json!((status != 200).then_some("ext_authz")));
}

/// He is told who asks, and what he is to be told of the request; nothing else.
#[tokio::test]
async fn who_decides_is_told_who_asks() {
    let heard = std::sync::Arc::new(parking_lot::Mutex::new(Vec::<String>::new()));
    let hears = std::sync::Arc::clone(&heard);
    let address = answering("\r\n\r\n", move |head| {
        hears.lock().push(head.to_ascii_lowercase());
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".into()
    })
    .await;
    let pool = format!("  judge: {{ servers: [{{ name: j, address: '{address}' }}] }}\n");
    let filter = |more: &str| format!("[{{ ext_authz: {{ pool: judge, send: [x-key]{more} }} }}]");
    let world = filtered(&filter(""), &pool).await;
    let ask = Ask { method: "POST", body: "secret body", ..orders() }.header("x-key", "k").header("x-other", "o");
    assert_eq!(world.ask(&ask).await.status, 200);
    let first = heard.lock()[0].clone();
    for line in ["post /orders/7?full=1 http/1.1", "host: shop.example.com", "belay-workload: checkout", "x-key: k"] {
        assert!(first.contains(&format!("{line}\r\n")), "{line}: {first}");
    }
    for word in ["edge-identity", "x-other", "secret body"] {
        assert!(!first.contains(word), "{word}: {first}");
    }
    // Each is asked for, unless answers are remembered: then only what differs is.
    assert_eq!(world.ask(&ask).await.status, 200);
    assert_eq!(heard.lock().len(), 2);
    let remembering = edited(world.config_text().replacen(&filter(""), &filter(", cache: { ttl: 1m }"), 1), "[]", "");
    world.apply(&remembering).unwrap_or_else(|findings| panic!("{}", show(&findings)));
    for (key, asked) in [("k", 3), ("k", 3), ("l", 4), ("k", 4), ("l", 4)] {
        let ask = Ask { method: "POST", body: "", ..orders() }.header("x-key", key);
        assert_eq!(world.ask(&ask).await.status, 200);
        assert_eq!(heard.lock().len(), asked, "{key}");
    }
}

/// Who takes longer than he may has said nothing.
#[tokio::test]
async fn who_decides_has_his_time() {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let pool = format!("  judge: {{ servers: [{{ name: j, address: '{address}' }}] }}\n");
    let world = filtered("[{ ext_authz: { pool: judge, timeout: 10ms } }]", &pool).await;
    assert_eq!(world.ask(&orders()).await.status, 503);
    assert_eq!((outcome(&world)["event"]["reason"].clone(), world.forwarded()), (json!("filter.authorizer_silent"), 1));
}

#[test_case("[{ headers: { request: { set: { belay-user: x } } } }]", "carries identity or framing"; "a header of identity")]
#[test_case("[{ headers: { response: { remove: [content-length] } } }]", "carries identity or framing"; "a header of framing")]
#[test_case("[{ headers: {} }]", "nothing is changed"; "no headers")]
#[test_case("[{ headers: { request: { replace: { a: { pattern: '(', with: x } } } } }]", "no regular expression"; "a bad pattern")]
#[test_case("[{ rewrite: { path: { prefix: /a, pattern: b, with: /c } } }]", "one of `prefix` and `pattern`"; "two ways")]
#[test_case("[{ rewrite: { path: { prefix: /a, with: '/b/../c' } } }]", "is no path"; "a path with two readings")]
#[test_case("[{ rewrite: { host: 'a b' } }]", "no host"; "no host")]
#[test_case("[{ redirect: { to: '//evil.example' } }]", "no URL and no path"; "a host in a path's clothes")]
#[test_case("[{ redirect: { to: /a, status: 304 } }]", "no redirect"; "another status")]
#[test_case("[{ respond: { status: 204, body: x } }]", "has no body"; "a body where there is none")]
#[test_case("[{ networks: { allow: [192.0.2.1/24] } }]", "no network"; "bits beyond the prefix")]
#[test_case("[{ networks: {} }]", "no network is named"; "no network")]
#[test_case("[{ error_pages: { pages: { 200: { body: x } } } }]", "no status of an error"; "a page for what is none")]
#[test_case("[{ cors: { origins: ['*'], credentials: true } }]", "every page could read"; "everybody with cookies")]
#[test_case("[{ compression: { types: [html] } }]", "no media type"; "no type")]
#[test_case("[{ compression: { algorithms: [rar] } }]", "rar"; "no algorithm")]
#[test_case("[{ ext_authz: { pool: shopp } }]", "there is no pool `shopp`"; "no pool")]
#[test_case("[{ ext_authz: { pool: shop, timeout: 0ms } }]", "out of range"; "no time")]
#[test_case("[{ body_limit: { request: 5 } }]", "a text is expected"; "no unit")]
#[test_case("[{ header: {} }]", "did you mean `headers`"; "no such filter")]
#[tokio::test]
async fn is_no_filter(filters: &str, message: &str) {
    let world = World::new().await;
    let findings = world.apply(&edited(world.config_text(), filters, "")).unwrap_err();
    let said = show(&findings);
    assert!(said.contains(message), "{said}");
    assert_eq!(world.ask(&orders()).await.status, 200, "the old one goes on");
}

/// What is remembered gives no more than what was said, whatever the client sends.
#[tokio::test]
async fn what_is_remembered_is_the_services_word() {
    let world = asking("take: [x-plan, x-tier], cache: { ttl: 1m }").await;
    let ask = Ask { target: "/orders/yes", ..orders() };
    for tier in [None, Some("admin")] {
        let ask = tier.into_iter().fold(ask.clone(), |ask, tier| ask.header("x-tier", tier));
        let headers = world.ask(&ask).await.echo()["headers"].clone();
        assert_eq!((&headers["x-plan"], &headers["x-tier"]), (&json!("gold"), &Value::Null));
    }
}

/// An error without a body shows the page as well.
#[tokio::test]
async fn an_empty_error_shows_a_page() {
    let pages = "[{ error_pages: { of_origin: true, pages: { 500-599: { body: <h1>Sorry</h1> } } } }]";
    let world = before_origin(pages, |_| "HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n".into()).await;
    for h2 in [false, true] {
        let reply = world.ask(&Ask { h2, ..orders() }).await;
        assert_eq!((reply.status, reply.body.as_str()), (503, "<h1>Sorry</h1>"));
    }
}

/// A browser's questions count with the limits of what they are about.
#[tokio::test]
async fn a_browsers_questions_have_limits() {
    let world = World::with(|text| {
        let limited = "    limits: [{ rate: 1/d, burst: 2 }]\n    allow: [checkout]\n";
        edited(text, CORS, "").replacen("    allow: [checkout]\n", limited, 1)
    })
    .await;
    let ask = preflight("PUT", "https://app.example.com");
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(world.ask(&ask).await.status);
    }
    assert_eq!(statuses.last(), Some(&429), "{statuses:?}");
}

/// A file that cannot be read leaves the old generation.
#[tokio::test]
async fn a_filters_file_must_be_there() {
    let world = World::new().await;
    for filter in ["{ respond: { body: 'file:gone.html' } }", "{ networks: { deny: ['file:gone.txt'] } }"] {
        let findings = world.apply(&edited(world.config_text(), &format!("[{filter}]"), "")).unwrap_err();
        assert!(show(&findings).contains("gone."), "{}", show(&findings));
        world.site.write("belay.yaml", &edited(world.config_text(), "[]", "").replacen("    filters: []\n", "", 1));
    }
}
