//! What becomes of the audit log when something goes wrong, and what its checkpoints prove.

use crate::support::operator::acts;
use crate::support::{Ask, Belay, Load, NOW, Needs, Running, Site, World, eventually};
use belay::audit::{Judged, Record, Sealer, Summary};
use belay::generation::{Digest, Generation};
use belay::journal::older_files;
use belay::name::{ListenerName, NodeName};
use belay::request::Id;
use rcgen::KeyPair;
use serde_json::Value;
use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

const LOG: &str = "audit: { file: audit.jsonl }";
const SIGNED: &str = "audit: { file: audit.jsonl, checkpoints: { file: checkpoints, key: 'file:audit.key' } }";

/// A key for checkpoints, `NAME.key` and `NAME.pub`.
fn key(site: &Site, name: &str) {
    let pair = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    site.write(&format!("{name}.key"), &pair.serialize_pem());
    site.write(&format!("{name}.pub"), &pair.public_key_pem());
}

struct Verified {
    code: Option<i32>,
    said: String,
}

fn verify(arguments: &[&str]) -> Verified {
    let output = Belay::output(&[&["audit", "verify"], arguments].concat());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Verified { code: output.status.code(), said: text(&output.stdout) + &text(&output.stderr) }
}

fn verify_whole(site: &Site) -> Verified {
    verify(&["-c", site.config().to_str().unwrap()])
}

