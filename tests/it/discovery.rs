//! Servers that are found: by DNS, and in a file that is followed.

use crate::support::dns::Dns;
use crate::support::pools::{Pools, answers, counts, plain};
use crate::support::{Ask, NOW, Running, Site, World, settled, show};
use belay::config::Finding;
use belay::upstream::{Mode, Pool};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use test_case::test_case;
use tokio::net::TcpListener;

/// Origins with the same port, at addresses of this machine that end with these numbers.
async fn origins(hosts: &[(u8, &'static str)]) -> u16 {
    'ports: loop {
        let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = first.local_addr().unwrap().port();
        let mut sockets = Vec::new();
        for (host, name) in hosts {
            match TcpListener::bind(SocketAddr::from(([127, 0, 7, *host], port))).await {
                Ok(socket) => sockets.push((socket, *name)),
                Err(_taken) => continue 'ports,
            }
        }
        for (socket, name) in sockets {
            tokio::spawn(belay::origin::Echo::new(name).serve(socket));
        }
        return port;
    }
}

async fn world(dns: &Dns, pool: &str) -> World {
    let pools = Pools::new().await;
    World::before_checks(Site::new(NOW).await, |usual| dns.lines() + &pools.text(&usual, pool))
}

/// Lets DNS be asked until the servers are these, each a name and the last number of its address.
async fn found(world: &World, port: u16, servers: &[(&str, u8)]) {
    let expected: Vec<_> = servers.iter().map(|(name, host)| format!("{name}=127.0.7.{host}:{port}")).collect();
    settled("the servers are found", || {
        world.take_answers();
        world.servers() == expected
    })
    .await;
}

fn shop(world: &World) -> Arc<Pool> {
    world.live.snapshot().pools.iter().next().unwrap()
}

fn mode(world: &World, server: &str) -> &'static str {
    shop(world).member(server).unwrap().state.mode().word()
}

#[tokio::test]
async fn a_name_is_looked_up_again_and_again() {
    let (dns, port) = (Dns::new(0).await, origins(&[(1, "a"), (2, "b")]).await);
    dns.host("shop.internal", &[[127, 0, 7, 1]]);
    let world = world(&dns, &format!("    servers: [{{ name: web, address: 'shop.internal:{port}' }}]\n")).await;
    assert_eq!(world.ask(&plain()).await.status, 503, "nothing is known yet");
    found(&world, port, &[("web", 1)]).await;
    assert_eq!(answers(&world, 2).await, counts([("a", 2)]));
    dns.host("shop.internal", &[[127, 0, 7, 2], [127, 0, 7, 1]]);
    settled("it is asked again", || dns.asked("shop.internal").len() > 2).await;
    found(&world, port, &[("web", 1)]).await;
    dns.host("shop.internal", &[[127, 0, 7, 2]]);
    found(&world, port, &[("web", 2)]).await;
    assert_eq!(answers(&world, 2).await, counts([("b", 2)]));
}

#[tokio::test]
async fn who_stays_keeps_his_name_and_what_is_known_of_him() {
    let (dns, port) = (Dns::new(0).await, origins(&[(1, "a"), (2, "b"), (3, "c")]).await);
    dns.host("shop.internal", &[[127, 0, 7, 1], [127, 0, 7, 2]]);
    let pool = format!("    servers: [{{ name: web, address: 'shop.internal:{port}', max: 2 }}]\n");
    let world = world(&dns, &pool).await;
    found(&world, port, &[("web-1", 1), ("web-2", 2)]).await;
    assert_eq!(answers(&world, 4).await, counts([("a", 2), ("b", 2)]));
    shop(&world).member("web-2").unwrap().state.set_mode(Mode::Draining);
    // More than there may be, and one of those who were there has gone.
    dns.host("shop.internal", &[[127, 0, 7, 3], [127, 0, 7, 2], [127, 0, 7, 9]]);
    found(&world, port, &[("web-1", 3), ("web-2", 2)]).await;
    assert_eq!((mode(&world, "web-1"), mode(&world, "web-2")), ("ready", "draining"));
    assert_eq!(answers(&world, 2).await, counts([("c", 2)]));
    dns.host("shop.internal", &[[127, 0, 7, 2]]);
    found(&world, port, &[("web-2", 2)]).await;
    world.live.tick();
    let metrics = world.metrics();
    assert!(metrics.contains("server=\"web-2\""), "{metrics}");
    assert!(!metrics.contains("server=\"web-1\""), "who has gone is forgotten: {metrics}");
    assert!(metrics.contains("belay_dns_servers{name=\"shop.internal\"} 1"), "{metrics}");
}

