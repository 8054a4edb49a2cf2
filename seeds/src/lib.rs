//! Runs fuzz targets as ordinary tests on the corpus seeds and on mutations of the seeds.
//!
//! Each crate with parsers has a module `fuzz` with one function per parser, which takes any bytes and asserts an
//! invariant. libFuzzer calls these functions from `crates/*/fuzz` (`scripts/fuzz`), and the crate's own tests call them
//! through [`run`]. The input of a finding becomes a seed, and so a regression test.
//!
//! The inputs are the same in every run. The environment variable `FUZZ_ROUNDS` sets the number of mutations.

use std::env;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use fastrand::Rng;

/// Calls `harness` with each seed in `fuzz/seeds/TARGET` of the crate at `manifest`, and with 3,000 mutations.
///
/// # Panics
///
/// Panics if the harness does, after it has printed the input, and if there are no seeds.
pub fn run(manifest: &str, target: &str, harness: impl Fn(&[u8])) {
    run_rounds(manifest, target, ROUNDS, harness);
}

/// Calls `harness` like [`run`], but with `rounds` mutations, for slow harnesses.
///
/// # Panics
///
/// Panics under the same conditions as [`run`].
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
    for _ in 0..rounds_from_environment().unwrap_or(rounds) {
        check(&mutation(&seeds, &mut random));
    }
}

fn rounds_from_environment() -> Option<u32> {
    env::var("FUZZ_ROUNDS").ok()?.parse().ok()
}

/// The default number of mutations per fuzz target, which finds shallow bugs in less than a second.
const ROUNDS: u32 = 3000;

/// Reads the seeds in the order of their names, so that every run is identical.
fn seeds(folder: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().filter_map(|path| fs::read(path).ok()).collect()
}

/// Returns one of the seeds with up to six random changes.
fn mutation(seeds: &[Vec<u8>], random: &mut Rng) -> Vec<u8> {
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
                    *byte = random.choice(DELIMITERS).copied().unwrap_or_default();
                }
            }
            2 => bytes.insert(at, random.choice(DELIMITERS).copied().unwrap_or_default()),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let copy = bytes.get(at..end).unwrap_or_default().to_vec();
                bytes.splice(at..at, copy);
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

/// Bytes with a special meaning to parsers.
const DELIMITERS: &[u8] = b"\0\r\n\t ,;:=\"\\/.%?#@*-+_[](){}<>0123456789aAfFzZ\x7f\x80\xc0\xff";

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
    fn fuzz_seed_runs_are_deterministic_and_start_with_the_seeds() {
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
    fn reports_the_input_of_a_failing_mutation() {
        let folder = folder_with(&["a\"b"]);
        let result = catch_unwind(|| {
            run(folder.to_str().unwrap(), "a", |bytes| assert!(!bytes.windows(2).any(|pair| pair == b"\"\"")));
        });
        assert!(result.is_err());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    #[should_panic(expected = "no seeds")]
    fn rejects_a_fuzz_target_without_seeds() {
        run("/nowhere", "a", |_| {});
    }
}
