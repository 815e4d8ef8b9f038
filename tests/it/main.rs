#![expect(clippy::unwrap_used, clippy::panic, reason = "a failing test may panic")]
#![expect(clippy::indexing_slicing, reason = "a missing field is a failing test")]
#![expect(clippy::disallowed_methods, reason = "tests read the environment and the clock")]
#![expect(unreachable_pub, reason = "what the tests share is public to them")]
#![expect(clippy::needless_pass_by_value, reason = "rows of tables are values")]
//! Belay from outside: in process over a duplex, and the real binary.

mod aging;
mod api;
mod approving;
mod audit;
mod balancing;
mod changing;
mod checks;
mod cli;
mod connecting;
mod decisions;
mod demo;
mod discovery;
mod docs;
mod door;
mod duplicates;
mod effects;
mod examples;
mod failures;
mod filtering;
mod hiding;
mod identity;
mod keys;
mod killed;
mod ledger;
mod limits;
mod listening;
mod managed;
mod operating;
mod origins;
mod paths;
mod people;
mod planning;
mod plugins;
mod profiles;
mod providers;
mod proxying;
mod queueing;
mod reading;
mod readme;
mod records;
mod reload;
mod revoking;
mod rollback;
mod rules;
mod scraping;
mod stickiness;
mod support;
mod upgrading;
mod uploads;
mod worker;
