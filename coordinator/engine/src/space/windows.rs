//! `snnet` and `esta`: windows sliding over the block ids of anchors of equal depth (SN-Net, arXiv 2302.06586).

use super::{Hop, Route, Routes};
use crate::spec::{SpaceKind, SpaceSpec, SpecError};

/// A pair of block ids (run the front anchor to `leave` inclusive, the end anchor from `enter`) and its window's layer.
#[derive(Clone, Copy)]
struct Place {
    leave: u32,
    enter: u32,
    share: u32,
}

/// One-layer paths of every stitched pair of anchors, then (`nearest: false`) two-layer chains of every three.
pub(super) fn enumerate(depths: &[u32], space: &SpaceSpec, routes: &mut Routes) -> Result<(), SpecError> {
    let depth = common_depth(depths, space)?;
    let mut places = places(depth, space);
    if space.kind == SpaceKind::Esta {
        places.retain(|place| place.leave + 1 < depth);
    }
    let anchors: Vec<u32> = (0..).zip(depths).map(|(anchor, _)| anchor).collect();
    for (front, end) in ordered_pairs(&anchors, space.nearest) {
        places.iter().try_for_each(|&place| routes.push(Some(vec![hop(front, end, place)])))?;
    }
    if !space.nearest {
        for triple in ordered_triples(&anchors) {
            chains(triple, &places).try_for_each(|route| routes.push(Some(route)))?;
        }
    }
    Ok(())
}

/// Every pair of block ids inside a window that no earlier window held, window by window. Windows are cut off at the
/// depth; one without a new pair gets no layer.
fn places(depth: u32, space: &SpaceSpec) -> Vec<Place> {
    let stride = usize::try_from(space.stride).expect("a u32 fits the address space");
    let mut places = Vec::new();
    // Where the last window ended. It began no later than this one, so it held a pair unless one id lies behind it.
    let mut held = 0;
    for (share, start) in (0..).zip((0..depth).step_by(stride)) {
        let window = start..start.saturating_add(space.window).min(depth);
        for leave in window.clone() {
            let new = window.clone().filter(|&enter| leave >= held || enter >= held);
            places.extend(new.map(|enter| Place { leave, enter, share }));
        }
        held = window.end;
        if held == depth {
            break;
        }
    }
    places
}

fn hop(from: u32, to: u32, place: Place) -> Hop {
    Hop { from, leave: place.leave, to, enter: place.enter, share: place.share }
}

/// Pairs front < end in lexicographic order; only neighbours if `nearest`.
fn ordered_pairs(anchors: &[u32], nearest: bool) -> impl Iterator<Item = (u32, u32)> {
    let pairs = anchors.iter().flat_map(|&front| anchors.iter().map(move |&end| (front, end)));
    pairs.filter(move |&(front, end)| if nearest { front + 1 == end } else { front < end })
}

fn ordered_triples(anchors: &[u32]) -> impl Iterator<Item = [u32; 3]> {
    ordered_pairs(anchors, false)
        .flat_map(|(front, middle)| anchors.iter().map(move |&end| [front, middle, end]))
        .filter(|[_, middle, end]| middle < end)
}

/// Two stitches in a row; the second leaves the middle anchor at or after the block that the first one entered.
fn chains([front, middle, end]: [u32; 3], places: &[Place]) -> impl Iterator<Item = Route> {
    places.iter().flat_map(move |&first| {
        let onward = places.iter().filter(move |second| second.leave >= first.enter);
        onward.map(move |&second| vec![hop(front, middle, first), hop(middle, end, second)])
    })
}

fn common_depth(depths: &[u32], space: &SpaceSpec) -> Result<u32, SpecError> {
    let depth = depths.first().copied().unwrap_or(0);
    if let Some(other) = depths.iter().find(|&&other| other != depth) {
        let flaw = format!(
            "windows need equal depths, but one anchor has {depth} blocks and another {other}; use proportional, unpaired or twoway"
        );
        return Err(SpecError::new("family.space.kind", flaw));
    }
    if space.window == 0 || space.window > depth {
        let flaw = format!("{} is not between 1 and the anchors' {depth} blocks", space.window);
        return Err(SpecError::new("family.space.window", flaw));
    }
    if space.stride == 0 {
        return Err(SpecError::new("family.space.stride", "0 never moves on; it is at least 1"));
    }
    Ok(depth)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn counts(kind: SpaceKind, window: u32, stride: u32) -> (usize, usize) {
        let space = SpaceSpec { kind, window, stride, nearest: true };
        let mut routes = Routes::default();
        enumerate(&[12, 12], &space, &mut routes).expect("fits");
        let layers: BTreeSet<u32> = routes.0.iter().flatten().flatten().map(|hop| hop.share).collect();
        (routes.0.len(), layers.len())
    }

    #[test]
    fn pairs_and_layers_of_the_published_windows() {
        let published = [(2, 1, 34, 11), (1, 1, 12, 12), (2, 2, 24, 6), (3, 1, 54, 10), (4, 1, 72, 9)];
        for (window, stride, pairs, layers) in published {
            assert_eq!(counts(SpaceKind::Snnet, window, stride), (pairs, layers), "window {window} stride {stride}");
        }
    }

    #[test]
    fn esta_drops_the_pairs_whose_front_anchor_runs_all_its_blocks() {
        assert_eq!(counts(SpaceKind::Esta, 2, 1), (32, 11));
    }

    #[test]
    fn the_last_window_is_cut_off_at_the_depth() {
        let places = places(5, &SpaceSpec { kind: SpaceKind::Snnet, window: 3, stride: 3, nearest: true });
        let last: Vec<_> = places.iter().filter(|p| p.share == 1).map(|p| (p.leave, p.enter)).collect();
        assert_eq!(last, [(3, 3), (3, 4), (4, 3), (4, 4)]);
    }

    #[test]
    fn new_pairs_follow_their_window() {
        let places = places(4, &SpaceSpec { kind: SpaceKind::Snnet, ..SpaceSpec::default() });
        let order: Vec<_> = places.iter().map(|p| (p.leave, p.enter, p.share)).collect();
        let expected = [
            (0, 0, 0),
            (0, 1, 0),
            (1, 0, 0),
            (1, 1, 0),
            (1, 2, 1),
            (2, 1, 1),
            (2, 2, 1),
            (2, 3, 2),
            (3, 2, 2),
            (3, 3, 2),
        ];
        assert_eq!(order, expected);
    }
}
