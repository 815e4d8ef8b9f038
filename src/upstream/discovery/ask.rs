//! Asks DNS.

use super::Found;
use crate::config::{Dns, Question};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use std::{
    fmt::Display,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

/// The most servers that an answer may tell of; the others are left out.
const FOUND_MAX: usize = 100;

/// Asks the configured resolvers, or those of the system.
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
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        // Time enough to ask another resolver.
        options.timeout = dns.timeout / 2;
        options.attempts = 2;
        // We remember answers ourselves, for as long as they count.
        options.cache_size = 0;
        builder.build().map(Self).map_err(said)
    }

    /// The servers, in an order of their own, and how long that counts.
    pub(super) async fn ask(&self, question: &Question) -> Result<(Vec<Found>, Duration), String> {
        let (mut found, until) = match question {
            Question::Host(host, port) => self.host(host, *port).await?,
            Question::Service(name) => self.service(name).await?,
        };
        found.sort_unstable();
        found.dedup_by_key(|found| found.address);
        found.truncate(FOUND_MAX);
        if found.is_empty() {
            return Err("it knows no address".into());
        }
        Ok((found, until.saturating_duration_since(Instant::now())))
    }

    async fn host(&self, host: &str, port: u16) -> Result<(Vec<Found>, Instant), String> {
        let (addresses, until) = self.addresses(host).await?;
        let found = |ip| Found { is_backup: false, address: SocketAddr::new(ip, port), share: 100 };
        Ok((addresses.into_iter().map(found).collect(), until))
    }

    async fn addresses(&self, host: &str) -> Result<(Vec<IpAddr>, Instant), String> {
        let lookup = self.0.lookup_ip(host).await.map_err(said)?;
        Ok((lookup.iter().collect(), lookup.valid_until()))
    }

    /// RFC 2782.
    async fn service(&self, name: &str) -> Result<(Vec<Found>, Instant), String> {
        let lookup = self.0.srv_lookup(name).await.map_err(said)?;
        let records = lookup
            .answers()
            .iter()
            .filter_map(|record| if let RData::SRV(server) = &record.data { Some(server) } else { None });
        let records: Vec<_> = records.take(FOUND_MAX).collect();
        let best = records.iter().map(|server| server.priority).min();
        let heaviest = records.iter().map(|server| server.weight).max().unwrap_or(0);
        let (mut found, mut until, mut fault) = (Vec::new(), lookup.valid_until(), None);
        for server in records {
            let addresses = match self.addresses(&server.target.to_utf8()).await {
                Ok((addresses, valid)) => {
                    until = until.min(valid);
                    addresses
                }
                Err(failed) => {
                    fault = Some(failed);
                    continue;
                }
            };
            let (is_backup, share) = (Some(server.priority) != best, share(server.weight, heaviest));
            let found_at = |ip| Found { is_backup, address: SocketAddr::new(ip, server.port), share };
            found.extend(addresses.into_iter().map(found_at));
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
