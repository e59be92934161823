//! Answers of a language model, token by token (HANDS).

use esta_engine::streams::{self, Stream};
use esta_model::Decoder;
use rand::RngExt;
use tch::{Kind, Tensor};

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Logits are divided by this; 0 takes the likeliest token.
    pub temperature: f64,
    /// Only the likeliest tokens that together have this probability.
    pub top_p: f64,
    /// Seed of the draws.
    pub seed: u64,
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By a token that ends texts.
    ByModel,
    /// It has as many tokens as were asked for.
    Full,
    /// The model can read no further.
    NoRoom,
    /// Whoever listens has enough.
    Stopped,
}

/// Lets a model answer a prompt with at most `most` tokens; `hear` is told of each but the one that ends the text, and says
/// whether to go on.
///
/// # Panics
/// On an empty prompt.
pub fn answer(
    decoder: &mut Decoder<'_>,
    prompt: &[u32],
    ends: &[u32],
    (most, sampling): (u64, Sampling),
    mut hear: impl FnMut(u32) -> bool,
) -> Ended {
    assert!(!prompt.is_empty(), "a prompt has tokens");
    if prompt.len() as u64 > decoder.room() {
        return Ended::NoRoom;
    }
    let mut unread: Vec<i64> = prompt.iter().map(|&id| i64::from(id)).collect();
    for number in 0..most {
        if decoder.seen() + unread.len() as u64 > decoder.room() {
            return Ended::NoRoom;
        }
        let token = sampling.choose(&decoder.read(&unread), number);
        if ends.contains(&token) {
            return Ended::ByModel;
        }
        if !hear(token) {
            return Ended::Stopped;
        }
        unread = vec![i64::from(token)];
    }
    Ended::Full
}

impl Sampling {
    /// The likeliest token, always.
    pub const GREEDY: Self = Self { temperature: 0.0, top_p: 1.0, seed: 0 };

    /// A token by its logits `[V]`: a function of seed and number.
    fn choose(self, logits: &Tensor, number: u64) -> u32 {
        if self.temperature <= 0.0 {
            return token(logits.argmax(0, false).int64_value(&[]));
        }
        let (probabilities, order) = (logits / self.temperature).softmax(-1, Kind::Double).sort(0, true);
        let probabilities = Vec::<f64>::try_from(probabilities).expect("doubles become doubles");
        let within = kept(&probabilities, self.top_p);
        let total: f64 = probabilities[..within].iter().sum();
        let mut left = streams::rng(self.seed, Stream::Speech, number).random::<f64>() * total;
        let passed = |probability: &f64| {
            left -= probability;
            left < 0.0
        };
        let place = probabilities[..within].iter().position(passed).unwrap_or(within - 1);
        token(order.int64_value(&[place as i64]))
    }
}

/// How many of descending probabilities it takes to reach `share`; at least one.
fn kept(descending: &[f64], share: f64) -> usize {
    let mut sum = 0.0;
    let reached = descending.iter().position(|probability| {
        sum += probability;
        sum >= share
    });
    reached.map_or(descending.len(), |last| last + 1).max(1)
}

fn token(id: i64) -> u32 {
    u32::try_from(id).expect("a vocabulary's ids fit 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_tokens_are_kept_until_they_have_the_share() {
        assert_eq!(kept(&[0.5, 0.3, 0.2], 0.5), 1);
        assert_eq!(kept(&[0.5, 0.3, 0.2], 0.6), 2);
        assert_eq!(kept(&[0.5, 0.3, 0.2], 1.0), 3);
        assert_eq!(kept(&[0.5, 0.3, 0.2], 0.0), 1);
    }

    #[test]
    fn draws_follow_the_probabilities_and_the_seed() {
        let logits = Tensor::from_slice(&[0.0_f32, f32::ln(3.0), f32::NEG_INFINITY]);
        let drawn = |seed, top_p| {
            let sampling = Sampling { temperature: 1.0, top_p, seed };
            (0..2000).map(|number| sampling.choose(&logits, number)).collect::<Vec<_>>()
        };
        let ones = drawn(1, 1.0).iter().filter(|&&token| token == 1).count();
        // 2,000 draws at 3 in 4: five standard deviations are 97.
        assert!((1403..=1597).contains(&ones), "{ones} of 2000");
        assert_eq!(drawn(1, 1.0), drawn(1, 1.0));
        assert_ne!(drawn(1, 1.0), drawn(2, 1.0));
        assert!(drawn(1, 0.7).iter().all(|&token| token == 1));
        assert_eq!(Sampling::GREEDY.choose(&logits, 9), 1);
    }
}
