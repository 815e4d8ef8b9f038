//! What is revoked counts no more, from the next request on, and ends what is in flight.

use crate::support::checks::read_head;
use crate::support::login::{Login, claims};

use crate::support::{Ask, HOST, NOW, Site, WORKLOAD_LIFE, World, show, tunnel};
use belay::runtime::Change;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use test_case::test_case;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;

const PEOPLE: &str = "\
revoked: revoked.yaml
people:
  staff: { issuer: 'https://login.example.com', audience: 'api://shop', jwks: 'file:jwks.json' }
roles:
  support: { people: staff, claim: groups, has: [support], through: [checkout] }
";

const ROUTES: &str = "\
routes:
  - { name: live, match: { host: shop.example.com, path: /live/* }, identity: mtls+jwt+user, allow: [support], pool: live }
  - { name: feed, match: { host: shop.example.com, path: /feed }, identity: mtls, allow: [checkout, reader], pool: live }
  - { name: users, match: { host: shop.example.com, path: /users/* }, identity: mtls+jwt+user, allow: [support], pool: shop }
";

/// The usual config with people, and with a pool whose server tunnels.
async fn with(login: &Login, edit: impl FnOnce(String) -> String) -> World {
    let site = Site::new(NOW).await;
    site.write("jwks.json", &login.jwks());
    site.write("revoked.yaml", "{}");
    let live = format!(
        "pools:\n  live: {{ servers: [{{ name: a, address: '{}' }}] }}\n",
        tunnel::origin(tunnel::SWITCHED).await
    );
    let edited = |text: String| {
        let text = text.replace("roles:\n", PEOPLE).replace("routes:\n", ROUTES).replace("pools:\n", &live);
        edit(text)
    };
    let world = World::before_checks(site, edited);
    world.is_healthy().await;
    world
}

/// Lets another list of what is revoked count.
fn revoke(world: &World, list: &str) {
    world.write("revoked.yaml", list);
    let change = world.live.refresh().unwrap_or_else(|findings| panic!("{}", show(&findings)));
    assert!(matches!(change, Change::Applied(_)), "{list}");
}

fn last(world: &World, action: &str) -> Value {
    world.records_of(action).pop().unwrap()
}

/// The reason of a reply, as the audit log has it.
fn reason(world: &World) -> String {
    last(world, "decision")["event"]["reason"].as_str().unwrap_or_default().to_owned()
}

#[test_case("workloads: [checkout]", 403, "identity.workload_revoked"; "a workload")]
#[test_case("workloads: [reports]", 200, ""; "another workload")]
#[test_case("users: ['https://login.example.com|ada']", 403, "user.user_revoked"; "a user")]
#[test_case("users: ['https://login.example.com|bob']", 200, ""; "another user")]
#[test_case("users: ['https://login.example.org|ada']", 200, ""; "another provider's user")]
#[test_case("keys: [checkout-1]", 401, "identity.token_key_revoked"; "a key")]
#[test_case("keys: [reports-1]", 200, ""; "another key")]
#[test_case("certificates: [THUMBPRINT]", 401, "identity.certificate_revoked"; "a certificate")]
#[test_case("certificates: ['HEX']", 401, "identity.certificate_revoked"; "a certificate as openssl prints it")]
#[test_case("certificates: ['0000000000000000000000000000000000000000000000000000000000000000']", 200, ""; "another certificate")]
#[test_case("tokens: [0123456789abcdef-token]", 401, "identity.token_revoked"; "a token")]
#[test_case("tokens: [DIGEST]", 401, "identity.token_revoked"; "a token as the audit log writes it")]
#[test_case("tokens: [users-own]", 401, "user.user_token_revoked"; "a users token")]
#[test_case("tokens: [0123456789abcdef]", 200, ""; "another token")]
#[tokio::test]
async fn counts_no_more(list: &str, status: u16, expected: &str) {
    let login = Login::new("l-1");
    let world = with(&login, |text| text).await;
    let mut said = claims("ada", &["support"]);
    said["jti"] = json!("users-own");
    let ask = Ask::get("/users/7").for_user(&login.sign(&said)).claim("jti", "0123456789abcdef-token");
    // The same token, twice.
    let headers = world.headers(&ask);
    assert_eq!(world.send(&ask, &headers).await.status, 200);
    let thumbprint = world.identities["checkout"].thumbprint();
    let digest = last(&world, "decision")["belay"]["jti_sha256"].as_str().unwrap().to_owned();
    let list = list.replace("THUMBPRINT", &thumbprint).replace("HEX", &hex(&thumbprint)).replace("DIGEST", &digest);
    revoke(&world, &list);
    let reply = world.send(&ask, &headers).await;
    assert_eq!((reply.status, reason(&world).as_str()), (status, expected), "{reply:?}");
    // A Worker that may sign again is told to; nobody else learns why.
    assert!(status == 401 || !reply.body.contains("revoked"), "{}", reply.body);
    if status != 200 {
        assert_eq!(last(&world, "decision")["belay"]["workload"], "checkout", "the operator learns who it was");
    }
    let reports = Ask { certificate: Some("reports"), signer: Some("reports"), ..Ask::get("/reports/7") };
    let others = if list == "workloads: [reports]" || list == "keys: [reports-1]" { [403, 401] } else { [200, 200] };
    assert!(others.contains(&world.ask(&reports).await.status), "others go on");
}

/// base64url of SHA-256 as `openssl x509 -fingerprint -sha256` prints it.
fn hex(thumbprint: &str) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let bytes = URL_SAFE_NO_PAD.decode(thumbprint).unwrap();
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

#[test_case("workloads: [Checkout!]", "`Checkout!` is no name"; "a name")]
#[test_case("users: [ada]", "`ada` is no user"; "a user without an issuer")]
#[test_case("certificates: [abc]", "`abc` is no SHA-256"; "a certificate")]
#[test_case("certificates: ['00:11']", "`00:11` is no SHA-256"; "half a certificate")]
#[test_case("keys: ['a b']", "`a b` is no id of a key"; "a key")]
#[test_case("tokens: ['']", "names no token"; "an empty token")]
#[test_case("workload: [checkout]", "did you mean `workloads`"; "a key of the file")]
#[test_case("workloads: checkout", "revoked.yaml:1"; "no list")]
#[test_case("workloads: [", "revoked.yaml:"; "no YAML")]
#[tokio::test]
async fn a_list_that_cannot_be_read_changes_nothing(list: &str, expected: &str) {
    let world = with(&Login::new("l-1"), |text| text).await;
    revoke(&world, "workloads: [reports]");
    world.write("revoked.yaml", list);
    let said = show(&world.live.refresh().unwrap_err());
    assert!(said.contains(expected) && said.contains("revoked.yaml"), "{said}");
    let reports = Ask { certificate: Some("reports"), signer: Some("reports"), ..Ask::get("/reports/7") };
    assert_eq!(world.ask(&reports).await.status, 403, "what was revoked still is");
}

#[tokio::test]
async fn what_is_revoked_is_not_taken_back_unseen() {
    let world = with(&Login::new("l-1"), |text| text).await;
    let all =
        "workloads: [checkout]\nusers: ['https://login.example.com|ada']\ncertificates: [THUMB]\ntokens: [some-token]";
    revoke(&world, &all.replace("THUMB", &world.identities["reports"].thumbprint()));
    world.write("revoked.yaml", "{}");
    let said = show(&world.live.refresh().unwrap_err());
    for what in ["the workload `checkout`", "the user `https://login.example.com|ada`", "the certificate `"] {
        assert!(said.contains(what) && said.contains("was revoked, and would count again"), "{said}");
    }
    assert!(said.contains("--accept checkout.revoked") && !said.contains("some-token"), "{said}");
    // With that said, it counts.
    let text = world.site.config_text();
    assert!(matches!(world.apply(&text), Ok(Change::Applied(_))));
    assert_eq!(world.ask(&Ask::get("/orders/7")).await.status, 200);
}

/// A tunnel of a user's.
async fn open(world: &World, token: &str) -> TlsStream<DuplexStream> {
    let ask = Ask::get("/live/7").for_user(token);
    tunnelling(world, &ask).await
}

async fn tunnelling(world: &World, ask: &Ask) -> TlsStream<DuplexStream> {
    let mut head =
        format!("GET {} HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n", ask.target);
    for (name, value) in world.headers(ask) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut stream = world.connect(ask.certificate, &[]).await;
    stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    stream
}

/// A tunnel through which bytes go and come.
async fn is_open(stream: &mut TlsStream<DuplexStream>) -> bool {
    let mut back = [0; 2];
    stream.write_all(b"hi").await.is_ok() && stream.read_exact(&mut back).await.is_ok() && back == *b"hi"
}

/// Waits for the end of a tunnel that brings nothing more.
async fn ends(stream: &mut TlsStream<DuplexStream>) {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap_or_default();
    assert!(rest.is_empty());
}

#[test_case("workloads: [checkout]", "identity.workload_revoked"; "the workload")]
#[test_case("users: ['https://login.example.com|ada']", "user.user_revoked"; "the user")]
#[test_case("keys: [checkout-1]", "identity.token_key_revoked"; "the key")]
#[test_case("certificates: [THUMB]", "identity.certificate_revoked"; "the certificate")]
#[test_case("tokens: [users-own]", "user.user_token_revoked"; "the users token")]
#[tokio::test]
async fn a_stream_ends_with_what_it_rests_on(list: &str, expected: &str) {
    let login = Login::new("l-1");
    let world = with(&login, |text| text).await;
    let mut said = claims("ada", &["support"]);
    said["jti"] = json!("users-own");
    let mut adas = open(&world, &login.sign(&said)).await;
    let of_reports = Ask { certificate: Some("reports"), signer: None, ..Ask::get("/feed") };
    let mut others = tunnelling(&world, &of_reports).await;
    assert!(is_open(&mut adas).await && is_open(&mut others).await);
    revoke(&world, &list.replace("THUMB", &world.identities["checkout"].thumbprint()));
    ends(&mut adas).await;
    let outcome = last(&world, "outcome");
    assert_eq!(outcome["event"]["reason"], expected, "{outcome}");
    assert!(is_open(&mut others).await, "and nobody else's does");
}

/// What else is wrong lets nobody in.
#[tokio::test]
async fn a_broken_file_keeps_nobody_in_who_is_revoked() {
    let login = Login::new("l-1");
    let world = with(&login, |text| text).await;
    let mut adas = open(&world, &login.token("ada", &["support"])).await;
    world.write("jwks.json", "{");
    world.write("revoked.yaml", "users: ['https://login.example.com|ada']");
    assert!(show(&world.live.refresh().unwrap_err()).contains("jwks.json"));
    ends(&mut adas).await;
    assert_eq!(world.ask(&Ask::get("/users/7").for_user(&login.token("ada", &["support"]))).await.status, 403);
    assert_eq!(world.ask(&Ask::get("/users/7").for_user(&login.token("bob", &["support"]))).await.status, 200);
}

/// What goes on although its route or listener is gone ends with what it rests on.
#[test_case("path: /slow", "path: /slower"; "its route")]
#[test_case("edge:\n    bind", "other:\n    bind"; "its listener")]
#[tokio::test]
async fn what_is_gone_is_no_refuge(from: &str, to: &str) {
    let (world, mut client, _server) = in_flight(0, |text| text).await;
    let text = world.site.config_text();
    assert!(text.contains(from), "{text}");
    world.apply(&text.replacen(from, to, 1)).unwrap_or_else(|findings| panic!("{}", show(&findings)));
    revoke(&world, "workloads: [checkout]");
    ends(&mut client).await;
    assert_eq!(last(&world, "outcome")["event"]["reason"], "identity.workload_revoked");
}

/// A process that is being replaced makes no generations, and still cuts what it finishes.
#[tokio::test]
async fn who_only_finishes_learns_of_it() {
    let login = Login::new("l-1");
    let world = with(&login, |text| text).await;
    revoke(&world, "workloads: [reports]");
    let mut adas = open(&world, &login.token("ada", &["support"])).await;
    let mut bobs = open(&world, &login.token("bob", &["support"])).await;
    world.live.freeze(true).unwrap();
    world.write("revoked.yaml", "users: ['https://login.example.com|ada'");
    assert!(show(&world.live.take_revocations().unwrap_err()).contains("revoked.yaml"));
    assert!(is_open(&mut adas).await);
    world.write("revoked.yaml", "users: ['https://login.example.com|ada']");
    assert!(matches!(world.live.take_revocations(), Ok(Change::Applied(_))));
    assert_eq!(world.live.take_revocations(), Ok(Change::Nothing));
    ends(&mut adas).await;
    assert_eq!(last(&world, "outcome")["event"]["reason"], "user.user_revoked");
    assert!(is_open(&mut bobs).await);
    let reports = Ask { certificate: Some("reports"), signer: Some("reports"), ..Ask::get("/reports/7") };
    assert_eq!(world.ask(&reports).await.status, 403, "nothing is taken back there");
}

/// Every change of the config that takes somebody's permission ends what he has begun, and no other does.
#[test_case("allow: [support], pool: live", "allow: [reader], pool: live", "policy.not_allowed"; "the rule")]
#[test_case("has: [support]", "has: [other]", "policy.not_allowed"; "the role")]
#[test_case("through: [checkout]", "through: [reports]", "policy.not_allowed"; "the way")]
#[test_case("path: /live/*", "path: /other/*", "route.no_route"; "the route")]
#[test_case("staff: {", "crew: {", "user.user_token_issuer"; "who vouches for him")]
#[test_case("state: active", "state: revoked", "identity.token_key_revoked"; "the key")]
#[test_case("allow: [support], pool: live", "allow: [support, reader], pool: live", ""; "one rule more")]
#[test_case("allow: [support], pool: live", "allow: [checkout], pool: live", ""; "another rule")]
#[test_case("kid: checkout-1", "kid: checkout-2", ""; "the key is another")]
#[test_case("name: live", "name: lives", ""; "another name")]
#[test_case("identity: mtls+jwt+user, allow: [support], pool: live", "identity: mtls+user, allow: [support], pool: live", ""; "less proof")]
#[tokio::test]
async fn a_stream_is_judged_by_what_is_live(from: &str, to: &str, expected: &str) {
    let login = Login::new("l-1");
    let keyed = |text: String| text.replace("kid: checkout-1,", "kid: checkout-1, state: active,");
    let world = with(&login, keyed).await;
    let mut adas = open(&world, &login.token("ada", &["support"])).await;
    let text = world.site.config_text();
    assert!(text.contains(from), "{from}");
    let next = text
        .replace(from, to)
        .replace("people: staff,", if from == "staff: {" { "people: crew," } else { "people: staff," });
    world.apply(&next).unwrap_or_else(|findings| panic!("{}", show(&findings)));
    if expected.is_empty() {
        assert!(is_open(&mut adas).await);
    } else {
        ends(&mut adas).await;
        assert_eq!(last(&world, "outcome")["event"]["reason"], expected);
    }
}

/// Of a hundred users with ten streams each, every second is revoked.
async fn half_of_a_thousand() -> Duration {
    let login = Login::new("l-1");
    let limits = "bind: ['127.0.0.1:0']\n    limits: { connections_per_workload: 2000, connections_per_address: 2000 }";
    let world = with(&login, |text| text.replace("bind: ['127.0.0.1:0']", limits)).await;
    let mut streams = Vec::new();
    for user in 0..100 {
        let token = login.token(&format!("u-{user}"), &["support"]);
        for _ in 0..10 {
            streams.push((user, open(&world, &token).await));
        }
    }
    let revoked = (0..100).step_by(2).map(|user| format!("'https://login.example.com|u-{user}'"));
    let list = format!("users: [{}]", revoked.collect::<Vec<_>>().join(", "));
    let (ending, mut staying): (Vec<_>, Vec<_>) = streams.into_iter().partition(|(user, _)| user % 2 == 0);
    let ends = ending.into_iter().map(|(_, mut stream)| {
        tokio::spawn(async move {
            ends(&mut stream).await;
            Instant::now()
        })
    });
    let ends: Vec<_> = ends.collect();
    revoke(&world, &list);
    let swapped = Instant::now();
    let mut last = swapped;
    for end in ends {
        last = last.max(end.await.unwrap());
    }
    for (user, stream) in &mut staying {
        assert!(is_open(stream).await, "u-{user} may go on");
    }
    let cut = || {
        let outcomes = world.records_of("outcome");
        outcomes.iter().filter(|outcome| outcome["event"]["reason"] == "user.user_revoked").count()
    };
    assert_eq!(cut(), 500);
    last - swapped
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_those_end_who_are_revoked() {
    half_of_a_thousand().await;
}

/// `cargo test --release --test it -- --ignored --nocapture five_hundred_streams_end_at_once`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it measures, which a busy machine must not judge"]
#[expect(clippy::print_stderr, reason = "it is run to be read")]
async fn five_hundred_streams_end_at_once() {
    for _ in 0..5 {
        let took = half_of_a_thousand().await;
        eprintln!("500 of 1,000 streams ended {took:?} after the change");
        assert!(took < Duration::from_millis(50));
    }
}

/// What is said of a stream's end, the clock set so many seconds on.
async fn after(world: &World, stream: &mut TlsStream<DuplexStream>, seconds: i64) -> Value {
    world.clock.set(NOW + seconds);
    ends(stream).await;
    last(world, "outcome")["event"]["reason"].clone()
}

#[tokio::test]
async fn a_stream_ends_with_the_users_token() {
    let login = Login::new("l-1");
    let world = with(&login, |text| text).await;
    let mut adas = open(&world, &login.token("ada", &["support"])).await;
    world.clock.set(NOW + 629);
    assert!(is_open(&mut adas).await);
    assert_eq!(after(&world, &mut adas, 632).await, "user.user_token_expired");
}

#[tokio::test]
async fn a_route_may_let_streams_outlive_the_token() {
    let login = Login::new("l-1");
    let world = with(&login, |text| {
        text.replace("allow: [support], pool: live", "allow: [support], outlives_token: true, pool: live")
    })
    .await;
    let mut adas = open(&world, &login.token("ada", &["support"])).await;
    let others = Ask { certificate: Some("reports"), signer: None, ..Ask::get("/feed") };
    let mut others = tunnelling(&world, &others).await;
    // The certificate ends later, and nothing outlives that.
    assert_eq!(after(&world, &mut adas, 400 * 86_400).await, "identity.certificate_expired");
    assert_eq!(after(&world, &mut others, 400 * 86_400).await, "identity.certificate_expired");
}

#[tokio::test]
async fn a_route_may_say_how_old_a_request_may_be() {
    let login = Login::new("l-1");
    let world = with(&login, |text| text.replace("pool: live }", "max_age: 60s, pool: live }")).await;
    let mut adas = open(&world, &login.token("ada", &["support"])).await;
    world.clock.set(NOW + 59);
    assert!(is_open(&mut adas).await);
    assert_eq!(after(&world, &mut adas, 60).await, "request.max_age");
}

/// A request whose server has it and has not answered yet, and the server's side of it.
async fn in_flight(at: i64, edit: impl FnOnce(String) -> String) -> (World, TlsStream<DuplexStream>, TcpStream) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let slow = format!("pools:\n  slow: {{ servers: [{{ name: a, address: '{}' }}] }}\n", socket.local_addr().unwrap());
    let route = "routes:\n  - { name: slow, match: { host: shop.example.com, path: /slow }, identity: mtls, allow: [checkout], pool: slow }\n";
    let world =
        with(&Login::new("l-1"), |text| edit(text.replace("routes:\n", route).replace("pools:\n", &slow))).await;
    world.clock.set(NOW + at);
    let mut client = world.connect(Some("checkout"), &[]).await;
    client.write_all(format!("GET /slow HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
    let (mut server, _) = socket.accept().await.unwrap();
    assert!(read_head(&mut server).await.starts_with("GET /slow"));
    (world, client, server)
}

/// The server answers, and the client has it.
async fn is_answered(client: &mut TlsStream<DuplexStream>, server: &mut TcpStream) {
    server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    let mut begin = [0; 12];
    client.read_exact(&mut begin).await.unwrap();
    assert_eq!(begin, *b"HTTP/1.1 200");
}

#[tokio::test]
async fn a_request_in_flight_ends_too() {
    let (world, mut client, mut server) = in_flight(0, |text| text).await;
    revoke(&world, "workloads: [checkout]");
    ends(&mut client).await;
    assert_eq!(server.read(&mut [0]).await.unwrap_or_default(), 0, "and the server learns it");
    let outcome = last(&world, "outcome");
    assert_eq!(outcome["event"]["reason"], "identity.workload_revoked");
}

#[tokio::test]
async fn a_request_goes_on_whose_route_is_gone() {
    let (world, mut client, mut server) = in_flight(0, |text| text).await;
    let text = world.site.config_text().replace("path: /slow", "path: /slower");
    world.apply(&text).unwrap_or_else(|findings| panic!("{}", show(&findings)));
    is_answered(&mut client, &mut server).await;
}

/// Streams end with the certificate; what is none and began in time has its minute, and no more than that.
#[tokio::test]
async fn a_request_that_began_in_time_is_answered() {
    let begins = WORKLOAD_LIFE - 10;
    for (later, is_answered_then) in [(59, true), (60, false)] {
        let (world, mut client, mut server) = in_flight(begins, |text| text).await;
        let of_reports = Ask { certificate: Some("reports"), signer: None, ..Ask::get("/feed") };
        let mut stream = tunnelling(&world, &of_reports).await;
        assert_eq!(after(&world, &mut stream, begins + later).await, "identity.certificate_expired");
        // No generation shortens that time.
        revoke(&world, "workloads: [reports]");
        if is_answered_then {
            is_answered(&mut client, &mut server).await;
        } else {
            ends(&mut client).await;
        }
    }
}
