//! `belay token`

use super::terminal::Terminal;
use super::{DEFAULT_CONFIG, Exit, run};
use crate::clock::{self, Clock, UnixSeconds};
use crate::config::{Finding, KeySource};
use crate::identity::{BodyDigest, Claims, Confirmation, Kid, Peer, SigningKey, Thumbprint};
use crate::keys::{Files, Kind};
use crate::request::Id;
use http::{Method, Uri};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Mint an Edge-Identity token for one request, as a Worker would, to try a route by hand.
///
/// Who signs comes from the Worker's own environment (--env), or from the config (-c, --as, --key, --cert).
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  \
    URL=https://shop.example.com:8443/orders/7\n  \
    curl --cert checkout.pem --key checkout.key \\\n    \
    -H \"Edge-Identity: $(belay token --as checkout --key token.key --cert checkout.pem GET $URL)\" $URL")]
pub(super) struct Args {
    /// The method of the request, in upper case as it is sent.
    #[arg(value_parser = method)]
    method: Method,
    /// The URL of the request, byte for byte as it will be sent.
    url: String,
    /// A JSON file with the Worker's environment: `EDGE_IDENTITY`, `EDGE_ISSUER`, `EDGE_AUDIENCE`, `EDGE_SUBJECT` and
    /// `EDGE_CERTIFICATE_THUMBPRINT`.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["workload", "key", "cert"])]
    env: Option<PathBuf>,
    /// The config that names the workload and its keys.
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// The workload that signs.
    #[arg(long = "as", value_name = "WORKLOAD", required_unless_present = "env")]
    workload: Option<String>,
    /// Its private key for tokens: PKCS#8 in PEM, or the shared secret.
    #[arg(long, value_name = "FILE", required_unless_present = "env")]
    key: Option<PathBuf>,
    /// Its client certificate: PEM. Leave it out for the profiles `jwt` and `psk`.
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// The request's body, whose digest the token carries: then send `Content-Digest`, too, or leave it out. Without a
    /// certificate the digest is always there, of nothing unless this is given.
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// The user's token that goes with the request, whose digest this one carries (`ath`): a file that holds it.
    #[arg(long, value_name = "FILE")]
    user_token: Option<PathBuf>,
    /// A claim more, for example a fact of `may_assert`. The value is JSON, or else text.
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
    claims: Vec<(String, Value)>,
    /// How many seconds the token lives.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(i64).range(1..=3600))]
    lifetime: UnixSeconds,
    /// How many seconds ago it was signed, to see an old one refused.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..=31_536_000))]
    age: UnixSeconds,
    /// Print the token with its header's name, its key id and its end as JSON.
    #[arg(long)]
    json: bool,
}

/// A Worker's environment, as its kit reads it.
#[derive(Serialize, Deserialize)]
pub(super) struct Environment {
    #[serde(rename = "EDGE_IDENTITY")]
    pub(super) identity: Identity,
    #[serde(rename = "EDGE_ISSUER")]
    pub(super) issuer: String,
    #[serde(rename = "EDGE_AUDIENCE")]
    pub(super) audience: String,
    #[serde(rename = "EDGE_SUBJECT")]
    pub(super) subject: String,
    #[serde(rename = "EDGE_CERTIFICATE_THUMBPRINT", default, skip_serializing_if = "Option::is_none")]
    pub(super) thumbprint: Option<String>,
}

/// The Worker's one secret.
#[derive(Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) kid: String,
    pub(super) alg: String,
    pub(super) key: String,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Minted {
    header: &'static str,
    token: String,
    kid: Kid,
    expires: UnixSeconds,
}