fn text_of(site: &Site, name: &str) -> String {
    fs::read_to_string(site.folder.path().join(name)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_prove_that_nothing_was_cut_off() {
    let prepare = |site: &Site| {
        key(site, "audit");
        key(site, "other");
        let admin = "admin: { http: '127.0.0.1:0' }\n";
        site.write("belay.yaml", &format!("{}{admin}", site.config_text().replace(LOG, SIGNED)));
    };
    let Running { site, belay } = Running::started_at(prepare).await;
    let running = Running::healthy(site, belay).await;
    for _ in 0..3 {
        assert_eq!(running.status(&Ask::get("/orders/7")).await, 200);
    }
    let Running { site, belay } = running;
    belay.stop();
    let whole = verify_whole(&site);
    assert!(whole.code == Some(0) && whole.said.contains("where it stopped"), "{}", whole.said);
    let config = site.config();
    assert_eq!(verify(&["-c", config.to_str().unwrap(), "--final"]).code, Some(0));
    assert_eq!(verify(&["-c", config.to_str().unwrap(), "--key", "nowhere"]).code, Some(69));

    let path = |name: &str| site.folder.path().join(name).to_str().unwrap().to_owned();
    let with = |log: &str, marks: &str, key: &str, more: &[&str]| {
        site.write("log", log);
        site.write("marks", marks);
        let (log, marks, key) = (path("log"), path("marks"), path(key));
        verify(&[&["--checkpoints", &*marks, "--key", &*key, &*log], more].concat())
    };
    let (log, marks) = (text_of(&site, "audit.jsonl"), text_of(&site, "checkpoints"));
    let told = |verified: Verified, code: i32, what: &str| {
        assert!(verified.code == Some(code) && verified.said.contains(what), "{:?} {}", verified.code, verified.said);
    };
    told(with(&log, &marks, "audit.pub", &["--final"]), 0, "proven");
    let cut = |text: &str, lines: usize| {
        let all: Vec<_> = text.lines().map(|line| format!("{line}\n")).collect();
        all[..all.len() - lines].concat()
    };
    told(with(&cut(&log, 2), &marks, "audit.pub", &[]), 2, "its checkpoint 1 has seen record");
    told(with("", &marks, "audit.pub", &[]), 2, "ends with record 0");
    // Who cuts both off at the same place is found by a checkpoint that is kept elsewhere, and if the log is final.
    let both = || (cut(&log, 2), cut(&marks, 1));
    told(with(&both().0, &both().1, "audit.pub", &[]), 0, "are not signed yet");
    told(with(&both().0, &both().1, "audit.pub", &["--final"]), 3, "are not signed");
    told(with(&log, &marks, "other.pub", &[]), 69, "which is not given");
    told(with(&log, &marks.replace("\"sequence\":", "\"sequence\":1"), "audit.pub", &[]), 1, "does not hold");
    told(with(&log, &marks.replace('{', ""), "audit.pub", &[]), 1, "no checkpoint");
    told(with(&log, &marks, "audit.key", &[]), 69, "holds no public key");

    // Somebody makes another log, which fits together.
    let boot = serde_json::from_str::<Value>(log.lines().next().unwrap()).unwrap()["belay"]["boot"].clone();
    let mut sealer = Sealer::new(NodeName::parse("lb").unwrap(), Id::parse(boot.as_str().unwrap()).unwrap());
    let mut forged = Vec::new();
    for count in 0..log.lines().count() {
        let summary = Summary {
            time: belay::clock::Timestamp::from_unix_seconds(NOW),
            listener: ListenerName::parse("edge").unwrap(),
            reason: "tls.no_certificate",
            count: count as u64,
            judged: Judged { generation: Generation::new(1), digest: Digest::of(&[]), policy: Digest::of(&[]) },
        };
        sealer.seal(&Record::Summary(Box::new(summary)), &mut forged).unwrap();
    }
    let forged = String::from_utf8(forged).unwrap();
    site.write("log", &forged);
    told(verify(&[&path("log")]), 0, "could have cut it off, or written it anew");
    told(with(&forged, &marks, "audit.pub", &[]), 1, "was written anew: its checkpoint");
}

#[tokio::test]
async fn a_large_log_goes_on_in_a_new_file() {
    let audit = "audit: { file: audit.jsonl, rotate: { size: 1MiB, age: 1d }, keep: { size: 100MiB, age: 1d }, \
                 checkpoints: { file: checkpoints, key: 'file:audit.key' } }";
    let site = Site::new(NOW).await;
    key(&site, "audit");
    // One that is older than anybody wants to keep.
    site.write("audit.jsonl.20250101T000000.000Z", "old\n");
    let old = site.folder.path().join("audit.jsonl.20250101T000000.000Z");
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(NOW).unwrap() - 2 * 86_400);
    File::options().write(true).open(&old).unwrap().set_modified(long_ago).unwrap();
    let world = World::before_checks(site, |text| text.replace(LOG, audit));
    world.is_healthy().await;
    let log = world.site.folder.path().join("audit.jsonl");
    let status = Ask { certificate: None, signer: None, ..Ask::get("/status") };
    let mut asked = 0;
    while older_files(&log).unwrap().is_empty() || old.exists() {
        assert!(asked < 3000, "it was never rotated");
        world.ask(&status).await;
        asked += 1;
    }
    for _ in 0..3 {
        assert_eq!(world.ask(&status).await.status, 200);
    }
    let removed = world.site.folder.path();
    let all: Vec<_> = older_files(&log).unwrap().into_iter().chain([log.clone()]).collect();
    assert_eq!(all.len(), 2, "{all:?}");
    world.live.state().journal.flush();
    let text = all.iter().map(|file| fs::read_to_string(file).unwrap()).collect::<String>();
    let told = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let told: Vec<_> = told.filter(|record| record["event"]["action"] == "audit.removed").collect();
    assert_eq!((told.len(), &told[0]["file"]["name"]), (1, &"audit.jsonl.20250101T000000.000Z".into()), "{removed:?}");
    let first = fs::read_to_string(&log).unwrap();
    let first: Value = serde_json::from_str(first.lines().next().unwrap()).unwrap();
    assert_eq!(first["event"]["action"], "audit.file");
    assert!(world.metrics().contains("belay_audit_kept_bytes_max 104857600"), "{}", world.metrics());
    let whole = verify_whole(&world.site);
    assert_eq!(whole.code, Some(0), "{}", whole.said);
    assert!(whole.said.starts_with(&format!("{} records are proven", text.lines().count())), "{}", whole.said);
    let beheaded = verify(&[log.to_str().unwrap()]);
    assert!(
        beheaded.code == Some(2) && beheaded.said.contains("no record says that it was removed"),
        "{}",
        beheaded.said
    );
    let alone = verify(&["--part", log.to_str().unwrap()]);
    assert!(alone.code == Some(0) && !alone.said.contains("records 1 to"), "{}", alone.said);
}

/// Something that changes from run to run.
fn by_chance(max: u64) -> u64 {
    let id = Id::random();
    u64::from_str_radix(&id.as_str()[..8], 16).unwrap() % max
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_it_loses_nothing_that_was_answered() {
    let prepare = |site: &Site| {
        key(site, "audit");
        let admin = "admin: { http: '127.0.0.1:0' }\n";
        site.write("belay.yaml", &format!("{}{admin}", site.config_text().replace(LOG, SIGNED)));
    };
    let Running { site, belay } = Running::started_at(prepare).await;
    let mut running = Running::healthy(site, belay).await;
    let rounds = 3;
    let mut answered = 0;
    for _ in 0..rounds {
        let (site, belay, address) = running.parts();
        let load = Load::start(&site, &address, (2, 1));
        load.more(20 + by_chance(100));
        belay.signal("KILL");
        belay.wait();
        answered += load.end().await.0;
        let site = std::sync::Arc::into_inner(site).unwrap();
        let again = Belay::start(&["run", "--json", "-c", site.config().to_str().unwrap()]);
        running = Running::healthy(site, again).await;
    }
    let Running { site, belay } = running;
    let (_, said) = belay.stop();
    assert!(said.contains("ended without a word after record"), "{said}");
    let whole = verify_whole(&site);
    assert_eq!(whole.code, Some(0), "{}", whole.said);
    assert_eq!(whole.said.matches("where it crashed").count(), rounds, "{}", whole.said);
    assert_eq!(acts(&site, "audit.recovered").len(), rounds);
    let decisions = acts(&site, "decision").len() as u64;
    assert!(decisions >= answered && answered > 60, "{decisions} decisions of {answered} answers");
}

/// A folder of one MiB that only a process and its children see: the process, and the way to the folder from here.
fn on_a_small_disk(site: &Site) -> Option<(Belay, PathBuf)> {
    let folder = site.folder.path().join("small");
    fs::create_dir_all(&folder).unwrap();
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--map-root-user", "sh", "-c", script, "sh"]).arg(&folder);
        command
    };
    let mount = "mount -t tmpfs -o size=1m tmpfs \"$1\"";
    let can = unshare(mount).output().is_ok_and(|output| output.status.success());
    if !Needs::met(can, "a file system of one's own", "apt install util-linux, and run as a user who may mount") {
        return None;
    }
    let mut command = unshare(&format!("{mount} && exec \"$2\" run --json -c \"$3\""));
    command.arg(env!("CARGO_BIN_EXE_belay")).arg(site.config()).process_group(0);
    let belay = Belay::spawn(command);
    let seen = PathBuf::from(format!("/proc/{}/root{}", belay.pid().as_raw_nonzero(), folder.display()));
    Some((belay, seen))
}

/// How often one metric stands there, by the beginnings of its lines.
fn sum(metrics: &str, name: &str) -> u64 {
    let lines = metrics.lines().filter(|line| line.starts_with(name));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_nothing_is_served_without_a_record() {
    let site = Site::new(belay::clock::Clock::now(&belay::clock::System).unix_seconds()).await;
    let admin = "admin: { http: '127.0.0.1:0' }\n";
    site.write("belay.yaml", &format!("{}{admin}", site.config_text().replace("audit.jsonl", "small/audit.jsonl")));
    let Some((belay, disk)) = on_a_small_disk(&site) else { return };
    let running = Running::healthy(site, belay).await;
    assert_eq!(running.status(&Ask::get("/orders/1")).await, 200);
    // All but a little.
    fill(&disk.join("filler"));
    let mut served = 1;
    let mut refused = 0;
    while refused < 5 {
        assert!(served < 200, "the disk was never full");
        match running.status(&Ask::get("/orders/2")).await {
            200 => served += 1,
            503 => refused += 1,
            status => panic!("{status}"),
        }
    }
    assert_eq!(running.admin("/readyz").0, 503);
    fs::remove_file(disk.join("filler")).unwrap();
    running.eventually("it is ready again", |metrics| metrics.contains("belay_audit_records_lost_total 0")).await;
    let again = async { while running.status(&Ask::get("/orders/3")).await != 200 {} };
    tokio::time::timeout(Duration::from_secs(20), again).await.expect("it serves again");
    let metrics = running.admin("/metrics").1;
    let forwarded = sum(&metrics, "belay_server_requests_total{");
    let log = disk.join("audit.jsonl");
    eventually("all is written", || (allowed(&log) >= forwarded).then_some(()));
    let verified = verify(&[log.to_str().unwrap()]);
    assert_eq!(verified.code, Some(0), "{}", verified.said);
    assert_eq!(forwarded, served + 1);
}

fn fill(file: &Path) {
    let mut filler = File::create(file).unwrap();
    let piece = [b'x'; 1024];
    while std::io::Write::write_all(&mut filler, &piece).is_ok() {}
    filler.set_len(filler.metadata().unwrap().len() - 16 * 1024).unwrap();
}

/// How many requests the log says were let in.
fn allowed(log: &Path) -> u64 {
    let text = fs::read_to_string(log).unwrap();
    text.lines().filter(|line| line.contains("\"decision\":\"allow\"")).count() as u64
}

#[tokio::test]
async fn where_the_config_says_so_requests_go_on_without_records() {
    let world = World::with(|text| text.replace(LOG, "audit: { file: /dev/full, on_failure: continue }")).await;
    eventually("the writer fails", || (!world.live.state().journal.is_writing()).then_some(()));
    assert_eq!(world.ask(&Ask::get("/orders/7")).await.status, 200);
    assert!(world.live.state().journal.serves());
}

#[tokio::test]
async fn how_safe_a_record_is_to_be_changes_with_a_reload() {
    let world = World::new().await;
    let text = world.site.config_text();
    for durability in ["queued", "written", "synced"] {
        let audit = format!("audit: {{ file: audit.jsonl, durability: {durability} }}");
        world.apply(&text.replace(LOG, &audit)).unwrap();
        assert_eq!(world.ask(&Ask::get("/orders/7")).await.status, 200);
        if durability != "queued" {
            let log = fs::read_to_string(world.site.folder.path().join("audit.jsonl")).unwrap();
            let last = log.lines().rev().find(|line| line.contains("\"action\":\"decision\"")).unwrap();
            let last: Value = serde_json::from_str(last).unwrap();
            let generation = world.live.snapshot().generation.number();
            assert_eq!(last["belay"]["generation"], generation, "{durability}: it is there when the answer is");
        }
    }
}

#[tokio::test]
async fn a_clock_that_is_set_back_is_told() {
    let world = World::new().await;
    assert_eq!(world.ask(&Ask::get("/orders/7")).await.status, 200);
    world.clock.set(NOW - 3600);
    let status = Ask { certificate: None, signer: None, ..Ask::get("/status") };
    assert_eq!(world.ask(&status).await.status, 200);
    let records = world.records();
    let sequence: Vec<_> = records.iter().map(|record| record["event"]["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequence, (1..=sequence.len() as u64).collect::<Vec<_>>());
    assert_eq!(world.records_of("audit.clock").len(), 1);
}

#[tokio::test]
async fn a_key_that_cannot_sign_is_refused() {
    let site = Site::new(NOW).await;
    site.write("audit.key", &KeyPair::generate().unwrap().serialize_pem());
    site.write("belay.yaml", &site.config_text().replace(LOG, SIGNED));
    let output = Belay::output(&["check", "-c", site.config().to_str().unwrap()]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(78) && said.contains("not an Ed25519 key"), "{said}");
}
