//! Sequences side by side (HANDS), and which of their positions are judged.
//!
//! B rows, N tokens of the longest, R learned tokens in all.

use std::ops::Range;

/// A batch. Rows are padded on the right: models here are causal, so no token before the padding sees it, and no
/// position in it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenBatch {
    /// B x N token ids.
    pub ids: Vec<i64>,
    /// B.
    pub rows: usize,
    /// N.
    pub width: usize,
    /// R flat positions row * N + p whose next token is learned, ascending.
    pub reads: Vec<i64>,
    /// R next tokens.
    pub labels: Vec<i64>,
    /// B numbers of learned tokens, R in sum.
    pub counts: Vec<usize>,
}

impl TokenBatch {
    /// The batch of these rows, each its tokens and the indices learned in it.
    pub(crate) fn pack(rows: &[(&[u32], &[Range<u32>])], pad: u32) -> Self {
        let width = rows.iter().map(|(ids, _)| ids.len()).max().unwrap_or(0);
        let mut batch = Self {
            ids: vec![i64::from(pad); rows.len() * width],
            rows: rows.len(),
            width,
            reads: Vec::new(),
            labels: Vec::new(),
            counts: Vec::with_capacity(rows.len()),
        };
        for (row, (ids, learned)) in rows.iter().enumerate() {
            batch.fill(row * width, ids, learned);
        }
        batch
    }

    fn fill(&mut self, start: usize, ids: &[u32], learned: &[Range<u32>]) {
        for (place, &id) in self.ids[start..].iter_mut().zip(ids) {
            *place = i64::from(id);
        }
        let before = self.reads.len();
        for index in learned.iter().cloned().flatten() {
            let index = index as usize;
            self.reads.push((start + index - 1) as i64);
            self.labels.push(i64::from(ids[index]));
        }
        self.counts.push(self.reads.len() - before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_padded_on_the_right_and_padding_is_never_read() {
        let batch = TokenBatch::pack(&[(&[5, 6, 7, 8], &[1..2, 3..4]), (&[9, 3], &[1..2])], 0);
        let expected = TokenBatch {
            ids: vec![5, 6, 7, 8, 9, 3, 0, 0],
            rows: 2,
            width: 4,
            reads: vec![0, 2, 4],
            labels: vec![6, 8, 3],
            counts: vec![2, 1],
        };
        assert_eq!(batch, expected);
    }
}
