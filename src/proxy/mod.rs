//! The only `ProxyHttp`: the way of a request, step by step.
//!
//! `Gate::judge` is the list to read. Each step returns what the next one demands, so none can be left out.

mod body;
mod connection;
mod cookie;
mod exchange;
mod failure;
mod filtering;
mod hash_key;
mod head;
mod heads;
mod limits;
mod outbound;
mod respond;
mod standing;

pub use connection::Front;
pub use exchange::Exchange;

use crate::clock::Timestamp;
use crate::config::ClientAddress;
use crate::event_loop;
use crate::filter::{self, Answer};
use crate::identity::{self, Denied, Evidence, Shown, Verified};
use crate::name::ListenerName;
use crate::policy::{self, Access, Case, Cleared, Denial, Door, Permit};
use crate::principal::Principal;
use crate::provider::Wanted;
use crate::refusal::Refusal;
use crate::request::{Facts, host_of};
use crate::runtime::{Entrance, Live, Route, Snapshot};
use crate::verdict::RuleId;
use async_trait::async_trait;
use bytes::Bytes;
use connection::Link;
use http::HeaderMap;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use standing::Standing;
use std::{net::IpAddr, sync::Arc, time::Duration};

/// What records name as the rule by which a browser's question is answered.
const PREFLIGHT: &str = "filters.cors";

/// Serves the requests of one listener.
#[derive(Debug)]
pub struct Gate {
    listener: ListenerName,
    live: Arc<Live>,
}

/// What judging leads to.
enum Judged {
    /// The request may pass; it was judged by these facts.
    Permitted(Arc<Facts>),
    /// A browser has asked whether a page may ask.
    Preflight(Answer),
}

/// The way to a permit, or to the answer of a question for which none is needed.
enum Admission {
    Permitted(Box<Admitted>),
    Preflight(Answer),
}

/// A permit, and what it rests on.
struct Admitted {
    permit: Permit,
    route: Arc<Route>,
    /// The facts that it was judged by.
    facts: Arc<Facts>,
    /// None where nobody was asked.
    verified: Option<Verified>,
}

impl Gate {
    /// The gate of a listener.
    #[must_use]
    pub const fn new(listener: ListenerName, live: Arc<Live>) -> Self {
        Self { listener, live }
    }

    /// The way of a request, up to its permit and through its filters; the answer, if one of these answers it.
    async fn pass(&self, session: &mut Session, exchange: &mut Exchange) -> Result<Option<Answer>, Refusal> {
        let facts = match self.judge(session, exchange).await? {
            Judged::Permitted(facts) => facts,
            Judged::Preflight(answer) => return Ok(Some(answer)),
        };
        body::check(session, exchange).await?;
        filtering::request(session, exchange, facts).await
    }

    /// The way of a request up to its permit, and what it was judged by.
    async fn judge(&self, session: &mut Session, exchange: &mut Exchange) -> Result<Judged, Refusal> {
        let snapshot = Arc::clone(exchange.snapshot());
        let entrance = snapshot.entrances.get(&self.listener).ok_or(Refusal::Internal)?;
        exchange.body().max = entrance.limits.body;
        if exchange.link().had_too_large_a_head() {
            return Err(exchange.deny(&Refusal::HeadTooLarge.into()));
        }
        let clear = head::read(session).map_err(|refusal| exchange.deny(&refusal.into()))?;
        exchange.concerns(&clear.facts, session.req_header());
        head::fits(session, &clear.facts, entrance).map_err(|refusal| exchange.deny(&refusal.into()))?;
        let admission =
            self.admit(session, exchange, &clear.facts, entrance).await.map_err(|denied| exchange.deny(&denied))?;
        let Admitted { permit, route, facts, verified } = match admission {
            Admission::Permitted(admitted) => *admitted,
            Admission::Preflight(answer) => {
                exchange.allow_preflight().await?;
                return Ok(Judged::Preflight(answer));
            }
        };
        let standing = Standing {
            live: Arc::clone(&self.live),
            listener: self.listener.clone(),
            tls: session.digest().and_then(|digest| digest.ssl_digest.clone()),
            facts: Arc::clone(&facts),
            authorities: entrance.authorities.clone(),
            client: exchange.client_told(entrance.client_address),
            verified,
            route: Arc::clone(&route),
            started: exchange.started(),
        };
        exchange.rests_on(standing).map_err(|refusal| exchange.deny(&refusal.into()))?;
        exchange.allow(permit).await?;
        head::clean(session, &clear, exchange.users_header())?;
        Ok(Judged::Permitted(facts))
    }

