//! A config goes live only if enough people have signed it.

use crate::support::operator::{acts, command, with_socket};
use crate::support::{Ask, Belay, Needs, Running, Site, admin, eventually};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use test_case::test_case;

/// Approvers with their keys, and a site whose config they approve.
struct Office {
    site: Site,
    /// Only root can change it.
    folder: tempfile::TempDir,
}

const PEOPLE: [(&str, &str); 3] = [("ada", "ed25519"), ("bob", "ecdsa"), ("eve", "ed25519")];

impl Office {
    /// Ada and Bob approve together; Eve is nobody.
    async fn new() -> Option<Self> {
        if !Needs::met(rustix::process::geteuid().is_root(), "root", "only root names approvers")
            || !Needs::program("ssh-keygen", "apt install openssh-client")
        {
            return None;
        }
        let Running { site, belay } = Running::started_at(|site| {
            fs::create_dir(site.folder.path().join("history")).unwrap();
            let text = with_socket(format!("{}admin: {{ http: '127.0.0.1:0' }}\n", site.config_text()));
            site.write("belay.yaml", &format!("{text}history: {{ dir: history }}\n"));
        })
        .await;
        drop(belay);
        fs::remove_dir_all(site.folder.path().join("history")).unwrap();
        fs::create_dir(site.folder.path().join("history")).unwrap();
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        for (name, kind) in PEOPLE {
            let key = folder.path().join(name);
            let made =
                Command::new("ssh-keygen").args(["-q", "-N", "", "-C", name, "-t", kind, "-f"]).arg(key).status();
            assert!(made.unwrap().success());
        }
        let office = Self { site, folder };
        office.names(2, &["ada", "bob"]);
        Some(office)
    }

    fn approvers(&self) -> PathBuf {
        self.folder.path().join("approvers.yaml")
    }

    fn names(&self, signatures: usize, people: &[&str]) {
        let key = |name: &&str| {
            let key = fs::read_to_string(self.folder.path().join(format!("{name}.pub"))).unwrap();
            format!("  {name}: {key}")
        };
        let text = format!("signatures: {signatures}\nsigners:\n{}", people.iter().map(key).collect::<String>());
        fs::write(self.approvers(), text).unwrap();
        fs::set_permissions(self.approvers(), fs::Permissions::from_mode(0o644)).unwrap();
    }

    fn args(&self) -> Vec<String> {
        let (config, approvers) = (self.site.config(), self.approvers());
        let words = ["run", "--json", "-c", config.to_str().unwrap(), "--approvers", approvers.to_str().unwrap()];
        words.map(str::to_owned).to_vec()
    }

