//! What a config means, before it is live: whom it lets in, and what a change of it changes for whom.

mod asked;
mod explain;
mod judge;
mod plan;
mod settings;
mod show;

pub use asked::{Asked, AskedUser};
pub use explain::{SignedFacts, Step, Story, explain};
pub use judge::{Verdict, judge};
pub use plan::{Change, Danger, Kind, Plan, Side, Witness, dangers, plan};
pub use settings::Setting;
