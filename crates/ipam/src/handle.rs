//! Handles: how many addresses of each block one owner holds. They lead a releaser to the blocks.
//!
//! The invariant is that every assigned address can be reached from its handle. So counts go up before the block is
//! written, and come down only together with a write of the block, in that order:
//!
//! * An assigner knows the block, raises the handle, writes the block over what it knew.
//! * A releaser knows the handle, writes the block (even if it has nothing to take out; if there is none, it insists on
//!   that), lowers the handle over what it knew.
//!
//! Whichever of the two writes the block second fails, so no count disappears under an assignment in flight. A writer
//! that dies in between leaves a count that is too high, which is harmless: the next release of the handle settles it.

use std::collections::BTreeMap;

use calico_api::{IpamBlock, Key, Revision};
use calico_net::Cidr;
use smol_str::SmolStr;

use crate::block;
use crate::known::{Known, Need};
use crate::machine::Change;

/// Counts that were raised for block writes that then did not happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pledge {
    handle: SmolStr,
    /// The revision of our own raise; `None` if unknown.
    revision: Option<Revision>,
    counts: BTreeMap<Cidr, u32>,
}

/// The write that raises a handle. A handle that is not known is taken to be new; the conflict tells otherwise.
pub(crate) fn raise(known: &Known, id: &SmolStr, counts: &BTreeMap<Cidr, u32>) -> Change {
    let held = known.handle(id);
    let mut handle = held.map(|(h, _)| h.clone()).unwrap_or_default();
    for (block, count) in counts {
        let held = handle.block.entry(*block).or_default();
        *held = held.saturating_add(*count);
    }
    Change::handle(id, handle, held.map(|(_, r)| r))
}

/// The write that sets a handle's counts to what blocks (just being written in the same commit, before it) hold.
/// `None` if the handle is gone or says so already.
pub(crate) fn settle<'a>(
    known: &Known,
    id: &SmolStr,
    blocks: impl IntoIterator<Item = (Cidr, Option<&'a IpamBlock>)>,
) -> Option<Change> {
    let (old, revision) = known.handle(id)?;
    let mut handle = old.clone();
    for (cidr, after) in blocks {
        match after.map_or(0, |b| block::held_by(b, id)) {
            0 => handle.block.remove(&cidr),
            count => handle.block.insert(cidr, count),
        };
    }
    (handle != *old || handle.block.is_empty()).then(|| Change::handle(id, handle, Some(revision)))
}

impl Pledge {
    /// What a commit left behind that raised `id` but did not write the blocks of `counts`.
    pub(crate) fn new(known: &Known, id: &SmolStr, counts: BTreeMap<Cidr, u32>) -> Option<Pledge> {
        let revision = known.handle(id).map(|(_, r)| r.clone());
        (!counts.is_empty()).then(|| Pledge { handle: id.clone(), revision, counts })
    }

    /// The commit that takes the counts back; `None` if there is nothing to take back any more.
    pub(crate) fn redeem(&self, known: &Known) -> Result<Option<Vec<Change>>, Need> {
        let key = Key::Handle(self.handle.clone());
        known.require([key], [])?;
        let Some((handle, revision)) = known.handle(&self.handle) else { return Ok(None) };
        if Some(revision) == self.revision.as_ref() {
            // Nobody touched it since: subtracting is exact.
            let mut handle = handle.clone();
            for (block, count) in &self.counts {
                let left = handle.block.get(block).copied().unwrap_or(0).saturating_sub(*count);
                match left {
                    0 => handle.block.remove(block),
                    _ => handle.block.insert(*block, left),
                };
            }
            return Ok(Some(vec![Change::handle(&self.handle, handle, Some(revision))]));
        }
        // Somebody did; whether our counts are still in it only the blocks can tell.
        mend(known, &self.handle, self.counts.keys().copied())
    }
}

/// The commit that sets a handle's counts of some blocks to what the blocks hold, writing the blocks so that no
/// assigner in flight can slip in between. `None`: nothing to mend. Of a block that cannot be read nobody knows what the
/// handle has in it, so its count stays as it is.
pub(crate) fn mend(
    known: &Known,
    id: &SmolStr,
    blocks: impl IntoIterator<Item = Cidr>,
) -> Result<Option<Vec<Change>>, Need> {
    let blocks: Vec<Cidr> = blocks.into_iter().collect();
    let keys = blocks.iter().map(|c| Key::Block(*c));
    known.require(keys.chain([Key::Handle(id.clone())]), [])?;
    let mut changes = Vec::new();
    let mut after = Vec::new();
    for cidr in blocks.into_iter().filter(|c| known.problem(&Key::Block(*c)).is_none()) {
        let block = known.block(cidr).map(|(b, r)| {
            let mut b = b.clone();
            block::bump(&mut b);
            (b, r)
        });
        changes.push(match &block {
            Some((b, r)) => Change::block(b.clone(), Some(r)),
            None => Change::check_absent(Key::Block(cidr)),
        });
        after.push((cidr, block.map(|(b, _)| b)));
    }
    Ok(settle(known, id, after.iter().map(|(c, b)| (*c, b.as_ref()))).map(|change| {
        changes.push(change);
        changes
    }))
}
