//! Pools whose checks are looked at.

use super::site::{NOW, Site};
use super::world::World;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// An origin whose answer to a check depends on the head and on how many came before.
pub async fn checked_origin(answer: impl Fn(&str, usize) -> Option<u16> + Send + Sync + 'static) -> String {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        #[expect(clippy::collection_is_never_read, reason = "what is held stays open")]
        let mut held = Vec::new();
        for count in 0.. {
            let (mut stream, _) = socket.accept().await.unwrap();
            let head = read_head(&mut stream).await;
            match answer(&head, count) {
                Some(status) => {
                    let reply = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                    stream.write_all(reply.as_bytes()).await.unwrap();
                }
                None => held.push(stream),
            }
        }
    });
    address
}

/// A head, to its empty line.
pub async fn read_head(stream: &mut TcpStream) -> String {
    read_to(stream, "\r\n\r\n").await
}

async fn read_to(stream: &mut TcpStream, ends: &str) -> String {
    let mut heard = Vec::new();
    while !heard.ends_with(ends.as_bytes()) {
        let Ok(byte) = stream.read_u8().await else { break };
        heard.push(byte);
    }
    String::from_utf8(heard).unwrap()
}

/// A world with just these pools, each a name, an origin and a health check.
pub async fn checked_world(pools: &[(&str, &str, &str)]) -> World {
    let pools: String = pools
        .iter()
        .map(|(name, address, health)| {
            format!("  {name}: {{ servers: [{{ name: s, address: '{address}' }}], health: {health} }}\n")
        })
        .collect();
    let site = Site::new(NOW).await;
    World::before_checks(site, |text| {
        let (before, rest) = text.split_once("pools:\n").unwrap();
        let rest = rest.split_once("audit:").unwrap().1;
        let first = pools.trim_start().split_once(':').unwrap().0;
        format!("{}pools:\n{pools}audit:{rest}", before.replace("pool: shop", &format!("pool: {first}")))
    })
}

pub fn is_up(world: &World, pool: &str) -> bool {
    world.metrics().contains(&format!("belay_server_up{{pool=\"{pool}\",server=\"s\"}} 1"))
}

pub fn checks(world: &World, pool: &str, result: &str) -> u64 {
    let text = world.metrics();
    let name = format!("belay_health_checks_total{{pool=\"{pool}\",result=\"{result}\",server=\"s\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |count| count.parse().unwrap())
}

/// An origin that answers each head, or each line, with what it is told.
pub async fn answering(ends: &'static str, answer: impl Fn(&str) -> String + Send + Sync + 'static) -> String {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = socket.accept().await.unwrap();
            let heard = read_to(&mut stream, ends).await;
            // Who has gone is not answered.
            stream.write_all(answer(&heard).as_bytes()).await.unwrap_or_default();
        }
    });
    address
}
