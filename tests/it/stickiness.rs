//! Who comes again finds his server: by a signed cookie that servers never see.

use crate::support::pools::{Pools, origin_of, plain};
use crate::support::recorder::{Begins, recorder};
use crate::support::{Ask, NOW, Reply, SECRET, Site, World, settled};
use belay::upstream::Mode;
use test_case::test_case;

const THREE: &str =
    "    servers: [{ name: a, address: '@a' }, { name: b, address: '@b' }, { name: c, address: '@c' }]\n";
const STICKY: &str = "    sticky: { cookie: __Host-shop, keys: [{ secret: 'file:sticky.key' }] }\n";
const OTHER_SECRET: &str = "8hQGdp0Q9G2rLhI5kF6o1tqYxw3Vb7Jc2NzMuPaSeXk=";

async fn world_with(pool: &str) -> World {
    let (pools, site) = (Pools::new().await, Site::new(NOW).await);
    site.write("sticky.key", SECRET);
    site.write("other.key", OTHER_SECRET);
    World::before_checks(site, |usual| pools.text(&usual, pool))
}

async fn world() -> World {
    world_with(&format!("{STICKY}{THREE}")).await
}

/// The name and the value of the cookie that a reply sets.
fn cookie(reply: &Reply) -> Option<String> {
    Some(reply.header("set-cookie")?.split(';').next().unwrap().to_owned())
}

fn with(cookie: &str) -> Ask {
    plain().header("Cookie", format!("theme=dark; {cookie}"))
}

fn origin(reply: &Reply) -> String {
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.echo()["origin"].as_str().unwrap().to_owned()
}

/// A client's first request: his server, and the cookie.
async fn first(world: &World) -> (String, String) {
    let reply = world.ask(&plain()).await;
    (origin(&reply), cookie(&reply).unwrap())
}

fn set_mode(world: &World, server: &str, mode: Mode) {
    let pool = world.live.snapshot().pools.iter().next().unwrap();
    pool.member(server).unwrap().state.set_mode(mode);
}

#[tokio::test]
async fn who_comes_again_finds_his_server() {
    let world = world().await;
    for _ in 0..3 {
        let (home, cookie) = first(&world).await;
        for _ in 0..5 {
            let reply = world.ask(&with(&cookie)).await;
            assert_eq!(origin(&reply), home);
            assert_eq!(reply.header("set-cookie"), None, "he has a good one");
            assert_eq!(reply.echo()["headers"]["cookie"], "theme=dark", "it is between him and us");
        }
    }
}

#[tokio::test]
async fn the_cookie_is_safe_and_no_cache_keeps_it() {
    let reply = world().await.ask(&plain()).await;
    let line = reply.header("set-cookie").unwrap();
    let (pair, attributes) = line.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; Max-Age=86400; HttpOnly; Secure; SameSite=Lax");
    assert_eq!(pair.len(), "__Host-shop=".len() + 43);
    assert_eq!(reply.header("cache-control"), Some("private"));
}

#[test_case("strict", "SameSite=Strict"; "strict")]
#[test_case("none", "SameSite=None"; "none")]
#[tokio::test]
async fn other_sites_may_be_let_in(same_site: &str, expected: &str) {
    let sticky =
        STICKY.replace("sticky.key' }] }", &format!("sticky.key' }}], same_site: {same_site}, lifetime: 1h }}"));
    let reply = world_with(&format!("{sticky}{THREE}")).await.ask(&plain()).await;
    let line = reply.header("set-cookie").unwrap();
    assert!(line.ends_with(expected) && line.contains("Max-Age=3600;"), "{line}");
}

