//! Tokens that somebody has given out (HANDS): a line for each, with the token's SHA-256 instead of the token.
//!
//! ```text
//! # name      role    SHA-256 of the token, in hex
//! worker-*    worker  5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5
//! ```
//!
//! A name may have several lines, so that one token can take another's place.

use std::path::PathBuf;

use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use subtle::ConstantTimeEq;

use super::{FileError, Identity, NamePattern, Role, Watched};

/// What a file of tokens says.
#[derive(Debug)]
pub struct Tokens(Vec<(Sha256, Identity)>);

type Sha256 = [u8; SHA256_OUTPUT_LEN];

impl Tokens {
    /// The tokens of a file, read again when it changes.
    ///
    /// # Errors
    /// [`FileError`] naming the file and the line.
    pub fn watch(path: PathBuf) -> Result<Watched<Self>, FileError> {
        Watched::open(vec![path.clone()], move |contents| {
            let text = std::str::from_utf8(&contents[0]).map_err(|_| FileError::content(&path, "is no text"))?;
            Self::parse(text).map_err(|flaw| FileError::content(&path, flaw))
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
        let entries = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let entry = |(at, line)| entry(line).map_err(|flaw| format!("line {at}: {flaw}"));
        entries.map(entry).collect::<Result<_, _>>().map(Self)
    }

    /// Whom a token makes of its bearer. Every line is compared, each in constant time.
    #[must_use]
    pub fn find(&self, token: &str) -> Option<&Identity> {
        let hash = digest(&SHA256, token.as_bytes());
        let is_it = |known: &Sha256| bool::from(known.as_slice().ct_eq(hash.as_ref()));
        self.0.iter().fold(None, |found, (known, identity)| if is_it(known) { Some(identity) } else { found })
    }
}

fn entry(line: &str) -> Result<(Sha256, Identity), String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let &[name, role, hash] = words.as_slice() else {
        return Err(format!("{} words instead of a name, a role and the token's SHA-256", words.len()));
    };
    // A token that stands where a role belongs is not shown.
    let role: Role = role.parse().map_err(|_| "the second word is no role: worker, viewer or admin")?;
    let hash = sha256(hash).ok_or("the third word is no SHA-256 in 64 hex digits")?;
    let identity = Identity { subject: name.to_owned(), name: Some(name.parse::<NamePattern>()?), role };
    Ok((hash, identity))
}

fn sha256(hex: &str) -> Option<Sha256> {
    let digits: Vec<u8> =
        hex.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    (digits.len() == 2 * SHA256_OUTPUT_LEN).then_some(bytes)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use esta_sim::mutate::{Mutator, over_seeds};

    use super::*;

    /// `printf %s secret | sha256sum`, and the same of `other`.
    const SECRET: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
    const OTHER: &str = "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa";

    #[test]
    fn a_token_is_found_by_its_hash() {
        let text = format!("# who\n\n worker-*  worker {SECRET}\nops admin {}\nops viewer {OTHER}\n", "0".repeat(64));
        let tokens = Tokens::parse(&text).expect("it is a file of tokens");
        let found = |token| tokens.find(token).map(|identity| (identity.subject.as_str(), identity.role));
        assert_eq!(found("secret"), Some(("worker-*", Role::Worker)));
        assert_eq!(found("other"), Some(("ops", Role::Viewer)));
        for unknown in ["", "secre", "secrets", SECRET] {
            assert_eq!(found(unknown), None, "{unknown:?}");
        }
    }

    #[test]
    fn a_flaw_is_named_by_its_line_and_shows_no_token() {
        let flaw = |line: &str| Tokens::parse(&format!("# tokens\n{line}\n")).expect_err("it is flawed");
        assert_eq!(flaw("w worker"), "line 2: 2 words instead of a name, a role and the token's SHA-256");
        assert_eq!(flaw("w worker secret"), "line 2: the third word is no SHA-256 in 64 hex digits");
        assert_eq!(flaw(&format!("w boss {SECRET}")), "line 2: the second word is no role: worker, viewer or admin");
        assert_eq!(flaw(&format!("w*1 worker {SECRET}")), "line 2: \"w*1\" has a * that is not at its end");
    }

    #[test]
    fn a_spoilt_file_of_tokens_is_refused_in_one_line_or_holds_tokens() {
        let whole = format!("# who\n\n worker-*  worker {SECRET}\nops admin {}\nops viewer {OTHER}\n", "0".repeat(64));
        over_seeds(1000, |seed| {
            let mut mutator = Mutator::new(seed);
            let bytes = if mutator.flips(0.5) { mutator.bytes(whole.as_bytes()) } else { mutator.noise(200) };
            match Tokens::parse(&String::from_utf8_lossy(&bytes)) {
                Ok(tokens) => {
                    assert_eq!(tokens.find(""), None);
                    assert_eq!(tokens.find(&String::from_utf8_lossy(&mutator.noise(40))), None);
                }
                Err(flaw) => {
                    assert!(flaw.lines().count() == 1 && flaw.starts_with("line "), "{flaw:?}");
                    assert!(!flaw.contains(SECRET), "{flaw}");
                }
            }
        });
    }
}
