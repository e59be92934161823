//! Frozen weights that are spread over the ranks of a node (LAW): who keeps which block, and in which order blocks are brought
//! to all of them (`model.shard: node`).
//!
//! Ranks run different stitches at the same time, and a block is broadcast by the rank that keeps it: so all of a node walk
//! through one order of blocks together, and each computes where its own path goes. A *round* is one slot of every rank.

use esta_proto::{AnchorId, StitchId};

use crate::catalog::{Catalog, Stitch};

/// A block of an anchor. Blocks are ordered as networks run them: anchor by anchor, from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockId {
    /// Whose.
    pub anchor: AnchorId,
    /// Which of its blocks.
    pub block: u32,
}

/// All blocks of a family, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocks {
    /// By anchor: how many blocks lie before its first; then how many there are.
    starts: Vec<usize>,
}

impl Blocks {
    /// The blocks of a catalog's anchors.
    #[must_use]
    pub fn of(catalog: &Catalog) -> Self {
        let mut starts = vec![0];
        for arch in &catalog.anchors {
            starts.push(starts[starts.len() - 1] + arch.depth() as usize);
        }
        Self { starts }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.starts[self.starts.len() - 1]
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = BlockId> {
        (0..self.len()).map(|number| self.at(number))
    }

    /// The number of a block in the order.
    #[must_use]
    pub fn number(&self, BlockId { anchor, block }: BlockId) -> usize {
        self.starts[anchor.index()] + block as usize
    }

    /// The block of a number.
    fn at(&self, number: usize) -> BlockId {
        let anchor = self.starts.partition_point(|start| *start <= number) - 1;
        BlockId { anchor: AnchorId(anchor as u32), block: (number - self.starts[anchor]) as u32 }
    }

    /// The one of `ranks` ranks that keeps a block: they take turns, so that each keeps about as much as any other, and blocks
    /// that follow each other are brought by different ranks.
    #[must_use]
    pub fn keeper(&self, block: BlockId, ranks: u32) -> u32 {
        (self.number(block) % ranks.max(1) as usize) as u32
    }
}

/// A block in a round. A path that goes back to a smaller anchor needs another *lap* through the order of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stop {
    /// From 0 on.
    pub lap: u32,
    /// Which block.
    pub block: BlockId,
}

/// What a slot runs: ascending stops, forward and back again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tour {
    /// Forward only: the blocks of whoever teaches.
    pub taught: Vec<Stop>,
    /// Forward, then back.
    pub own: Vec<Stop>,
}

/// The order of blocks in the rounds of one run.
#[derive(Debug, Clone)]
pub struct Order {
    blocks: Blocks,
    teacher: Option<Stitch>,
    /// Laps of a teacher, and of all that a round can have.
    taught_laps: u32,
    laps: u32,
}

/// What a round brings to every rank.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Round {
    /// Ascending.
    pub forward: Vec<Stop>,
    /// Descending.
    pub back: Vec<Stop>,
}

impl Order {
    /// The order of a catalog's stitches, all but the teacher itself taught by it, if there is one.
    #[must_use]
    pub fn new(catalog: &Catalog, teacher: Option<StitchId>) -> Self {
        let laps = |stitch: &Stitch| walk(stitch, 0).last().map_or(0, |stop| stop.lap + 1);
        let teacher = teacher.and_then(|id| catalog.get(id)).cloned();
        let taught_laps = teacher.as_ref().map_or(0, laps);
        let own = catalog.stitches().map(laps).max().unwrap_or(0);
        Self { blocks: Blocks::of(catalog), teacher, taught_laps, laps: taught_laps + own }
    }

    /// All blocks of the family.
    #[must_use]
    pub fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// What a slot of this stitch runs.
    #[must_use]
    pub fn tour(&self, stitch: &Stitch) -> Tour {
        let teacher = self.teacher.as_ref().filter(|teacher| teacher.id != stitch.id);
        Tour { taught: teacher.map_or_else(Vec::new, |teacher| walk(teacher, 0)), own: walk(stitch, self.taught_laps) }
    }

    /// The tours of one rank's rounds as ones in a row of zeros, for `rounds` rounds at most: summed over the ranks, it says
    /// where anybody stops.
    #[must_use]
    pub fn marks<'t>(&self, tours: impl Iterator<Item = &'t Tour>, rounds: u32) -> Vec<i64> {
        let mut marks = vec![0; rounds as usize * self.width()];
        for (row, tour) in marks.chunks_exact_mut(self.width().max(1)).zip(tours) {
            for stop in tour.taught.iter().chain(&tour.own) {
                row[stop.lap as usize * self.blocks.len() + self.blocks.number(stop.block)] = 1;
            }
        }
        marks
    }

    /// The rounds that summed marks ask for.
    #[must_use]
    pub fn rounds(&self, marks: &[i64]) -> Vec<Round> {
        marks
            .chunks_exact(self.width().max(1))
            .map(|row| self.round(row))
            .take_while(|r| !r.forward.is_empty())
            .collect()
    }

    fn round(&self, row: &[i64]) -> Round {
        let stop = |place: usize| Stop {
            lap: (place / self.blocks.len()) as u32,
            block: self.blocks.at(place % self.blocks.len()),
        };
        let forward: Vec<Stop> = (0..row.len()).filter(|place| row[*place] > 0).map(stop).collect();
        let back = forward.iter().rev().filter(|stop| stop.lap >= self.taught_laps).copied().collect();
        Round { forward, back }
    }

    /// Marks of one round.
    fn width(&self) -> usize {
        self.laps as usize * self.blocks.len()
    }
}

