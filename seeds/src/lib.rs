//! Runs a fuzz target's function as an ordinary test: over the target's seeds, and over what is near them.
//!
//! Each crate with parsers has a module `fuzz` with one function per parser, which takes any bytes and asserts what must
//! hold of them. libFuzzer calls these functions from `crates/*/fuzz` (`scripts/fuzz`), and the crate's own tests call
//! them through [`run`], so that what a fuzzer once found stays found: its input becomes a seed.
//!
//! The inputs are the same in every run. `FUZZ_ROUNDS` makes them more.

use std::env;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use fastrand::Rng;

/// Calls `harness` with each seed in `fuzz/seeds/TARGET` of the crate at `manifest`, and with what comes of changing
/// them.
///
/// # Panics
///
/// When the harness does, after it has printed the bytes; or when there are no seeds.
pub fn run(manifest: &str, target: &str, harness: impl Fn(&[u8])) {
    run_rounds(manifest, target, ROUNDS, harness);
}

/// As [`run`], with so many changed inputs: for harnesses that take their time.
///
/// # Panics
///
/// As [`run`].
pub fn run_rounds(manifest: &str, target: &str, rounds: u32, harness: impl Fn(&[u8])) {
    let folder = Path::new(manifest).join("fuzz/seeds").join(target);
    let seeds = seeds(&folder);
    assert!(!seeds.is_empty(), "no seeds in {}", folder.display());
    let check = |bytes: &[u8]| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| harness(bytes))) {
            eprintln!("{target} fails on b\"{}\"", bytes.escape_ascii());
            resume_unwind(panic);
        }
    };
    check(b"");
    seeds.iter().for_each(|seed| check(seed));
    let mut random = Rng::with_seed(0x5eed);
    for _ in 0..more_rounds().unwrap_or(rounds) {
        check(&changed(&seeds, &mut random));
    }
}

fn more_rounds() -> Option<u32> {
    env::var("FUZZ_ROUNDS").ok()?.parse().ok()
}

/// Enough to meet what is shallow, in well under a second.
const ROUNDS: u32 = 3000;

/// In the order of their names, so that every run is the same.
fn seeds(folder: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().filter_map(|path| fs::read(path).ok()).collect()
}

/// One of the seeds, changed in some places.
fn changed(seeds: &[Vec<u8>], random: &mut Rng) -> Vec<u8> {
    let pick = |random: &mut Rng| random.choice(seeds).map_or(&[][..], Vec::as_slice);
    let mut bytes = pick(random).to_vec();
    for _ in 0..random.usize(1..=6) {
        let at = random.usize(..=bytes.len());
        let end = (at + random.usize(..=16)).min(bytes.len());
        match random.u8(..8) {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.u8(..8);
                }
            }
            1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random.choice(TELLING).copied().unwrap_or_default();
                }
            }
            2 => bytes.insert(at, random.choice(TELLING).copied().unwrap_or_default()),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let again = bytes.get(at..end).unwrap_or_default().to_vec();
                bytes.splice(at..at, again);
            }
            5 => {
                let other = pick(random);
                let from = random.usize(..=other.len());
                let to = (from + random.usize(..=32)).min(other.len());
                bytes.splice(at..at, other.get(from..to).unwrap_or_default().iter().copied());
            }
            6 => bytes.truncate(at),
            _ => bytes.insert(at, random.u8(..)),
        }
    }
    bytes
}

/// Bytes that parsers treat apart.
const TELLING: &[u8] = b"\0\r\n\t ,;:=\"\\/.%?#@*-+_[](){}<>0123456789aAfFzZ\x7f\x80\xc0\xff";

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn folder_with(seeds: &[&str]) -> std::path::PathBuf {
        let folder = env::temp_dir().join(format!("rproxy-seeds-{}-{}", std::process::id(), seeds.len()));
        let target = folder.join("fuzz/seeds/a");
        fs::create_dir_all(&target).unwrap();
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(target.join(number.to_string()), seed).unwrap();
        }
        folder
    }

    #[test]
    fn every_run_is_the_same_and_begins_with_the_seeds() {
        let folder = folder_with(&["one", "two"]);
        let inputs = || {
            let seen = RefCell::new(Vec::new());
            run(folder.to_str().unwrap(), "a", |bytes| seen.borrow_mut().push(bytes.to_vec()));
            seen.into_inner()
        };
        let seen = inputs();
        assert_eq!(seen[..3], [b"".to_vec(), b"one".to_vec(), b"two".to_vec()]);
        assert!(seen.len() > ROUNDS as usize);
        assert_eq!(seen, inputs());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_fails_is_found() {
        let folder = folder_with(&["a\"b"]);
        let found = catch_unwind(|| {
            run(folder.to_str().unwrap(), "a", |bytes| assert!(!bytes.windows(2).any(|pair| pair == b"\"\"")));
        });
        assert!(found.is_err());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    #[should_panic(expected = "no seeds")]
    fn a_target_without_seeds_is_a_mistake() {
        run("/nowhere", "a", |_| {});
    }
}
