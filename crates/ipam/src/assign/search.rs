//! Where an owner finds a block to claim, reclaim or borrow from (spec 5 §2.6, and §2.5 step 6).

use calico_api::AffinityOwner;
use calico_net::{Cidr, Family};

use super::{Assign, AssignError, View};
use crate::affinity::{self, Claim, Release};
use crate::block;
use crate::machine::{Change, Halt};
use crate::order;
use crate::pools::Pool;
use crate::time::UnixTime;

/// An empty block of somebody else's may be reclaimed when its claim is older than this: its owner may be about to use
/// it (spec 5 §2.6).
const RECLAIM_AGE_SECS: u64 = 60;

/// How many places of one pool a search looks at. Only reservations and existing blocks are passed over, so this ends a
/// search only in pools of more blocks than any datastore holds, most of them reserved.
const MAX_PROBES: usize = 1 << 24;

impl Assign {
    fn order(&self, pool: &Pool) -> impl Iterator<Item = Cidr> + use<> {
        let is_host = pool.block_len == pool.cidr.family().bits();
        order::blocks(pool.cidr, pool.block_len, order::seed(self.request.owner_name(), is_host, self.now.0))
    }

    /// The next commit towards one more block: of a claim of a free one, or of a reclaim. `None`: there is none.
    pub(super) fn find_block(
        &self,
        view: &View<'_>,
        family: Family,
    ) -> Result<Option<Vec<Change>>, Halt<AssignError>> {
        let mut victims = Vec::new();
        for pool in self.pools.get(&family).into_iter().flatten() {
            // Blocks of another size, left from before the pool was made anew.
            let odd: Vec<Cidr> = view
                .known
                .blocks(family)
                .map(|(cidr, _)| cidr)
                .filter(|c| c.prefix_len() != pool.block_len && c.overlaps(&pool.cidr))
                .collect();
            let open =
                |c: &Cidr| !view.reserved.iter().any(|r| r.covers(c)) && !odd.iter().any(|o| o.overlaps(c));
            for cidr in self.order(pool).take(MAX_PROBES).filter(open) {
                match view.known.record(&calico_api::Key::Block(cidr)) {
                    None if !is_usable(cidr, &view.reserved) => continue,
                    None => {}
                    // Ours, but not on record as such.
                    Some(_) if self.is_unclaimed_own(view, cidr) => {}
                    Some(_) => {
                        if let Some(owner) = self.victim(view, cidr) {
                            victims.push((owner, cidr));
                        }
                        continue;
                    }
                }
                match affinity::claim(view.known, &self.request.owner, cidr, self.now)? {
                    Claim::Next(changes) => return Ok(Some(changes)),
                    Claim::Lost(changes) if !changes.is_empty() => return Ok(Some(changes)),
                    Claim::Ready { .. } | Claim::Lost(_) | Claim::Damaged(_) => {}
                }
            }
        }
        for (owner, cidr) in victims {
            match affinity::release(view.known, &owner, cidr, true, self.now, view.cooldown_secs)? {
                Release::Next(changes) => return Ok(Some(changes)),
                Release::Refused(changes) if !changes.is_empty() => return Ok(Some(changes)),
                Release::Refused(_) | Release::Damaged(_) | Release::Gone => {}
            }
        }
        Ok(None)
    }

    fn is_unclaimed_own(&self, view: &View<'_>, cidr: Cidr) -> bool {
        let Some((found, _)) = view.known.block(cidr) else { return false };
        block::is_owned_by(found, &self.request.owner)
            && view.known.affinity(&self.request.owner, cidr).is_none()
            && block::has_room(found, &view.reserved, self.now, view.cooldown_secs)
    }

    /// The owner of an empty block that may be reclaimed from it.
    fn victim(&self, view: &View<'_>, cidr: Cidr) -> Option<AffinityOwner> {
        let (found, _) = view.known.block(cidr)?;
        let owner = found.owner().filter(|o| *o != self.request.owner)?;
        // A time that is missing or cannot be read is old.
        let claimed =
            found.affinity_claim_time.as_deref().and_then(UnixTime::parse_rfc3339).unwrap_or_default();
        let is_old = claimed.secs() + RECLAIM_AGE_SECS < self.now.secs();
        (is_old && block::is_empty(found, self.now, view.cooldown_secs)).then_some(owner)
    }

    /// The blocks of others in the chosen pools, in the order in which to borrow from them.
    pub(super) fn lendable<'a>(
        &'a self,
        view: &'a View<'_>,
        family: Family,
    ) -> impl Iterator<Item = Cidr> + 'a {
        self.pools.get(&family).into_iter().flatten().flat_map(move |pool| {
            // Only blocks that exist can lend: sort those by their place in the order, instead of visiting every CIDR
            // of what may be a huge pool.
            let start = self.order(pool).next();
            let of_pool = |c: &Cidr| pool.cidr.covers(c);
            let all: Vec<Cidr> = view
                .known
                .blocks(family)
                .filter_map(|(c, b)| b.is_some().then_some(c))
                .filter(of_pool)
                .collect();
            let (before, after): (Vec<Cidr>, Vec<Cidr>) =
                all.into_iter().partition(|c| start.is_some_and(|s| *c < s));
            after.into_iter().chain(before)
        })
    }
}

/// Whether a new block would have any address to give.
fn is_usable(cidr: Cidr, reserved: &[Cidr]) -> bool {
    let inside: Vec<&Cidr> = reserved.iter().filter(|r| r.overlaps(&cidr)).collect();
    inside.is_empty()
        || (0..cidr.size()).any(|n| cidr.nth(n).is_some_and(|addr| !inside.iter().any(|r| r.contains(addr))))
}
