//! What the leader measures and traces of its own work (HANDS); how it gets out is `esta-telemetry`'s business.

mod meters;
mod tracks;
mod watched;

pub use self::{
    meters::{Meters, TurnedAway},
    tracks::relative_entropy,
    watched::Watched,
};
