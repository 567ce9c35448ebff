//! Which CalicoNodeStatus objects name this node, and when each is due.

use std::collections::BTreeMap;
use std::time::Duration;

use calico_api::{CalicoNodeStatus, CalicoNodeStatusSpec, Entry, Key, Kind, decode};
use smol_str::SmolStr;
use tokio::time::Instant;

/// How many objects one node answers: each is a write to the datastore in each of its periods, and a node has few
/// readers that differ in what they ask for.
const MAX_QUESTIONS: usize = 64;

/// An object to answer, as it was when it was last seen.
#[derive(Clone, Debug)]
pub(super) struct Question {
    /// As stored.
    pub entry: Entry,
    /// As read.
    pub resource: CalicoNodeStatus,
}

#[derive(Debug)]
struct Pending {
    question: Question,
    /// `None`: it has been answered and asks no more.
    due: Option<Instant>,
}

/// The objects that name this node.
#[derive(Debug)]
pub(super) struct Questions {
    node: SmolStr,
    pending: BTreeMap<SmolStr, Pending>,
}

impl Questions {
    /// None yet, for the node called `node`.
    pub(super) fn new(node: SmolStr) -> Questions {
        Questions { node, pending: BTreeMap::new() }
    }

    /// Takes an object's present state; `None` is absent.
    pub(super) fn update(&mut self, key: &Key, entry: Option<Entry>, now: Instant) {
        let Key::Resource(resource) = key else { return };
        if resource.kind != Kind::CalicoNodeStatus {
            return;
        }
        let name = resource.name.clone();
        let question = entry.and_then(|entry| match decode::<CalicoNodeStatusSpec>(&entry) {
            Ok(resource) => Some(Question { entry, resource }),
            Err(error) => {
                tracing::warn!(%error, "a CalicoNodeStatus cannot be read; it is not answered");
                None
            }
        });
        let Some(question) = question.filter(|question| question.resource.spec.node == self.node) else {
            self.pending.remove(&name);
            return;
        };
        let before = self.pending.get(&name);
        if before.is_none() && self.pending.len() == MAX_QUESTIONS {
            tracing::warn!(%name, MAX_QUESTIONS, "too many CalicoNodeStatus objects for one node; it is not answered");
            return;
        }
        let due = match before {
            // Our own answer, or a change of labels: the rhythm stays.
            Some(before) if before.question.resource.spec == question.resource.spec => before.due,
            _ => Some(now).filter(|_| period(&question).is_some() || !is_answered(&question)),
        };
        self.pending.insert(name, Pending { question, due });
    }

    /// When the next one is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.pending.values().filter_map(|pending| pending.due).min()
    }

    /// Those that are due, each put off by its period.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Question> {
        let mut taken = Vec::new();
        for Pending { question, due } in self.pending.values_mut() {
            if due.is_some_and(|due| due <= now) {
                *due = period(question).map(|period| now + period);
                taken.push(question.clone());
            }
        }
        taken
    }
}

/// The time between answers; `None` for a single one.
fn period(question: &Question) -> Option<Duration> {
    let secs = question.resource.spec.update_period_seconds.unwrap_or(0);
    let secs = secs.min(CalicoNodeStatusSpec::MAX_PERIOD_SECS);
    (secs > 0).then(|| Duration::from_secs(secs.into()))
}

fn is_answered(question: &Question) -> bool {
    question.resource.status.as_ref().is_some_and(|status| status.last_updated.is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn put(questions: &mut Questions, name: &str, node: &str, period: u32, answered: bool, now: Instant) {
        let key = Key::resource(Kind::CalicoNodeStatus, "", name);
        let status = if answered { json!({ "lastUpdated": "2026-01-01T00:00:00Z" }) } else { json!({}) };
        let value = json!({
            "kind": "CalicoNodeStatus", "apiVersion": "projectcalico.org/v3", "metadata": { "name": name },
            "spec": { "node": node, "classes": ["BGP"], "updatePeriodSeconds": period }, "status": status,
        });
        let entry = Entry { key: key.clone(), value: value.to_string().into(), revision: 1.into() };
        questions.update(&key, Some(entry), now);
    }

    #[test]
    fn each_in_its_own_rhythm() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut questions = Questions::new("me".into());
        put(&mut questions, "often", "me", 2, false, start);
        put(&mut questions, "seldom", "me", 5, true, start);
        put(&mut questions, "once", "me", 0, false, start);
        put(&mut questions, "done", "me", 0, true, start);
        put(&mut questions, "other", "you", 1, false, start);
        let taken = |questions: &mut Questions, secs| -> Vec<String> {
            questions.take_due(at(secs)).iter().map(|q| q.resource.metadata.name.to_string()).collect()
        };
        assert_eq!(questions.next_due(), Some(start));
        assert_eq!(taken(&mut questions, 0), ["often", "once", "seldom"]);
        assert_eq!(questions.next_due(), Some(at(2)));
        // Our own answers come back.
        put(&mut questions, "often", "me", 2, true, at(0));
        put(&mut questions, "once", "me", 0, true, at(0));
        assert_eq!(taken(&mut questions, 1), Vec::<String>::new());
        assert_eq!(taken(&mut questions, 2), ["often"]);
        assert_eq!(taken(&mut questions, 5), ["often", "seldom"]);
        // A changed question is a new one.
        put(&mut questions, "seldom", "me", 1, true, at(6));
        assert_eq!(questions.next_due(), Some(at(6)));
        for name in ["often", "seldom", "once"] {
            questions.update(&Key::resource(Kind::CalicoNodeStatus, "", name), None, at(7));
        }
        put(&mut questions, "done", "you", 1, true, at(7));
        assert_eq!(questions.next_due(), None);
    }

    #[test]
    fn there_is_an_end_to_them() {
        let mut questions = Questions::new("me".into());
        let now = Instant::now();
        for n in 0..=MAX_QUESTIONS {
            put(&mut questions, &format!("q{n}"), "me", 1, false, now);
        }
        assert_eq!(questions.take_due(now).len(), MAX_QUESTIONS);
    }
}
