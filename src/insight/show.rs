//! A plan, as people read it: on a terminal, and in a pull request.

use super::judge::Verdict;
use super::plan::{Change, Kind, Plan, RuleChange, Witness};
use super::settings::Setting;
use crate::policy::rules::{Effect, Rule};
use serde_json::Value;
use std::collections::BTreeSet;

impl Kind {
    /// What happens to the route.
    const fn sentence(self) -> &'static str {
        match self {
            Self::Public => "becomes PUBLIC",
            Self::Weaker => "asks for LESS PROOF",
            Self::Opens => "opens",
            Self::Closes => "closes",
            Self::Stronger => "asks for other proof",
            Self::Moves => "is decided elsewhere",
            Self::Hides => "is hidden",
            Self::Reveals => "is hidden NO MORE",
        }
    }
}

/// How it is written.
#[derive(Clone, Copy)]
struct Style {
    title: [&'static str; 2],
    bullet: &'static str,
    inner: &'static str,
    code: &'static str,
}

const TERMINAL: Style = Style { title: ["", "\n"], bullet: "  ", inner: "    ", code: "" };
const MARKDOWN: Style = Style { title: ["### ", "\n\n"], bullet: "- ", inner: "  - ", code: "`" };

impl Plan {
    /// The plan as text for a terminal, or as Markdown.
    #[must_use]
    pub fn show(&self, is_markdown: bool) -> String {
        if self.is_empty() {
            return "nothing changes\n".into();
        }
        let style = if is_markdown { MARKDOWN } else { TERMINAL };
        let Style { bullet, code, .. } = style;
        let sections = [
            style.section("For whom", &self.changes, |change| style.change(change)),
            style.section("Rules, beside the lists", &self.rules, |change| style.rule(change)),
            style.section("Never reached any more", &self.shadowed, |route| {
                format!("{bullet}{code}{route}{code}: an earlier route takes all its requests\n")
            }),
            style.section("Settings", &self.settings, |it| format!("{bullet}{}\n", style.setting(it))),
            style.section("Files", &self.files, |file| format!("{bullet}{code}{}{code}\n", file.display())),
            style.section("Must be accepted", &self.dangers, |danger| {
                format!("{bullet}{}: {code}--accept {}{code}\n", danger.what, danger.name)
            }),
        ];
        sections.into_iter().flatten().collect::<Vec<_>>().join("\n")
    }
}

impl Style {
    fn section<T>(self, title: &str, items: &[T], show: impl Fn(&T) -> String) -> Option<String> {
        let [before, after] = self.title;
        let shown: String = items.iter().map(show).collect();
        (!items.is_empty()).then(|| format!("{before}{title}{after}{shown}"))
    }

    fn change(self, change: &Change) -> String {
        let list = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
        let Self { bullet, inner, code, .. } = self;
        let Witness { asked, before, after } = &change.witness;
        let who = asked.by();
        let whom = if change.kind == Kind::Public { String::new() } else { format!(" for {}", list(&change.whom)) };
        let (route, what, at) = (&change.route, change.kind.sentence(), list(&change.listeners));
        let request = format!("{} https://{}{}", asked.method, asked.host, asked.path);
        let (before, after) = (verdict(before), verdict(after));
        format!(
            "{bullet}{code}{route}{code} {what}{whom}, at {at}\n\
             {inner}{code}{request}{code} by {who} at {}\n\
             {inner}before: {before}\n\
             {inner}after: {after}\n",
            asked.listener
        )
    }

    fn rule(self, change: &RuleChange) -> String {
        let Self { bullet, code, .. } = self;
        let told = |rule: &Rule| {
            let effect = if rule.effect == Effect::Permit { "permit" } else { "forbid" };
            let marks = [(rule.is_locked, ", locked"), (rule.is_shadow, ", only tried out")];
            let marks: String = marks.into_iter().filter(|(is, _)| *is).map(|(_, mark)| mark).collect();
            format!("{effect}{marks}")
        };
        let (rule, what) = match (&change.before, &change.after) {
            (None, Some(rule)) => (rule, format!("is new: {}", told(rule))),
            (Some(rule), None) => (rule, format!("is gone: {}", told(rule))),
            (Some(before), Some(rule)) if told(before) == told(rule) => (rule, format!("is another: {}", told(rule))),
            (Some(before), Some(rule)) => (rule, format!("is another: {} -> {}", told(before), told(rule))),
            (None, None) => return String::new(),
        };
        let because = rule.because.as_ref().map(|because| format!(" ({because})")).unwrap_or_default();
        format!("{bullet}{code}{}{code} {what}{because}\n", rule.id)
    }

    fn setting(self, setting: &Setting) -> String {
        let value = |value: &Option<Value>| match value {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => "-".into(),
        };
        let (place, code) = (&setting.place, self.code);
        match (&setting.from, &setting.to) {
            (None, Some(_)) => format!("{code}{place}{code} is new: {}", value(&setting.to)),
            (Some(_), None) => format!("{code}{place}{code} is gone: {}", value(&setting.from)),
            (_, _) => format!("{code}{place}{code}: {} -> {}", value(&setting.from), value(&setting.to)),
        }
    }
}

fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Allow { rule, profile: Some(profile), pool, .. } => {
            format!("passes by {rule}, with {profile}, to {pool}")
        }
        Verdict::Allow { rule, profile: None, pool, .. } => format!("passes by {rule}, without an identity, to {pool}"),
        Verdict::Deny { route: Some(route), status, reason, .. } => format!("{status} at {route}, {reason}"),
        Verdict::Deny { route: None, status, reason, .. } => format!("{status}, {reason}"),
        Verdict::Nowhere => "nobody listens".into(),
    }
}