/// Anything but a good cookie is none: the request goes in turn and gets a good one.
#[test_case(|good| good.replace("__Host-shop=", "__Host-shop=A"); "a byte more")]
#[test_case(|good| format!("{}{}", &good[..good.len() - 1], if good.ends_with('A') { 'E' } else { 'A' }); "another signature")]
#[test_case(|good| good.replacen(&good[14..16], "zz", 1); "another time")]
#[test_case(|_| "__Host-shop=".into(); "empty")]
#[test_case(|_| "__Host-shop=b".into(); "a server's name")]
#[test_case(|_| format!("__Host-shop={}", "A".repeat(4000)); "long")]
#[tokio::test]
async fn a_forged_cookie_is_none(forge: fn(&str) -> String) {
    let world = world().await;
    let (_, good) = first(&world).await;
    let forged = forge(&good);
    assert_ne!(forged, good);
    assert!(cookie(&world.ask(&with(&forged)).await).is_some());
}

#[tokio::test]
async fn a_cookie_of_another_pools_server_is_none() {
    let pools = Pools::new().await;
    let cookies = async |name: &str| {
        let site = Site::new(NOW).await;
        site.write("sticky.key", SECRET);
        let rename = |text: String| {
            text.replace("  shop:\n", &format!("  {name}:\n")).replace("pool: shop", &format!("pool: {name}"))
        };
        let world = World::before_checks(site, |usual| rename(pools.text(&usual, &format!("{STICKY}{THREE}"))));
        let cookie = first(&world).await.1;
        (world, cookie)
    };
    let ((_, of_shop), (store, _)) = (cookies("shop").await, cookies("store").await);
    assert!(cookie(&store.ask(&with(&of_shop)).await).is_some());
}

#[tokio::test]
async fn a_cookie_is_renewed_and_grows_old() {
    let half_an_hour = STICKY.replace("sticky.key' }] }", "sticky.key' }], lifetime: 30m }");
    let world = world_with(&format!("{half_an_hour}{THREE}")).await;
    let (home, old) = first(&world).await;
    world.clock.set(NOW + 15 * 60 + 1);
    let reply = world.ask(&with(&old)).await;
    assert_eq!(origin(&reply), home);
    let new = cookie(&reply).unwrap();
    assert_ne!(new, old);
    world.clock.set(NOW + 30 * 60);
    assert!(cookie(&world.ask(&with(&old)).await).is_some(), "it counts no more");
    let reply = world.ask(&with(&new)).await;
    assert_eq!((origin(&reply), cookie(&reply)), (home, None));
    world.clock.set(NOW + 15 * 60 - 60);
    assert!(cookie(&world.ask(&with(&new)).await).is_some(), "nor does one of a time to come");
}

#[tokio::test]
async fn one_key_replaces_the_other() {
    let world = world().await;
    let (home, old) = first(&world).await;
    let text = |keys: &str| {
        let text = std::fs::read_to_string(world.site.config()).unwrap();
        let (before, rest) = text.split_once("keys: [{ secret:").unwrap();
        format!("{before}keys: [{keys}] }}\n{}", rest.split_once('\n').unwrap().1)
    };
    let both = text("{ secret: 'file:other.key', created: 2026-01-01 }, { secret: 'file:sticky.key' }");
    world.apply(&both).unwrap();
    let reply = world.ask(&with(&old)).await;
    assert_eq!(origin(&reply), home);
    let new = cookie(&reply).unwrap();
    world.apply(&text("{ secret: 'file:other.key' }")).unwrap();
    let reply = world.ask(&with(&new)).await;
    assert_eq!((origin(&reply), cookie(&reply)), (home, None));
    assert!(cookie(&world.ask(&with(&old)).await).is_some(), "its key is no more");
}

#[tokio::test]
async fn a_drained_server_goes_on_with_its_own() {
    let world = world().await;
    let (home, cookie) = first(&world).await;
    set_mode(&world, &home, Mode::Draining);
    assert_eq!(origin_of(&world, &with(&cookie)).await, home);
    for _ in 0..4 {
        assert_ne!(origin_of(&world, &plain()).await, home, "and takes nobody new");
    }
    set_mode(&world, &home, Mode::Maintenance);
    let reply = world.ask(&with(&cookie)).await;
    assert_ne!(origin(&reply), home);
    assert!(self::cookie(&reply).is_some(), "he has another from now on");
}

