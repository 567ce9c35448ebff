//! Bad input for decoders, the same in every run: valid inputs with bytes flipped, cut, repeated, spliced, and replaced
//! by the bytes that formats treat specially. What a fuzzer finds in hours these look for in a second.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Bytes that formats treat specially, or that lengths and characters end at.
const SPECIAL: &[u8] = b"\0\x01\x7f\x80\xff\"\\{}[]():,./%-+=_ \n\r\t09eE\xc3\xa4";

/// `count` inputs made of `seeds`, each by a few mutations of one of them. The seeds themselves come first.
pub fn mutations<'a>(seeds: &'a [&'a [u8]], count: usize, seed: u64) -> impl Iterator<Item = Vec<u8>> + 'a {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mutated = std::iter::repeat_with(move || {
        let mut input = pick(&mut rng, seeds).to_vec();
        for _ in 0..rng.random_range(1..=4) {
            mutate(&mut rng, &mut input, seeds);
        }
        input
    });
    seeds.iter().map(|s| s.to_vec()).chain(mutated).take(count)
}

/// The same, as text: what is no UTF-8 becomes replacement characters.
pub fn text_mutations<'a>(
    seeds: &'a [&'a [u8]],
    count: usize,
    seed: u64,
) -> impl Iterator<Item = String> + 'a {
    mutations(seeds, count, seed).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn pick<'a>(rng: &mut SmallRng, seeds: &'a [&'a [u8]]) -> &'a [u8] {
    if seeds.is_empty() { &[] } else { seeds[rng.random_range(0..seeds.len())] }
}

fn mutate(rng: &mut SmallRng, input: &mut Vec<u8>, seeds: &[&[u8]]) {
    let at = rng.random_range(0..=input.len());
    let to = rng.random_range(at..=input.len());
    match rng.random_range(0..7) {
        0 => input.truncate(at),
        1 => drop(input.drain(at..to.min(at + 8))),
        2 => input.insert(at, SPECIAL[rng.random_range(0..SPECIAL.len())]),
        3 => {
            let piece = input[at..to.min(at + 32)].to_vec();
            input.splice(at..at, piece);
        }
        4 => {
            // The tail of another input behind the head of this one.
            let other = pick(rng, seeds);
            input.truncate(at);
            input.extend_from_slice(&other[rng.random_range(0..=other.len())..]);
        }
        5 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << rng.random_range(0..8);
            }
        }
        _ => {
            if let Some(byte) = input.get_mut(at) {
                *byte = SPECIAL[rng.random_range(0..SPECIAL.len())];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_sees_the_same_inputs_and_most_are_new() {
        let seeds: [&[u8]; 2] = [b"10.0.0.0/8", b"80:90"];
        let one: Vec<_> = mutations(&seeds, 1000, 7).collect();
        assert_eq!(one, mutations(&seeds, 1000, 7).collect::<Vec<_>>());
        assert_eq!(&one[..2], &[seeds[0].to_vec(), seeds[1].to_vec()]);
        let distinct: std::collections::BTreeSet<_> = one.iter().collect();
        assert!(distinct.len() > 500, "{}", distinct.len());
        assert_eq!(mutations(&[], 3, 1).count(), 3);
    }
}
