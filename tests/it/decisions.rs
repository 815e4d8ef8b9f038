//! A table of decisions: who asks, what, and the status that he gets.

use crate::support::login::{Login, claims};
use crate::support::{Ask, NOW, Site, World};
use serde_json::json;

const PEOPLE: &str = "\
people:
  staff: { issuer: 'https://login.example.com', audience: 'api://shop', jwks: 'file:jwks.json', mapping: { file: people.yaml } }
roles:
  support: { people: staff, claim: groups, has: support, through: [checkout] }
  on-call: { people: staff, mapped: true, through: [checkout, reports] }
";

const ROUTES: &str = "\
routes:
  - { name: support, match: { path: /support/* }, identity: mtls+jwt+user, allow: [support], pool: shop }
  - { name: on-call, match: { path: /on-call/* }, identity: mtls+jwt+user, allow: [on-call, reports], pool: shop }
  - { name: certified, match: { path: /certified/* }, identity: mtls+user, allow: [support, on-call], pool: shop }
  - { name: hidden, match: { path: /hidden/* }, identity: mtls+jwt+user, allow: [support], hide: true, pool: shop }
  - { name: any, match: { path: /any/* }, allow: [checkout, reader], pool: shop }
  - { name: unbacked, match: { path: /unbacked/* }, identity: jwt, allow: [checkout], pool: shop }
";

/// What is asked.
const ASKED: [(&str, &str); 14] = [
    ("GET", "/orders/7"),
    ("POST", "/orders/7"),
    ("DELETE", "/orders/7"),
    ("GET", "/reports/7"),
    ("GET", "/reports/7/8"),
    ("GET", "/mtls"),
    ("GET", "/support/7"),
    ("GET", "/on-call/7"),
    ("GET", "/certified/7"),
    ("GET", "/hidden/7"),
    ("GET", "/any/7"),
    ("GET", "/unbacked/7"),
    ("GET", "/status"),
    ("GET", "/nowhere"),
];

/// Who asks, and what becomes of it, in that order.
#[rustfmt::skip]
const DECISIONS: [(&str, [u16; 14]); 16] = [
    //                          orders         reports   mtls support    certified   any      status
    //                          GET  POST DEL. /7   /7/8      on-call       hidden     unbacked  nowhere
    ("checkout",                 [200, 200, 404, 403, 404, 200, 401, 401, 401, 404, 200, 401, 200, 404]),
    ("ada at checkout",          [200, 200, 404, 403, 404, 200, 200, 403, 200, 200, 200, 401, 200, 404]),
    ("bob at checkout",          [200, 200, 404, 403, 404, 200, 403, 403, 403, 404, 200, 401, 200, 404]),
    ("mia at checkout",          [200, 200, 404, 403, 404, 200, 403, 200, 200, 404, 200, 401, 200, 404]),
    ("old ada",                  [200, 200, 404, 403, 404, 200, 401, 401, 401, 404, 200, 401, 200, 404]),
    ("forged ada",               [200, 200, 404, 403, 404, 200, 401, 401, 401, 404, 200, 401, 200, 404]),
    ("unnamed ada",              [200, 200, 404, 403, 404, 200, 401, 401, 200, 404, 200, 401, 200, 404]),
    ("reports",                  [403, 403, 404, 200, 404, 403, 401, 401, 401, 404, 200, 401, 200, 404]),
    ("ada at reports",           [403, 403, 404, 200, 404, 403, 403, 200, 403, 404, 200, 401, 200, 404]),
    ("mia at reports",           [403, 403, 404, 200, 404, 403, 403, 200, 200, 404, 200, 401, 200, 404]),
    ("checkout's certificate",   [401, 401, 401, 401, 401, 200, 401, 401, 401, 401, 401, 401, 200, 401]),
    ("ada with that",            [401, 401, 401, 401, 401, 200, 401, 401, 200, 401, 401, 401, 200, 401]),
    ("checkout's token",         [401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 200, 200, 401]),
    ("a forged token",           [401, 401, 401, 401, 401, 200, 401, 401, 401, 401, 401, 401, 200, 401]),
    ("another CA",               [401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 200, 401]),
    ("nobody",                   [401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 200, 401]),
];

fn asker(who: &str, ask: Ask, login: &Login) -> Ask {
    let of_reports = |ask: Ask| Ask { certificate: Some("reports"), signer: Some("reports"), ..ask };
    let ada = login.token("ada", &["support"]);
    let mia = login.token("mia", &[]);
    match who {
        "checkout" => ask,
        "ada at checkout" => ask.for_user(&ada),
        "bob at checkout" => ask.for_user(&login.token("bob", &["sales"])),
        "mia at checkout" => ask.for_user(&mia),
        "old ada" => {
            let mut said = claims("ada", &["support"]);
            said["exp"] = json!(NOW - 31);
            ask.for_user(&login.sign(&said))
        }
        "forged ada" => ask.for_user(&Login::new("l-1").token("ada", &["support"])),
        "unnamed ada" => ask.header("Authorization", format!("Bearer {ada}")),
        "reports" => of_reports(ask),
        "ada at reports" => of_reports(ask).for_user(&ada),
        "mia at reports" => of_reports(ask).for_user(&mia),
        "checkout's certificate" => Ask { signer: None, ..ask },
        "ada with that" => Ask { signer: None, ..ask }.header("Authorization", format!("Bearer {ada}")),
        "checkout's token" => Ask { certificate: None, ..ask },
        "a forged token" => Ask { signer: Some("forger"), ..ask },
        "another CA" => Ask { certificate: Some("rogue"), ..ask },
        "nobody" => Ask { certificate: None, signer: None, ..ask },
        other => panic!("who is {other}?"),
    }
}

#[tokio::test]
async fn each_is_decided_as_the_table_says() {
    let login = Login::new("l-1");
    let site = Site::new(NOW).await;
    site.write("jwks.json", &login.jwks());
    site.write("people.yaml", "people: { mia: [on-call] }");
    let world = World::before_checks(site, |text| text.replace("roles:\n", PEOPLE).replace("routes:\n", ROUTES));
    world.is_healthy().await;
    let mut wrong = Vec::new();
    for ((who, expected), h2) in DECISIONS.into_iter().flat_map(|row| [(row, false), (row, true)]) {
        let mut statuses = [0; ASKED.len()];
        for (status, (method, target)) in statuses.iter_mut().zip(ASKED) {
            let ask = asker(who, Ask { method, target, h2, ..Ask::get(target) }, &login);
            *status = world.ask(&ask).await.status;
        }
        wrong.extend((statuses != expected).then(|| format!("{who}, HTTP/{}: {statuses:?}", if h2 { 2 } else { 1 })));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let denied = DECISIONS.iter().flat_map(|(_, statuses)| statuses).filter(|status| **status >= 400).count();
    assert!(denied * 2 >= DECISIONS.len() * ASKED.len(), "as many denials as permits: {denied}");
}
