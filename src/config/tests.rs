use super::*;
use test_case::test_case;

const GOOD: &str = "\
version: 1
listeners:
  edge:
    bind: ['127.0.0.1:8443']
    tls:
      certificates: [{ cert: lb.pem, key: 'file:lb.key' }]
      client_auth: { ca: [ca.pem] }
edge: { issuer: 'https://edge', audience: 'https://lb' }
workloads:
  checkout: { id: 'spiffe://example.com/checkout', keys: [{ kid: k-1, key: 'file:k.pub' }] }
  reports: { id: 'spiffe://example.com/reports' }
roles:
  reader: { workloads: [reports] }
routes:
  - name: orders
    match: { host: shop.example.com, path: /orders/**, methods: [GET] }
    allow: [checkout]
    pool: shop
  - name: status
    match: { path: /status }
    allow: public
    pool: shop
pools:
  shop:
    servers: [{ name: a, address: '10.0.0.1:80' }]
audit: { file: audit.jsonl }
";

struct Stub;

impl FilterKind for Stub {
    fn name(&self) -> &'static str {
        "stub"
    }

    fn schema(&self) -> Schema {
        schemars::json_schema!({ "type": "object", "properties": { "word": { "type": "string" } }, "additionalProperties": false })
    }

    fn parse(&self, settings: &Node, reader: &mut Reader<'_>) -> Option<Box<dyn FilterSpec>> {
        match settings.get("word").map(|word| &word.value) {
            Some(Value::Text(word)) if word == "good" => Some(Box::new(Spec)),
            _ => {
                reader.fault(Fault::new(&reader.place.key("word"), "this is not good"));
                None
            }
        }
    }
}

#[derive(Debug)]
struct Spec;

impl FilterSpec for Spec {}

fn read_text(text: &str) -> Checked {
    read(Path::new("belay.yaml"), text, &[&Stub])
}

/// `line:column message (hint)` of each finding.
fn findings(text: &str) -> Vec<String> {
    let brief = |finding: &Finding| {
        let hint = finding.hint.as_ref().map_or(String::new(), |hint| format!(" ({hint})"));
        format!("{}:{} {}{hint}", finding.line, finding.column, finding.message)
    };
    read_text(text).findings.iter().map(brief).collect()
}

fn edited(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    GOOD.replacen(from, to, 1)
}

#[test]
fn a_good_config_is_good() {
    let checked = read_text(GOOD);
    assert_eq!(checked.findings, []);
    let config = checked.config.unwrap();
    assert_eq!((config.listeners.len(), config.routes.len(), config.pools.len()), (1, 2, 1));
    assert_eq!(config.workloads[1].workload.roles[0].as_str(), "reader");
}

#[test]
fn another_version_is_refused() {
    assert_eq!(findings(&edited("version: 1", "version: 2")), ["1:10 2 is out of range (from 1 to 1)"]);
    assert_eq!(findings(&edited("version: 1\n", "")), ["1:1 `version` is missing"]);
}

#[test_case("audit: {", "audti: {", &["`audit` is missing", "there is no key `audti` here (did you mean `audit`?)"]; "slip at the top")]
#[test_case("allow: public", "alow: public", &["`allow` is missing", "there is no key `alow` here (did you mean `allow`?)"]; "slip in a route")]
#[test_case("methods: [GET]", "include: 1", &["`include` is not implemented yet, so nothing would enforce it (leave it out)"]; "a key of the design")]
#[test_case("methods: [GET]", "methods: GET", &["this is a text, and a list is expected"]; "no list")]
#[test_case("allow: public", "allow: private", &["this is `private`, and `public` or a list is expected"]; "no such word")]
#[test_case("name: status", "name: status\n    identity: mtls+jtw", &["this is `mtls+jtw`, and `none` or `mtls` or `mtls+jwt` or `jwt` or `psk` or `mtls+user` or `mtls+jwt+user` or `jwt+user` or `psk+user` is expected (did you mean `mtls+jwt`?)"]; "slip in a word")]
#[test_case("audience: 'https://lb'", "audience: 'https://lb', token: { replay: stric }", &["this is `stric`, and `tolerant` or `strict` or `off` is expected (did you mean `strict`?)"]; "slip in a mode")]
#[test_case("  shop:\n", "  shop:\n    retry: { on: [oops] }\n", &["this is `oops`, and `connect_failure` or `no_response` or `timeout` or a whole number is expected"]; "no such failure")]
#[test_case("  shop:\n", "  shop:\n    retry: { on: [timeouts] }\n", &["this is `timeouts`, and `connect_failure` or `no_response` or `timeout` or a whole number is expected (did you mean `timeout`?)"]; "slip in a failure")]
#[test_case("allow: public", "allow: 5", &["this is a number, and `public` or a list is expected"]; "a number")]
#[test_case("allow: public", "allow: { public: yes }", &["this is a map, and `public` or a list is expected"]; "a map")]
#[test_case("allow: public", "allow:", &["this is nothing, and `public` or a list is expected"]; "nothing")]
#[test_case("name: status", "name: status\n    identity: [mtls]", &["this is a list, and `none` or `mtls` or `mtls+jwt` or `jwt` or `psk` or `mtls+user` or `mtls+jwt+user` or `jwt+user` or `psk+user` is expected"]; "a list of one word")]
#[test_case("name: a, ", "", &["`name` is missing"]; "nothing to call it")]
#[test_case("version: 1", "version: one", &["this is a text, and a whole number is expected"]; "no number")]
#[test_case("    allow: public\n", "    allow: public\n    filters: [{ stub: { wrod: good } }]\n", &["there is no key `wrod` here (did you mean `word`?)"]; "slip in a filter")]
#[test_case("    allow: public\n", "    allow: public\n    filters: [{ stab: { word: good } }]\n", &["there is no key `stab` here (did you mean `stub`?)"]; "no such filter")]
fn shape(from: &str, to: &str, expected: &[&str]) {
    let found = findings(&edited(from, to));
    let said: Vec<_> = found.iter().filter_map(|finding| finding.split_once(' ')).map(|(_, said)| said).collect();
    assert_eq!(said, expected);
    assert!(read_text(&edited(from, to)).config.is_none());
}

#[test_case("pool: shop\n  - name: status", "pool: shpo\n  - name: status", "there is no pool `shpo` (did you mean `shop`?)"; "no such pool")]
#[test_case("allow: [checkout]", "allow: [chekcout]", "there is no workload or role `chekcout` (did you mean `checkout`?)"; "no such workload")]
#[test_case("allow: [checkout]", "allow: [public]", "`public` stands alone, not in a list (write `allow: public`)"; "public in a list")]
#[test_case("allow: [checkout]", "allow: [checkout, checkout]", "this name stands at routes[0].allow[0] too"; "twice allowed")]
#[test_case("allow: public", "allow: []", "nobody may pass (name workloads or roles, or let rules permit it: `access: { policies: [policies/*.cedar] }`)"; "nobody")]
#[test_case("workloads: [reports]", "workloads: [report]", "there is no workload `report` (did you mean `reports`?)"; "role of nobody")]
#[test_case("reader:", "checkout:", "`checkout` is a workload's name too, so `allow` could not tell them apart"; "role like a workload")]
#[test_case("reader:", "public:", "`public` is the word for everybody, so `allow` could not tell them apart"; "role like the word")]
#[test_case("spiffe://example.com/reports", "spiffe://example.com/checkout", "this SPIFFE id stands at workloads.checkout.id too"; "one id for two")]
#[test_case("spiffe://example.com/reports", "https://example.com", "`https://example.com` is no SPIFFE id (a SPIFFE id is `spiffe://trust-domain/path` in plain lower-case ASCII without query or fragment)"; "no id")]
#[test_case("file:k.pub", "env:KEY", "keys are read from files only, as yet (write file:PATH)"; "environment")]
#[test_case("file:lb.key", "-----BEGIN PRIVATE KEY-----", "a key never stands in the config itself (write file:PATH)"; "inline key")]
#[test_case("kid: k-1", "kid: k/1", "`k/1` is no kid (1 to 64 of `A-Z a-z 0-9 . _ -`)"; "no kid")]
#[test_case("127.0.0.1:8443", "localhost:8443", "`localhost:8443` is no address with a port (for example 10.0.0.1:8080 or [::1]:8080; a name is none here)"; "a name")]
#[test_case("  shop:\n", "  shop:\n    balance: hash\n", "`hash` must say what a request is recognised by (for example `hash: { by: cookie:session }`)"; "a hash of nothing")]
#[test_case("  shop:\n", "  shop:\n    hash: { by: path }\n", "is for `balance: hash` (say `balance: hash`, or take it out)"; "a hash for nothing")]
#[test_case("  shop:\n", "  shop:\n    balance: hash\n    hash: { by: cookie }\n", "`cookie` is nothing to recognise a request by (address, path, workload, header:NAME, cookie:NAME, query:NAME or claim:NAME)"; "a cookie without a name")]
#[test_case("  shop:\n", "  shop:\n    balance: hash\n    hash: { by: 'header:a b' }\n", "`a b` is no header (for example header:x-user)"; "no header to hash")]
#[test_case("  shop:\n", "  shop:\n    balance: hash\n    hash: { by: 'claim:tenant' }\n", "no workload may assert `tenant` (name it in `may_assert` of a workload)"; "a fact of nobody")]
#[test_case("  shop:\n", "  shop:\n    balance: hash\n    hash: { by: path, load_max: 99% }\n", "99% is out of range (from 100% to 1000%)"; "less than its share")]
#[test_case("  shop:\n", "  shop:\n    panic_below: half\n", "`half` is no share (a number and %, for example 50%)"; "no share")]
#[test_case("  shop:\n", "  shop:\n    backups_below: 0%\n", "0% is out of range (from 1% to 100%)"; "backups never")]
#[test_case("  shop:\n", "  shop:\n    health: {}\n", "a check is one of `http`, `tcp` and `grpc` (for example `health: { http: { path: /healthz } }`)"; "a check of nothing")]
#[test_case("  shop:\n", "  shop:\n    health: { tcp: {}, http: { path: / } }\n", "a check is one of `http`, `tcp` and `grpc` (for example `health: { http: { path: /healthz } }`)"; "a check of both")]
#[test_case("  shop:\n", "  shop:\n    health: { grpc: {} }\n", "gRPC needs HTTP/2 (say `http: 2` in the pool)"; "grpc over the wrong version")]
#[test_case("  shop:\n", "  shop:\n    health: { http: { path: /, matches: '(' } }\n", "this is no regular expression (unclosed group)"; "no expression")]
#[test_case("  shop:\n", "  shop:\n    health: { http: { path: /, headers: { Content-Length: '3' } } }\n", "`Content-Length` cannot be a check's header"; "a header that frames")]
#[test_case("name: a, ", "name: a, follows: shop/b, ", "there is no server `shop/b` to follow (say POOL/SERVER, one with an address of its own in this config, and not one that follows another)"; "follows nobody")]
#[test_case("name: a, ", "name: a, follows: shop/a, ", "there is no server `shop/a` to follow (say POOL/SERVER, one with an address of its own in this config, and not one that follows another)"; "follows itself")]
#[test_case("address: '10.0.0.1:80'", "weight: 1", "a server has either an `address` or `srv` (for example `address: 10.0.0.1:8080`)"; "a server nowhere")]
#[test_case("address: '10.0.0.1:80'", "address: '10.0.0.1:80', max: 3", "one address is one server (`max` is for names that DNS knows)"; "more servers than addresses")]
#[test_case("address: '10.0.0.1:80'", "srv: 'http://orders'", "`http://orders` is no name (for example _http._tcp.orders.internal)"; "no service")]
#[test_case("address: '10.0.0.1:80'", "address: 'unix:run/a.sock'", "`unix:run/a.sock` is no path of a Unix socket (an absolute path of at most 107 bytes, for example unix:/run/orders.sock)"; "a relative socket")]
#[test_case("{ name: a, address: '10.0.0.1:80' }", "{ name: a, address: 'a.internal:80', max: 3 }, { name: a-2, address: '10.0.0.1:80' }", "`a` with `max` has a server of this name, too (give one of them another name)"; "a name and a number")]
#[test_case("  shop:\n", "  shop:\n    http: 2\n    proxy_protocol: v2\n", "many clients share a connection of HTTP/2 (say `http: 1`, or leave the client's address to `Forwarded`)"; "introduced over h2")]
#[test_case("  shop:\n", "  shop:\n    check: web\n", "there is no check `web`"; "no such check")]
#[test_case("  shop:\n", "  shop:\n    health: { tcp: {}, certificate_ends_in: 7d }\n", "the pool's servers have no TLS (give the pool `tls`)"; "a certificate without TLS")]
#[test_case("  shop:\n", "  shop:\n    sticky: { cookie: 'a b', keys: [{ secret: 'file:k' }] }\n", "this is no cookie's name (for example __Host-orders)"; "no cookie")]
#[test_case("  shop:\n", "  shop:\n    sticky: { cookie: a, keys: [{ secret: 'c2VjcmV0' }] }\n", "a key never stands in the config itself (write file:PATH)"; "an inline key of cookies")]
#[test_case("audit: {", "  store: { servers: [{ name: a, address: '10.0.0.2:80' }], sticky: { cookie: a, keys: [{ secret: 'file:k' }] } }\n  stock: { servers: [{ name: a, address: '10.0.0.3:80' }], sticky: { cookie: a, keys: [{ secret: 'file:k' }] } }\naudit: {", "this cookie stands at pools.stock.sticky.cookie too"; "one cookie for two")]
#[test_case("version: 1", "version: 1\ndns: { resolvers: [resolver] }", "`resolver` is no resolver's address (for example 10.0.0.53 or 10.0.0.53:5353)"; "a resolver by name")]
#[test_case("version: 1", "version: 1\ndns: { ttl_min: 10m }", "is longer than `ttl_max`"; "no time to live")]
#[test_case("10.0.0.1:80", "0.0.0.0:80", "nothing can be reached at 0.0.0.0:80"; "no destination")]
#[test_case("path: /status", "path: status", "`status` is no path (a path starts with `/`, has no empty, `.` or `..` segment, and `*` or `**` only as its whole last segment)"; "no path")]
#[test_case("host: shop", "host: Shop", "`Shop.example.com` is no host (a host is a name in lower case without port, `*.` and such a name, or `*`)"; "upper case")]
#[test_case("methods: [GET]", "methods: [get]", "`get` is no method (did you mean `GET`?)"; "lower case method")]
#[test_case("name: status", "name: orders", "this name stands at routes[0].name too"; "two routes of one name")]
#[test_case("name: status", "name: Status", "`Status` is no name (a name has 1 to 63 of `a-z 0-9 _ -` and starts with a letter or digit)"; "no name")]
#[test_case("  shop:\n", "  Shop:\n", "`Shop` is no name (a name has 1 to 63 of `a-z 0-9 _ -` and starts with a letter or digit)"; "no name of a pool")]
#[test_case("audience: 'https://lb'", "audience: 'https://lb', token: { max_lifetime: 2h }", "2h is out of range (from 1s to 1h)"; "too long")]
#[test_case("audience: 'https://lb'", "audience: 'https://lb', token: { max_lifetime: 60 }", "this is a number, and a text is expected (for example \"300s\")"; "no unit")]
#[test_case("audience: 'https://lb'", "audience: 'https://lb', token: { max_lifetime: 60x }", "`60x` is no time (a number and ms, s, m, h or d, for example 30s)"; "other unit")]
#[test_case("      client_auth: { ca: [ca.pem] }\n", "", "its identity is mtls+jwt, but it trusts no client certificate (add tls with client_auth, or write `identity: none`)"; "nobody vouches")]
#[test_case("edge: { issuer: 'https://edge', audience: 'https://lb' }\n", "", "it demands mtls+jwt, but `edge` says neither issuer nor audience of tokens (add `edge: { issuer: …, audience: … }`)"; "no edge")]
#[test_case("bind: ['127.0.0.1:8443']", "bind: ['unix:edge.sock']\n    sources: [192.0.2.0/24]", "a client at a Unix socket has no address, so this would not count there (give the socket a listener of its own)"; "sources of a path")]
#[test_case("bind: ['127.0.0.1:8443']", "bind: ['127.0.0.1:8443']\n    proxy_protocol: { from: ['::/0'] }", "everybody could tell any address as his own (name the load balancers before this one)"; "everybody is trusted")]
#[test_case("key: 'file:k.pub' }", "key: 'file:k.pub', secret: 'file:s' }", "a key is either `key`, a public key, or `secret`, a shared one (for example { kid: w-2026-11, key: \"file:keys/w-2026-11.pub.pem\" })"; "a key of both kinds")]
#[test_case("key: 'file:k.pub' }", "secret: 'file:s' }", "a shared secret needs `created`: it is only good for so long (for example `created: 2026-11-01`)"; "a secret without its day")]
#[test_case("key: 'file:k.pub' }", "key: 'file:k.pub', created: yesterday }", "`yesterday` is no day (for example 2026-11-01)"; "no day")]
#[test_case("key: 'file:k.pub' }]", "key: 'file:k.pub' }], may_assert: [iss]", "`iss` cannot be a fact (1 to 128 of `A-Z a-z 0-9 _ - . : /`, and no claim of the token itself)"; "a claim as a fact")]
#[test_case("    allow: [checkout]", "    identity: psk\n    allow: [checkout]", "`checkout` has no secret, so it cannot prove psk (add a `secret` to workloads.checkout.keys, or demand `identity: mtls`)"; "no secret")]
#[test_case("bind: ['127.0.0.1:8443']", "bind: ['127.0.0.1:8443']\n    sources: [203.0.113.7/24]", "`203.0.113.7/24` is no network (for example 203.0.113.0/24, 2001:db8::/32 or one address)"; "no network")]
#[test_case("bind: ['127.0.0.1:8443']", "bind: ['127.0.0.1:8443']\n    limits: { head: 1MiB }", "1MiB is out of range (from 1024 to 262144 bytes)"; "too large a head")]
#[test_case("bind: ['127.0.0.1:8443']", "bind: ['127.0.0.1:8443']\n    limits: { body: lots }", "`lots` is no amount of bytes (a number and B, KiB, MiB, GiB or TiB, for example 32KiB)"; "no amount")]
#[test_case("cert: lb.pem, key: 'file:lb.key'", "cert: lb.pem", "a certificate is `cert` and `key`, or a `folder` of them (for example { cert: certs/lb.pem, key: \"file:certs/lb.key\" })"; "a certificate without its key")]
#[test_case("bind: ['127.0.0.1:8443']", "bind: ['127.0.0.1:8443']\n    identity: mtls\n    host_from: token", "its identity is mtls, which knows no token (write `identity: mtls+jwt`)"; "a host from no token")]
#[test_case("allow: [checkout]", "allow: [reports]", "`reports` has no key, so it cannot prove mtls+jwt (add a `key` to workloads.reports.keys, or demand `identity: mtls`)"; "cannot prove")]
#[test_case("allow: [checkout]", "allow: [reader]", "no workload of the role `reader` has a key, so none can prove mtls+jwt (add `keys` to one of them, or demand `identity: mtls`)"; "role that cannot prove")]
#[test_case("    allow: public\n", "    allow: public\n    hide: true\n", "the route is public, so it is hidden from nobody (leave it out, or say in `allow` who may see it)"; "hidden from nobody")]
#[test_case("    allow: [checkout]", "    limits: [{ rate: '50' }]\n    allow: [checkout]", "`50` is no rate of requests (a number and /s, /m, /h or /d, for example 50/s; 1 to 1,000,000)"; "a rate without a time")]
#[test_case("    allow: [checkout]", "    limits: [{ by: workload }]\n    allow: [checkout]", "a limit says how much (`rate`, `concurrency`, `bandwidth`, `body`, or `edge`)"; "a limit of nothing")]
#[test_case("    allow: [checkout]", "    limits: [{ concurrency: 1, burst: 3 }]\n    allow: [checkout]", "`burst` says nothing without `rate` (for example `rate: 50/s`)"; "a burst of nothing")]
#[test_case("    allow: [checkout]", "    limits: [{ rate: 1/s, by: ip }]\n    allow: [checkout]", "`ip` is nothing to recognise a request by (workload, user, role, address, all, path, header:NAME, cookie:NAME, query:NAME or claim:NAME)"; "by nothing")]
#[test_case("    allow: [checkout]", "    limits: [{ rate: 1/s, by: 'claim:tenant' }]\n    allow: [checkout]", "no workload may assert `tenant` (name it in `may_assert` of a workload)"; "a limit by a fact of nobody")]
#[test_case("    allow: [checkout]", "    limits: [{ edge: { claim: limit, has: exceeded } }]\n    allow: [checkout]", "no workload may assert `limit` (name it in `may_assert` of a workload)"; "an edge that may not say it")]
#[test_case("    allow: [checkout]", "    limits: [{ rate: 1/s, for: [chekcout] }]\n    allow: [checkout]", "there is no workload or role `chekcout` (did you mean `checkout`?)"; "a limit for nobody")]
#[test_case("    allow: [checkout]", "    limits: [{ bandwidth: 10B/s }]\n    allow: [checkout]", "10B/s is out of range (from 1024 to 1099511627776 bytes)"; "too slow a pace")]
#[test_case("    allow: public\n", "    allow: public\n    limits: [{ rate: 1/s, by: all, for: [checkout] }]\n", "the route is public, so nobody is known here (leave it out: it would never apply)"; "a limit of strangers for somebody")]
#[test_case("    allow: public\n", "    allow: public\n    limits: [{ rate: 1/s }]\n", "the route is public, so nobody has a workload here (tell callers apart by `by: address`, or count them together with `by: all`)"; "a limit of strangers")]
#[test_case("  edge:\n", "  admin:\n", "in metrics and records `admin` is where workloads read metrics (give the listener another name)"; "a listener named like the admin")]
#[test_case("audit: {", "admin: { http: '127.0.0.1:8443' }\naudit: {", "this address stands at listeners.edge.bind[0] too"; "admin at a listener")]
#[test_case("allow: [checkout]", "identity: none\n    allow: [checkout]", "nobody proves who he is here, so nobody can be allowed (demand an `identity`, or write `allow: public`)"; "nobody proves")]
#[test_case("audit: {", "admin: { http: '0.0.0.0:9900' }\naudit: {", "metrics and health are readable without a password (listen on loopback, for example 127.0.0.1:9900, or use `https`)"; "admin for everybody")]
#[test_case("audit: {", "admin: { http: '10.0.0.1:80' }\naudit: {", "metrics and health are readable without a password (listen on loopback, for example 127.0.0.1:9900, or use `https`)"; "admin elsewhere")]
#[test_case("    allow: public\n", "    allow: public\n    filters: [{ stub: { word: bad } }]\n", "this is not good"; "a filter's own fault")]
#[test_case("audit: {", "admin: { https: { bind: '10.0.0.5:9901', certificates: [{ cert: lb.pem, key: 'file:lb.key' }], ca: [ca.pem], allow: [chekcout] } }\naudit: {", "there is no workload or role `chekcout` (did you mean `checkout`?)"; "nobody there may scrape")]
#[test_case("audit: {", "admin: { https: { bind: '10.0.0.5:9901', certificates: [{ cert: lb.pem, key: 'file:lb.key' }], ca: [ca.pem], allow: [public] } }\naudit: {", "`public` stands alone, not in a list (write `allow: public`)"; "everybody may scrape")]
#[test_case("audit: {", "admin: { https: { bind: '127.0.0.1:8443', certificates: [{ cert: lb.pem, key: 'file:lb.key' }], ca: [ca.pem], allow: [checkout] } }\naudit: {", "this address stands at listeners.edge.bind[0] too"; "scraped at a listener")]
#[test_case("audit: {", "admin: { https: { bind: '10.0.0.5:9901', certificates: [{ cert: lb.pem, key: 'file:lb.key' }], allow: [checkout] } }\naudit: {", "`ca` is missing"; "nobody vouches for scrapers")]
#[test_case("audit: {", "admin: { https: { bind: '10.0.0.5:9901', certificates: [{ cert: lb.pem, key: 'file:lb.key' }], ca: [], allow: [checkout] } }\naudit: {", "at least 1 is needed here"; "an empty list of CAs")]
#[test_case("audit: {", "admin: { https: { bind: '10.0.0.5:9901', certificates: [{ key: 'file:lb.key' }], ca: [ca.pem], allow: [checkout] } }\naudit: {", "a certificate is `cert` and `key`, or a `folder` of them (for example { cert: certs/lb.pem, key: \"file:certs/lb.key\" })"; "half a certificate for scrapers")]
fn meaning(from: &str, to: &str, expected: &str) {
    let found = findings(&edited(from, to));
    assert!(found.iter().any(|finding| finding.ends_with(expected)), "{found:#?}");
    assert!(read_text(&edited(from, to)).config.is_none());
}

const PEOPLE: &str = "\
people:
  staff: { issuer: 'https://login.example.com', audience: shop, jwks: 'file:jwks.json' }
roles:
  support: { people: staff, claim: groups, has: support, through: [checkout] }
";

/// The same with people, and what is wrong of them.
#[test_case("    allow: [checkout]", "    allow: [support]", "`support` is a role of people, and mtls+jwt proves no user (demand `identity: mtls+jwt+user`)"; "a role that nobody can prove")]
#[test_case("    allow: [checkout]", "    identity: mtls\n    allow: [checkout, support]", "`support` is a role of people, and mtls proves no user (demand `identity: mtls+user`)"; "a role beside another")]
#[test_case("through: [checkout]", "through: [chekcout]", "there is no workload `chekcout` (did you mean `checkout`?)"; "through nobody")]
#[test_case(", through: [checkout]", "", "a role of people says through which workloads they come (add `through: […]`)"; "through anybody")]
#[test_case("people: staff,", "people: stuff,", "there are no people `stuff` (did you mean `staff`?)"; "of nobody")]
#[test_case("people: staff, claim: groups, has: support, through: [checkout]", "claim: groups, has: support", "a role says whose it is (add `workloads: […]`, or `people: …`)"; "whose nobody says")]
#[test_case("people: staff,", "people: staff, workloads: [checkout],", "a role is of workloads or of people, not of both (`through` names the workloads by which people come)"; "of both")]
#[test_case("people: staff, claim: groups, has: support, through: [checkout]", "workloads: [checkout], claim: groups, has: support", "`claim` is for roles of people"; "a claim of workloads")]
#[test_case(", has: support", "", "`claim` says nothing without `has` (for example `claim: groups` and `has: support`)"; "half a claim")]
#[test_case("claim: groups, ", "", "`has` says nothing without `claim` (for example `claim: groups` and `has: support`)"; "the other half")]
#[test_case("claim: groups, has: support", "mapped: true", "the people `staff` have no `mapping` (add `mapping: { file: people.yaml }`)"; "mapped by nothing")]
#[test_case("has: support", "has: support, mapped: true", "a role is by a claim or by the mapping, not by both (name two roles, and allow both)"; "by both")]
#[test_case("claim: groups", "claim: a..b", "this is no place of a claim (1 to 8 names of 1 to 256 bytes, for example `groups` or `realm_access.roles`)"; "no claim")]
#[test_case("issuer: 'https://login.example.com'", "issuer: 'a|b'", "`a|b` is no issuer (for example https://example.okta.com)"; "an issuer with a bar")]
#[test_case(", jwks: 'file:jwks.json'", ", ca: [ca.pem], jwks: 'file:jwks.json'", "nothing is fetched where the keys are in a file"; "a ca of a file")]
#[test_case(", jwks: 'file:jwks.json'", ", allow_networks: [10.0.0.0/8], jwks: 'file:jwks.json'", "nothing is fetched where the keys are in a file"; "a network of a file")]
#[test_case("jwks: 'file:jwks.json'", "jwks: 'http://login.example.com/keys'", "`http://login.example.com/keys` is no https URL, so that no keys can be fetched there (say where they are: `jwks: https://…`, or `jwks: file:PATH`)"; "keys in the clear")]
#[test_case("jwks: 'file:jwks.json'", "jwks: '{\"keys\":[]}'", "a key never stands in the config itself (write file:PATH)"; "keys in the config")]
#[test_case("audience: shop, ", "", "nothing says for whom their tokens are, so that one for anybody would do (add `audience: …`, or for tokens of an AWS load balancer `signer: ARN`)"; "for nobody")]
#[test_case("audience: shop", "audience: shop, signer: 'arn:aws:elasticloadbalancing:eu-west-1:1:loadbalancer/app/web/1'", "tokens of a load balancer name no audience (name other `people` for tokens that do)"; "an audience and a signer")]
#[test_case("audience: shop", "signer: 'arn:aws:elasticloadbalancing:eu-west-1:1:loadbalancer/net/web/1'", "`arn:aws:elasticloadbalancing:eu-west-1:1:loadbalancer/net/web/1` is no ARN of an Application Load Balancer (arn:aws:elasticloadbalancing:REGION:ACCOUNT:loadbalancer/app/NAME/ID)"; "another load balancer")]
#[test_case("issuer: 'https://login.example.com', audience: shop, jwks: 'file:jwks.json'", "issuer: login, audience: shop", "`login` is no https URL, so that no keys can be fetched there (say where they are: `jwks: https://…`, or `jwks: file:PATH`)"; "nowhere to be found")]
#[test_case("jwks: 'file:jwks.json'", "allow_networks: [10.0.0.1/8]", "`10.0.0.1/8` is no network (for example 203.0.113.0/24, 2001:db8::/32 or one address)"; "no network of a provider")]
#[test_case("audience: shop", "audience: []", "at least 1 is needed here"; "an audience of nobody")]
#[test_case("audience: shop", "audience: shop, header: belay-user", "only Belay writes `belay-user` (for example authorization, or cf-access-jwt-assertion)"; "a header of ours")]
#[test_case("audience: shop", "audience: shop, header: Cookie", "a token in a cookie is not read (for example authorization, or cf-access-jwt-assertion)"; "a cookie")]
#[test_case("audience: shop", "audience: shop, header: te", "`te` is about the connection (for example authorization, or cf-access-jwt-assertion)"; "a header that frames")]
#[test_case("audience: shop", "audience: shop, header: 'a b'", "`a b` is no name of a header (for example authorization, or cf-access-jwt-assertion)"; "no header")]
#[test_case("jwks: 'file:jwks.json' }", "jwks: 'file:jwks.json' }\n  others: { issuer: 'https://login.example.com', audience: x, header: Authorization, jwks: 'file:x.json' }", "this issuer with this header stands at people.others.issuer too"; "one issuer twice")]
#[test_case("people:\n  staff: { issuer: 'https://login.example.com', audience: shop, jwks: 'file:jwks.json' }\nroles:\n  support: { people: staff, claim: groups, has: support, through: [checkout] }\n", "roles:\n", "it demands mtls+jwt+user, but the config knows no `people` (add `people: { staff: { issuer: …, audience: … } }`)"; "no people at all")]
fn of_people(from: &str, to: &str, expected: &str) {
    let good = edited("roles:\n", PEOPLE).replacen("  - name: status", "  - name: admin\n    match: { path: /admin }\n    identity: mtls+jwt+user\n    allow: [checkout]\n    pool: shop\n  - name: status", 1);
    assert!(good.contains(from) && findings(&good).is_empty(), "{from}: {:#?}", findings(&good));
    let found = findings(&good.replacen(from, to, 1));
    assert!(found.iter().any(|finding| finding.ends_with(expected)), "{found:#?}");
    assert!(read_text(&good.replacen(from, to, 1)).config.is_none());
}

const ADMIN: &str = "admin: { http: '127.0.0.1:9900', socket: /run/admin.sock, https: { bind: '10.0.0.5:9901', certificates: [{ folder: certs }], ca: [ca.pem], allow: [checkout] } }";

#[test_case("127.0.0.1:9900", "admin address")]
#[test_case("[::ffff:127.0.0.1]:9900", "admin address"; "admin in another dress")]
#[test_case("127.0.0.1:8443", "listener")]
#[test_case("10.0.0.5:9901", "admin address"; "where workloads read metrics")]
#[test_case("unix:/run/admin.sock", "admin address"; "the admin socket")]
fn we_are_no_server_of_our_own(address: &str, whose: &str) {
    let text = edited("audit: {", &format!("{ADMIN}\naudit: {{")).replace("10.0.0.1:80", address);
    assert_eq!(findings(&text), [format!("25:35 this is Belay's own {whose}")]);
}

#[test_case("path: /status", "path: /orders/7", "`status` is never reached"; "not hidden yet")]
fn hidden(from: &str, to: &str, message: &str) {
    let text = edited(from, to).replace("host: shop.example.com, path: /orders/**, methods: [GET]", "path: /orders/**");
    let checked = read_text(&text);
    assert!(checked.findings.iter().any(|finding| finding.message.starts_with(message)), "{:#?}", checked.findings);
    assert!(checked.config.is_some(), "a warning is no error");
}

#[test_case("path: /status", "path: /orders/**", "methods that `orders` does not list fall through to `status`, which is public"; "falls through")]
#[test_case("allow: public", "identity: mtls\n    allow: public", "the route is public, so no identity is asked"; "identity of nobody")]
#[test_case("pools:\n", "pools:\n  idle: { servers: [{ name: a, address: '10.0.0.2:80' }] }\n", "no route leads to the pool `idle`"; "idle pool")]
#[test_case(", methods: [GET] }\n    allow: [checkout]\n    pool: shop\n  - name: status\n    match: { path: /status }", " }\n    hide: true\n    allow: [checkout]\n    pool: shop\n  - name: status\n    match: { path: /** }", "`orders` is hidden, but without it `status` would take its requests"; "hidden before a wider one")]
fn warned(from: &str, to: &str, message: &str) {
    let checked = read_text(&edited(from, to));
    assert_eq!(checked.findings.iter().map(|finding| finding.message.as_str()).collect::<Vec<_>>(), [message]);
    assert!(checked.config.is_some(), "a warning is no error");
}

#[test]
fn all_faults_at_once_as_a_compiler_shows_them() {
    let text = GOOD
        .replace("allow: [checkout]", "allow: [chekcout]")
        .replace("10.0.0.1:80", "10.0.0.1")
        .replace("path: /status", "path: /status/../x")
        .replace("file:k.pub", "k.pub");
    let shown: Vec<_> = read_text(&text).findings.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(shown.join("\n\n"));
}

#[test]
fn what_is_no_yaml_is_shown_where_it_stops_being_yaml() {
    for text in ["version: [1", "version: 1\nversion: 1\n", "a: b: c", "\u{0}", "&a [*a]"] {
        let checked = read_text(text);
        assert!(checked.config.is_none() && checked.findings.len() == 1, "{text:?}: {:?}", checked.findings);
    }
    assert!(findings("").contains(&"1:1 `routes` is missing".to_owned()), "{:?}", findings(""));
    assert_eq!(findings("just text"), ["1:1 this is a text, and a map is expected"]);
}

#[test]
fn a_bomb_of_aliases_ends_early() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let below = format!("*a{}", level - 1);
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", [below.as_str(); 10].join(", ")));
    }
    assert!(read_text(&bomb).config.is_none());
}

#[test]
fn what_is_written_reads_as_the_same() {
    let root = Node::read(GOOD).unwrap();
    let document: Document = root.to().unwrap();
    let written = write(&document).unwrap();
    assert_eq!(Node::read(&written).unwrap().to::<Document>().unwrap(), document);
    assert_eq!(read_text(&written).findings, []);
}

/// Somebody has written the secret where its file belongs: he is told so, and does not read it again.
#[test_case("secret: c3VwZXJzZWNyZXQ")]
#[test_case("secret: 'c3VwZXJzZWNyZXQ'")]
#[test_case("\"secret\": c3VwZXJzZWNyZXQ, created: 2026-11-01")]
#[test_case("key: c3VwZXJzZWNyZXQ, kid: '?'")]
#[test_case("secret: c3VwZXJzZWNyZXQ, creatde: 2026-11-01")]
fn a_secret_in_the_config_is_not_repeated(key: &str) {
    let checked = read_text(&edited("key: 'file:k.pub'", key));
    assert!(!checked.findings.is_empty());
    let said: String = checked.findings.iter().map(ToString::to_string).collect();
    assert!(!said.contains("c3VwZXJzZWNyZXQ"), "{said}");
}
