//! Bugs for tests to plant: each is a mistake that this kind of program is prone to, and the oracle must find it.
//!
//! Outside of tests [`planted`] is the constant `false` and leaves nothing in the program.

/// A classic mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// An address leaves a set with its first claimant, though another still contributes it.
    SharedAddressLeaves,
    /// An endpoint's old address stays claimed when it gets another.
    OldAddressStays,
    /// Labels of a profile that change are not passed on to its users.
    ParentChangeIgnored,
    /// A tier that moves leaves the endpoints' lists as they were.
    TierOrderStale,
    /// A policy that changes its order leaves the endpoints' lists as they were.
    PolicyOrderStale,
    /// A policy stays active when the last endpoint that it selects is gone.
    PolicyNeverInactive,
    /// A set stays when the last rule that names it is gone.
    SetNeverRemoved,
    /// A profile that appears after its users is not noticed.
    LateProfileIgnored,
    /// Members that come and go between two flushes are reported.
    DeltaNotCoalesced,
    /// A node on this one's subnet is reached through a tunnel although the pool is encapsulated across subnets only.
    SubnetIgnored,
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Whether a test has planted this bug.
#[cfg(test)]
pub(crate) fn planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Whether a test has planted this bug: never.
#[cfg(not(test))]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}

/// Plants a bug in this thread, or takes it out.
#[cfg(test)]
pub(crate) fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}
