//! What could not be used, and why: the speaker goes on without it.

use std::fmt;

use calico_api::ResourceKey;

/// A resource, or a part of one, that was left out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Problem {
    /// Which resource.
    pub resource: ResourceKey,
    /// What is wrong with it, and what was left out because of it.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { resource, text } = self;
        write!(f, "{resource}: {text}")
    }
}
