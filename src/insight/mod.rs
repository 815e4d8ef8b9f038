//! What a config means, before it is live: whom it lets in, and what a change of it changes for whom.

mod asked;
mod circumstances;
mod explain;
mod judge;
mod plan;
mod settings;
mod show;
mod trial;

pub use asked::{Asked, AskedUser};
pub use circumstances::Circumstances;
pub use explain::{SignedFacts, Step, Story, explain};
pub use judge::{Verdict, judge};
pub use plan::{Change, Danger, Kind, Plan, RuleChange, Side, Witness, dangers, plan, unlocked};
pub use settings::Setting;
pub use trial::{Trials, Tried, try_out};
