//! Disguised paths against every kind of rule: whatever an origin makes of a path, nobody gets to what a rule keeps from
//! him.

use crate::support::login::Login;
use crate::support::{HOST, NOW, Site, World};
use fastrand::Rng;
use std::collections::BTreeSet;
use test_case::test_case;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::client::TlsStream;

/// How often each rule is tried.
const FORMS: usize = 800;

/// What may stand between two segments, in front of a path, behind it and for a letter: each is read as something else
/// by some server.
const BETWEEN: [&str; 18] = [
    "/",
    "//",
    "/./",
    "/x/../",
    "%2f",
    "%2F",
    "%252f",
    "\\",
    "%5c",
    ";a=b/",
    "/;/",
    "/%2e/",
    "/.;/",
    "/x/%2e%2e/",
    "/x/..;/",
    "/%20/",
    "%c0%af",
    "/%00/",
];
const BEFORE: [&str; 18] = [
    "/",
    "//",
    "/./",
    "/open/",
    "/open/x/",
    "/open/../",
    "/open/%2e%2e/",
    "/open/..;/",
    "/open/..%2f",
    "/open\\..\\",
    "/open/%252e%252e/",
    "/..;/",
    "/%2e/",
    "\\",
    "/%2f",
    "/;x=1/",
    "/open/./../",
    "/open/.%2e/",
];
const BEHIND: [&str; 16] =
    ["", "", "", "/", "/.", "%20", "?", "?x=/open", "#", ";x", "%3f", "%23", "%00", "/..;/7", "%2e", "/%2e"];
const LETTERS: [&str; 6] = ["a", "a", "a", "%61", "%2561", "%C1%A1"];

