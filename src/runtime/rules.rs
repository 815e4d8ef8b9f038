//! Rules, and people whom a file gives roles, read from their files: all that decides who may, and no key.

use crate::config::{self, Config, Finding};
use crate::identity::{By, Mapped, Membership, People};
use crate::keys::Files;
use crate::name::RoleName;
use crate::policy::rules::{Fault, RuleSet, Source, Words};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Reads all that decides who may beside the config's text: tests of the policy need no key.
///
/// # Errors
/// What is wrong with which file.
pub fn deciding(config: &Config) -> Result<(Vec<People>, Option<RuleSet>), Vec<Finding>> {
    let mut files = Files::new(config.file.parent().unwrap_or_else(|| Path::new("")));
    let (mut people, mut findings) = (Vec::new(), Vec::new());
    for known in &config.people {
        match memberships(known, &mut files) {
            Ok(memberships) => people.push(People { memberships, ..known.terms.clone() }),
            Err(faults) => findings.extend(faults),
        }
    }
    let rules = match of(config, &mut files) {
        Some(Ok((rules, _))) => Some(rules),
        Some(Err(faults)) => {
            findings.extend(faults);
            None
        }
        None => None,
    };
    if findings.is_empty() { Ok((people, rules)) } else { Err(findings) }
}

/// The roles of people, with whom a file names if there is one.
///
/// # Errors
/// What is wrong with the file.
pub(super) fn memberships(people: &config::People, files: &mut Files) -> Result<Box<[Membership]>, Vec<Finding>> {
    let Some(path) = &people.mapping else { return Ok(people.terms.memberships.clone()) };
    let mapped = |it: &&Membership| matches!(it.by, By::Mapping(_));
    let roles: Vec<_> = people.terms.memberships.iter().filter(mapped).map(|it| &it.role).collect();
    let file = files.mapping(path, &roles)?;
    let who = |entries: &BTreeMap<String, Vec<String>>, role: &RoleName| {
        let have = entries.iter().filter(|(_, roles)| roles.iter().any(|name| name == role.as_str()));
        have.map(|(name, _)| name.as_str().into()).collect()
    };
    let read = |membership: &Membership| match &membership.by {
        By::Mapping(mapped) => {
            let (people, groups) = (who(&file.people, &membership.role), who(&file.groups, &membership.role));
            let mapped = Mapped { people, groups, ..Mapped::clone(mapped) };
            Membership { by: By::Mapping(Arc::new(mapped)), ..membership.clone() }
        }
        By::Everybody | By::Claim(_, _) => membership.clone(),
    };
    Ok(people.terms.memberships.iter().map(read).collect())
}

/// Rules with what is to be warned of, or what is wrong with them.
type Read = Result<(RuleSet, Vec<Finding>), Vec<Finding>>;

/// The rules of a config; none if it names no files of them.
pub(super) fn of(config: &Config, files: &mut Files) -> Option<Read> {
    let mut texts = Vec::new();
    for pattern in &config.policies.as_ref()?.policies {
        let found = match files.matching(pattern) {
            Ok(found) => found,
            Err(finding) => return Some(Err(vec![finding])),
        };
        for file in found {
            // Two patterns may fit one file.
            if texts.iter().any(|(_, known)| *known == file) {
                continue;
            }
            match files.policy(&file) {
                Ok(text) => texts.push((text, file)),
                Err(finding) => return Some(Err(vec![finding])),
            }
        }
    }
    Some(read(&config.words, &texts))
}

/// Reads rules from texts and the files in which these stand; with them comes what is only to be warned of.
///
/// # Errors
/// What is wrong, each with its place.
pub fn read(words: &Words, texts: &[(String, PathBuf)]) -> Read {
    let sources: Vec<_> = texts.iter().map(|(text, file)| Source { file, text }).collect();
    let find = |fault: Fault| {
        let text = texts.iter().find(|(_, file)| *file == fault.file).map_or("", |(text, _)| text);
        finding(fault, text)
    };
    match RuleSet::read(words, &sources) {
        Ok((rules, faults)) => Ok((rules, faults.into_iter().map(find).collect())),
        Err(faults) => Err(faults.into_iter().map(find).collect()),
    }
}

fn finding(fault: Fault, text: &str) -> Finding {
    let (start, length) = fault.place;
    let before = text.get(..start).unwrap_or_default();
    let line = before.matches('\n').count().saturating_add(1);
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count().saturating_add(1);
    let spanned = text.get(start..).unwrap_or_default().chars().take(length).take_while(|c| *c != '\n').count();
    let mut finding = Finding::at(fault.file, (line, column), text, fault.message).wide(spanned);
    finding.hint = fault.hint;
    if fault.is_warning { finding.as_warning() } else { finding }
}
