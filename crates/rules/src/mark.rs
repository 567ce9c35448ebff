//! The packet-mark bits that rules talk to one another with, cut from the operator's mask.

/// The bits of the packet mark that are ours. Each of them means one thing everywhere and is never reused, since rules
/// of two hooks may belong to two transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MarkBits {
    /// All bits that we may touch.
    pub mask: u32,
    /// A policy or profile allowed the packet.
    pub accept: u32,
    /// A policy passed the packet to the next tier.
    pub pass: u32,
    /// A policy denied the packet, and the endpoint's chain knows whether it can be refused or must be dropped.
    pub drop: u32,
    /// Short-lived (reserved; the nftables renderer needs none).
    pub scratch0: u32,
    /// Short-lived (reserved; the nftables renderer needs none).
    pub scratch1: u32,
    /// The traffic of the WireGuard device, when it is enabled.
    pub wireguard: Option<u32>,
    /// What is left, for endpoint marks.
    pub endpoint: u32,
}

/// The mask has too few bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("mark mask {mask:#x} has {} bits set; {needed} are needed", mask.count_ones())]
pub struct MarkError {
    /// The mask.
    pub mask: u32,
    /// How many bits are needed.
    pub needed: u32,
}

impl MarkBits {
    /// Calico's default mask.
    pub const DEFAULT_MASK: u32 = 0xffff_0000;

    /// Takes bits from the lowest up: accept, pass, drop, scratch0, scratch1, WireGuard if enabled; the rest are for
    /// endpoints (spec 3 §6.4).
    pub fn allocate(mask: u32, wireguard: bool) -> Result<MarkBits, MarkError> {
        let needed = if wireguard { 6 } else { 5 };
        let mut left = mask;
        let mut take = || {
            let bit = left & left.wrapping_neg();
            left &= !bit;
            (bit != 0).then_some(bit).ok_or(MarkError { mask, needed })
        };
        let (accept, pass, drop, scratch0, scratch1) = (take()?, take()?, take()?, take()?, take()?);
        let wireguard = if wireguard { Some(take()?) } else { None };
        Ok(MarkBits { mask, accept, pass, drop, scratch0, scratch1, wireguard, endpoint: left })
    }
}

impl Default for MarkBits {
    fn default() -> MarkBits {
        MarkBits::allocate(MarkBits::DEFAULT_MASK, false).expect("sixteen bits are enough")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_from_the_lowest_up() {
        let m = MarkBits::default();
        assert_eq!(
            (m.accept, m.pass, m.drop, m.scratch0, m.scratch1),
            (0x10000, 0x20000, 0x40000, 0x80000, 0x100000)
        );
        assert_eq!((m.wireguard, m.endpoint), (None, 0xffe0_0000));
        let w = MarkBits::allocate(MarkBits::DEFAULT_MASK, true).unwrap();
        assert_eq!((w.wireguard, w.endpoint), (Some(0x200000), 0xffc0_0000));
    }

    #[test]
    fn too_few_bits_are_an_error() {
        assert_eq!(MarkBits::allocate(0xf, false), Err(MarkError { mask: 0xf, needed: 5 }));
        assert_eq!(
            MarkBits::allocate(0x1f, true).unwrap_err().to_string(),
            "mark mask 0x1f has 5 bits set; 6 are needed"
        );
    }
}