/// A disguise of `/admin/users/7`.
fn disguised(rng: &mut Rng) -> String {
    let mut pick = |list: &[&'static str]| list[rng.usize(..list.len())];
    let admin = format!("{}dmin", pick(&LETTERS));
    let (before, first, second, behind) = (pick(&BEFORE), pick(&BETWEEN), pick(&BETWEEN), pick(&BEHIND));
    format!("{before}{admin}{first}users{second}7{behind}")
}

/// All that servers make of a path, one after the other.
fn readings(target: &str) -> BTreeSet<String> {
    let mut known = BTreeSet::from([target.to_owned()]);
    for _ in 0..4 {
        let more: Vec<_> = known.iter().flat_map(|path| read(path)).collect();
        known.extend(more);
    }
    known
}

fn read(path: &str) -> Vec<String> {
    let cut = |sign: char| path.split(sign).next().unwrap().to_owned();
    let without_parameters =
        path.split('/').map(|segment| segment.split(';').next().unwrap()).collect::<Vec<_>>().join("/");
    vec![
        decoded(path),
        path.replace('\\', "/"),
        without_parameters,
        path.replace("//", "/"),
        resolved(path),
        cut('?'),
        cut('#'),
        cut('\0'),
        path.trim_end_matches([' ', '.']).to_owned(),
    ]
}

fn decoded(path: &str) -> String {
    let (mut bytes, raw) = (Vec::new(), path.as_bytes());
    let mut at = 0;
    while at < raw.len() {
        let hex = path.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match hex.filter(|_| raw[at] == b'%') {
            Some(byte) => (bytes.push(byte), at += 3).1,
            None => (bytes.push(raw[at]), at += 1).1,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Without dot segments (RFC 3986 § 5.2.4).
fn resolved(path: &str) -> String {
    let mut segments = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    format!("/{}", segments.join("/"))
}

/// A connection of checkout's, which asks for any target.
struct Asking {
    stream: TlsStream<DuplexStream>,
}

impl Asking {
    /// The status, and the target that the origin got.
    async fn ask(&mut self, world: &World, target: &str) -> (u16, Option<String>) {
        let head = format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        self.stream.write_all(head.as_bytes()).await.unwrap();
        let (mut answer, mut length) = (Vec::new(), None);
        while length.is_none_or(|length| answer.len() < length) {
            let mut piece = [0; 4096];
            let read = self.stream.read(&mut piece).await.unwrap_or_default();
            answer.extend_from_slice(&piece[..read]);
            let text = String::from_utf8_lossy(&answer).to_lowercase();
            length = text.find("\r\n\r\n").map(|end| {
                let declared = text[..end].lines().find_map(|line| line.strip_prefix("content-length: "));
                end + 4 + declared.map_or(0, |length| length.parse::<usize>().unwrap())
            });
            if read == 0 {
                self.stream = world.connect(Some("checkout"), &[]).await;
                break;
            }
        }
        let text = String::from_utf8_lossy(&answer);
        let status =
            text.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{target}: {text:?}"));
        if text.to_lowercase().contains("connection: close") {
            self.stream = world.connect(Some("checkout"), &[]).await;
        }
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body).filter(|_| status == 200);
        let echo = body.map(|body| serde_json::from_str::<serde_json::Value>(body).unwrap());
        (status, echo.map(|echo| echo["path"].as_str().unwrap_or_else(|| panic!("{echo}")).to_owned()))
    }
}

fn below_admin(path: &str) -> bool {
    path == "/admin" || path.starts_with("/admin/")
}

fn is_seven(path: &str) -> bool {
    path == "/admin/users/7"
}

/// A world in which a rule keeps something from checkout, and all else is its.
async fn with(rule: &str) -> World {
    let login = Login::new("l-1");
    let site = Site::new(NOW).await;
    site.write("jwks.json", &login.jwks());
    let people = "people:\n  staff: { issuer: 'https://login.example.com', audience: a, jwks: 'file:jwks.json' }\nroles:\n  support: { people: staff, through: [checkout] }\n";
    // A rule in Cedar needs no route of its own.
    let is_cedar = rule.starts_with("forbid");
    site.write("admin.cedar", &format!("@id(\"kept\") {rule}"));
    let kept = if is_cedar { String::new() } else { format!("  - {{ name: kept, match: {{ {rule}, pool: shop }}\n") };
    let access = if is_cedar { "access: { policies: [admin.cedar] }\n" } else { "" };
    let routes = format!(
        "{access}routes:\n{kept}  - {{ name: rest, match: {{ path: /** }}, identity: mtls, allow: [checkout], pool: shop }}\n"
    );
    let world = World::before_checks(site, |text| {
        let (before, rest) = text.split_once("routes:\n").unwrap();
        let (_, pools) = rest.split_once("pools:\n").unwrap();
        format!("{before}{routes}pools:\n{pools}").replace("roles:\n", people)
    });
    world.is_healthy().await;
    world
}

#[test_case("path: /admin/** }, identity: mtls, allow: [reports]", below_admin; "for another workload")]
#[test_case("path: /admin/** }, identity: mtls, allow: [reader]", below_admin; "for a role")]
#[test_case("path: /admin/** }, identity: mtls+jwt+user, allow: [support]", below_admin; "for users")]
#[test_case("path: /admin/** }, identity: mtls, allow: [reports], hide: true", below_admin; "hidden")]
#[test_case("path: /admin/**, methods: [GET, POST] }, identity: mtls, allow: [reports]", below_admin; "for methods")]
#[test_case("host: '*.example.com', path: /admin/** }, identity: mtls, allow: [reports]", below_admin; "of all hosts")]
#[test_case("path: /admin/users/7 }, identity: mtls, allow: [reports]", is_seven; "for one path")]
#[test_case("path: /admin/users/* }, identity: mtls, allow: [reports]", is_seven; "for a segment")]
#[test_case("path: /admin/** }, identity: mtls, allow: [checkout], limits: [{ rate: 1/d }]", below_admin; "a limit")]
#[test_case("forbid(principal, action, resource) when { context.path == \"/admin\" || context.path like \"/admin/*\" };", below_admin; "a rule of paths")]
#[test_case("forbid(principal, action, resource) when { context.path == \"/admin/users/7\" };", is_seven; "a rule of one path")]
#[tokio::test]
async fn nobody_gets_around_it(rule: &str, is_kept: fn(&str) -> bool) {
    let world = with(rule).await;
    let mut asking = Asking { stream: world.connect(Some("checkout"), &[]).await };
    // What a limit lets through is used up, and what is not kept is served.
    asking.ask(&world, "/admin/users/7").await;
    assert_ne!(asking.ask(&world, "/admin/users/7").await.0, 200, "{rule}");
    assert_eq!(asking.ask(&world, "/open/admin/users/7").await.0, 200, "{rule}");
    let (mut rng, mut forms) = (Rng::with_seed(7), BTreeSet::new());
    while forms.len() < FORMS {
        forms.insert(disguised(&mut rng));
    }
    let mut served = 0;
    for form in &forms {
        let (status, target) = asking.ask(&world, form).await;
        served += usize::from(status == 200);
        if let Some(target) = target {
            let kept = readings(&target).into_iter().find(|path| is_kept(path));
            assert!(kept.is_none(), "{rule}: {form} went to the origin as {target}, which may read it as {kept:?}");
        }
    }
    assert!((1..FORMS / 2).contains(&served), "what is below /open is served, and most are refused: {served}");
}

/// The disguises are seen through here, or the test above would see nothing.
#[test_case("/open/../admin/users/7")]
#[test_case("/open/%2e%2e/admin/users/7")]
#[test_case("/open/..%2fadmin/users/7")]
#[test_case("/open/%252e%252e/admin/users/7")]
#[test_case("/open/..;/admin/users/7")]
#[test_case("/open\\..\\admin\\users/7")]
#[test_case("//admin//users/7")]
#[test_case("/%2561dmin/users/7")]
#[test_case("/;x=1/admin/users;y/7?x=/open")]
#[test_case("/admin/users/7%00")]
#[test_case("/admin/users/7%3fx")]
fn a_disguise_is_seen_through(form: &str) {
    assert!(readings(form).iter().any(|path| is_seven(path)), "{:?}", readings(form));
}