    fn start(&self) -> Belay {
        let args = self.args();
        Belay::start(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// What a start says that is refused.
    fn refused(&self) -> String {
        let args = self.args();
        let output = Belay::output(&args.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(78));
        String::from_utf8(output.stderr).unwrap()
    }

    /// What is to be signed.
    fn statement(&self, more: &[&str]) -> String {
        let said = command(&self.site, &[&["approve"], more].concat());
        assert_eq!(said.code, Some(0), "{}", said.err);
        said.out
    }

    fn sign(&self, who: &str, statement: &str) -> String {
        let text = self.folder.path().join("statement");
        fs::write(&text, statement).unwrap();
        let mut signing = Command::new("ssh-keygen");
        signing.args(["-q", "-Y", "sign", "-n", "belay", "-f"]).arg(self.folder.path().join(who)).arg(&text);
        assert!(signing.status().unwrap().success());
        let signature = text.with_extension("sig");
        let signed = fs::read_to_string(&signature).unwrap();
        fs::remove_file(signature).unwrap();
        signed
    }

    /// Puts signatures beside the config.
    fn approve(&self, people: &[&str], statement: &str) -> String {
        let signatures: String = people.iter().map(|who| self.sign(who, statement)).collect();
        self.site.write("belay.yaml.sig", &signatures);
        signatures
    }
}

fn reloaded(site: &Site) -> (Option<i32>, String) {
    let said = command(site, &["reload", "--accept", "all"]);
    (said.code, said.err)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_live_that_was_not_approved() {
    let Some(office) = Office::new().await else { return };
    let site = &office.site;
    assert!(office.refused().contains("the change is not approved: 0 of 2 signatures"), "also at a start");
    let first = office.statement(&["--parent", "none"]);
    office.approve(&["ada"], &first);
    assert!(office.refused().contains("the change is not approved: 1 of 2 signatures (ada)"));
    office.approve(&["ada", "ada", "eve"], &first);
    assert!(office.refused().contains("1 of 2 signatures (ada); 1 signature is of another text, or of somebody else"));
    let opening = office.approve(&["ada", "bob"], &first);
    let belay = office.start();
    let text = site.config_text();
    // A change, with the signatures of what was before it.
    site.write("belay.yaml", &text.replace("x-tenant: shop", "x-tenant: other"));
    let (code, said) = reloaded(site);
    assert!(code == Some(78) && said.contains("0 of 2 signatures; 2 signatures are of another text"), "{said}");
    let second = office.statement(&[]);
    assert_ne!(first.lines().nth(1), second.lines().nth(1), "it comes after the first");
    office.approve(&["ada", "bob"], &second);
    assert_eq!(reloaded(site), (Some(0), String::new()));
    let reload =
        eventually("its record", || acts(site, "reload").pop().filter(|it| it["event"]["outcome"] == "success"));
    assert_eq!(reload["belay"]["approved_by"], serde_json::json!(["ada", "bob"]));
    // Altered by one byte.
    site.write("belay.yaml", &text.replace("x-tenant: shop", "x-tenant: othes"));
    assert_eq!(reloaded(site).0, Some(78));
    // What was approved once does not count again, be it by a file, a rollback or a start.
    site.write("belay.yaml", &text);
    site.write("belay.yaml.sig", &opening);
    assert_eq!(reloaded(site).0, Some(78));
    assert_eq!(command(site, &["rollback", "1"]).code, Some(78));
    drop(belay);
    assert!(office.refused().contains("the change is not approved"));
    // What is live starts again, without anybody.
    site.write("belay.yaml", &text.replace("x-tenant: shop", "x-tenant: other"));
    fs::remove_file(site.folder.path().join("belay.yaml.sig")).unwrap();
    let belay = office.start();
    // And a rollback that is approved is done.
    let third = office.statement(&["--generation", "1"]);
    office.approve(&["bob", "ada"], &third);
    assert_eq!(command(site, &["rollback", "1"]).code, Some(0));
    drop(belay);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_machines_renew_needs_nobody_and_keys_do() {
    let Some(office) = Office::new().await else { return };
    let site = &office.site;
    office.approve(&["ada", "bob"], &office.statement(&["--parent", "none"]));
    let belay = office.start();
    let address = belay.ready["admin"].as_str().unwrap();
    let until = |wanted: &str| eventually(wanted, || admin(address, "/metrics").1.contains(wanted).then_some(()));
    let (door, ask) = (belay.ready["listeners"][0]["address"].as_str().unwrap(), Ask::get("/orders/7"));
    until("belay_server_up{pool=\"shop\",server=\"a\"} 1");
    let again = fs::read_to_string(site.folder.path().join("lb.pem")).unwrap();
    site.write("lb.pem", &format!("{again}\n"));
    until("belay_config_generation 2");
    site.write("checkout.pub", &site.token_keys["forger"].public_key_pem());
    until("belay_reloads_total{result=\"refused\"} 1");
    assert_eq!(site.ask_at(door, &ask).await.status, 200, "the key is as it was");
    office.approve(&["ada", "bob"], &office.statement(&[]));
    until("belay_config_generation 3");
    assert_eq!(site.ask_at(door, &ask).await.status, 401);
}

#[test_case(|office| office.names(3, &["ada", "bob"]), "`signatures` must be from 1 to the number of signers, which is 2"; "too many")]
#[test_case(|office| office.names(0, &["ada"]), "`signatures` must be from 1 to the number of signers, which is 1"; "none")]
#[test_case(|office| fs::write(office.approvers(), "signers: { ada: nonsense }\nsignatures: 1\n").unwrap(), "the key of ada cannot be used"; "no key")]
#[test_case(|office| fs::write(office.approvers(), "signatures: 1\n").unwrap(), "signers"; "nobody")]
#[test_case(|office| fs::set_permissions(office.approvers(), fs::Permissions::from_mode(0o666)).unwrap(), "can be written by others"; "anybody's")]
#[test_case(|office| fs::remove_file(office.approvers()).unwrap(), "cannot be looked at"; "not there")]
#[test_case(|office| office.site.write("belay.yaml", &office.site.config_text().replace("history: { dir: history }\n", "")), "approval needs a history"; "no history")]
#[tokio::test(flavor = "multi_thread")]
async fn approvers_that_are_no_good_stop_a_start(spoil: fn(&Office), expected: &str) {
    let Some(office) = Office::new().await else { return };
    office.approve(&["ada", "bob"], &office.statement(&["--parent", "none"]));
    spoil(&office);
    let said = office.refused();
    assert!(said.contains(expected), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_that_nobody_signed_does_not_count() {
    let Some(office) = Office::new().await else { return };
    office.approve(&["ada", "bob"], &office.statement(&["--parent", "none"]));
    drop(office.start());
    let memory: &Path = &office.site.folder.path().join("history/approved.json");
    let mut remembered: Value = serde_json::from_slice(&fs::read(memory).unwrap()).unwrap();
    remembered["statement"] = format!("{} ", remembered["statement"].as_str().unwrap()).into();
    fs::write(memory, remembered.to_string()).unwrap();
    let said = office.refused();
    assert!(said.contains("remembers an approval that does not count any more: 0 of 2 signatures"), "{said}");
}
