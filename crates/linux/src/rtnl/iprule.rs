//! Policy routing rules (linux/fib_rules.h): which routing table a packet is looked up in.

use calico_net::Family;
use nix::errno::Errno;

use super::{Rtnl, RtnlError, address_family, failed, family_of};
use crate::attr::{Attrs, Writer, read_u32};
use crate::netlink::{CREATE, EXCL, NetlinkError, Refusal};

const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTM_GETRULE: u16 = 34;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FR_ACT_TO_TBL: u8 = 1;
const FIB_RULE_INVERT: u32 = 2;

/// A rule that sends packets to a table by their mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpRule {
    /// Of which family's packets.
    pub family: Family,
    /// Lower is asked first.
    pub priority: u32,
    /// The mark that a packet must have in the bits of `mask`.
    pub mark: u32,
    /// The bits of the mark that count; zero for any packet.
    pub mask: u32,
    /// Packets that do not match instead.
    pub invert: bool,
    /// The table to look in.
    pub table: u32,
}

/// `struct fib_rule_hdr`.
fn header(rule: &IpRule) -> [u8; 12] {
    let mut header = [0; 12];
    header[0] = address_family(rule.family);
    header[4] = u8::try_from(rule.table).unwrap_or(0);
    header[7] = FR_ACT_TO_TBL;
    header[8..12].copy_from_slice(&(if rule.invert { FIB_RULE_INVERT } else { 0 }).to_ne_bytes());
    header
}

impl Rtnl {
    /// Reads the rules of a family that lead to a table; others (`unreachable`, `goto`, …) are nobody's of ours.
    pub fn read_rules(&mut self, family: Family) -> Result<Vec<IpRule>, RtnlError> {
        let mut request = [0; 12];
        request[0] = address_family(family);
        self.socket
            .dump(RTM_GETRULE, |w| w.raw(&request), |m| decode_rule(m.payload))
            .map_err(failed(format!("read {family} rules")))
    }

    /// Adds a rule; that it exists is success.
    pub fn add_rule(&mut self, rule: &IpRule) -> Result<(), RtnlError> {
        match self.socket.request(RTM_NEWRULE, CREATE | EXCL, |w| encode(w, rule)) {
            Ok(()) | Err(NetlinkError::Refused(Refusal { errno: Errno::EEXIST, .. })) => Ok(()),
            Err(source) => Err(failed(format!("add rule {rule:?}"))(source)),
        }
    }

    /// Removes a rule; that it does not exist is success.
    pub fn delete_rule(&mut self, rule: &IpRule) -> Result<(), RtnlError> {
        match self.socket.request(RTM_DELRULE, 0, |w| encode(w, rule)) {
            Ok(()) | Err(NetlinkError::Refused(Refusal { errno: Errno::ENOENT, .. })) => Ok(()),
            Err(source) => Err(failed(format!("delete rule {rule:?}"))(source)),
        }
    }
}

pub(crate) fn encode(w: &mut Writer, rule: &IpRule) {
    w.raw(&header(rule));
    w.u32(FRA_PRIORITY, rule.priority);
    w.u32(FRA_TABLE, rule.table);
    if rule.mask != 0 {
        w.u32(FRA_FWMARK, rule.mark);
        w.u32(FRA_FWMASK, rule.mask);
    }
}

pub(crate) fn decode_rule(payload: &[u8]) -> Option<IpRule> {
    let header = payload.first_chunk::<12>()?;
    (header[7] == FR_ACT_TO_TBL).then_some(())?;
    let attrs = Attrs::after(payload, 12);
    let number = |kind: u16| attrs.find(kind).and_then(read_u32);
    Some(IpRule {
        family: family_of(header[0])?,
        priority: number(FRA_PRIORITY).unwrap_or(0),
        mark: number(FRA_FWMARK).unwrap_or(0),
        mask: number(FRA_FWMASK).unwrap_or(0),
        invert: read_u32(&header[8..])? & FIB_RULE_INVERT != 0,
        table: number(FRA_TABLE).unwrap_or(header[4].into()),
    })
}
