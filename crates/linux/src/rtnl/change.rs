//! Changes to what hangs on interfaces, many at a time: routes, neighbours, addresses, forwarding entries.

use std::fmt::Display;

use calico_net::IfName;
use nix::errno::Errno;

use super::{Rtnl, RtnlError, failed};
use crate::attr::Writer;

/// One change, independent of all others.
pub(super) trait Change: Display {
    /// The interface that it is about; none for what has none.
    fn device(&self) -> Option<&IfName>;

    /// Whether it takes something away, which an interface that goes does too.
    fn is_removal(&self) -> bool;

    /// Whether a refusal for this reason means that all is as it should be.
    fn is_as_wanted(&self, errno: Errno) -> bool;

    /// The request. `index` is the interface's number, 0 for none.
    fn encode(&self, w: &mut Writer, seq: u32, flags: u16, index: u32);
}

impl Rtnl {
    /// Does changes, each for itself. Returns those refused, by their place; removing what is not there is none.
    pub(super) fn apply_changes<C: Change>(
        &mut self,
        what: &'static str,
        changes: &[C],
    ) -> Result<Vec<(usize, RtnlError)>, RtnlError> {
        let mut refused = Vec::new();
        let mut places: Vec<usize> = (0..changes.len()).collect();
        // An interface that was made anew under its name has another number than the one that is remembered: what is
        // refused for that is tried once more with the new one.
        for is_last in [false, true] {
            let mut items = Vec::with_capacity(places.len());
            for place in places.drain(..) {
                let change = &changes[place];
                match change.device().map_or(Ok(0), |device| self.index(device)) {
                    Ok(index) => items.push((place, index)),
                    // It took everything along.
                    Err(RtnlError::NoDevice(_)) if change.is_removal() => {}
                    Err(error @ RtnlError::NoDevice(_)) => refused.push((place, error)),
                    Err(error) => return Err(error),
                }
            }
            let refusals = self
                .apply(&items, |w, seq, flags, (place, index)| changes[*place].encode(w, seq, flags, *index))
                .map_err(failed(what))?;
            for (item, refusal) in refusals {
                let place = items[item].0;
                let change = &changes[place];
                if refusal.errno == Errno::ENODEV
                    && let Some(device) = change.device()
                {
                    self.forget(device);
                    if change.is_removal() {
                        continue;
                    }
                    if !is_last {
                        places.push(place);
                        continue;
                    }
                }
                if !change.is_as_wanted(refusal.errno) {
                    refused.push((place, failed(change.to_string())(refusal.into())));
                }
            }
            if places.is_empty() {
                break;
            }
        }
        refused.sort_by_key(|(place, _)| *place);
        Ok(refused)
    }
}
