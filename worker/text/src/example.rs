//! One sequence of tokens and which of them are learned (HANDS).

use std::ops::Range;

use esta_engine::spec::{LossOn, OverLong, TextSpec};

/// Tokens of one sequence, N of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// N token ids.
    pub ids: Vec<u32>,
    /// The learned tokens, as ascending ranges of indices 1..N that do not touch: token i is predicted from position
    /// i - 1.
    pub learned: Vec<Range<u32>>,
}

/// What becomes of an example under the limit on its length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fitted {
    /// It fits.
    Whole(Example),
    /// Its end was cut off.
    Cut(Example),
    /// It is too long, and not to be cut.
    TooLong(usize),
    /// Nothing in it is learned.
    Nothing,
}

/// Applies the limits of `text` to a sequence whose answers stand at `answers`.
pub(crate) fn fit(text: &TextSpec, mut ids: Vec<u32>, answers: &[Range<u32>]) -> Fitted {
    let (found, most) = (ids.len(), text.max_length as usize);
    if found > most && text.over_long != OverLong::Truncate {
        return Fitted::TooLong(found);
    }
    ids.truncate(most);
    let end = u32::try_from(ids.len()).unwrap_or(u32::MAX);
    let answers = match text.loss_on {
        LossOn::Answers => answers,
        LossOn::All => &[1..u32::MAX],
    };
    let learned: Vec<Range<u32>> =
        answers.iter().map(|range| range.start.max(1)..range.end.min(end)).filter(|range| !range.is_empty()).collect();
    match learned.is_empty() {
        true => Fitted::Nothing,
        false if found > most => Fitted::Cut(Example { ids, learned }),
        false => Fitted::Whole(Example { ids, learned }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(over_long: OverLong, loss_on: LossOn) -> TextSpec {
        TextSpec { max_length: 5, over_long, loss_on, ..TextSpec::default() }
    }

    fn fitted(over_long: OverLong, ids: &[u32], answers: &[Range<u32>]) -> Fitted {
        fit(&spec(over_long, LossOn::Answers), ids.to_vec(), answers)
    }

    #[test]
    fn what_fits_is_kept_under_every_policy() {
        for policy in [OverLong::Truncate, OverLong::Skip, OverLong::Refuse] {
            let whole = Fitted::Whole(Example { ids: vec![1, 2, 3, 4, 5], learned: vec![3..5] });
            assert_eq!(fitted(policy, &[1, 2, 3, 4, 5], &[3..5]), whole);
        }
    }

    #[test]
    fn what_is_too_long_is_cut_or_left_out() {
        let (ids, answers) = ([1, 2, 3, 4, 5, 6, 7], [1..2, 4..7]);
        let cut = Example { ids: vec![1, 2, 3, 4, 5], learned: vec![1..2, 4..5] };
        assert_eq!(fitted(OverLong::Truncate, &ids, &answers), Fitted::Cut(cut));
        assert_eq!(fitted(OverLong::Skip, &ids, &answers), Fitted::TooLong(7));
        assert_eq!(fitted(OverLong::Refuse, &ids, &answers), Fitted::TooLong(7));
    }

    #[test]
    fn a_prompt_that_fills_the_limit_leaves_nothing() {
        assert_eq!(fitted(OverLong::Truncate, &[1, 2, 3, 4, 5, 6, 7], &[5..7]), Fitted::Nothing);
    }

    #[test]
    fn all_tokens_but_the_first_are_learned() {
        let all = fit(&spec(OverLong::Truncate, LossOn::All), vec![1, 2, 3], &[2..3]);
        assert_eq!(all, Fitted::Whole(Example { ids: vec![1, 2, 3], learned: vec![1..3] }));
        assert_eq!(fit(&spec(OverLong::Truncate, LossOn::All), vec![1], &[]), Fitted::Nothing);
    }
}
