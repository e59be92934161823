//! `twoway`: both directions between neighbours, up to two stitching layers (SN-Net v2, arXiv 2307.00154).

use super::{Hop, Pair, Routes};
use crate::spec::SpecError;

/// Up, down, up after down, down after up, in this order. The number of a path that would enter an anchor behind its
/// last block stays a hole (the last way up always does).
pub(super) fn enumerate(pair: Pair, routes: &mut Routes) -> Result<(), SpecError> {
    if pair.front_depth == 0 || !pair.end_depth.is_multiple_of(pair.front_depth) {
        return Err(pair.flaw("twoway needs the second depth to be a multiple of the first; use proportional"));
    }
    let (ups, downs) = (ups(pair), downs(pair));
    for &hop in ups.iter().chain(&downs) {
        routes.push(enters(pair, hop).then(|| vec![hop]))?;
    }
    for &down in &downs {
        for &up in ups.iter().filter(|up| enters(pair, **up) && up.leave >= down.enter) {
            routes.push(Some(vec![down, up]))?;
        }
    }
    for &up in &ups {
        for &down in downs.iter().filter(|down| down.leave >= up.enter) {
            routes.push(enters(pair, down).then(|| vec![up, down]))?;
        }
    }
    Ok(())
}

/// After block i of the shallow anchor enter block (i + 1) r of the deep one; every i has its own layer.
fn ups(pair: Pair) -> Vec<Hop> {
    let ratio = pair.end_depth / pair.front_depth;
    (0..pair.front_depth).map(|i| pair.up(i, (i + 1) * ratio, i)).collect()
}

/// After an odd block i of the deep anchor (any i at equal depths), its last left out, enter the block behind the
/// nearest-neighbour image of i; layer i div r.
fn downs(pair: Pair) -> Vec<Hop> {
    let ratio = pair.end_depth / pair.front_depth;
    let leaves = (0..pair.end_depth.saturating_sub(1)).filter(|i| ratio == 1 || i % 2 == 1);
    // Nearest-neighbour interpolation of d0 ids to d1 places maps i to floor(i d0 / d1), which is i div r.
    leaves.map(|i| pair.down(i, i / ratio + 1, i / ratio)).collect()
}

/// Whether any block of the anchor entered is left to run.
fn enters(pair: Pair, hop: Hop) -> bool {
    let depth = if hop.to == pair.front { pair.front_depth } else { pair.end_depth };
    hop.enter < depth
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(front_depth: u32, end_depth: u32) -> Vec<Option<Vec<Hop>>> {
        let mut routes = Routes::default();
        enumerate(Pair { front: 0, front_depth, end_depth }, &mut routes).expect("multiples");
        routes.0
    }

    #[test]
    fn twelve_up_eleven_down_and_fifty_five_each_way_with_one_hole() {
        for end_depth in [12, 24] {
            let routes = routes(12, end_depth);
            assert_eq!(routes.len(), 12 + 11 + 55 + 55);
            let holes: Vec<usize> = (0..routes.len()).filter(|&i| routes[i].is_none()).collect();
            assert_eq!(holes, [11], "the last way up");
        }
    }

    #[test]
    fn a_way_down_behind_the_last_block_is_a_hole() {
        // Ratio 3: block 9 of 12 maps to block 3 of 4, and nothing follows it.
        let all = routes(4, 12);
        let last_down = all[4 + 4].as_ref();
        assert_eq!(last_down, None);
        assert!(all.iter().flatten().flatten().all(|hop| hop.enter < if hop.to == 0 { 4 } else { 12 }));
    }

    #[test]
    fn depths_that_are_no_multiples_are_refused() {
        let pair = Pair { front: 1, front_depth: 12, end_depth: 18 };
        let flaw = enumerate(pair, &mut Routes::default()).expect_err("18 is no multiple of 12");
        assert_eq!(flaw.key, "family.space.kind");
        assert!(flaw.flaw.starts_with("anchors 1 and 2 have 12 and 18 blocks"), "{flaw}");
    }
}