#[tokio::test]
async fn another_steps_in_where_the_own_one_is_full() {
    let pool = format!("{STICKY}    max_requests: 1\n{}", THREE.replace("'@a'", "'@slow'"));
    let world = std::sync::Arc::new(world_with(&pool).await);
    let mut cookie = String::new();
    settled("it is the slow one's", || true).await;
    loop {
        let (home, his) = first(&world).await;
        if home == "slow" {
            cookie = his;
            break;
        }
        assert!(cookie.is_empty());
    }
    let busy = tokio::spawn({
        let (world, ask) = (std::sync::Arc::clone(&world), with(&cookie));
        async move { origin_of(&world, &ask).await }
    });
    settled("it is busy", || world.metrics().contains("belay_server_active_requests{pool=\"shop\",server=\"a\"} 1"))
        .await;
    let reply = world.ask(&with(&cookie)).await;
    assert_ne!(origin(&reply), "slow");
    assert_eq!(self::cookie(&reply), None, "and he is still its own");
    assert_eq!(busy.await.unwrap(), "slow");
}

#[test_case("c2hvcnQ=", "a shared secret is the base64 of at least 32 random bytes"; "too short")]
#[test_case("", "a shared secret is the base64 of at least 32 random bytes"; "empty")]
#[tokio::test]
async fn a_broken_key_is_named(secret: &str, expected: &str) {
    let world = world().await;
    world.site.write("sticky.key", secret);
    let findings = world.live.refresh().unwrap_err();
    let named =
        |finding: &belay::config::Finding| finding.file.ends_with("sticky.key") && finding.message.contains(expected);
    assert!(findings.iter().any(named), "{}", crate::support::show(&findings));
}

#[tokio::test]
async fn the_age_of_a_key_is_told() {
    let sticky = STICKY.replace("sticky.key' }", "sticky.key', created: 2020-01-01 }");
    let world = world_with(&format!("{sticky}{THREE}")).await;
    let snapshot = world.live.snapshot();
    let now = belay::clock::Timestamp::from_unix_seconds(NOW);
    let warnings: Vec<_> = snapshot.warnings_of_age(now).map(|(_, warning)| warning).collect();
    let told = "the key `sticky.key` of pools.shop should be replaced at the age of 90 days: that time has come";
    assert_eq!(warnings, [told]);
}

/// Nor those of pools that they do not belong to.
#[tokio::test]
async fn no_server_sees_the_cookie_of_another_pool() {
    let (pools, site, address) = (Pools::new().await, Site::new(NOW).await, recorder(Begins::Plainly).await);
    site.write("sticky.key", SECRET);
    let world = World::before_checks(site, |usual| {
        let other = pools.addressed(&format!("  store:\n{STICKY}{THREE}"));
        let text = pools.text(&usual, &format!("    servers: [{{ name: a, address: '{address}' }}]\n"));
        text.replace("audit:", &format!("{other}audit:"))
    });
    let reply = world.ask(&plain().header("Cookie", "a=1; __Host-shop=secret")).await;
    assert_eq!(reply.echo()["cookies"], "a=1");
}

#[tokio::test]
async fn other_cookies_go_on_as_they_are() {
    let address = recorder(Begins::Plainly).await;
    let world = world_with(&format!("{STICKY}    servers: [{{ name: a, address: '{address}' }}]\n")).await;
    let (_, cookie) = {
        let reply = world.ask(&plain()).await;
        (reply.status, cookie(&reply).unwrap())
    };
    let reply = world.ask(&plain().header("Cookie", format!("a=1;{cookie};  b=2"))).await;
    assert_eq!(reply.echo()["cookies"], "a=1;  b=2");
    let reply = world.ask(&plain().header("Cookie", cookie)).await;
    assert_eq!(reply.echo()["cookies"], serde_json::Value::Null);
}
