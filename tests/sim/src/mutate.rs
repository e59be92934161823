//! What arrives from outside, spoilt: bytes and texts that were whole, changed as a seed decides. Every fuzz test of the
//! workspace draws from here, and is told to run other seeds in one way: `make fuzz SEEDS=100000 FIRST=1`.

use std::{any::Any, ops::Range, panic::AssertUnwindSafe};

use rand::{RngExt, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

/// Numbers that somebody did not think of.
const NUMBERS: [&str; 20] = [
    "0",
    "-1",
    "1",
    "2",
    "255",
    "65536",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "1e-300",
    "1e300",
    "-0.0",
    ".nan",
    ".inf",
    "0.5",
    "1e9",
    "''",
    "[]",
    "{}",
];

/// The seeds to run: so many from 0 on, or those of `FUZZ_FIRST` and `FUZZ_SEEDS`.
#[must_use]
pub fn seeds(usual: u64) -> Range<u64> {
    let said = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = said("FUZZ_FIRST").unwrap_or(0);
    first..first + said("FUZZ_SEEDS").unwrap_or(usual)
}

/// Runs a check over seeds; a failure names its seed.
///
/// # Panics
/// When a check panics.
pub fn over_seeds(usual: u64, check: impl Fn(u64)) {
    for seed in seeds(usual) {
        if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(|| check(seed))) {
            panic!("seed {seed}: {}; again with make fuzz FIRST={seed} SEEDS=1", said(&*panic));
        }
    }
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words")
}

/// Spoils what it is given.
#[derive(Debug)]
pub struct Mutator(ChaCha8Rng);

impl Mutator {
    /// The mutator of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// One of several.
    ///
    /// # Panics
    /// When there is none.
    pub fn one_of<'a, T>(&mut self, several: &'a [T]) -> &'a T {
        several.choose(&mut self.0).expect("there is one")
    }

    /// True with this probability.
    pub fn flips(&mut self, probability: f64) -> bool {
        self.0.random_bool(probability)
    }

    /// Any bytes, up to so many.
    pub fn noise(&mut self, most: usize) -> Vec<u8> {
        let length = self.0.random_range(0..=most);
        (0..length).map(|_| self.0.random()).collect()
    }

    /// Bytes with up to four things wrong with them.
    pub fn bytes(&mut self, whole: &[u8]) -> Vec<u8> {
        let mut bytes = whole.to_vec();
        for _ in 0..self.0.random_range(1..=4) {
            self.spoil(&mut bytes);
        }
        bytes
    }

    /// A file that was cut short, or some of whose bytes are not what was written.
    pub fn file(&mut self, whole: &[u8]) -> Vec<u8> {
        let mut bytes = whole.to_vec();
        let at = self.0.random_range(0..bytes.len());
        match self.0.random_range(0..3) {
            0 => bytes.truncate(at),
            1 => {
                let end = bytes.len().min(at + 512);
                bytes[at..end].fill(0xff);
            }
            _ => bytes[at] ^= 1 << self.0.random_range(0..8),
        }
        bytes
    }

    fn spoil(&mut self, bytes: &mut Vec<u8>) {
        let at = self.0.random_range(0..=bytes.len());
        let end = self.0.random_range(at..=bytes.len().min(at + 64));
        match self.0.random_range(0..7) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, self.0.random()),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            4 => bytes[at..end].iter_mut().for_each(|byte| *byte = 0xff),
            5 => bytes[at..end].iter_mut().for_each(|byte| *byte = 0),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << self.0.random_range(0..8);
                }
            }
        }
    }

    /// A text of lines with up to three things wrong with it: a number that is another one, a line twice, elsewhere or
    /// nowhere, or a byte that is not what it was.
    pub fn text(&mut self, whole: &str) -> String {
        let mut text = whole.to_owned();
        for _ in 0..self.0.random_range(1..=3) {
            text = match self.0.random_range(0..8) {
                0 => self.moved_line(&text),
                1 => String::from_utf8_lossy(&self.bytes(text.as_bytes())).into_owned(),
                _ => self.another_number(&text),
            };
        }
        text
    }

    fn moved_line(&mut self, text: &str) -> String {
        let mut lines: Vec<&str> = text.lines().collect();
        if lines.is_empty() {
            return String::new();
        }
        let (from, to) = (self.0.random_range(0..lines.len()), self.0.random_range(0..lines.len()));
        let line = lines[from];
        match self.0.random_range(0..3) {
            0 => drop(lines.remove(from)),
            1 => lines.insert(to, line),
            _ => lines.swap(from, to),
        }
        lines.join("\n")
    }

    fn another_number(&mut self, text: &str) -> String {
        let digit = |at: &usize| text.as_bytes()[*at].is_ascii_digit();
        let starts: Vec<usize> = (0..text.len()).filter(|at| digit(at) && (*at == 0 || !digit(&(at - 1)))).collect();
        let Some(&start) = starts.choose(&mut self.0) else { return text.to_owned() };
        let number = |c: char| c.is_ascii_digit() || ".eE-_".contains(c);
        let length = text[start..].find(|c| !number(c)).unwrap_or(text.len() - start);
        format!("{}{}{}", &text[..start], self.one_of(&NUMBERS), &text[start + length..])
    }
}
