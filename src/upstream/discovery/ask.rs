//! Asks DNS.

use super::Found;
use crate::config::{Dns, Question};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use std::{
    fmt::Display,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// The most servers that an answer may tell of; the others are left out.
const FOUND_MAX: usize = 100;

/// Asks the configured resolvers, or those of the system.
#[derive(Clone)]
pub(super) struct Resolver(TokioResolver);

impl Resolver {
    pub(super) fn new(dns: &Dns) -> Result<Self, String> {
        let mut builder = if dns.resolvers.is_empty() {
            TokioResolver::builder_tokio().map_err(said)?
        } else {
            let servers = dns.resolvers.iter().map(name_server).collect();
            let config = ResolverConfig::from_name_servers(servers);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let options = builder.options_mut();
        // Time enough to ask another resolver, once more, and then for the addresses that SRV records name.
        options.timeout = dns.timeout / 5;
        options.attempts = 1;
        // We remember answers ourselves, for as long as they count.
        options.cache_size = 0;
        builder.build().map(Self).map_err(said)
    }

    /// The servers, in an order of their own, and how long that counts. `known` is the last answer.
    pub(super) async fn ask(
        &self,
        question: &Question,
        known: &Arc<[Found]>,
    ) -> Result<(Vec<Found>, Duration), String> {
        let (mut found, until) = match question {
            Question::Host(host, port) => self.host(host, *port, known).await?,
            Question::Service(name) => self.service(name, known).await?,
        };
        found.sort_unstable();
        found.dedup_by_key(|found| found.address);
        found.truncate(FOUND_MAX);
        if found.is_empty() {
            return Err("it knows no address".into());
        }
        Ok((found, until.saturating_duration_since(Instant::now())))
    }

    async fn host(&self, host: &str, port: u16, known: &[Found]) -> Result<(Vec<Found>, Instant), String> {
        let (addresses, until) = self.addresses(host, known).await?;
        let found = |ip| Found { is_backup: false, address: SocketAddr::new(ip, port), share: 100 };
        Ok((addresses.into_iter().map(found).collect(), until))
    }

    /// Of both families. Where one of them cannot be asked for, the other is enough, unless servers are known that it
    /// would take away.
    async fn addresses(&self, host: &str, known: &[Found]) -> Result<(Vec<IpAddr>, Instant), String> {
        let (v4, v6) = tokio::join!(self.family(host, RecordType::A), self.family(host, RecordType::AAAA));
        let may_fail = |is_v4: bool| !known.iter().any(|found| found.address.is_ipv4() == is_v4);
        let answers = match (v4, v6) {
            (Ok(v4), Ok(v6)) => [v4, v6],
            (Ok(Some(v4)), Err(_)) if may_fail(false) => [Some(v4), None],
            (Err(_), Ok(Some(v6))) if may_fail(true) => [None, Some(v6)],
            (Err(fault), _) | (_, Err(fault)) => return Err(fault),
        };
        let until = answers.iter().flatten().map(|(_, until)| *until).min();
        let addresses = answers.into_iter().flatten().flat_map(|(addresses, _)| addresses).collect();
        until.map(|until| (addresses, until)).ok_or_else(|| format!("{host} has no address"))
    }

    /// The addresses of one family; none if there are none.
    async fn family(&self, host: &str, kind: RecordType) -> Result<Option<(Vec<IpAddr>, Instant)>, String> {
        match self.0.lookup(host, kind).await {
            Ok(lookup) => {
                let addresses = lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect();
                Ok(Some((addresses, lookup.valid_until())))
            }
            Err(error) if error.is_no_records_found() => Ok(None),
            Err(error) => Err(said(error)),
        }
    }

    /// RFC 2782.
    async fn service(&self, name: &str, known: &Arc<[Found]>) -> Result<(Vec<Found>, Instant), String> {
        let lookup = self.0.srv_lookup(name).await.map_err(said)?;
        let records = lookup
            .answers()
            .iter()
            .filter_map(|record| if let RData::SRV(server) = &record.data { Some(server) } else { None });
        let records: Vec<_> = records.take(FOUND_MAX).collect();
        let best = records.iter().map(|server| server.priority).min();
        let heaviest = records.iter().map(|server| server.weight).max().unwrap_or(0);
        let mut targets = JoinSet::new();
        for server in records {
            let (is_backup, share) = (Some(server.priority) != best, share(server.weight, heaviest));
            let (resolver, known) = (self.clone(), Arc::clone(known));
            let (host, port) = (server.target.to_utf8(), server.port);
            targets.spawn(async move {
                let (addresses, until) = resolver.addresses(&host, &known).await?;
                let found = |ip| Found { is_backup, address: SocketAddr::new(ip, port), share };
                Ok::<_, String>((addresses.into_iter().map(found).collect::<Vec<_>>(), until))
            });
        }
        let (mut found, mut until, mut fault) = (Vec::new(), lookup.valid_until(), None);
        while let Some(target) = targets.join_next().await {
            match target.map_err(|fault| fault.to_string()).flatten() {
                Ok((addresses, valid)) => {
                    found.extend(addresses);
                    until = until.min(valid);
                }
                Err(failed) => fault = Some(failed),
            }
        }
        // One target that cannot be looked up does not take the others away.
        match fault {
            Some(fault) if found.is_empty() => Err(fault),
            Some(_) | None => Ok((found, until)),
        }
    }
}

/// Compared with the heaviest, in percent, and never nothing.
fn share(weight: u16, heaviest: u16) -> u32 {
    if heaviest == 0 {
        return 100;
    }
    u32::from(weight).saturating_mul(100).checked_div(u32::from(heaviest)).unwrap_or(100).max(1)
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    server.connections.iter_mut().for_each(|connection| connection.port = address.port());
    server
}

fn said(error: impl Display) -> String {
    error.to_string()
}
