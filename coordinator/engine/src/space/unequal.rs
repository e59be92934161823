//! `proportional` and `unpaired`: one-layer paths between neighbours of different depth.

use super::{Pair, Routes};
use crate::spec::SpecError;

/// After block i of the front anchor, its last left out, enter the end anchor at the same share of its depth, rounded
/// half up. A front anchor of twice the depth or more reaches the end's last block early; it is not left after that.
/// Every stitch has its own layer.
pub(super) fn proportional(pair: Pair, routes: &mut Routes) -> Result<(), SpecError> {
    let (d0, d1) = (u64::from(pair.front_depth), u64::from(pair.end_depth));
    for leave in 0..pair.front_depth.saturating_sub(1) {
        let enter = (2 * (u64::from(leave) + 1) * d1 + d0) / (2 * d0);
        match u32::try_from(enter) {
            Ok(enter) if enter < pair.end_depth => routes.push(Some(vec![pair.up(leave, enter, leave)]))?,
            _ => {}
        }
    }
    Ok(())
}

/// SN-Net v1's rule: enter the end anchor at every block e whose nearest-neighbour image i = floor(e d0 / d1) lies
/// before it, after block i of the front anchor. As in its published code, stitches share the layer of the image of
/// block e - 1.
pub(super) fn unpaired(pair: Pair, routes: &mut Routes) -> Result<(), SpecError> {
    if pair.front_depth >= pair.end_depth {
        return Err(pair.flaw("unpaired needs the second to be deeper; use proportional"));
    }
    let image = |enter: u32| {
        let image = u64::from(enter) * u64::from(pair.front_depth) / u64::from(pair.end_depth);
        u32::try_from(image).expect("an image is at most the block itself")
    };
    (1..pair.end_depth)
        .filter(|&enter| image(enter) < enter)
        .try_for_each(|enter| routes.push(Some(vec![pair.up(image(enter), enter, image(enter - 1))])))
}

#[cfg(test)]
mod tests {
    use super::super::Hop;
    use super::*;

    type Rule = fn(Pair, &mut Routes) -> Result<(), SpecError>;

    fn hops(rule: Rule, front_depth: u32, end_depth: u32) -> Vec<Hop> {
        let mut routes = Routes::default();
        rule(Pair { front: 0, front_depth, end_depth }, &mut routes).expect("applies");
        routes.0.into_iter().flatten().flatten().collect()
    }

    #[test]
    fn proportional_counts_and_places() {
        let llama = hops(proportional, 32, 40);
        assert_eq!(llama.len(), 31);
        let enters: Vec<u32> = llama.iter().take(6).map(|hop| hop.enter).collect();
        assert_eq!(enters, [1, 3, 4, 5, 6, 8], "1.25, 2.5, 3.75, 5, 6.25, 7.5 rounded half up");
        assert_eq!(llama.last().map(|hop| (hop.leave, hop.enter)), Some((30, 39)));
    }

    #[test]
    fn proportional_goes_from_deep_to_shallow_too_and_always_leaves_a_block_to_run() {
        let halves: Vec<_> = hops(proportional, 8, 4).iter().map(|hop| (hop.leave, hop.enter)).collect();
        assert_eq!(halves, [(0, 1), (1, 1), (2, 2), (3, 2), (4, 3), (5, 3)]);
    }

    #[test]
    fn unpaired_counts_are_v1s() {
        for (front, end, count) in [(32, 40, 39), (28, 32, 31), (16, 28, 27)] {
            assert_eq!(hops(unpaired, front, end).len(), count, "{front} -> {end}");
        }
    }

    #[test]
    fn unpaired_places_and_layers() {
        let places: Vec<_> = hops(unpaired, 2, 4).iter().map(|hop| (hop.leave, hop.enter, hop.share)).collect();
        assert_eq!(places, [(0, 1, 0), (1, 2, 0), (1, 3, 1)]);
    }

    #[test]
    fn unpaired_refuses_depths_that_do_not_grow() {
        let pair = Pair { front: 0, front_depth: 12, end_depth: 12 };
        let flaw = unpaired(pair, &mut Routes::default()).expect_err("equal depths");
        assert_eq!(
            flaw.flaw,
            "anchors 0 and 1 have 12 and 12 blocks: unpaired needs the second to be deeper; use proportional"
        );
    }
}
