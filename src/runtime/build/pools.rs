//! Pools: their files of servers, their cookies' keys and their TLS.

use super::Build;
use crate::config::{self, Finding, Location};
use crate::generation::Digest;
use crate::keys::Kind;
use crate::network::Own;
use crate::secret;
use crate::upstream::{BadOriginTls, OriginTls, Plan, Sticky};
use std::{path::Path, sync::Arc};

impl Build<'_> {
    /// What a pool is built from, its servers' file and keys read.
    pub(super) fn pool(&mut self, pool: &config::Pool, own: &Arc<Own>) -> Option<Plan> {
        let tls = self.origin_tls(pool);
        let sticky = pool.sticky.as_ref().map(|sticky| self.sticky(pool, sticky));
        let mut pool = pool.clone();
        if let Some(path) = pool.servers_file.clone() {
            let more = self.servers(&pool, &path, own);
            pool.servers.extend(more);
        }
        let sticky = match sticky {
            Some(sticky) => Some(sticky?),
            None => None,
        };
        Some(Plan { config: pool, tls, sticky, own: Arc::clone(own) })
    }

    /// The servers of a pool's file.
    fn servers(&mut self, pool: &config::Pool, path: &Path, own: &Own) -> Vec<config::Server> {
        let servers = self.files.servers(path).unwrap_or_else(|findings| {
            self.findings.extend(findings);
            Vec::new()
        });
        for server in &servers {
            if pool.servers.iter().any(|known| known.name == server.name || known.is_called(&server.name)) {
                let message = format!("`{}` is a server of the pool {} in the config, too", server.name, pool.name);
                self.findings.push(Finding::of_file(path, message, Some("give one of them another name".into())));
            }
            if matches!(&server.location, Location::Fixed(address) if own.has(address)) {
                let message = format!("the address of `{}` is Belay's own", server.name);
                self.findings.push(Finding::of_file(path, message, None));
            }
        }
        servers
    }

    /// The keys of a pool's cookies.
    fn sticky(&mut self, pool: &config::Pool, sticky: &config::Sticky) -> Option<Sticky> {
        let owner = format!("pools.{}", pool.name);
        let mut secrets = Vec::new();
        for key in &sticky.keys {
            let read = self.files.own_secret(&key.path);
            let secret = self.take(read)?;
            let fingerprint = Digest::of(&[("sticky", secret.expose())]);
            let uses = self.own_key(secret::Kind::CookieKey, &owner, key, fingerprint);
            secrets.push((secret, uses));
        }
        Some(Sticky::new(pool, sticky, secrets))
    }

    /// The TLS of a pool; none if it has none, or if it is broken, which is noted then.
    fn origin_tls(&mut self, pool: &config::Pool) -> Option<OriginTls> {
        let tls = pool.tls.as_ref()?;
        let owner = format!("pools.{}", pool.name);
        let (mut ca, mut uses) = (Vec::new(), Vec::new());
        for path in &tls.ca {
            let read = self.files.certificates(path, Kind::Decides);
            let read = self.take(read)?;
            uses.extend(self.certificates_age(secret::Kind::Ca, &owner, path, &read));
            ca.extend(read);
        }
        let client = match &tls.client {
            Some((path, key)) => {
                let chain = self.files.certificates(path, Kind::Current);
                let key = self.files.private_key(key);
                let (chain, key) = (self.take(chain)?, self.take(key)?);
                let leaf = chain.first().into_iter().cloned().collect::<Vec<_>>();
                uses.extend(self.certificates_age(secret::Kind::Certificate, &owner, path, &leaf));
                Some((chain, key))
            }
            None => None,
        };
        let built = OriginTls::new(&ca, &tls.sni, client).map_err(|bad| {
            let client = tls.client.as_ref().map(|(_, key)| key).filter(|_| bad == BadOriginTls::Client);
            let file = client.or_else(|| tls.ca.first()).cloned().unwrap_or_default();
            Finding::of_file(file, bad.to_string(), None)
        });
        self.take(built).map(|tls| tls.counted(uses))
    }
}
