//! Secrets show their age, and one replaces the other without a lost request.

use crate::support::operator::{acts, command, with_socket};
use crate::support::{Ask, NOW, Running, Site, eventually};
use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::KeyPair;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt, process::Command};
use test_case::test_case;

const LOG: &str = "audit: { file: audit.jsonl }";
const DAY: i64 = 24 * 60 * 60;

/// The day so long before the tests' time, or before today.
fn day_before(now: i64, days: i64) -> String {
    let time = belay::clock::Timestamp::from_unix_seconds(now - days * DAY).to_string();
    time[..10].to_owned()
}

fn keys_of(running: &Running) -> Value {
    let said = command(&running.site, &["keys", "--json"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    serde_json::from_str(&said.out).unwrap()
}

fn find<'a>(told: &'a Value, name: &str) -> &'a Value {
    let mut keys = told["keys"].as_array().unwrap().iter();
    keys.find(|key| key["name"] == name).unwrap_or_else(|| panic!("no {name} in {told:#}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_secret_shows_its_age() {
    let prepare = |site: &Site| {
        site.write("audit.key", &KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem());
        for name in ["sticky.key", "pseudonyms.key", "shared"] {
            site.write(name, &STANDARD.encode(format!("{name}, and so on for at least 32 bytes")));
        }
        site.write("workers.crl", &site.worker_ca.list(1, 10 * DAY, &[]));
        let day = |days| day_before(site.now, days);
        let audit = format!(
            "audit: {{ file: audit.jsonl, checkpoints: {{ file: marks, key: 'file:audit.key', created: {} }}, \
             pseudonyms: {{ key: 'file:pseudonyms.key', created: {} }} }}",
            day(40),
            day(80)
        );
        let text = format!("{}admin: {{ http: '127.0.0.1:0', socket: admin.sock }}\n", site.config_text());
        let shared = format!("{{ kid: checkout-s, secret: 'file:shared', created: {} }}", day(30));
        let text = text
            .replace(LOG, &audit)
            .replace("ca: [workers-ca.pem]", "ca: [workers-ca.pem], crl: [workers.crl]")
            .replace("key: 'file:checkout.pub' }", &format!("key: 'file:checkout.pub' }}, {shared}"))
            .replace(
                "    servers: [",
                "    sticky: { cookie: __Host-shop, keys: [{ secret: 'file:sticky.key' }] }\n    servers: [",
            )
            + &format!("external_secrets: [{{ name: cloudflare-api, created: {} }}]\n", day(10));
        site.write("belay.yaml", &text);
    };
    let Running { site, belay } = Running::started_at(prepare).await;
    let running = Running::healthy(site, belay).await;
    for _ in 0..2 {
        assert_eq!(running.status(&Ask::get("/orders/7")).await, 200);
    }
    let told = keys_of(&running);
    let kinds: BTreeSet<_> = told["keys"].as_array().unwrap().iter().map(|key| key["kind"].as_str().unwrap()).collect();
    let all = [
        "ca",
        "certificate",
        "checkpoint_key",
        "cookie_key",
        "external",
        "pseudonym_key",
        "revocation_list",
        "shared_secret",
        "ticket_key",
        "token_key",
    ];
    assert_eq!(kinds, all.into());
    let used = |name: &str| (find(&told, name)["uses"].as_u64().unwrap(), find(&told, name)["last_used"].is_string());
    assert_eq!(used("checkout-1"), (2, true));
    assert_eq!(used("checkout-s"), (0, false));
    for name in ["lb.pem", "workers-ca.pem", "workers.crl", "sticky.key", "pseudonyms.key"] {
        assert!(used(name).0 >= 2 && used(name).1, "{name}: {:#}", find(&told, name));
    }
    let age = |name: &str| find(&told, name)["age_days"].as_i64().unwrap();
    assert_eq!((age("audit.key"), age("pseudonyms.key"), age("cloudflare-api"), age("checkout-1")), (40, 80, 10, 0));
    // Only one is old, and it says so everywhere.
    let warned: Vec<_> = told["keys"].as_array().unwrap().iter().filter_map(|key| key["warning"].as_str()).collect();
    assert!(warned.len() == 1 && warned[0].contains("`pseudonyms.key`"), "{warned:?}");
    let old = command(&running.site, &["keys", "--old"]);
    assert!(old.out.contains("pseudonyms.key") && !old.out.contains("checkout-1"), "{}", old.out);
    let checked = command(&running.site, &["check"]);
    assert!(checked.err.contains("the key `pseudonyms.key` of audit.pseudonyms should be replaced"), "{}", checked.err);
    let metrics = running.admin("/metrics").1;
    let sample = "belay_secret_created_timestamp_seconds{kind=\"pseudonym_key\",name=\"pseudonyms.key\",owner=\"audit.pseudonyms\"}";
    assert!(metrics.contains(sample), "{metrics}");
    assert!(!metrics.contains("belay_secret_uses_total{kind=\"external\""), "nobody here could know");
}

#[test_case(74, 90, None; "young")]
#[test_case(76, 90, Some("should be replaced at the age of 90 days"); "worth a word")]
#[test_case(91, 90, Some("that time has come"); "too old")]
#[test_case(91, 365, None; "one that may be older")]
#[tokio::test]
async fn secrets_that_others_have_are_told_of(age: i64, max: i64, expected: Option<&str>) {
    let site = Site::new(belay::clock::Clock::now(&belay::clock::System).unix_seconds()).await;
    let created = day_before(site.now, age);
    let secret = format!("external_secrets: [{{ name: cloudflare-api, created: {created}, max_age: {max}d }}]\n");
    site.write("belay.yaml", &(site.config_text() + &secret));
    let said = command(&site, &["check"]);
    assert_eq!(said.code, Some(0), "a warning is no error: {}", said.err);
    match expected {
        Some(told) => {
            assert!(said.err.contains("the secret `cloudflare-api`") && said.err.contains(told), "{}", said.err)
        }
        None => assert_eq!(said.err, ""),
    }
}

#[test_case("{ name: a b, created: 2026-01-01 }", "`a b` is no name")]
#[test_case("{ name: a, created: yesterday }", "`yesterday` is no day")]
#[test_case("{ name: a, created: 2026-01-01, max_age: 1h }", "out of range")]
#[test_case("{ name: a, created: 2026-01-01 }, { name: a, created: 2026-01-01 }", "a")]
#[tokio::test]
async fn what_is_no_secret_of_others_is_refused(secrets: &str, told: &str) {
    let site = Site::new(NOW).await;
    site.write("belay.yaml", &format!("{}external_secrets: [{secrets}]\n", site.config_text()));
    let said = command(&site, &["check"]);
    assert!(said.code == Some(78) && said.err.contains(told), "{}", said.err);
}

#[tokio::test]
async fn check_knows_when_a_key_was_seen_first() {
    let site = Site::new(belay::clock::Clock::now(&belay::clock::System).unix_seconds()).await;
    site.write("belay.yaml", &format!("{}history: {{ dir: . }}\n", site.config_text()));
    assert_eq!(command(&site, &["check"]).err, "");
    assert!(!site.folder.path().join("keys.json").exists(), "who checks writes nothing");
    // A process has seen it long ago; that the config says nothing, or another day, makes it no younger.
    let pem = fs::read_to_string(site.folder.path().join("checkout.pub")).unwrap();
    let spki = rustls::pki_types::SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).unwrap();
    let fingerprint = belay::identity::VerifyingKey::from_spki(&spki).unwrap().fingerprint();
    site.write("keys.json", &format!("{{ \"{fingerprint}\": {} }}", site.now - 80 * DAY));
    let said = command(&site, &["check"]);
    assert!(said.err.contains("the key `checkout-1` of workloads.checkout should be replaced"), "{}", said.err);
    assert!(said.err.contains("belay keys rotate checkout"), "{}", said.err);
}

/// A request whose token a command signs, with the key that the Worker was given.
fn signed(site: &Site, worker: &Value) -> Ask {
    let identity = &site.identities["checkout"];
    site.write("worker.key", worker["key"].as_str().unwrap());
    site.write("checkout.pem", &identity.pem);
    let url = "https://shop.example.com/orders/7";
    let [key, cert] = ["worker.key", "checkout.pem"].map(|name| site.folder.path().join(name));
    let (key, cert) = (key.to_str().unwrap(), cert.to_str().unwrap());
    let said = command(site, &["token", "--as", "checkout", "--key", key, "--cert", cert, "GET", url]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    Ask { signer: None, ..Ask::get("/orders/7") }.header("Edge-Identity", said.out.trim())
}

fn rotate(site: &Site, words: &[&str]) -> Value {
    let said = command(site, &[&["keys", "rotate", "checkout", "--json", "--quiet-for", "0s"], words].concat());
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{}", said.out);
    serde_json::from_str(&said.out).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_replaces_the_other_step_by_step() {
    let running = Running::with(with_socket).await;
    let before = running.site.config_text();
    let old = Ask::get("/orders/7");
    let out = running.site.folder.path().join("worker.json");
    let made = rotate(&running.site, &["--kid", "checkout-2", "--out", out.to_str().unwrap()]);
    assert_eq!(
        (&made["step"], &made["kid"], &made["old"][0]),
        (&"made".into(), &"checkout-2".into(), &"checkout-1".into())
    );
    let worker: Value = serde_json::from_str(&fs::read_to_string(&out).unwrap()).unwrap();
    assert_eq!((&worker["kid"], &worker["alg"]), (&"checkout-2".into(), &"ES256".into()));
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
    let text = running.site.config_text();
    let line = "{ kid: checkout-2, key: \"file:checkout-2.pub\", created: ";
    assert!(text.contains(line) && text.contains("state: next }"), "{text}");

    assert_eq!(rotate(&running.site, &[])["step"], "waits_for_use");
    assert_eq!(running.status(&old).await, 200);
    assert_eq!(running.status(&signed(&running.site, &worker)).await, 200);
    let switched = rotate(&running.site, &[]);
    assert_eq!((&switched["step"], &switched["old"][0]), (&"switched".into(), &"checkout-1".into()));
    // Both count, until nobody has used the old one for a while.
    assert_eq!(running.status(&old).await, 200);
    assert_eq!(running.status(&signed(&running.site, &worker)).await, 200);
    let said = command(&running.site, &["keys", "rotate", "checkout", "--quiet-for", "1h"]);
    assert!(said.out.contains("checkout-1 is revoked once nobody has used it for 1h: in "), "{}", said.out);
    let revoked = rotate(&running.site, &[]);
    assert_eq!((&revoked["step"], &revoked["old"][0]), (&"revoked".into(), &"checkout-1".into()));
    assert_eq!(running.status(&old).await, 401);
    assert_eq!(running.status(&signed(&running.site, &worker)).await, 200);
    // Nothing else in the config is another.
    let others =
        |text: &str| text.lines().filter(|line| !line.contains("checkout-1")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(others(&running.site.config_text()), others(&before));
    let told: Vec<_> = acts(&running.site, "key").iter().map(|act| act["belay"]["key"].clone()).collect();
    let told: Vec<_> = told
        .iter()
        .map(|key| [&key["name"], &key["before"], &key["state"]].map(|it| it.as_str().unwrap_or("-").to_owned()))
        .collect();
    let expected = [
        ["checkout-2", "-", "next"],
        ["checkout-1", "active", "retiring"],
        ["checkout-2", "next", "active"],
        ["checkout-1", "retiring", "revoked"],
    ];
    assert_eq!(told, expected.map(|row| row.map(str::to_owned)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_rotated_changes_nothing() {
    let running = Running::with(with_socket).await;
    let (site, before) = (&running.site, running.site.config_text());
    let out = site.folder.path().join("worker.json");
    let refused = |words: &[&str], code: i32, told: &str| {
        let said = command(site, &[&["keys", "rotate"], words].concat());
        assert!(said.code == Some(code) && said.err.contains(told), "{:?} {}", said.code, said.err);
        assert_eq!(site.config_text(), before);
    };
    let to = ["--out", out.to_str().unwrap()];
    refused(&[&["chekout"][..], &to].concat(), 65, "did you mean `checkout`?");
    refused(&[&["checkout", "--kid", "reports-1"][..], &to].concat(), 78, "this kid stands at");
    refused(&[&["checkout", "--kid", "a b"][..], &to].concat(), 64, "1 to 64");
    fs::write(&out, "somebody's").unwrap();
    refused(&[&["checkout"][..], &to].concat(), 69, "cannot be written");
    assert_eq!(fs::read_to_string(&out).unwrap(), "somebody's");
    fs::remove_file(&out).unwrap();
    // What is live is not what stands there: nobody makes somebody else's change live by the way.
    site.write("belay.yaml", &before.replace("allow: [reader]", "allow: [reader, checkout]"));
    let said = command(site, &[&["keys", "rotate", "checkout"][..], &to].concat());
    assert!(said.code == Some(65) && said.err.contains("what is live is not what stands in"), "{}", said.err);
    let second = "{ kid: checkout-9, key: 'file:spare.pub' }";
    let two = before.replace("'file:checkout.pub' }", &format!("'file:checkout.pub' }}, {second}"));
    site.write("belay.yaml", &two);
    assert_eq!(command(site, &["reload"]).code, Some(0));
    let said = command(site, &[&["keys", "rotate", "checkout"][..], &to].concat());
    assert!(said.code == Some(65) && said.err.contains("several active keys (checkout-1, checkout-9)"), "{}", said.err);
    assert_eq!(site.config_text(), two);
    site.write("belay.yaml", &before);
    assert_eq!(command(site, &["reload", "--accept", "all"]).code, Some(0));
    // A config that cannot be live: the certificate's key is another's now.
    site.write("lb.key", &KeyPair::generate().unwrap().serialize_pem());
    refused(&[&["checkout"][..], &to].concat(), 78, "the private key is not the certificate's");
    assert!(!out.exists(), "no half of a key is left");
    let left = fs::read_dir(site.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with("checkout-")).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(running.status(&Ask::get("/orders/7")).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_files_owner_and_mode_stay_whatever_the_callers_umask_is() {
    let running = Running::with(with_socket).await;
    let path = |name: &str| running.site.folder.path().join(name);
    let mode = |name: &str| fs::metadata(path(name)).unwrap().permissions().mode() & 0o777;
    for name in ["belay.yaml", "checkout.pub"] {
        fs::set_permissions(path(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    let (program, config, out) = (env!("CARGO_BIN_EXE_belay"), running.site.config(), path("worker.json"));
    let script = "umask 077; exec \"$0\" keys rotate checkout --kid checkout-2 -c \"$1\" --out \"$2\"";
    let output = Command::new("sh").args(["-c", script, program]).arg(&config).arg(&out).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((mode("belay.yaml"), mode("checkout-2.pub"), mode("worker.json")), (0o644, 0o644, 0o600));
    // From the config's folder, whose files are named as a whole there: the same config by another name.
    let whole = |text: String| text.replace("'file:", &format!("'file:{}/", running.site.folder.path().display()));
    running.site.write("belay.yaml", &whole(running.site.config_text()));
    assert_eq!(command(&running.site, &["reload", "--accept", "all"]).code, Some(0));
    let mut rotate = Command::new(program);
    rotate.args(["keys", "rotate", "reports", "--json", "--kid", "reports-2"]).current_dir(running.site.folder.path());
    let output = rotate.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && output.stdout.starts_with(b"{"), "{said}");
    let left = fs::read_dir(running.site.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.filter(|name| name.to_string_lossy().starts_with('.')).count() == 0, "nothing is left over");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_compared_by_their_policy() {
    let alike = |text: String| with_socket(text).replace("node: test", "node: other");
    let (here, same, other) = (
        Running::with(with_socket).await,
        Running::with(alike).await,
        Running::with(|text| with_socket(text).replace("allow: [checkout]", "allow: [checkout, reports]")).await,
    );
    // Each site has keys and servers of its own; these are to be alike.
    for file in ["workers-ca.pem", "checkout.pub", "reports.pub", "spare.pub"] {
        fs::copy(here.site.folder.path().join(file), same.site.folder.path().join(file)).unwrap();
    }
    let text = here.site.config_text().replace("node: test", "node: other");
    same.site.write("belay.yaml", &text);
    let said = command(&same.site, &["reload", "--accept", "all"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let at = |running: &Running| format!("http://{}", running.belay.ready["admin"].as_str().unwrap());
    let status = |urls: &[String], more: &[&str]| {
        let urls: Vec<_> = urls.iter().map(String::as_str).collect();
        command(&here.site, &[&["status", "--against"], &urls[..], more].concat())
    };
    let socket = format!("unix:{}", same.site.folder.path().join("admin.sock").display());
    let said = status(&[at(&same), socket], &[]);
    assert!(said.code == Some(0) && said.out.matches("same policy").count() == 2, "{} {}", said.out, said.err);
    let said = status(&[at(&same), at(&other)], &[]);
    assert!(said.code == Some(2) && said.out.matches("DIFFERS").count() == 1, "{} {}", said.out, said.err);
    let said = status(&["http://127.0.0.1:1".into()], &[]);
    assert!(said.code == Some(69) && said.out.contains("refused"), "{} {}", said.out, said.err);
    let said = status(&[at(&other)], &["--json"]);
    let told: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&told["node"], &told["others"][0]["same_policy"]), (&"test".into(), &false.into()));
    let said = status(&["https://127.0.0.1:1".into()], &[]);
    assert!(said.code == Some(69) && said.out.contains("--ca FILE"), "{}", said.out);
    // What was revoked here and not there is a difference, too.
    for running in [&here, &same] {
        running.site.write("revoked.yaml", "tokens: []\n");
        let text = format!("{}revoked: revoked.yaml\n", running.site.config_text());
        running.site.write("belay.yaml", &text);
        assert_eq!(command(&running.site, &["reload"]).code, Some(0));
    }
    assert_eq!(status(&[at(&same)], &[]).code, Some(0));
    here.site.write("revoked.yaml", "keys: [checkout-9]\n");
    eventually("the list is taken", || (status(&[at(&same)], &[]).code == Some(2)).then_some(()));
    // The same digests stand in every record, and in the metrics.
    assert_eq!(here.status(&Ask::get("/orders/7")).await, 200);
    let record = acts(&here.site, "decision").pop().unwrap();
    let (digest, policy) = (record["belay"]["digest"].as_str().unwrap(), record["belay"]["policy"].as_str().unwrap());
    let sample = format!("belay_config_info{{digest=\"{digest}\",policy=\"{policy}\"}} 1");
    assert!(here.admin("/metrics").1.contains(&sample));
    let version: Value = serde_json::from_str(&here.admin("/version").1).unwrap();
    assert_eq!((version["digest"].as_str(), version["policy"].as_str()), (Some(digest), Some(policy)));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_decisions_is_recorded() {
    let running = Running::with(with_socket).await;
    assert_eq!(running.status(&Ask::get("/orders/7")).await, 200);
    assert_eq!(command(&running.site, &["recent", "--denied"]).code, Some(0));
    let acts = eventually("the record", || Some(acts(&running.site, "audit.read")).filter(|acts| !acts.is_empty()));
    assert_eq!(acts[0]["belay"]["reason"], "limit=20&denied");
    assert!(acts[0]["user"]["id"].is_string() && acts[0]["belay"]["cause"] == "operator", "{acts:?}");
}
