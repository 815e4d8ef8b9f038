//! What a change would change, said before; and what is refused unless it is meant.

use crate::support::operator::{acts, apply, command, with_socket};
use crate::support::{Ask, Belay, Running, eventually};
use serde_json::Value;

fn plan(running: &Running, more: &[&str]) -> (Option<i32>, String, String) {
    let new = running.site.folder.path().join("new.yaml");
    let output = Belay::output(&[&["plan", new.to_str().unwrap()], more].concat());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_for_whom_and_ends_with_its_kind() {
    let running = Running::with(with_socket).await;
    let (site, good) = (&running.site, running.site.config_text());
    site.write("new.yaml", &good);
    assert_eq!(plan(&running, &[]), (Some(0), "nothing changes\n".into(), String::new()));
    site.write("new.yaml", &good.replace("allow: [reader]", "allow: [reader, checkout]"));
    let (code, out, _) = plan(&running, &[]);
    assert_eq!(code, Some(2));
    assert!(out.contains("reports opens for checkout, at edge\n    GET https://shop.example.com/reports/any"), "{out}");
    site.write("new.yaml", &good.replace("allow: [reader]", "allow: public"));
    let (code, out, _) = plan(&running, &["--json"]);
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &told["unaccepted"][0]["name"]), (Some(77), &"reports.public".into()));
    assert_eq!(told["plan"]["changes"][0]["witness"]["asked"]["path"], "/reports/any");
    assert_eq!(plan(&running, &["--accept", "reports.public"]).0, Some(2));
    let (_, markdown, _) = plan(&running, &["--markdown"]);
    assert!(markdown.starts_with("### For whom\n\n- `reports` becomes PUBLIC, at edge\n"), "{markdown}");
    // A key file with another content, beside the same config.
    site.write("new.yaml", &good);
    site.write("other.pub", &site.token_keys["forger"].public_key_pem());
    site.write("old.yaml", &good.replace("file:checkout.pub", "file:other.pub"));
    let (code, out, _) = plan(&running, &["--against", site.folder.path().join("old.yaml").to_str().unwrap()]);
    assert_eq!(code, Some(2));
    assert!(out.contains("Files\n  checkout.pub\n  other.pub"), "{out}");
    site.write("new.yaml", "routes: nonsense\n");
    let (code, _, err) = plan(&running, &[]);
    assert!(code == Some(78) && err.contains("new.yaml:1:9"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_is_told_as_a_story() {
    let running = Running::with(with_socket).await;
    let site = &running.site;
    let explain = |words: &[&str]| {
        let said = command(site, &[&["explain"], words].concat());
        (said.code, format!("{}{}", said.out, said.err))
    };
    let reply = site.ask_at(running.address(), &Ask::get("/orders/7")).await;
    let id = reply.header("x-request-id").unwrap().to_owned();
    let (_, said) = eventually("its outcome", || {
        let told = explain(&[&id]);
        told.1.contains("answered").then_some(told)
    });
    assert!(said.starts_with("allow: GET https://shop.example.com/orders/7 at "), "{said}");
    assert!(said.contains("proved    checkout, by mtls+jwt\n") && said.contains("server    shop/"), "{said}");
    let log = site.folder.path().join("audit.jsonl");
    let (code, from_log) = explain(&["--file", log.to_str().unwrap(), &id]);
    assert_eq!((code, from_log), (Some(0), said), "the log says the same");
    let refused = site.ask_at(running.address(), &Ask { signer: None, ..Ask::get("/orders/8") }).await;
    let id = refused.header("x-request-id").unwrap().to_owned();
    let (_, said) = eventually("the refusal", || Some(explain(&[&id])).filter(|(code, _)| *code == Some(0)));
    let meaning = "identity.token_missing (401): The route demands a token and the request carries none.";
    assert!(said.starts_with("deny: ") && said.contains(meaning), "{said}");
    let refused = site.ask_at(running.address(), &Ask::get("/nowhere")).await;
    let id = refused.header("x-request-id").unwrap().to_owned();
    let (_, said) = eventually("the refusal", || Some(explain(&[&id])).filter(|(code, _)| *code == Some(0)));
    let more = "belay explain --as checkout --listener edge --by 1 GET https://shop.example.com/nowhere\n";
    assert!(said.contains(more), "{said}");
    let (code, said) = explain(&["no-such-request"]);
    assert!(code == Some(69) && said.contains("nothing is known of the request no-such-request"), "{said}");
    // And before anybody asks.
    let url = "https://shop.example.com/orders/7";
    let (_, said) = explain(&["--as", "checkout", "GET", url]);
    assert!(said.starts_with("allow: GET https://shop.example.com/orders/7 by checkout\n"), "{said}");
    let (_, said) = explain(&["--as", "reports", "GET", url]);
    assert!(said.starts_with("deny with 403") && said.contains("allowed are checkout"), "{said}");
    let new = site.folder.path().join("new.yaml");
    std::fs::write(&new, site.config_text().replacen("allow: [checkout]", "allow: [reports]", 1)).unwrap();
    let (_, said) = explain(&["--as", "reports", "--by", new.to_str().unwrap(), "GET", url, "--json"]);
    let story: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&story["decision"], &story["rule"]), (&"allow".into(), &"routes.orders.allow.reports".into()));
    assert!(story["steps"].as_array().unwrap().iter().any(|step| step["about"] == "pool"), "{story}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dangerous_must_be_meant() {
    let running = Running::with(with_socket).await;
    let (site, good) = (&running.site, running.site.config_text());
    let stranger = Ask { certificate: None, signer: None, ..Ask::get("/reports/7") };
    let open = good.replace("allow: [reader]", "allow: public");
    site.write("belay.yaml", &open);
    running.belay.signal("HUP");
    running.eventually("a refusal", |metrics| metrics.contains("belay_reloads_total{result=\"refused\"} 1")).await;
    let said = command(site, &["reload"]);
    assert_eq!(said.code, Some(78));
    assert!(said.err.contains("`reports` lets everybody in, without an identity"), "{}", said.err);
    assert!(said.err.contains("if it is meant: --accept reports.public"), "{}", said.err);
    assert_eq!(command(site, &["reload", "--accept", "status.public"]).code, Some(78), "something else");
    assert_eq!(running.status(&stranger).await, 401);
    assert_eq!(command(site, &["reload", "--accept", "reports.public"]).code, Some(0));
    assert_eq!(running.status(&stranger).await, 200);
    let done =
        eventually("its record", || acts(site, "reload").into_iter().find(|act| act["event"]["outcome"] == "success"));
    assert_eq!(done["belay"]["accepted"], serde_json::json!(["reports.public"]));
    apply(site, &good);
    assert_eq!(running.status(&stranger).await, 401, "less needs no word");
}
