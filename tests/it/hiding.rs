//! Hidden routes: who may not pass cannot tell one from none.

use crate::support::login::Login;
use crate::support::{Ask, NOW, Reply, Site, World};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const PEOPLE: &str = "\
people:
  staff: { issuer: 'https://login.example.com', audience: 'api://shop', jwks: 'file:jwks.json' }
roles:
  support: { people: staff, claim: groups, has: support, through: [checkout] }
";

/// One hidden route for users, one for less proof than the listener demands, one for other proof.
const HIDDEN: &str = "\
routes:
  - { name: users, match: { host: shop.example.com, path: /users/* }, identity: mtls+jwt+user, allow: [support], hide: true, pool: shop }
  - { name: plain, match: { host: shop.example.com, path: /plain/* }, identity: mtls, allow: [reader], hide: true, pool: shop }
  - { name: other, match: { host: shop.example.com, path: /other/* }, identity: jwt, allow: [reader], hide: true, pool: shop }
";

async fn world(login: &Login) -> World {
    let site = Site::new(NOW).await;
    site.write("jwks.json", &login.jwks());
    let world = World::before_checks(site, |text| text.replace("roles:\n", PEOPLE).replace("routes:\n", HIDDEN));
    world.is_healthy().await;
    world
}

/// A reply without what differs between any two: the date, and the request's id.
fn blanked(reply: &Reply) -> String {
    let id = reply.header("x-request-id").unwrap();
    let headers: Vec<_> = reply.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("date")).collect();
    format!("{} {headers:?} {}", reply.status, reply.body).replace(id, &"-".repeat(id.len()))
}

fn last(world: &World) -> Value {
    world.records_of("decision").pop().unwrap()
}

/// Those who may not pass any of them, by what they show.
fn intruders(login: &Login) -> Vec<(&'static str, Ask)> {
    let get = || Ask::get("");
    let (ada, bob) = (login.token("ada", &["support"]), login.token("bob", &[]));
    let forged = Login::new("l-1").token("ada", &["support"]);
    let of_reports = || Ask { certificate: Some("reports"), signer: Some("reports"), ..get() };
    vec![
        ("a workload alone", get()),
        ("a user without a role", get().for_user(&bob)),
        ("a forged user", get().for_user(&forged)),
        ("a user whom the token does not name", get().header("Authorization", format!("Bearer {ada}"))),
        ("no JWT", get().for_user("opaque")),
        ("two users", get().for_user(&ada).header("Authorization", format!("Bearer {bob}"))),
        ("no certificate", Ask { certificate: None, signer: None, ..get() }),
        ("only a token", Ask { certificate: None, ..get() }),
        ("only a certificate", Ask { signer: None, ..get() }),
        ("another CA's certificate", Ask { certificate: Some("rogue"), ..get() }),
        ("an unknown workload", Ask { certificate: Some("unknown"), signer: None, ..get() }),
        ("a forged token", Ask { signer: Some("forger"), ..get() }),
        ("an old token", get().claim("iat", NOW - 400).claim("exp", NOW - 340)),
        ("a token for another request", get().claim("htm", "DELETE")),
        ("an id of the edge's own", get().claim("rid", "edge-0001")),
        ("another workload's user", of_reports().for_user(&ada)),
    ]
}

#[tokio::test]
async fn a_hidden_route_is_as_none() {
    let login = Login::new("l-1");
    let world = world(&login).await;
    let ways = [("GET", "", false), ("GET", "", true), ("POST", "body", false), ("HEAD", "", false)];
    for (what, intruder) in intruders(&login) {
        for (method, body, h2) in ways {
            seems_to_be_none(&world, what, &Ask { method, body, h2, ..intruder.clone() }).await;
        }
    }
}

async fn seems_to_be_none(world: &World, what: &str, intruder: &Ask) {
    let ask = |target| Ask { target, ..intruder.clone() };
    let nothing = blanked(&world.ask(&ask("/nowhere/7")).await);
    let reason = last(world)["event"]["reason"].clone();
    // Who is reports may pass with just his certificate.
    let may_pass = |target: &&str| what == "another workload's user" && *target == "/plain/7";
    for target in ["/users/7", "/plain/7", "/other/7"].into_iter().filter(|target| !may_pass(target)) {
        let hidden = blanked(&world.ask(&ask(target)).await);
        assert_eq!(hidden, nothing, "{what}, {} {target}, {reason}", ask(target).method);
        assert_ne!(last(world)["event"]["reason"], "route.no_route", "{what}: the record knows better");
    }
}

#[tokio::test]
async fn who_may_pass_sees_it() {
    let login = Login::new("l-1");
    let world = world(&login).await;
    let ada = Ask::get("/users/7").for_user(&login.token("ada", &["support"]));
    assert_eq!(world.ask(&ada).await.status, 200);
    let reports = Ask { certificate: Some("reports"), signer: None, ..Ask::get("/plain/7") };
    assert_eq!(world.ask(&reports).await.status, 200, "although the listener demands more");
    let bob = Ask::get("/users/7").for_user(&login.token("bob", &[]));
    assert_eq!(world.ask(&bob).await.status, 404);
    let record = last(&world);
    assert_eq!(
        (&record["event"]["reason"], &record["belay"]["route"]),
        (&json!("policy.not_allowed"), &json!("users"))
    );
    assert_eq!(record["user"]["id"], "https://login.example.com|bob");
}

/// `cargo test --release --test it -- --ignored --nocapture hidden_routes_take_as_long`
#[tokio::test]
#[ignore = "it measures, which a busy machine must not judge"]
#[expect(clippy::print_stderr, reason = "it is run to be read")]
async fn hidden_routes_take_as_long() {
    let login = Login::new("l-1");
    let world = world(&login).await;
    for (what, intruder) in intruders(&login) {
        let mut times = [Vec::new(), Vec::new()];
        // Neither is always the first.
        for which in (0..1_000).flat_map(|pair| if pair % 2 == 0 { [0, 1] } else { [1, 0] }) {
            let ask = Ask { target: ["/nowhere/7", "/users/7"][which], ..intruder.clone() };
            let headers = world.headers(&ask);
            let begun = Instant::now();
            world.send(&ask, &headers).await;
            times[which].push(begun.elapsed());
        }
        let [nothing, hidden] = times.map(median);
        let ratio = hidden.as_secs_f64() / nothing.as_secs_f64();
        eprintln!("{what}: no route {nothing:?}, hidden {hidden:?}, {ratio:.3}");
        assert!((0.95..1.05).contains(&ratio), "{what}: it shows in the time");
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
