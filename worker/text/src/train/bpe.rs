//! Byte-pair encoding, learned (HANDS): Sennrich et al. 2016, the most frequent pair becomes a token, again and again.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

type Pair = (u32, u32);

/// What was learned.
pub(super) struct Learned {
    /// Tokens by id: those given first, then one per merge, save merges that make a token there is already.
    pub(super) tokens: Vec<String>,
    /// Merges by rank.
    pub(super) merges: Vec<(String, String)>,
}

/// Words as tokens, and where each pair of them stands.
struct Corpus {
    words: Vec<(Vec<u32>, u64)>,
    counts: BTreeMap<Pair, u64>,
    /// Words that hold a pair, or held it.
    places: BTreeMap<Pair, BTreeSet<usize>>,
    /// Pairs by their count when they were put there; the smaller ids first among equals.
    queue: BinaryHeap<(u64, Reverse<Pair>)>,
}

/// Learns merges until there are `limit` tokens or no pair occurs twice. `tokens` begin with every character of the
/// words.
pub(super) fn learn(mut tokens: Vec<String>, words: &BTreeMap<String, u64>, limit: usize) -> Learned {
    let mut ids: BTreeMap<String, u32> = tokens.iter().cloned().zip(0..).collect();
    let mut merges = Vec::new();
    let spelt =
        |word: &str| word.chars().filter_map(|c| ids.get(c.encode_utf8(&mut [0; 4]) as &str).copied()).collect();
    let mut corpus = Corpus::new(words.iter().map(|(word, &count)| (spelt(word), count)).collect());
    while tokens.len() < limit {
        let Some(pair) = corpus.most_frequent() else { break };
        let (first, second) = (tokens[pair.0 as usize].clone(), tokens[pair.1 as usize].clone());
        let token = format!("{first}{second}");
        let id = *ids.entry(token.clone()).or_insert_with(|| {
            tokens.push(token);
            (tokens.len() - 1) as u32
        });
        merges.push((first, second));
        corpus.merge(pair, id);
    }
    Learned { tokens, merges }
}

impl Corpus {
    fn new(words: Vec<(Vec<u32>, u64)>) -> Self {
        let mut corpus = Self { words, counts: BTreeMap::new(), places: BTreeMap::new(), queue: BinaryHeap::new() };
        for at in 0..corpus.words.len() {
            corpus.enter(at);
        }
        corpus.queue = corpus.counts.iter().map(|(&pair, &count)| (count, Reverse(pair))).collect();
        corpus
    }

    /// The most frequent pair of those that occur twice or more.
    fn most_frequent(&mut self) -> Option<Pair> {
        while let Some((count, Reverse(pair))) = self.queue.pop() {
            let current = self.counts.get(&pair).copied().unwrap_or(0);
            if current == count {
                return (count > 1).then_some(pair);
            }
        }
        None
    }

    /// Makes one token of every occurrence of a pair.
    fn merge(&mut self, pair: Pair, id: u32) {
        let mut changed = BTreeSet::new();
        for at in self.places.remove(&pair).unwrap_or_default() {
            let before = std::mem::take(&mut self.words[at].0);
            let after = merged(&before, pair, id);
            if after.len() == before.len() {
                self.words[at].0 = before;
                continue;
            }
            self.leave(&before, self.words[at].1, &mut changed);
            changed.extend(pairs(&after));
            self.words[at].0 = after;
            self.enter(at);
        }
        // Every count that moved gets an entry of its own; those that are out of date are passed over when they come up.
        for pair in changed {
            if let Some(&count) = self.counts.get(&pair) {
                self.queue.push((count, Reverse(pair)));
            }
        }
    }

    fn enter(&mut self, at: usize) {
        let (word, count) = &self.words[at];
        for pair in pairs(word) {
            *self.counts.entry(pair).or_default() += count;
            self.places.entry(pair).or_default().insert(at);
        }
    }

    fn leave(&mut self, word: &[u32], count: u64, changed: &mut BTreeSet<Pair>) {
        for pair in pairs(word) {
            changed.insert(pair);
            if let Some(total) = self.counts.get_mut(&pair) {
                *total -= count;
            }
        }
    }
}

fn pairs(word: &[u32]) -> impl Iterator<Item = Pair> {
    word.windows(2).map(|pair| (pair[0], pair[1]))
}

fn merged(word: &[u32], pair: Pair, id: u32) -> Vec<u32> {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let [first, tail @ ..] = rest {
        match tail {
            [second, tail @ ..] if (*first, *second) == pair => {
                out.push(id);
                rest = tail;
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}