    /// Route, identity, policy.
    async fn admit(
        &self,
        session: &Session,
        exchange: &mut Exchange,
        facts: &Arc<Facts>,
        entrance: &Entrance,
    ) -> Result<Admission, Denied> {
        let snapshot = Arc::clone(exchange.snapshot());
        let (early, facts) = self.original_host(session, exchange, facts, entrance)?;
        if let Some((route, answer)) = preflight(session, &snapshot, &facts, entrance) {
            exchange.belongs_to(&route);
            let mut principal = Principal::Anonymous;
            if !route.door.is_public() {
                let demanded = route.door.demanded(entrance.identity).of_workload();
                let verified = self.prove(session, exchange, (&facts, early), (entrance, demanded)).await?;
                principal = verified.principal().clone();
            }
            limits::keep(session, exchange, (entrance, &route), (&principal, &RuleId::new(PREFLIGHT)))?;
            return Ok(Admission::Preflight(answer));
        }
        let Some(route) = snapshot.routes.find(&facts) else {
            exchange.belongs_nowhere();
            self.prove(session, exchange, (&facts, early), (entrance, entrance.identity)).await?;
            return Err(Refusal::NoRoute.into());
        };
        exchange.belongs_to(route);
        if route.door.is_hidden {
            let admitted = self.admit_unseen(session, exchange, (&facts, early), (entrance, route)).await;
            return admitted.map(|admitted| Admission::Permitted(Box::new(admitted)));
        }
        let admitted = self.admit_to(session, exchange, (&facts, early), (entrance, route)).await;
        admitted.map(|admitted| Admission::Permitted(Box::new(admitted)))
    }

    /// Identity and policy of a route.
    async fn admit_to(
        &self,
        session: &Session,
        exchange: &mut Exchange,
        (facts, early): (&Arc<Facts>, Option<Verified>),
        (entrance, route): (&Entrance, &Arc<Route>),
    ) -> Result<Admitted, Denied> {
        let snapshot = Arc::clone(exchange.snapshot());
        let demanded = route.door.demanded(entrance.identity);
        let verified = if route.door.is_public() {
            exchange.forgets_who_asks();
            None
        } else {
            Some(self.prove(session, exchange, (facts, early), (entrance, demanded)).await?)
        };
        let case = Case {
            id: &exchange.request_id().clone(),
            facts,
            client: exchange.client_told(entrance.client_address),
            tls: exchange.tls_version(),
            listener: entrance.identity,
            generation: snapshot.generation,
            now: exchange.started(),
        };
        if let Some(rules) = &route.door.rules {
            let principal = verified.as_ref().map_or(&Principal::Anonymous, Verified::principal);
            exchange.reads(rules.read(&case.question(principal, verified.as_ref())));
        }
        let permit = match &verified {
            None => {
                let permit = policy::admit_public(&route.door, &case).map_err(|denial| denied(denial, Vec::new()))?;
                limits::keep(session, exchange, (entrance, route), (permit.principal(), permit.rule()))?;
                permit
            }
            Some(verified) => {
                let decided = policy::decide(verified, &route.door, &case, snapshot.replay);
                let cleared = decided.map_err(|denial| {
                    let near = near_misses(&denial, verified, &route.door, (&case, &snapshot));
                    denied(denial, near)
                })?;
                limits::keep(session, exchange, (entrance, route), cleared.passing())?;
                // A token that is refused counts with no limit, and one that is over a limit is not used up.
                self.enter(cleared, exchange.started()).await.inspect_err(|_refused| exchange.unuse())?
            }
        };
        Ok(Admitted { permit, route: Arc::clone(route), facts: Arc::clone(facts), verified })
    }

