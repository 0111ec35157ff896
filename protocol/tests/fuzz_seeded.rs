//! The fuzz target's checks on stable Rust: the vectors, changed at random but the same way on
//! every run, and random bytes.

use std::fs;
use std::path::Path;

#[path = "../fuzz/checks.rs"]
mod checks;

#[test]
fn no_input_breaks_what_the_fuzz_target_checks() {
    let seeds = seeds();
    assert!(seeds.len() > 400, "{} seeds: are the vectors there?", seeds.len());
    seeds.iter().for_each(|seed| checks::decode(seed));
    let mut chance = Chance(0x5eed);
    for _ in 0..200_000 {
        checks::decode(&changed(&seeds, &mut chance));
    }
    for _ in 0..50_000 {
        let length = chance.below(96);
        let input: Vec<u8> = (0..length).map(|_| chance.byte()).collect();
        checks::decode(&input);
    }
}

/// Up to three vectors one behind the other, with up to six changes.
fn changed(seeds: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut input = Vec::new();
    for _ in 0..=chance.below(3) {
        input.extend_from_slice(&seeds[chance.below(seeds.len())]);
    }
    for _ in 0..chance.below(7) {
        let at = chance.below(input.len() + 1);
        let end = (at + chance.below(8)).min(input.len());
        match chance.below(7) {
            0 => input.insert(at, chance.byte()),
            1 => drop(input.drain(at..end)),
            2 => input.truncate(at),
            3 => input.extend_from_within(at..end),
            4 => input[at..end].fill(0xff),
            _ if at == input.len() => {}
            5 => input[at] ^= 1 << chance.below(8),
            _ => input[at] = chance.byte(),
        }
    }
    input
}

/// Every `hex` in the vectors' files.
fn seeds() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .expect("the vectors' folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    // In the order of their names: the same seed gives the same inputs everywhere.
    paths.sort();
    let mut seeds = Vec::new();
    for path in paths {
        let text = fs::read_to_string(path).expect("a file of vectors");
        let list: Vec<serde_json::Value> = serde_json::from_str(&text).expect("a list");
        for vector in list {
            let digits = vector["hex"].as_str().expect("hex").replace(' ', "");
            let pairs = (0..digits.len()).step_by(2);
            let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex digits");
            seeds.push(pairs.map(byte).collect());
        }
    }
    seeds
}

/// SplitMix64: good enough to pick bytes with, and the same on every machine.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn byte(&mut self) -> u8 {
        self.next() as u8
    }
}