/// An operator's word counts until he says another.
#[tokio::test]
async fn who_was_taken_out_and_comes_back_is_still_out() {
    let (dns, port) = (Dns::new(0).await, origins(&[(1, "a"), (2, "b")]).await);
    dns.host("shop.internal", &[[127, 0, 7, 1]]);
    let world = world(&dns, &format!("    servers: [{{ name: web, address: 'shop.internal:{port}' }}]\n")).await;
    found(&world, port, &[("web", 1)]).await;
    shop(&world).member("web").unwrap().state.set_mode(Mode::Maintenance);
    dns.host("shop.internal", &[[127, 0, 7, 2]]);
    found(&world, port, &[("web", 2)]).await;
    world.live.tick();
    assert_eq!(mode(&world, "web"), "ready", "it is another server");
    dns.host("shop.internal", &[[127, 0, 7, 1]]);
    found(&world, port, &[("web", 1)]).await;
    assert_eq!(mode(&world, "web"), "in maintenance");
}

#[tokio::test]
async fn a_service_tells_ports_weights_and_backups() {
    let dns = Dns::new(0).await;
    let (first, second) = (origins(&[(1, "a"), (2, "b")]).await, origins(&[(1, "c")]).await);
    dns.host("one.internal", &[[127, 0, 7, 1]]);
    dns.host("two.internal", &[[127, 0, 7, 2]]);
    let name = "_http._tcp.shop.internal";
    let spare = (20, 1, second, "one.internal");
    dns.service(name, &[(10, 30, first, "one.internal"), (10, 10, first, "two.internal"), spare]);
    let world = world(&dns, &format!("    servers: [{{ name: web, srv: {name}, max: 5 }}]\n")).await;
    settled("the servers are found", || {
        world.take_answers();
        world.servers().len() == 3
    })
    .await;
    assert_eq!(answers(&world, 40).await, counts([("a", 30), ("b", 10)]), "in their shares, and not the spare one");
    dns.service(name, &[(10, 0, first, "gone.internal"), spare]);
    settled("the others have gone", || {
        world.take_answers();
        world.servers() == [format!("web-3=127.0.7.1:{second}")]
    })
    .await;
    assert_eq!(answers(&world, 2).await, counts([("c", 2)]), "one target that is gone does not take the others away");
}

#[test_case(|dns: &Dns| dns.be_silent(true); "no answer")]
#[test_case(|dns: &Dns| dns.host("shop.internal", &[]); "no such name any more")]
#[tokio::test]
async fn the_last_good_answer_counts(fails: fn(&Dns)) {
    let (dns, port) = (Dns::new(0).await, origins(&[(1, "a")]).await);
    dns.host("shop.internal", &[[127, 0, 7, 1]]);
    let pool = format!("    servers: [{{ name: web, address: 'shop.internal:{port}' }}]\n");
    let pools = Pools::new().await;
    let lines = format!("dns: {{ resolvers: ['{}'], ttl_min: 1s, timeout: 100ms }}\n", dns.address);
    let world = World::before_checks(Site::new(NOW).await, |usual| lines + &pools.text(&usual, &pool));
    found(&world, port, &[("web", 1)]).await;
    fails(&dns);
    let failed = "belay_dns_lookups_total{name=\"shop.internal\",result=\"failure\"} 1";
    settled("it has failed", || world.metrics().contains(failed)).await;
    found(&world, port, &[("web", 1)]).await;
    assert_eq!(answers(&world, 2).await, counts([("a", 2)]));
}

#[tokio::test]
async fn a_resolver_that_is_silent_is_passed_over() {
    let (silent, dns, port) = (Dns::new(0).await, Dns::new(0).await, origins(&[(1, "a")]).await);
    silent.be_silent(true);
    dns.host("shop.internal", &[[127, 0, 7, 1]]);
    let pool = format!("    servers: [{{ name: web, address: 'shop.internal:{port}' }}]\n");
    let pools = Pools::new().await;
    let lines = format!("dns: {{ resolvers: ['{}', '{}'], timeout: 2s }}\n", silent.address, dns.address);
    let world = World::before_checks(Site::new(NOW).await, |usual| lines + &pools.text(&usual, &pool));
    found(&world, port, &[("web", 1)]).await;
}

/// The shortest and the longest time between two questions.
async fn between_questions(ttl: u32, limits: &str) -> (Duration, Duration) {
    let dns = Dns::new(ttl).await;
    dns.host("shop.internal", &[[127, 0, 7, 1]]);
    let pools = Pools::new().await;
    let lines = format!("dns: {{ resolvers: ['{}'], {limits} }}\n", dns.address);
    let pool = "    servers: [{ name: web, address: 'shop.internal:80' }]\n";
    let _world = World::before_checks(Site::new(NOW).await, |usual| lines + &pools.text(&usual, pool));
    settled("it is asked three times", || dns.asked("shop.internal").len() >= 3).await;
    let asked = dns.asked("shop.internal");
    let spans: Vec<_> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    (*spans.iter().min().unwrap(), *spans.iter().max().unwrap())
}