    /// The same for a route that who may not pass is not to know of: he is told what he would be told without it. That
    /// is found out first, and for those who may pass, too, so that it takes as long.
    async fn admit_unseen(
        &self,
        session: &Session,
        exchange: &mut Exchange,
        (facts, early): (&Arc<Facts>, Option<Verified>),
        (entrance, route): (&Entrance, &Arc<Route>),
    ) -> Result<Admitted, Denied> {
        let otherwise = self.prove(session, exchange, (facts, early), (entrance, entrance.identity)).await;
        let (id, was_proven) = (exchange.edges_id(), exchange.is_verified());
        let (shown, early) = match otherwise {
            Ok(verified) => (Shown { refusal: Refusal::NoRoute, is_told_why: true }, Some(verified.of_workload())),
            Err(denied) => (Shown { refusal: denied.refusal, is_told_why: denied.workload.is_some() }, None),
        };
        let admitted = self.admit_to(session, exchange, (facts, early), (entrance, route)).await;
        admitted.map_err(|denied| {
            // Who is over a limit may pass, and knows.
            if denied.rule.is_some() && !denied.refusal.is_of_policy() {
                return denied;
            }
            // What only the route's proof brought to light does not show.
            exchange.goes_back_to(id, was_proven);
            Denied { shown: Some(shown), ..denied }
        })
    }

    /// Enters the token that was used: into our own store, or into that of the process that replaces this one.
    async fn enter(&self, cleared: Cleared<'_>, now: Timestamp) -> Result<Permit, Refusal> {
        let state = self.live.state();
        let cleared = match cleared.enter(&state.replay, now)? {
            Ok(permit) => return Ok(permit),
            // This part of the store was handed over.
            Err(cleared) => cleared,
        };
        // Between the two looks the store may have been taken back: then nobody can say.
        let heir = state.heir().ok_or(Refusal::ReplayStoreSilent)?;
        cleared.enter_elsewhere(&**heir, &state.replay, now).await
    }

    /// Where the token says which host was asked for, it is verified before the route is found: then the facts are those
    /// of that host.
    fn original_host(
        &self,
        session: &Session,
        exchange: &mut Exchange,
        facts: &Arc<Facts>,
        entrance: &Entrance,
    ) -> Result<(Option<Verified>, Arc<Facts>), Denied> {
        if !entrance.host_from_token || head::tokens(session)[0].is_none() {
            return Ok((None, Arc::clone(facts)));
        }
        let verified = self.authenticate(session, exchange, facts, (entrance, entrance.identity.of_workload()))?;
        let Some(ohost) = verified.token().and_then(|token| token.ohost.clone()) else {
            return Ok((Some(verified), Arc::clone(facts)));
        };
        let host = host_of(&ohost)?;
        let port = ohost.get(host.len()..).and_then(|rest| rest.strip_prefix(':')?.parse::<u16>().ok());
        if port.is_some_and(|port| !entrance.ports.contains(&port)) {
            return Err(Refusal::MalformedAuthority.into());
        }
        exchange.asks_for(&ohost, host);
        Ok((Some(verified), Arc::new(Facts { host: host.into(), ..Facts::clone(facts) })))
    }

    /// Proves what is demanded, of which the workload's part may be proved already.
    async fn prove(
        &self,
        session: &Session,
        exchange: &mut Exchange,
        (facts, early): (&Facts, Option<Verified>),
        (entrance, demanded): (&Entrance, identity::Profile),
    ) -> Result<Verified, Denied> {
        let verified = match early {
            Some(early) if early.profile() == demanded.of_workload() => early,
            Some(_) | None => self.authenticate(session, exchange, facts, (entrance, demanded.of_workload()))?,
        };
        exchange.judged_by(demanded);
        exchange.knows_user(None);
        if !demanded.needs_user() {
            return Ok(verified);
        }
        let snapshot = Arc::clone(exchange.snapshot());
        let evidence = evidence(session, facts);
        let proved = || verified.with_user(&evidence, &snapshot.trust, exchange.started());
        let proved = match proved() {
            Err(denied) if may_have_other_keys(&snapshot, &denied, exchange.is_unseen()).await => proved()?,
            proved => proved?,
        };
        exchange.knows_user(proved.principal().user());
        Ok(proved)
    }

