//! The frozen blocks of a node, spread over its ranks (HANDS): what this one keeps. Who keeps what is the engine's to say
//! (`shard.rs` there).

use std::sync::Arc;

use esta_c10d::ProcessGroup;
use esta_engine::{
    law::Law,
    shard::{BlockId, Order},
};
use esta_model::{WeightsError, Windows};

use super::{room::Room, teacher::teacher};

/// This rank's part in its node's blocks.
pub struct Shard {
    /// Where blocks take turns.
    pub windows: Arc<Windows>,
    /// In which order.
    pub order: Order,
    /// What this rank may keep.
    pub room: Room,
}

impl Shard {
    /// A part that keeps nothing yet.
    #[must_use]
    pub fn new(law: &Law, windows: Arc<Windows>, room: Room) -> Self {
        let order = Order::new(&law.catalog, teacher(law).map(|teacher| teacher.stitch));
        Self { windows, order, room }
    }

    /// Loads what a rank of this node keeps, and drops what it does not keep any more.
    ///
    /// # Errors
    /// [`WeightsError`] naming a tensor of which a value is not finite.
    pub fn settle(&self, node: &ProcessGroup) -> Result<(), WeightsError> {
        let blocks = self.order.blocks();
        let own: Vec<BlockId> =
            blocks.iter().filter(|block| blocks.keeper(*block, node.world()) == node.rank()).collect();
        let kept = self.windows.keep(&own, self.room.blocks)?;
        let (rank, ranks) = (node.rank(), node.world());
        match kept == own.len() {
            true => tracing::info!(rank, ranks, blocks = kept, of = blocks.len(), "blocks kept for the node"),
            false => tracing::warn!(
                rank,
                ranks,
                blocks = kept,
                of = own.len(),
                "no room for its part of the node's blocks: the rest is read from its files at every use"
            ),
        }
        Ok(())
    }
}
