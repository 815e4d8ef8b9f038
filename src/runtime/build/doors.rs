//! Listeners: their certificates, and who vouches for their clients.

use super::{Build, Entrance};
use crate::config::{self, AdminHttps, CertificateFiles, Finding, Scope};
use crate::generation::Digest;
use crate::identity::{Authorities, BadAuthority, Rules};
use crate::keys::{Dated, Kind};
use crate::secret;
use crate::tls::{BadCertificate, Certificates, Terminator};
use std::{path::PathBuf, sync::Arc};

impl Build<'_> {
    pub(super) fn entrance(&mut self, listener: &config::Listener) -> Option<Entrance> {
        let (tls, authorities) = match &listener.tls {
            Some(tls) => self.tls(listener, tls)?,
            None => (None, None),
        };
        let filters = self.filters(&listener.filters)?;
        let own = listener.bind.iter().filter_map(config::Bind::tcp).map(|address| address.port());
        Some(Entrance {
            tls,
            authorities,
            identity: listener.identity,
            sources: listener.sources.clone(),
            proxy_protocol: listener.proxy_protocol.clone(),
            client_address: listener.client_address,
            host_from_token: listener.host_from_token,
            ports: own.chain(listener.ports.iter().copied()).chain([443]).collect(),
            limits: listener.limits,
            requests: self.limits(&[Scope::Listener(listener.name.clone())]),
            filters,
            metrics: self.beside.metrics.listener(&listener.name),
        })
    }

    fn tls(&mut self, listener: &config::Listener, tls: &config::Tls) -> Option<Tls> {
        // Both are read before either ends this, so that the faults of both are reported.
        let owner = owner_of(listener);
        let certificates = self.certificates(&tls.certificates, &owner);
        let authorities = tls.client_auth.as_ref().map(|client_auth| self.authorities(client_auth, &owner));
        let certificates = certificates?;
        let authorities = match authorities {
            Some(authorities) => Some(Arc::new(authorities?)),
            None => None,
        };
        let is_strict = tls.client_auth.as_ref().is_some_and(|client_auth| client_auth.is_strict);
        let strict = authorities.as_ref().filter(|_| is_strict).map(Arc::clone);
        let vouched = authorities.as_ref().map(|authorities| authorities.digest().to_string()).unwrap_or_default();
        let own = certificates.digest().to_string();
        let trust =
            Digest::of(&[("own", own.as_bytes()), ("vouched", vouched.as_bytes()), ("strict", &[is_strict.into()])]);
        let same = |known: &&Arc<Terminator>| known.trust() == trust;
        let resumptions = self.tickets_age(&owner, trust);
        let live = self.beside.live.and_then(|live| live.entrances.get(&listener.name)?.tls.as_ref());
        // Where nothing that sessions rest on has changed, they go on.
        let terminator = match live.filter(same) {
            Some(live) => Arc::clone(live),
            None => {
                let fault = |fault| Finding::of_file("", format!("TLS cannot be set up: {fault}"), None);
                Arc::new(self.take(Terminator::new(certificates, strict, trust, resumptions).map_err(fault))?)
            }
        };
        Some((Some(terminator), authorities))
    }

    fn certificates(&mut self, files: &[CertificateFiles], owner: &str) -> Option<Certificates> {
        let mut paths = Vec::new();
        for files in files {
            match files {
                CertificateFiles::Pair { chain, key } => paths.push((chain.clone(), key.clone())),
                CertificateFiles::Folder(folder) => {
                    let found = self.files.pairs(folder);
                    paths.extend(self.take(found)?);
                }
            }
        }
        let mut pairs = Vec::new();
        for (path, key) in &paths {
            let chain = self.files.certificates(path, Kind::Current);
            let key = self.files.private_key(key);
            let (chain, key) = (self.take(chain), self.take(key));
            if let (Some(chain), Some(key)) = (chain, key) {
                let leaf = chain.first().into_iter().cloned().collect::<Vec<_>>();
                let uses = self.certificates_age(secret::Kind::Certificate, owner, path, &leaf);
                pairs.push((chain, key, uses.into_iter().next().unwrap_or_default()));
            }
        }
        if pairs.len() < paths.len() {
            return None;
        }
        let certificates = Certificates::new(pairs).map_err(|(index, fault)| {
            let (chain, key) = paths.get(index).cloned().unwrap_or_default();
            let file = if fault == BadCertificate::Nameless { chain } else { key };
            Finding::of_file(file, fault.to_string(), None)
        });
        self.take(certificates)
    }

    fn authorities(&mut self, client_auth: &config::ClientAuth, owner: &str) -> Option<Authorities> {
        let (mut certificates, mut lists) = (Vec::new(), Vec::new());
        let (mut vouches, mut revokes) = (Vec::new(), Vec::new());
        for path in &client_auth.ca {
            let read = self.files.certificates(path, Kind::Decides);
            let read = self.take(read).unwrap_or_default();
            vouches.extend(self.certificates_age(secret::Kind::Ca, owner, path, &read));
            certificates.extend(read.into_iter().map(|certificate| (path, certificate)));
        }
        for path in &client_auth.crl {
            let read = self.files.revocation_lists(path);
            for (index, list) in self.take(read).into_iter().flatten().enumerate() {
                revokes.push(self.list_ages(owner, (path, index), Dated::of_list(&list)));
                lists.push((path, list));
            }
        }
        let rules = Rules {
            expired_list_counts: client_auth.expired_crl_counts,
            lifetime_max: client_auth.lifetime_max,
            trusts_origin_pull: client_auth.trusts_origin_pull,
        };
        let ders: Vec<_> = certificates.iter().map(|(_, certificate)| certificate.clone()).collect();
        let list_ders: Vec<_> = lists.iter().map(|(_, list)| list.clone()).collect();
        let file = |of: &[&PathBuf], index: usize| of.get(index).map_or_else(PathBuf::new, |path| (*path).clone());
        let ca_file = |index| file(&certificates.iter().map(|(path, _)| *path).collect::<Vec<_>>(), index);
        let list_file = |index| file(&lists.iter().map(|(path, _)| *path).collect::<Vec<_>>(), index);
        let authorities =
            Authorities::new(&ders, &list_ders, rules).map_err(|bad| bad_authority(bad, ca_file, list_file));
        let authorities = self.take(authorities)?;
        if let Some(older) = self.beside.revocations.older_list(&authorities) {
            let message = "holds an older revocation list than one that was live";
            let hint = "its CRL number is lower; what was revoked since would be trusted again".to_owned();
            self.findings.push(Finding::of_file(list_file(older), message, Some(hint)));
        }
        Some(authorities.counted(vouches, revokes))
    }
}