    /// Proves which workload asks.
    fn authenticate(
        &self,
        session: &Session,
        exchange: &mut Exchange,
        facts: &Facts,
        (entrance, demanded): (&Entrance, identity::Profile),
    ) -> Result<Verified, Denied> {
        exchange.judged_by(demanded);
        if demanded.needs_token() && head::client(session).is_none() {
            // Whoever listens on the way could use it.
            return Err(Refusal::TlsRequired.into());
        }
        let evidence = evidence(session, facts);
        let trust = &exchange.snapshot().trust;
        let verified =
            identity::authenticate(demanded, &evidence, entrance.authorities.as_deref(), trust, exchange.started())?;
        exchange.knows(&verified);
        if verified.principal().workload().is_some() {
            exchange.is_client(client_address(entrance.client_address, session, &verified));
        }
        Ok(verified)
    }
}

/// The answer to a browser that asks whether a page may ask (CORS), and the route of what it asks for. A browser never
/// shows there who its user is, so the proofs of his Worker are enough. A hidden route has no answer.
fn preflight(
    session: &Session,
    snapshot: &Snapshot,
    facts: &Facts,
    entrance: &Entrance,
) -> Option<(Arc<Route>, Answer)> {
    let headers = &session.req_header().headers;
    let asked = filter::asked_method(&facts.method, headers)?;
    let method = http::Method::from_bytes(asked.as_bytes()).ok()?;
    let route = snapshot.routes.first_of(&method, &facts.host, facts.path.as_str(), |route| !route.door.is_hidden)?;
    let answer = route.filters.preflight(headers, &asked).or_else(|| entrance.filters.preflight(headers, &asked))?;
    Some((Arc::clone(route), answer))
}

fn denied(Denial { refusal, rule, shadow }: Denial, near: Vec<String>) -> Denied {
    Denied { rule, shadow, near, ..refusal.into() }
}

