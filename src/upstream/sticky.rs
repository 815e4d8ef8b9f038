//! Who comes again is sent to the server that he had before: by a signed cookie.
//!
//! The cookie holds when it was set, a tag of the server, and a code over both: base64url, 32 bytes. The tag is a keyed
//! hash, so that it says nothing of names and addresses.

use super::pool::Member;
use super::server::ServerState;
use crate::clock::UnixSeconds;
use crate::config::{self, SameSite};
use crate::secret::Secret;
use crate::uses::Uses;
use aws_lc_rs::{constant_time, hmac};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::fmt;

/// What stands for a server.
pub(super) type Tag = [u8; TAG];

const TIME: usize = 8;
const TAG: usize = 8;
const CODE: usize = 16;
/// How far another node's clock may be before ours, in seconds.
const SKEW: UnixSeconds = 60;

/// How who comes again to a pool finds his server.
pub struct Sticky {
    config: config::Sticky,
    pool: Box<str>,
    /// The first signs. Each with how often it has.
    keys: Box<[(hmac::Key, Uses)]>,
}

/// What a client's cookie says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    tag: Tag,
    /// The key that it was signed with.
    key: usize,
    issued: UnixSeconds,
}

impl fmt::Debug for Sticky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sticky({})", self.config.cookie)
    }
}

impl Sticky {
    /// With the keys in the order of the config.
    #[must_use]
    pub fn new(pool: &config::Pool, config: &config::Sticky, secrets: Vec<(Secret, Uses)>) -> Self {
        let key = |(secret, uses): (Secret, Uses)| (hmac::Key::new(hmac::HMAC_SHA256, secret.expose()), uses);
        Self { config: config.clone(), pool: pool.name.as_str().into(), keys: secrets.into_iter().map(key).collect() }
    }

    /// The cookie's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.cookie
    }

    /// What stands for a server, by each key.
    pub(super) fn tags(&self, server: &ServerState) -> Box<[Tag]> {
        let words = format!("{}/{}", server.name, server.address);
        self.keys.iter().map(|(key, _)| self.code(key, "server", words.as_bytes())).collect()
    }

    /// Reads a cookie's value; none if it is not ours, or too old.
    #[must_use]
    pub fn read(&self, value: &str, now: UnixSeconds) -> Option<Ticket> {
        let bytes = URL_SAFE_NO_PAD.decode(value).ok()?;
        let (said, code) = bytes.split_last_chunk::<CODE>()?;
        let (time, tag) = said.split_first_chunk::<TIME>()?;
        let (tag, issued) = (tag.try_into().ok()?, UnixSeconds::from_be_bytes(*time));
        let is_ours = |(key, _): &(hmac::Key, Uses)| {
            constant_time::verify_slices_are_equal(&self.code::<CODE>(key, "cookie", said), code).is_ok()
        };
        let key = self.keys.iter().position(is_ours)?;
        self.keys.get(key).iter().for_each(|(_, uses)| uses.add());
        let age = now.checked_sub(issued)?;
        (-SKEW..self.lifetime()).contains(&age).then_some(Ticket { tag, key, issued })
    }

    /// Whose it is, by the place in the pool.
    #[must_use]
    pub fn seat(&self, ticket: Ticket, servers: &[Member]) -> Option<usize> {
        servers.iter().position(|server| server.tags.get(ticket.key) == Some(&ticket.tag))
    }

    /// Whether it is time for another: half its life is over, or its key is no longer the one that signs.
    pub(super) fn grows_old(&self, ticket: Ticket, now: UnixSeconds) -> bool {
        ticket.key > 0 || now.saturating_sub(ticket.issued) > self.lifetime() / 2
    }

    /// A cookie for `Set-Cookie` (RFC 6265 § 4.1).
    pub(super) fn cookie(&self, tag: Tag, now: UnixSeconds) -> String {
        let said = [&now.to_be_bytes()[..], &tag].concat();
        let signed = |(key, uses): &(hmac::Key, Uses)| {
            uses.add();
            self.code::<CODE>(key, "cookie", &said)
        };
        let code = self.keys.first().map(signed).unwrap_or_default();
        let value = URL_SAFE_NO_PAD.encode([&said[..], &code].concat());
        let same_site = match self.config.same_site {
            SameSite::Strict => "Strict",
            SameSite::Lax => "Lax",
            SameSite::None => "None",
        };
        let (name, lifetime) = (&self.config.cookie, self.lifetime());
        format!("{name}={value}; Path=/; Max-Age={lifetime}; HttpOnly; Secure; SameSite={same_site}")
    }

    fn lifetime(&self) -> UnixSeconds {
        UnixSeconds::try_from(self.config.lifetime.as_secs()).unwrap_or(UnixSeconds::MAX)
    }

    /// A code of this pool's.
    fn code<const N: usize>(&self, key: &hmac::Key, kind: &str, words: &[u8]) -> [u8; N] {
        let mut context = hmac::Context::with_key(key);
        for part in [kind.as_bytes(), self.pool.as_bytes(), words] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        // A code of SHA-256 is longer than any of ours.
        context.sign().as_ref().first_chunk().copied().unwrap_or([0; N])
    }
}
