//! Plugins, through a whole load balancer: every function that they can call, and all that a bad one can do.

mod bodies;
mod calls;
mod checking;
mod ending;
mod examples;
mod guest;
mod headers;
mod sandbox;

use crate::support::{Ask, NOW, Site, World, show};
use guest::{Guest, tells};
use serde_json::Value;

/// A world with a plugin at the route of orders; `more` stands in its settings, `pools` behind the pools.
async fn plugged(guest: &Guest, more: &str) -> World {
    with_pools(guest, more, "").await
}

async fn with_pools(guest: &Guest, more: &str, pools: &str) -> World {
    let site = Site::new(NOW).await;
    write(&site, guest);
    let world = World::before_checks(site, |text| edited(text, more, pools));
    world.is_healthy().await;
    world
}

fn write(site: &Site, guest: &Guest) {
    std::fs::write(site.folder.path().join("guest.wasm"), guest.module()).unwrap();
}

fn edited(text: String, more: &str, pools: &str) -> String {
    let route = "    allow: [checkout]\n    pool: shop\n";
    let filters = format!("[{{ plugin: {{ wasm: guest.wasm{more} }} }}]");
    let with = format!("    allow: [checkout]\n    filters: {filters}\n    pool: shop\n");
    text.replacen(route, &with, 1).replacen("audit: {", &format!("{pools}audit: {{"), 1)
}

fn orders() -> Ask {
    Ask { h2: true, ..Ask::get("/orders/7?full=1") }
}

fn outcome(world: &World) -> Value {
    world.records_of("outcome").pop().unwrap()
}

/// What the origin says of a header that the guest has written.
async fn told(world: &World, header: &str) -> Value {
    world.ask(&orders()).await.echo()["headers"][header].clone()
}

/// What is wrong with a guest.
async fn refused(guest: &Guest, more: &str) -> String {
    let world = World::new().await;
    write(&world.site, guest);
    show(&world.apply(&edited(world.config_text(), more, "")).unwrap_err())
}
