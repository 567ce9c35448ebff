//! The order in which a host looks for a block in a pool (spec 5 §2.7): a start that depends on the host, then
//! sequentially with wrap-around, so that hosts rarely contend and every block is visited exactly once.
//!
//! Calico draws the start from Go's seeded additive generator. Only determinism per host and full coverage matter, so
//! ours is SplitMix64 seeded with the same FNV-1 hash; two draws give 128 bits, reduced modulo the number of blocks
//! (the bias is below 2^-64 for any pool that fits a datastore).

use calico_net::Cidr;

/// 32-bit FNV-1: multiply, then xor (FNV-1a does it the other way round).
pub fn fnv1(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash: u32, byte| hash.wrapping_mul(0x0100_0193) ^ u32::from(byte))
}

/// The seed of a host's search: the hash of its name; for pools of single addresses the current time, so that one
/// host's many claims do not probe the same run again (spec 5 §2.7).
pub fn seed(host: &str, block_is_host: bool, now_nanos: u64) -> u64 {
    if block_is_host { now_nanos } else { u64::from(fnv1(host)) }
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Every block CIDR of a pool, once, in the order of a seed. Empty if blocks are larger than the pool.
pub fn blocks(pool: Cidr, block_len: u8, seed: u64) -> impl Iterator<Item = Cidr> {
    let count = block_len
        .checked_sub(pool.prefix_len())
        .filter(|_| block_len <= pool.family().bits())
        .map_or(0, |bits| 1u128.checked_shl(bits.into()).unwrap_or(u128::MAX));
    let mut state = seed;
    let high = u128::from(split_mix(&mut state)) << 64;
    let start = (high | u128::from(split_mix(&mut state))).checked_rem(count).unwrap_or(0);
    (start..count).chain(0..start).filter_map(move |i| pool.subnet(block_len, i))
}

#[cfg(test)]
mod tests;