#[test_case(0, "ttl_min: 1s"; "not too often")]
#[test_case(3600, "ttl_max: 1s"; "and not too seldom")]
#[tokio::test]
async fn an_answer_counts_for_its_time(ttl: u32, limits: &str) {
    let (shortest, longest) = between_questions(ttl, limits).await;
    assert!(shortest >= Duration::from_millis(890), "{shortest:?}");
    assert!(longest < Duration::from_secs(60), "{longest:?}");
}

#[tokio::test]
async fn dns_never_leads_to_belay_itself() {
    let (dns, port) = (Dns::new(0).await, origins(&[(1, "a")]).await);
    dns.host("shop.internal", &[[127, 0, 0, 1], [0, 0, 0, 0], [224, 0, 0, 1], [127, 0, 7, 1]]);
    let pools = Pools::new().await;
    let pool = format!("    servers: [{{ name: web, address: 'shop.internal:{port}', max: 9 }}]\n");
    let world = World::before_checks(Site::new(NOW).await, |usual| {
        dns.lines() + &pools.text(&usual, &pool).replace("127.0.0.1:0", &format!("127.0.0.1:{port}"))
    });
    found(&world, port, &[("web-1", 1)]).await;
}

#[tokio::test]
async fn a_file_of_servers_is_followed() {
    let (pools, site) = (Pools::new().await, Site::new(NOW).await);
    let first = pools.addressed("- { name: b, address: '@b', weight: 30 }\n");
    site.write("servers.yaml", &first);
    let pool = "    servers: [{ name: a, address: '@a', weight: 10 }]\n    servers_file: servers.yaml\n";
    let world = World::before_checks(site, |usual| pools.text(&usual, pool));
    assert_eq!(answers(&world, 40).await, counts([("a", 10), ("b", 30)]));
    let change = |servers: &str| {
        world.site.write("servers.yaml", &pools.addressed(servers));
        world.live.refresh()
    };
    change("[{ \"name\": \"c\", \"address\": \"@c\", \"weight\": 10 }]\n").unwrap();
    assert_eq!(answers(&world, 20).await, counts([("a", 10), ("c", 10)]), "JSON is YAML");
    let findings = change("- { name: c, address: '@c' }\n- { name: d, adress: '@a' }\n").unwrap_err();
    let names_it = |finding: &Finding| finding.line == 2 && finding.file.ends_with("servers.yaml");
    assert!(findings.iter().any(names_it), "{}", show(&findings));
    let findings = change("- { name: a, address: '@c' }\n").unwrap_err();
    assert!(show(&findings).contains("is a server of the pool shop in the config, too"), "{}", show(&findings));
    assert!(change("nothing: here\n").is_err());
    assert!(change("- { name: e, address: '@c', follows: shop/a }\n").is_err());
    assert_eq!(answers(&world, 20).await, counts([("a", 10), ("c", 10)]), "what is broken changes nothing");
}

/// What `belay run` adds: it waits for the first answers, and follows those that come.
#[tokio::test(flavor = "multi_thread")]
async fn the_process_follows_dns() {
    let (dns, port) = (Dns::new(0).await, origins(&[(1, "a"), (2, "b")]).await);
    dns.host("shop.internal", &[[127, 0, 7, 1]]);
    let lines = dns.lines();
    let running = Running::started(|usual| {
        let (before, rest) = usual.split_once("    servers: [").unwrap();
        let rest = rest.split_once('\n').unwrap().1;
        let servers = format!("    servers: [{{ name: web, address: 'shop.internal:{port}', max: 2 }}]\n");
        lines + before + &servers + rest
    });
    let running = running.await;
    let up = |server: &str| format!("belay_server_up{{pool=\"shop\",server=\"{server}\"}} 1");
    let (first, second) = (up("web-1"), up("web-2"));
    running.eventually("the first is healthy", move |metrics| metrics.contains(&first)).await;
    assert_eq!(running.status(&Ask::get("/orders/7")).await, 200);
    dns.host("shop.internal", &[[127, 0, 7, 1], [127, 0, 7, 2]]);
    running.eventually("the second is, too", move |metrics| metrics.contains(&second)).await;
    dns.host("shop.internal", &[[127, 0, 7, 2]]);
    running.eventually("the first is forgotten", |metrics| !metrics.contains("server=\"web-1\"")).await;
    assert_eq!(running.status(&Ask::get("/orders/7")).await, 200);
}