/// The blocks of a path, each in the first lap that comes to it after the one before.
fn walk(stitch: &Stitch, first_lap: u32) -> Vec<Stop> {
    let mut lap = first_lap;
    let mut stops: Vec<Stop> = Vec::new();
    for segment in &stitch.segments {
        for block in segment.first..=segment.last {
            let block = BlockId { anchor: segment.anchor, block };
            if stops.last().is_some_and(|last| last.block >= block) {
                lap += 1;
            }
            stops.push(Stop { lap, block });
        }
    }
    stops
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::JobSpec;

    fn catalog(space: &str) -> Catalog {
        let anchor = |name: &str, depth: u32, width: u32| {
            serde_json::json!({"name": name, "weights": name, "arch":
                {"embed_dim": width, "depth": depth, "num_heads": 2, "patch_size": 4, "image_size": 8}})
        };
        let job = serde_json::json!({
            "name": "walks",
            "family": {"anchors": [anchor("s", 2, 8), anchor("l", 4, 16)], "space": {"kind": space}},
            "train": {"max_steps": 1},
            "data": {"num_classes": 2, "train": {"layout": "digits_csv", "path": "d.csv"}},
        });
        let spec: JobSpec = serde_json::from_value(job).expect("a job");
        Catalog::build(&spec).expect("a sound job")
    }

    fn block(anchor: u32, block: u32) -> BlockId {
        BlockId { anchor: AnchorId(anchor), block }
    }

    #[test]
    fn blocks_are_numbered_anchor_by_anchor_and_ranks_keep_them_in_turn() {
        let blocks = Blocks::of(&catalog("proportional"));
        let all: Vec<BlockId> = blocks.iter().collect();
        assert_eq!(all, [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (1, 3)].map(|(anchor, number)| block(anchor, number)));
        assert!(all.iter().enumerate().all(|(number, block)| blocks.number(*block) == number));
        let keepers: Vec<u32> = all.iter().map(|block| blocks.keeper(*block, 4)).collect();
        assert_eq!(keepers, [0, 1, 2, 3, 0, 1]);
        assert!(all.iter().all(|block| blocks.keeper(*block, 1) == 0));
    }

    #[test]
    fn a_path_upwards_is_one_lap_and_every_way_back_another() {
        let catalog = catalog("twoway");
        let order = Order::new(&catalog, None);
        for stitch in catalog.stitches() {
            let stops = order.tour(stitch).own;
            assert!(stops.is_sorted_by(|one, next| one < next), "{:?}", stitch.segments);
            let downwards = stitch.segments.windows(2).filter(|pair| pair[1].anchor < pair[0].anchor).count();
            assert_eq!(stops.last().expect("blocks").lap as usize, downwards, "{:?}", stitch.segments);
            let run: Vec<BlockId> = stops.iter().map(|stop| stop.block).collect();
            let path = stitch.segments.iter().flat_map(|s| (s.first..=s.last).map(|b| block(s.anchor.0, b)));
            assert_eq!(run, path.collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_round_stops_where_any_rank_does_and_comes_back_the_same_way() {
        let catalog = catalog("proportional");
        let order = Order::new(&catalog, None);
        let tour = |id: u32| order.tour(catalog.get(StitchId(id)).expect("a stitch"));
        // Ranks with two slots, one slot and none, of three that a step could give to one of them.
        let ranks = [vec![tour(0), tour(2)], vec![tour(1)], vec![]];
        let mut sum = vec![0; 3 * 6];
        for tours in &ranks {
            for (sum, mark) in sum.iter_mut().zip(order.marks(tours.iter(), 3)) {
                *sum += mark;
            }
        }
        let rounds = order.rounds(&sum);
        let blocks = |stops: &[Stop]| stops.iter().map(|stop| stop.block).collect::<Vec<_>>();
        assert_eq!(rounds.len(), 2);
        assert_eq!(blocks(&rounds[0].forward), order.blocks().iter().collect::<Vec<_>>(), "both anchors run");
        assert_eq!(blocks(&rounds[1].forward), blocks(&tour(2).own), "one path alone");
        for round in rounds {
            assert_eq!(round.back, round.forward.iter().rev().copied().collect::<Vec<_>>());
        }
    }

    #[test]
    fn who_teaches_runs_first_and_forward_only_and_is_not_taught() {
        let catalog = catalog("proportional");
        let order = Order::new(&catalog, Some(StitchId(1)));
        let taught = order.tour(catalog.get(StitchId(0)).expect("an anchor"));
        assert_eq!(
            taught.taught.iter().map(|stop| stop.block).collect::<Vec<_>>(),
            (0..4).map(|b| block(1, b)).collect::<Vec<_>>()
        );
        let teacher = order.tour(catalog.get(StitchId(1)).expect("an anchor"));
        assert_eq!((teacher.taught.len(), teacher.own.len()), (0, 4));
        let rounds = order.rounds(&order.marks([&taught].into_iter(), 1));
        assert_eq!((rounds[0].forward.len(), rounds[0].back.len()), (4 + 2, 2));
    }
}
