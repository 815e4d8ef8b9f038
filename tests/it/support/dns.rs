//! A resolver that knows what a test tells it.

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record};
use parking_lot::Mutex;
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Instant,
};
use tokio::net::UdpSocket;

/// The zone, and who asked when.
#[derive(Clone)]
pub struct Dns {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    records: Vec<(Name, RData)>,
    ttl: u32,
    is_silent: bool,
    asked: Vec<(String, Instant)>,
}

impl Dns {
    /// One that knows nothing, and whose answers count for that many seconds.
    pub async fn new(ttl: u32) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { ttl, ..State::default() }));
        tokio::spawn(serve(socket, Arc::clone(&state)));
        Self { address, state }
    }

    /// From now on the name has these addresses.
    pub fn host(&self, name: &str, addresses: &[[u8; 4]]) {
        let records = addresses.iter().map(|octets| RData::A(A(Ipv4Addr::from(*octets))));
        self.set(name, records.collect());
    }

    /// From now on the service has these servers: priority, weight, port and host.
    pub fn service(&self, name: &str, servers: &[(u16, u16, u16, &str)]) {
        let record = |(priority, weight, port, host): &(u16, u16, u16, &str)| {
            RData::SRV(SRV::new(*priority, *weight, *port, fqdn(host)))
        };
        self.set(name, servers.iter().map(record).collect());
    }

    fn set(&self, name: &str, records: Vec<RData>) {
        let (name, mut state) = (fqdn(name), self.state.lock());
        state.records.retain(|(known, _)| *known != name);
        state.records.extend(records.into_iter().map(|record| (name.clone(), record)));
    }

    /// From now on it does not answer, or does again.
    pub fn be_silent(&self, is_silent: bool) {
        self.state.lock().is_silent = is_silent;
    }

    /// When the addresses of a name were asked for.
    pub fn asked(&self, name: &str) -> Vec<Instant> {
        let name = fqdn(name).to_string();
        self.state.lock().asked.iter().filter(|(asked, _)| *asked == name).map(|(_, when)| *when).collect()
    }

    /// The lines of a config that ask it.
    pub fn lines(&self) -> String {
        format!("dns: {{ resolvers: ['{}'], ttl_min: 1s }}\n", self.address)
    }
}

fn fqdn(name: &str) -> Name {
    Name::from_ascii(format!("{}.", name.trim_end_matches('.'))).unwrap()
}

async fn serve(socket: UdpSocket, state: Arc<Mutex<State>>) {
    let mut buffer = [0; 4096];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        let answer = answer(&Message::from_vec(&buffer[..length]).unwrap(), &state);
        if let Some(answer) = answer {
            socket.send_to(&answer, from).await.unwrap();
        }
    }
}

fn answer(question: &Message, state: &Mutex<State>) -> Option<Vec<u8>> {
    let mut state = state.lock();
    let query = question.queries.first().unwrap().clone();
    // Resolvers write names in letters of both sizes, so that answers are harder to forge.
    let name = query.name.to_lowercase();
    if query.query_type != hickory_resolver::proto::rr::RecordType::AAAA {
        state.asked.push((name.to_string(), Instant::now()));
    }
    if state.is_silent {
        return None;
    }
    let mut message = Message::response(question.metadata.id, question.metadata.op_code);
    message.metadata.recursion_desired = true;
    message.metadata.recursion_available = true;
    let known = state.records.iter().any(|(record, _)| *record == name);
    message.metadata.response_code = if known { ResponseCode::NoError } else { ResponseCode::NXDomain };
    let fitting =
        state.records.iter().filter(|(record, data)| *record == name && data.record_type() == query.query_type);
    for (_, data) in fitting {
        message.add_answer(Record::from_rdata(query.name.clone(), state.ttl, data.clone()));
    }
    message.add_query(query);
    Some(message.to_vec().unwrap())
}
