//! The rules by which stitches are enumerated (LAW; METHOD.md section 1), one file per family of rules.
//!
//! A rule knows depths only. It yields routes in the order of their ids; the catalog numbers them after the anchors,
//! turns them into segments and gives stitching layers their numbers.

mod twoway;
mod unequal;
mod windows;

use crate::spec::{SpaceKind, SpaceSpec, SpecError};

/// Stitches beyond this are a mistake of the spec: no run could visit them.
const MAX_STITCHES: usize = 1_000_000;

/// One use of a stitching layer: leave anchor `from` after block `leave`, enter anchor `to` before block `enter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hop {
    pub from: u32,
    pub leave: u32,
    pub to: u32,
    pub enter: u32,
    /// Hops between the same two anchors with the same value share one stitching layer.
    pub share: u32,
}

/// A stitched path as its hops: it starts at block 0 of the first hop's `from` and runs the last hop's `to` to the end.
pub(crate) type Route = Vec<Hop>;

/// Routes in the order of their ids; `None` keeps a number that no stitch bears.
#[derive(Debug, Default)]
pub(crate) struct Routes(Vec<Option<Route>>);

impl Routes {
    fn push(&mut self, route: Option<Route>) -> Result<(), SpecError> {
        if self.0.len() == MAX_STITCHES {
            return Err(SpecError::new("family.space", format!("enumerates more than {MAX_STITCHES} stitches")));
        }
        self.0.push(route);
        Ok(())
    }
}

/// All routes of a space over the anchors' depths.
///
/// # Errors
/// [`SpecError`] when the rule does not apply to these depths, or leaves a neighbouring pair unstitched.
pub(crate) fn enumerate(depths: &[u32], space: &SpaceSpec) -> Result<Vec<Option<Route>>, SpecError> {
    let mut routes = Routes::default();
    match space.kind {
        SpaceKind::Snnet | SpaceKind::Esta => windows::enumerate(depths, space, &mut routes)?,
        SpaceKind::Twoway => neighbours(depths).try_for_each(|pair| twoway::enumerate(pair, &mut routes))?,
        SpaceKind::Proportional => neighbours(depths).try_for_each(|pair| unequal::proportional(pair, &mut routes))?,
        SpaceKind::Unpaired => neighbours(depths).try_for_each(|pair| unequal::unpaired(pair, &mut routes))?,
    }
    every_neighbour_is_stitched(depths, &routes)?;
    Ok(routes.0)
}

/// Two anchors next to each other in the family.
#[derive(Debug, Clone, Copy)]
struct Pair {
    /// The cheaper one's place in the family; the other follows it.
    front: u32,
    front_depth: u32,
    end_depth: u32,
}

impl Pair {
    /// Out of the cheaper anchor into the dearer one.
    fn up(self, leave: u32, enter: u32, share: u32) -> Hop {
        Hop { from: self.front, leave, to: self.front + 1, enter, share }
    }

    /// Out of the dearer anchor into the cheaper one.
    fn down(self, leave: u32, enter: u32, share: u32) -> Hop {
        Hop { from: self.front + 1, leave, to: self.front, enter, share }
    }

    /// A flaw of the space that lies in this pair's depths.
    fn flaw(self, why: &str) -> SpecError {
        let Self { front, front_depth, end_depth } = self;
        let anchors = format!("anchors {front} and {} have {front_depth} and {end_depth} blocks", front + 1);
        SpecError::new("family.space.kind", format!("{anchors}: {why}"))
    }
}

fn neighbours(depths: &[u32]) -> impl Iterator<Item = Pair> {
    (0..).zip(depths.windows(2)).map(|(front, depths)| Pair { front, front_depth: depths[0], end_depth: depths[1] })
}

fn every_neighbour_is_stitched(depths: &[u32], routes: &Routes) -> Result<(), SpecError> {
    let joins = |pair: Pair, hop: &Hop| (hop.from, hop.to) == (pair.front, pair.front + 1);
    let stitched = |pair: &Pair| routes.0.iter().flatten().flatten().any(|hop| joins(*pair, hop));
    match neighbours(depths).find(|pair| !stitched(pair)) {
        Some(pair) => Err(pair.flaw("this space has no stitch between them")),
        None => Ok(()),
    }
}
