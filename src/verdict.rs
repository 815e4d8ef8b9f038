//! What was decided, and by which rule.

use serde::{Serialize, Serializer};
use serde_json::Value;
use std::{fmt, sync::Arc};

/// The place in the config of the rule that decided, for example `routes.orders.allow.checkout`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct RuleId(Arc<str>);

impl RuleId {
    /// The rule at that place.
    #[must_use]
    pub fn new(place: &str) -> Self {
        Self(place.into())
    }

    /// Whom it lets in: a list's rule ends with the name of a workload or role, and its beginning is the route's. A rule of
    /// a file stands for itself.
    #[must_use]
    pub fn lets_in(&self) -> &str {
        let text = self.as_str();
        if text.starts_with("policies.") { text } else { text.rsplit('.').next().unwrap_or(text) }
    }

    /// Its place.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What rules would change that are only tried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shadow {
    /// The rules, in the order of their names.
    pub rules: Vec<RuleId>,
    /// Whether they would let in who is kept out; else they would keep out who is let in.
    pub would_allow: bool,
}

/// What rules have read, each by the place by which they name it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HasRead(pub Vec<(Arc<str>, Value)>);

impl Serialize for HasRead {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(place, value)| (&**place, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_case::test_case;

    #[test_case("routes.orders.allow.checkout", "checkout")]
    #[test_case("routes.status.allow.public", "public")]
    #[test_case("policies.orders.read", "policies.orders.read"; "a rule of a file")]
    fn a_rule_lets_somebody_in(rule: &str, whom: &str) {
        assert_eq!(RuleId::new(rule).lets_in(), whom);
    }
}
