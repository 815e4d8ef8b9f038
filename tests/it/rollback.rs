//! What was live is remembered, and comes back.

use crate::support::operator::{acts, apply, command, with_socket};
use crate::support::{Ask, Belay, Running, Site, eventually};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;

async fn running() -> Running {
    let running = Running::started_at(|site| {
        std::fs::create_dir(site.folder.path().join("history")).unwrap();
        let text = with_socket(format!("{}admin: {{ http: '127.0.0.1:0' }}\n", site.config_text()));
        site.write("belay.yaml", &format!("{text}history: {{ dir: history, keep: 4 }}\n"));
    });
    let Running { site, belay } = running.await;
    Running::healthy(site, belay).await
}

fn public() -> Ask {
    Ask { certificate: None, signer: None, ..Ask::get("/status") }
}

fn history(site: &Site) -> Vec<Value> {
    let told: Value = serde_json::from_str(&command(site, &["history", "--json"]).out).unwrap();
    told["generations"].as_array().unwrap().clone()
}

/// A config that lets the wrong people in.
fn opened(text: &str) -> String {
    text.replace(
        "allow: [checkout]\n    pool: shop\n  - name: reports",
        "allow: public\n    pool: shop\n  - name: reports",
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_live_is_remembered_with_who_and_why_and_without_secrets() {
    let running = running().await;
    let (site, good) = (&running.site, running.site.config_text());
    site.write("belay.yaml", &opened(&good));
    assert_eq!(command(site, &["reload", "--reason", "OPS-713", "--accept", "orders.public"]).code, Some(0));
    let entries = history(site);
    assert_eq!(entries.len(), 2);
    assert_eq!((&entries[1]["reason"], &entries[1]["action"]), (&"OPS-713".into(), &"reload".into()));
    assert_eq!(entries[1]["user"], rustix::process::geteuid().as_raw());
    let files: Vec<_> = entries[1]["files"].as_array().unwrap().iter().collect();
    let kind = |end: &str| files.iter().find(|it| it["path"].as_str().unwrap().ends_with(end)).unwrap()["kind"].clone();
    assert_eq!([kind("belay.yaml"), kind("workers-ca.pem"), kind("checkout.pub")], ["decides"; 3]);
    assert_eq!([kind("lb.pem"), kind("lb.key")], ["current", "own_secret"]);
    assert_eq!(command(site, &["show", "1"]).out.trim_end(), good.trim_end());
    let ca = command(site, &["show", "1", "--file", "workers-ca.pem"]).out;
    assert_eq!(ca.trim_end(), site.worker_ca.pem.trim_end());
    let key = command(site, &["show", "1", "--file", "lb.key"]);
    assert!(key.out.is_empty() && key.err.contains("holds a secret, which is never kept"), "{}", key.err);
    // Nowhere in the folder.
    let secret = site.identities["lb"].key_pem.lines().nth(1).unwrap().to_owned();
    let objects =
        std::fs::read_dir(site.folder.path().join("history/objects")).unwrap().map(|file| file.unwrap().path());
    for object in objects {
        assert_eq!(std::fs::metadata(&object).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!std::fs::read_to_string(&object).unwrap().contains(&secret), "{object:?}");
    }
    assert_eq!(command(site, &["show", "9"]).err, "error: generation 9 is not remembered\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_are_kept() {
    let running = running().await;
    let good = running.site.config_text();
    for number in 2..8 {
        apply(&running.site, &good.replace("x-tenant: shop", &format!("x-tenant: shop-{number}")));
    }
    let numbers: Vec<_> = history(&running.site).iter().map(|entry| entry["generation"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [4, 5, 6, 7]);
    let folder = running.site.folder.path().join("history");
    assert_eq!(std::fs::read_dir(folder.join("generations")).unwrap().count(), 4);
    // Four configs, and the other files once.
    let others =
        history(&running.site)[0]["files"].as_array().unwrap().iter().filter(|it| it["kind"] != "own_secret").count()
            - 1;
    assert_eq!(std::fs::read_dir(folder.join("objects")).unwrap().count(), 4 + others);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_counts_until_somebody_changes_the_file() {
    let running = running().await;
    let (site, good) = (&running.site, running.site.config_text());
    let bad = opened(&good);
    apply(site, &bad);
    let stranger = Ask { certificate: None, signer: None, ..Ask::get("/orders/7") };
    assert_eq!(running.status(&stranger).await, 200, "open to everybody");
    let said = command(site, &["rollback", "1", "--reason", "OPS-714"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.out.starts_with("generation 3 is live"), "{}", said.out);
    assert_eq!(running.status(&stranger).await, 401);
    let done = eventually("its record", || acts(site, "rollback").into_iter().next());
    assert_eq!(done["belay"]["reason"], "OPS-714");
    assert_eq!(history(site)[2]["action"], "rollback");
    // The bad text is still on disk, and does not count.
    let said = command(site, &["reload"]);
    assert_eq!(said.code, Some(0));
    assert!(
        said.out.contains("nothing has changed") && said.err.contains("was rolled back"),
        "{}{}",
        said.out,
        said.err
    );
    assert_eq!(running.status(&stranger).await, 401);
    // Nor after a restart.
    let Running { site, belay } = running;
    assert_eq!(belay.stop().0, Some(0));
    let belay = Belay::start(&["run", "--json", "-c", site.config().to_str().unwrap()]);
    let running = Running::healthy(site, belay).await;
    assert_eq!(running.status(&stranger).await, 401);
    let site = &running.site;
    apply(site, &good.replace("path: /status", "path: /state"));
    assert_eq!(running.status(&public()).await, 401, "another text counts");
    apply(site, &bad);
    assert_eq!(running.status(&stranger).await, 200, "and so does the bad one, if somebody insists");
    assert_eq!(command(site, &["rollback", "4"]).code, Some(0));
    assert_eq!(running.status(&stranger).await, 401);
    assert_eq!(command(site, &["reload", "--again", "--accept", "all"]).code, Some(0));
    assert_eq!(running.status(&stranger).await, 200, "insisting works without a change, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_decide_come_back_and_those_that_say_what_holds_now_do_not() {
    let running = running().await;
    let (site, first) = (&running.site, running.site.config_text());
    // A stranger's key, by mistake.
    site.write("checkout.pub", &site.token_keys["forger"].public_key_pem());
    running.eventually("generation 2", |metrics| metrics.contains("belay_config_generation 2")).await;
    assert_eq!(running.status(&Ask::get("/orders/7")).await, 401);
    let said = command(site, &["rollback", "1"]);
    assert!(said.err.contains("the token key `checkout-1` of checkout is not trusted now"), "{}", said.err);
    assert_eq!(command(site, &["rollback", "1", "--accept", "checkout-1.trusted"]).code, Some(0));
    assert_eq!(running.status(&Ask::get("/orders/7")).await, 200, "the key is back");
    // What is revoked stays revoked.
    let revoked = first.replace(
        "kid: checkout-1, key: 'file:checkout.pub'",
        "kid: checkout-1, key: 'file:checkout.pub', state: revoked",
    );
    apply(site, &revoked);
    assert_eq!(running.status(&Ask::get("/orders/7")).await, 401);
    let said = command(site, &["rollback", "1"]);
    assert_eq!(said.code, Some(78));
    assert!(said.err.contains("the token key `checkout-1` was revoked, and would count again"), "{}", said.err);
    assert_eq!(running.status(&Ask::get("/orders/7")).await, 401);
    let failure = eventually("its record", || acts(site, "rollback").into_iter().nth(2));
    assert_eq!(failure["event"]["outcome"], "failure");
    // Also once the config does not speak of it any more, and under another name.
    site.write("other.pub", &site.token_keys["forger"].public_key_pem());
    apply(
        site,
        &first.replace("{ kid: checkout-1, key: 'file:checkout.pub' }", "{ kid: other-1, key: 'file:other.pub' }"),
    );
    let said = command(site, &["rollback", "3", "--accept", "all"]);
    assert!(said.err.contains("the token key `checkout-1` was revoked, and would count again"), "{}", said.err);
    site.write("checkout.pub", &site.token_keys["checkout"].public_key_pem());
    site.write("belay.yaml", &first.replace("checkout-1", "checkout-2"));
    let said = command(site, &["reload"]);
    assert!(said.err.contains("the token key `checkout-2` was revoked, and would count again"), "{}", said.err);
    assert_eq!(command(site, &["reload", "--accept", "checkout-2.revoked"]).code, Some(0), "if it is meant");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_counts_instead_is_kept_as_long_as_it_does() {
    let running = running().await;
    let (site, first) = (&running.site, running.site.config_text());
    let (with, without) = ("servers_file: more.yaml", "");
    let text = first.replacen("  shop:\n", &format!("  shop:\n    {with}\n"), 1);
    site.write("more.yaml", "- { name: c, address: '127.0.0.1:9' }\n");
    apply(site, &text);
    site.write("more.yaml", "- { name: bad, address: '127.0.0.1:9' }\n");
    running.eventually("generation 3", |metrics| metrics.contains("belay_config_generation 3")).await;
    assert_eq!(command(site, &["rollback", "2"]).code, Some(0));
    let servers = |site: &Site| command(site, &["status"]).out;
    assert!(servers(site).contains("  c  ") && !servers(site).contains("  bad  "));
    // A reload that is refused leaves it as it is, also one that insists.
    site.write("belay.yaml", &opened(&text));
    assert_eq!(command(site, &["reload", "--again"]).code, Some(78));
    site.write("belay.yaml", &text.replace("x-tenant: shop", "x-tenant: other"));
    assert_eq!(command(site, &["reload"]).code, Some(0));
    assert!(servers(site).contains("  c  ") && !servers(site).contains("  bad  "), "{}", servers(site));
    // More generations than are remembered, and a start after them.
    for tenant in ["a", "b", "c", "d", "e"] {
        apply(site, &text.replace(with, without).replace("x-tenant: shop", &format!("x-tenant: {tenant}")));
    }
    let Running { site, belay } = running;
    drop(belay);
    let again = Belay::start(&["run", "--json", "-c", site.config().to_str().unwrap()]);
    assert_eq!(history(&site).len(), 4);
    drop(again);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_history_is_noticed() {
    let running = running().await;
    let site = &running.site;
    apply(site, &opened(&site.config_text()));
    let config = history(site)[0]["files"][0]["sha256"].as_str().unwrap().to_owned();
    site.write(&format!("history/objects/{config}"), "version: 1\nroutes: []\n");
    let said = command(site, &["rollback", "1"]);
    assert_eq!(said.code, Some(78));
    assert!(said.err.contains("it is not what its digest says"), "{}", said.err);
}
