//! What a network takes (TENSOR): images, or texts and the tokens that are asked for.
//!
//! Shapes: B images or texts, N tokens, M tokens asked for.

use std::ops::Range;

use tch::{Device, Tensor};

/// One batch.
#[derive(Debug)]
pub enum Input {
    /// `[B, C, H, W]`
    Images(Tensor),
    /// Token sequences.
    Texts(Texts),
}

/// Token sequences of one batch.
#[derive(Debug)]
pub struct Texts {
    /// `[B, N]` as i64, padded behind: a causal network never looks there.
    pub ids: Tensor,
    /// `[M]` as i64, ascending: places b N + n whose next token is asked for.
    pub reads: Tensor,
    /// How many places each text has among `reads`; B of them.
    pub counts: Vec<i64>,
    /// Tokens of each text, padding left out; B of them.
    pub lengths: Vec<i64>,
}

impl From<&Tensor> for Input {
    /// Images; no copy is made.
    fn from(images: &Tensor) -> Self {
        Self::Images(images.shallow_clone())
    }
}

impl Input {
    /// Images or texts B.
    #[must_use]
    pub fn len(&self) -> i64 {
        match self {
            Self::Images(images) => images.size()[0],
            Self::Texts(texts) => texts.counts.len() as i64,
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Some images or texts of the batch, texts no wider than the longest of them, and the range of their labels among the
    /// batch's.
    ///
    /// # Panics
    /// When the batch has not so many.
    #[must_use]
    pub fn part(&self, rows: Range<i64>) -> (Self, Range<i64>) {
        let length = rows.end - rows.start;
        match self {
            Self::Images(images) => (Self::Images(images.narrow(0, rows.start, length)), rows),
            Self::Texts(texts) => {
                let (part, labels) = texts.part(rows);
                (Self::Texts(part), labels)
            }
        }
    }

    /// On a device.
    #[must_use]
    pub fn to_device(&self, device: Device) -> Self {
        match self {
            Self::Images(images) => Self::Images(images.to_device(device)),
            Self::Texts(texts) => Self::Texts(Texts {
                ids: texts.ids.to_device(device),
                reads: texts.reads.to_device(device),
                counts: texts.counts.clone(),
                lengths: texts.lengths.clone(),
            }),
        }
    }
}

impl Texts {
    /// Every token of `ids [B, N]` asks for its next.
    #[must_use]
    pub fn whole(ids: Tensor) -> Self {
        let (rows, width) = ids.size2().expect("texts are [B, N]");
        let reads = Tensor::arange(rows * width, (tch::Kind::Int64, ids.device()));
        let every = vec![width; index(rows)];
        Self { ids, reads, counts: every.clone(), lengths: every }
    }

    /// Flat places `[R]` of all tokens but padding and the first of each text, whose activations are enormous
    /// (METHOD.md section 5): what least squares are fitted on.
    pub fn later_tokens(&self) -> Tensor {
        let width = self.ids.size()[1];
        let rows = (0..).zip(&self.lengths);
        let places: Vec<i64> = rows.flat_map(|(row, &length)| row * width + 1..row * width + length).collect();
        Tensor::from_slice(&places).to_device(self.ids.device())
    }

    fn part(&self, rows: Range<i64>) -> (Self, Range<i64>) {
        let before: i64 = self.counts[..index(rows.start)].iter().sum();
        let counts = self.counts[index(rows.start)..index(rows.end)].to_vec();
        let asked: i64 = counts.iter().sum();
        let lengths = self.lengths[index(rows.start)..index(rows.end)].to_vec();
        let width = self.ids.size()[1];
        let longest = lengths.iter().max().map_or(width, |&longest| longest.min(width));
        let reads = self.reads.narrow(0, before, asked) - rows.start * width;
        let part = Self {
            ids: self.ids.narrow(0, rows.start, rows.end - rows.start).narrow(1, 0, longest).contiguous(),
            // Every row before a place is shorter by what was cut off.
            reads: match width - longest {
                0 => reads,
                cut => &reads - reads.divide_scalar_mode(width, "floor") * cut,
            },
            counts,
            lengths,
        };
        (part, before..before + asked)
    }
}

fn index(row: i64) -> usize {
    usize::try_from(row).expect("rows are not negative")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_texts_is_no_wider_than_its_longest_and_asks_for_the_same_tokens() {
        let lengths = [5, 2, 3, 1];
        let ids = Tensor::arange(4 * 5, (tch::Kind::Int64, Device::Cpu)).view([4, 5]);
        // Text and token.
        let asked = [[0, 1], [0, 4], [1, 0], [1, 1], [2, 2]];
        let reads: Vec<i64> = asked.iter().map(|[row, place]| row * 5 + place).collect();
        let counts = vec![2, 2, 1, 0];
        let reads_of = Tensor::from_slice(&reads);
        let texts = Input::Texts(Texts { ids, reads: reads_of, counts, lengths: lengths.to_vec() });
        let of = |rows: Range<i64>| {
            let (Input::Texts(part), labels) = texts.part(rows) else { panic!("they are texts") };
            let picked = part.ids.reshape([-1]).index_select(0, &part.reads);
            (part.ids.size(), Vec::<i64>::try_from(picked).expect("tokens"), labels, part.lengths)
        };
        assert_eq!(of(0..4), (vec![4, 5], reads.clone(), 0..5, lengths.to_vec()));
        assert_eq!(of(1..4), (vec![3, 3], reads[2..].to_vec(), 2..5, vec![2, 3, 1]));
        assert_eq!(of(2..3), (vec![1, 3], reads[4..].to_vec(), 4..5, vec![3]));
        assert_eq!(of(3..4), (vec![1, 1], vec![], 5..5, vec![1]));
    }
}
