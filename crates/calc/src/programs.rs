//! Rules in force: active policies and profiles with the same rules share one translation, and its sets.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use smol_str::SmolStr;

use crate::change::{Policy, Profile};
use crate::intern::Interner;
use crate::rules::{RuleLists, Translation, deny_all, translate};
use crate::sets::Sets;

/// What a translation depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    /// Number of the rules; deny-all with `None`.
    pub(crate) rules: Option<u32>,
    /// The policy's namespace; empty for global policies and profiles.
    pub(crate) namespace: SmolStr,
    /// The policy's tier; `None` for profiles.
    pub(crate) tier: Option<SmolStr>,
}

/// Translated rules, as they are told.
#[derive(Clone, Debug)]
pub(crate) enum Program {
    Policy(Arc<Policy>),
    Profile(Arc<Profile>),
}

#[derive(Debug)]
struct Entry {
    program: Program,
    sets: Vec<u32>,
    users: u32,
}

/// All translations in use.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    by_origin: FxHashMap<Origin, Entry>,
}

impl Programs {
    /// The translation of an origin, one use more.
    pub(crate) fn acquire(
        &mut self,
        origin: &Origin,
        rules: &mut Interner<RuleLists>,
        sets: &mut Sets,
    ) -> Program {
        if let Some(entry) = self.by_origin.get_mut(origin) {
            entry.users += 1;
            return entry.program.clone();
        }
        let Origin { rules: number, namespace, tier } = origin;
        let translated = number.map(|number| {
            rules.retain(number);
            translate(rules.get(number), (!namespace.is_empty()).then_some(namespace.as_str()))
        });
        // Selectors were checked when the rules were read. Should one fail all the same, nothing may pass.
        let Translation { ingress, egress, sets: specs } = match translated {
            Some(Ok(translation)) => translation,
            Some(Err(_)) | None => deny_all(),
        };
        let program = match tier {
            Some(tier) => Program::Policy(Arc::new(Policy { tier: tier.clone(), ingress, egress })),
            None => Program::Profile(Arc::new(Profile { ingress, egress })),
        };
        let sets = specs.iter().map(|spec| sets.acquire(spec)).collect();
        self.by_origin.insert(origin.clone(), Entry { program: program.clone(), sets, users: 1 });
        program
    }

    /// Takes back [`Programs::acquire`].
    pub(crate) fn release(&mut self, origin: &Origin, rules: &mut Interner<RuleLists>, sets: &mut Sets) {
        let Some(entry) = self.by_origin.get_mut(origin) else { return };
        entry.users -= 1;
        if entry.users > 0 {
            return;
        }
        for set in std::mem::take(&mut entry.sets) {
            sets.release(set);
        }
        self.by_origin.remove(origin);
        if let Some(number) = origin.rules {
            rules.release(number);
        }
    }

    /// Whether nothing is in use.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.by_origin.is_empty()
    }
}