struct Signer {
    key: SigningKey,
    kid: Kid,
    issuer: String,
    audience: String,
    subject: String,
    thumbprint: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("`{0}` is no https URL with a host and a path")]
    Url(String),
    #[error("{0} cannot be read")]
    Read(PathBuf, #[source] std::io::Error),
    #[error("{0} is no environment of a Worker")]
    Environment(PathBuf, #[source] serde_json::Error),
    #[error("{0} holds no key that tokens are signed with: PKCS#8 in PEM, or the base64 of a shared secret, is needed")]
    Key(PathBuf),
    #[error("{0}")]
    File(Finding),
    #[error("{config} names no workload `{name}`")]
    Workload { config: PathBuf, name: String },
    #[error("{config} says neither issuer nor audience: add `edge`")]
    Edge { config: PathBuf },
    #[error("this is not a key of workload `{name}`: {config} lists none with that public half")]
    Stranger { config: PathBuf, name: String },
    #[error("{file} is not the certificate of `{name}`: its one URI SAN is not {id}, or it is not for clients")]
    Certificate { file: PathBuf, name: String, id: String },
    #[error("the claims cannot be written")]
    Claims(#[source] serde_json::Error),
    #[error("the token cannot be signed")]
    Sign(#[source] crate::identity::BadKey),
}

pub(super) fn main(args: &Args, terminal: &Terminal) -> Exit {
    let signer = match &args.env {
        Some(file) => from_environment(file),
        None => match from_config(args, terminal) {
            Some(signer) => signer,
            None => return Exit::Config,
        },
    };
    match signer.and_then(|signer| mint(args, &signer)) {
        Ok(minted) if args.json => terminal.say_json(&minted),
        Ok(minted) => terminal.say(&minted.token),
        Err(error) => {
            terminal.fail(&error);
            return Exit::BadData;
        }
    }
    Exit::Ok
}

fn method(text: &str) -> Result<Method, String> {
    let upper = text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
    let method = text.parse().ok().filter(|_| upper);
    method.ok_or_else(|| format!("methods are sent in upper case: {}", text.to_ascii_uppercase()))
}

fn mint(args: &Args, signer: &Signer) -> Result<Minted, Error> {
    let (authority, target) = split(&args.url)?;
    let iat = clock::System.now().unix_seconds().saturating_sub(args.age);
    let exp = iat.saturating_add(args.lifetime);
    let digest = body_digest(args, signer)?;
    let claims = Claims {
        iss: signer.issuer.as_str().into(),
        aud: vec![signer.audience.as_str().into()],
        sub: signer.subject.as_str().into(),
        iat,
        exp,
        jti: Id::random().as_str().to_owned().into(),
        htm: args.method.as_str().into(),
        hta: authority.into(),
        htt: target.into(),
        cnf: signer.thumbprint.as_deref().map(|thumbprint| Confirmation { x5t_s256: thumbprint.into() }),
        rid: None,
        cip: None,
        ohost: None,
        cdg: digest.map(|digest| digest.to_string().into()),
        ath: users_digest(args)?.map(Into::into),
    };
    let mut claims = serde_json::to_value(claims).map_err(Error::Claims)?;
    for (name, value) in &args.claims {
        if let Some(claims) = claims.as_object_mut() {
            claims.insert(name.clone(), value.clone());
        }
    }
    let token = signer.key.sign(&signer.kid, &claims).map_err(Error::Sign)?;
    Ok(Minted { header: "Edge-Identity", token, kid: signer.kid.clone(), expires: exp })
}

/// The digest of the body that was given; of nothing, where a digest is demanded and none was given.
fn body_digest(args: &Args, signer: &Signer) -> Result<Option<BodyDigest>, Error> {
    let Some(file) = &args.body else { return Ok(signer.thumbprint.is_none().then(|| BodyDigest::of(b""))) };
    let body = fs::read(file).map_err(|error| Error::Read(file.clone(), error))?;
    Ok(Some(BodyDigest::of(&body)))
}

/// The digest of the user's token, if there is one.
fn users_digest(args: &Args) -> Result<Option<String>, Error> {
    let Some(file) = &args.user_token else { return Ok(None) };
    let token = fs::read_to_string(file).map_err(|error| Error::Read(file.clone(), error))?;
    Ok(Some(Thumbprint::of(token.trim().as_bytes()).to_string()))
}

fn claim(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("a claim is NAME=VALUE, for example country=DE")?;
    Ok((name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_text| value.into())))
}

/// Authority and raw target, as curl sends them: without the fragment, with `/` for an empty path.
fn split(url: &str) -> Result<(&str, String), Error> {
    let bad = || Error::Url(url.to_owned());
    let is_url = url.parse::<Uri>().is_ok_and(|uri| uri.host().is_some());
    let rest = url.strip_prefix("https://").filter(|_| is_url).ok_or_else(bad)?;
    let rest = rest.split('#').next().unwrap_or(rest);
    let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let authority = authority.strip_suffix(":443").unwrap_or(authority);
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    if authority.contains('@') { Err(bad()) } else { Ok((authority, target)) }
}

fn from_environment(file: &Path) -> Result<Signer, Error> {
    let text = fs::read_to_string(file).map_err(|error| Error::Read(file.to_owned(), error))?;
    let environment: Environment =
        serde_json::from_str(&text).map_err(|error| Error::Environment(file.to_owned(), error))?;
    let key = signing_key(&environment.identity.key, file)?;
    let is_named = environment.identity.alg == key.public().algorithm().name();
    let kid = Kid::parse(&environment.identity.kid).filter(|_| is_named);
    Ok(Signer {
        key,
        kid: kid.ok_or_else(|| Error::Key(file.to_owned()))?,
        issuer: environment.issuer,
        audience: environment.audience,
        subject: environment.subject,
        thumbprint: environment.thumbprint,
    })
}

/// None if the config is bad, which has been said then.
fn from_config(args: &Args, terminal: &Terminal) -> Option<Result<Signer, Error>> {
    let config = run::load(&args.config, terminal)?;
    let (name, key) = (args.workload.as_ref()?, args.key.as_ref()?);
    Some(signer(args, &config, (name, key)))
}

fn signer(args: &Args, config: &crate::config::Config, (name, key): (&String, &Path)) -> Result<Signer, Error> {
    let file = || args.config.clone();
    let edge = config.edge.as_ref().ok_or_else(|| Error::Edge { config: file() })?;
    let named = config.workloads.iter().find(|workload| workload.workload.name.as_str() == name);
    let workload = named.ok_or_else(|| Error::Workload { config: file(), name: name.clone() })?;
    let text = fs::read_to_string(key).map_err(|error| Error::Read(key.to_owned(), error))?;
    let signing = signing_key(&text, key)?;
    let mut files = Files::new(Path::new(""));
    let mut kid = None;
    for listed in &workload.keys {
        let public = match &listed.source {
            KeySource::Public(path) => files.public_key(path),
            KeySource::Secret(path) => files.shared_secret(path),
        };
        let public = public.map_err(Error::File)?;
        kid = kid.or_else(|| (public == *signing.public()).then(|| listed.kid.clone()));
    }
    let id = workload.workload.id.as_str();
    let thumbprint = match &args.cert {
        None => None,
        Some(cert) => {
            let peer = Peer::new(&files.certificates(cert, Kind::Current).map_err(Error::File)?);
            let peer = peer.filter(|peer| peer.claims() == Some(id));
            let stranger = || Error::Certificate { file: cert.clone(), name: name.clone(), id: id.to_owned() };
            Some(peer.ok_or_else(stranger)?.thumbprint().to_string())
        }
    };
    Ok(Signer {
        key: signing,
        kid: kid.ok_or_else(|| Error::Stranger { config: file(), name: name.clone() })?,
        issuer: edge.issuer.to_string(),
        audience: edge.audience.to_string(),
        subject: id.to_owned(),
        thumbprint,
    })
}

fn signing_key(text: &str, file: &Path) -> Result<SigningKey, Error> {
    let read = match PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()) {
        Ok(der) => SigningKey::from_pkcs8(der.secret_pkcs8_der()),
        Err(_no_pem) => SigningKey::from_secret(text),
    };
    read.map_err(|_other_kind| Error::Key(file.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("https://a.example:8443/b?c", Some(("a.example:8443", "/b?c")))]
    #[test_case("https://a.example", Some(("a.example", "/")); "no path")]
    #[test_case("https://a.example?x", Some(("a.example", "/?x")); "query without path")]
    #[test_case("https://a.example:443/b?", Some(("a.example", "/b?")); "default port and lone question mark")]
    #[test_case("https://a.example/b#c", Some(("a.example", "/b")); "fragment")]
    #[test_case("http://a.example/", None; "not https")]
    #[test_case("https://u@a.example/", None; "user")]
    #[test_case("/b", None; "no host")]
    #[test_case("https://", None; "nothing")]
    fn splits(url: &str, expected: Option<(&str, &str)>) {
        let split = split(url).ok();
        assert_eq!(split.as_ref().map(|(authority, target)| (*authority, target.as_str())), expected);
    }
}