/// How the config calls it.
fn owner_of(listener: &config::Listener) -> String {
    match listener.name.as_str() {
        AdminHttps::NAME => "admin.https".into(),
        name => format!("listeners.{name}"),
    }
}

/// What serves TLS, and who vouches for its clients.
type Tls = (Option<Arc<Terminator>>, Option<Arc<Authorities>>);

fn bad_authority(
    bad: BadAuthority,
    ca_file: impl Fn(usize) -> PathBuf,
    list_file: impl Fn(usize) -> PathBuf,
) -> Finding {
    let (file, message, hint) = match bad {
        BadAuthority::NoCa(index) => (
            ca_file(index),
            "holds a certificate that is no CA's",
            "a CA says `basicConstraints: critical, CA:TRUE` and has a subjectKeyIdentifier, keyCertSign if it has a keyUsage, and an authorityKeyIdentifier unless it signed itself",
        ),
        BadAuthority::OriginPull(index) => (
            ca_file(index),
            "holds Cloudflare's shared CA for Authenticated Origin Pulls, whose certificate every Cloudflare account can send",
            "use a CA of your own, or say that it is meant: `trust_shared_ca: cloudflare_origin_pull`",
        ),
        BadAuthority::NoList(index) => (
            list_file(index),
            "holds a revocation list that cannot be used",
            "a list as RFC 5280 says, with a CRL number",
        ),
        BadAuthority::Uncovered(index) => (
            ca_file(index),
            "holds a CA without a revocation list, although `crl` names lists",
            "add its list to `crl`: what cannot be checked would pass",
        ),
    };
    Finding::of_file(file, message, Some(hint.into()))
}
