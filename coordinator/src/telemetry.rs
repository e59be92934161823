//! What the leader measures and traces of its own work (HANDS); how it gets out is `esta-telemetry`'s business.

mod meters;
mod tracks;

pub use self::{
    meters::{FirstReports, Meters},
    tracks::{Tracks, relative_entropy},
};