/// The rules that were nearly met where none was.
fn near_misses(
    denial: &Denial,
    verified: &Verified,
    door: &Door,
    (case, snapshot): (&Case<'_>, &Snapshot),
) -> Vec<String> {
    if denial.refusal != Refusal::NotAllowed {
        return Vec::new();
    }
    let listed = match &*door.access {
        Access::Listed(list) => policy::near_misses(list, verified.principal(), &snapshot.trust.people),
        Access::Public(_) => Vec::new(),
    };
    let question = case.question(verified.principal(), Some(verified));
    let rules = door.rules.as_ref().map(|rules| rules.near_misses(&question));
    listed.into_iter().chain(rules.into_iter().flatten()).collect()
}

/// Whether the identity provider may have published other keys than those by which somebody was denied: it is asked, if
/// that was not done a moment ago. At a hidden route nobody waits for it, since that could be measured.
async fn may_have_other_keys(snapshot: &Snapshot, denied: &Denied, is_unseen: bool) -> bool {
    let is_for_keys = matches!(denied.refusal, Refusal::UserTokenKeyUnknown | Refusal::UserKeysMissing);
    let provider = denied.people.as_ref().filter(|_| is_for_keys).and_then(|people| snapshot.providers.get(people));
    let wanted = Wanted { key: denied.users_key.as_deref(), by: denied.workload.as_ref() };
    match provider {
        Some(provider) if is_unseen => {
            provider.have_it_asked(wanted);
            false
        }
        Some(provider) => provider.ask_again(wanted).await,
        None => false,
    }
}

/// What the peer shows.
fn evidence<'a>(session: &'a Session, facts: &'a Facts) -> Evidence<'a> {
    let peer = head::client(session).and_then(|client| client.peer.as_ref());
    Evidence { facts, peer, tokens: head::tokens(session), headers: &session.req_header().headers }
}

/// The client's address, as somebody tells it who has proved himself.
fn client_address(told_by: ClientAddress, session: &Session, verified: &Verified) -> Option<IpAddr> {
    match told_by {
        ClientAddress::Peer => None,
        ClientAddress::Claim => verified.token().and_then(|token| token.cip),
        ClientAddress::Header => {
            let mut told = session.req_header().headers.get_all("cf-connecting-ip").iter();
            let (Some(only), None) = (told.next(), told.next()) else { return None };
            only.to_str().ok()?.parse().ok()
        }
    }
}

#[async_trait]
impl ProxyHttp for Gate {
    type CTX = Exchange;

    fn new_ctx(&self) -> Exchange {
        Exchange::begin(&self.live, self.listener.clone(), Link::current())
    }

    /// None: what changes bodies are our own filters, and Pingora's would be made anew for each request.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, exchange: &mut Exchange) -> pingora::Result<bool> {
        let digest = session.digest();
        let tls = digest.and_then(|digest| digest.ssl_digest.as_deref());
        exchange.link().is_judged();
        exchange.came_from(tls, digest.and_then(|digest| digest.socket_digest.as_deref()));
        let patience = exchange.snapshot().entrances.get(&self.listener).map(|entrance| entrance.limits.write_timeout);
        session.as_downstream_mut().set_write_timeout(patience);
        if head::tokens(session)[0].is_some() {
            event_loop::turn(exchange.link().token_check()).await;
        }
        match self.pass(session, exchange).await {
            Ok(None) => Ok(false),
            Ok(Some(answer)) => {
                respond::tell(session, exchange, answer).await?;
                Ok(true)
            }
            Err(refusal) => {
                exchange.refuse(refusal);
                respond::refuse(session, exchange, refusal).await?;
                Ok(true)
            }
        }
    }

    async fn upstream_peer(&self, session: &mut Session, exchange: &mut Exchange) -> pingora::Result<Box<HttpPeer>> {
        match exchange.pick(session).await {
            Ok(peer) => Ok(Box::new(peer)),
            Err(Some(refusal)) => {
                exchange.refuse(refusal);
                Err(outbound::error(refusal))
            }
            Err(None) => Err(Error::new_down(ErrorType::ConnectionClosed)),
        }
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        reused: bool,
        _: &HttpPeer,
        _: std::os::unix::io::RawFd,
        _: Option<&Digest>,
        exchange: &mut Exchange,
    ) -> pingora::Result<()> {
        if !reused {
            exchange.connected();
        }
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        exchange: &mut Exchange,
    ) -> pingora::Result<()> {
        // On HTTP/1.1 the connection knows when it waits for the body.
        if session.is_http2() && !session.as_downstream_mut().is_body_done() {
            exchange.awaits_body(session);
        }
        outbound::identify(request, session, exchange)
    }

    async fn request_body_filter(
        &self,
        _: &mut Session,
        piece: &mut Option<Bytes>,
        is_last: bool,
        exchange: &mut Exchange,
    ) -> pingora::Result<()> {
        exchange.body_came(piece, is_last).map_err(outbound::error)?;
        if exchange.link().is_tunnel() {
            return Ok(());
        }
        filtering::request_body(exchange, piece, is_last).await
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> pingora::Result<()> {
        if let Some(unwanted) = failure::unwanted(session, response.status.as_u16(), exchange) {
            return Err(unwanted);
        }
        respond::may_tunnel(session, response, exchange)?;
        respond::dress(session, response, exchange).await
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        piece: &mut Option<Bytes>,
        is_last: bool,
        exchange: &mut Exchange,
    ) -> pingora::Result<Option<Duration>> {
        if !exchange.link().is_tunnel() {
            filtering::response_body(exchange, piece, is_last)?;
        }
        let bytes = piece.as_ref().map_or(0, Bytes::len);
        exchange.sends(bytes);
        Ok(exchange.used().pace(bytes))
    }

    async fn response_trailer_filter(
        &self,
        session: &mut Session,
        trailers: &mut HeaderMap,
        exchange: &mut Exchange,
    ) -> pingora::Result<Option<Bytes>> {
        exchange.filter_trailers(trailers);
        let rest = filtering::response_trailers(exchange, trailers);
        if rest.is_err() {
            // The library would let the trailers go, as if all were well.
            session.as_downstream_mut().shutdown().await;
        }
        rest
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _: &HttpPeer,
        exchange: &mut Exchange,
        error: Box<Error>,
    ) -> Box<Error> {
        failure::connecting(session, error, exchange)
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        exchange: &mut Exchange,
        reused: bool,
    ) -> Box<Error> {
        failure::proxying(session, error, exchange, reused)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, exchange: &mut Exchange) -> FailToProxy {
        failure::answer(session, error, exchange).await
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, exchange: &mut Exchange) {
        exchange.end(session, error.is_none());
    }

    /// Metrics and the audit log say it.
    fn suppress_proxy_warn_log(&self, _: &Session, _: &Exchange, _: &Error, _: ProxyWarnLogContext) -> bool {
        true
    }

    /// The audit log says it.
    fn suppress_error_log(&self, _: &Session, _: &Exchange, _: &Error) -> bool {
        true
    }
}
