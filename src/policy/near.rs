//! Why the rules of a list let somebody not in, each in a few words: what an operator asks first.

use super::AllowList;
use crate::identity::{By, Membership, People};
use crate::name::RoleName;
use crate::principal::Principal;
use crate::verdict::RuleId;

/// So many are told.
const TOLD_MAX: usize = 5;

/// The rules of a list, each with what it lacks of somebody whom none lets in. No value of a claim is told.
#[must_use]
pub fn near_misses(list: &AllowList, principal: &Principal, people: &[People]) -> Vec<String> {
    let workload = principal.workload().map_or("nobody", |workload| workload.name.as_str());
    let of_workloads =
        list.workloads.iter().map(|(name, rule)| (rule, format!("is for {name}, and this is {workload}")));
    let of_roles = list.roles.iter().map(|(role, rule)| (rule, lacks(role, principal, people)));
    let mut told: Vec<(&RuleId, String)> = of_workloads.chain(of_roles).collect();
    told.sort_by_key(|(rule, _)| rule.as_str());
    told.into_iter().take(TOLD_MAX).map(|(rule, why)| format!("{rule} {why}")).collect()
}

/// What somebody lacks of a role.
fn lacks(role: &RoleName, principal: &Principal, people: &[People]) -> String {
    let workload = principal.workload().map_or("nobody", |workload| workload.name.as_str());
    let found = people.iter().find_map(|people| {
        let membership = people.memberships.iter().find(|membership| membership.role == *role)?;
        Some((people, membership))
    });
    let Some((people, Membership { by, through, .. })) = found else {
        return format!("is for workloads that have the role, and {workload} has not");
    };
    let Some(user) = principal.user() else { return format!("is for people of {}, and no user is known", people.name) };
    if user.people != people.name {
        return format!("is for people of {}, and this is one of {}", people.name, user.people);
    }
    if !through.iter().any(|name| name.as_str() == workload) {
        let through: Vec<_> = through.iter().map(ToString::to_string).collect();
        return format!("is for people through {}, and this one came through {workload}", through.join(", "));
    }
    match by {
        By::Claim(claim, wanted) if claim.find(&user.claims).is_none() => {
            format!("wants {claim} to have {}, and the token has no such claim", wanted.join(" or "))
        }
        By::Claim(claim, wanted) => format!("wants {claim} to have {}, and it has not", wanted.join(" or ")),
        By::Mapping(mapped) => {
            format!("is for whom the mapping names by {} or {}, and it does not name him", mapped.person, mapped.group)
        }
        By::Everybody => "lets him in".into(),
    }
}
