//! Measured latencies of a catalog (LAW): what `latency.json` says, in which order to measure, and how well MACs foretell
//! what came out.

use std::collections::BTreeMap;

use esta_proto::StitchId;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    catalog::Catalog,
    latency::{Latency, by_stitch},
    regret::kendall_tau,
    spec::Precision,
    streams::{self, Stream},
};

/// `latency.json`. Only `stitches` is needed of a file that was made elsewhere, and of each stitch `macs` and `median_ms`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Where it was measured: `cpu`, `cuda:0`.
    #[serde(default)]
    pub device: String,
    /// The processor's or card's own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware: Option<String>,
    /// Arithmetic of the matrix products.
    #[serde(default)]
    pub precision: Precision,
    /// Whether adaptation was folded into plain weights, as in an exported model.
    #[serde(default)]
    pub merged: bool,
    /// Images of a forward pass.
    #[serde(default)]
    pub batch: u32,
    /// libtorch's intra-op threads.
    #[serde(default)]
    pub threads: u32,
    /// Measurements of each stitch.
    #[serde(default)]
    pub rounds: u32,
    /// libtorch's version.
    #[serde(default)]
    pub torch: String,
    /// By stitch.
    #[serde(deserialize_with = "by_stitch")]
    pub stitches: BTreeMap<StitchId, Measurement>,
}

/// The forward passes of one stitch. Times are of a whole batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measurement {
    /// MACs of one image: by these a profile of another catalog is known.
    pub macs: u64,
    /// Half of the passes took at most this.
    #[serde(rename = "median_ms")]
    pub median: Latency,
    /// A quarter of them.
    #[serde(rename = "p25_ms", default, skip_serializing_if = "Option::is_none")]
    pub p25: Option<Latency>,
    /// Three quarters.
    #[serde(rename = "p75_ms", default, skip_serializing_if = "Option::is_none")]
    pub p75: Option<Latency>,
}

/// A profile that is not of this catalog.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProfileMisfit {
    /// A stitch was not measured.
    #[error("it lacks stitch {0}")]
    Missing(StitchId),
    /// A stitch is not in the catalog.
    #[error("it is of another catalog: there is no stitch {0} here")]
    Unknown(StitchId),
    /// A stitch of the same number is another one.
    #[error("it is of another catalog: stitch {stitch} costs {profile} MACs there and {catalog} here")]
    Macs {
        /// Which.
        stitch: StitchId,
        /// Its MACs in the profile.
        profile: u64,
        /// Its MACs in the catalog.
        catalog: u64,
    },
}

impl Measurement {
    /// Median and quartiles, interpolated between neighbours; `None` without a time.
    #[must_use]
    pub fn of(macs: u64, times: &[Latency]) -> Option<Self> {
        let mut ascending = times.to_vec();
        ascending.sort_unstable();
        let quantile = |quarters: usize| {
            let (place, rest) =
                ((ascending.len().checked_sub(1)? * quarters) / 4, (ascending.len() - 1) * quarters % 4);
            let (low, high) = (ascending[place].nanos(), ascending.get(place + 1).unwrap_or(&ascending[place]).nanos());
            Some(Latency::from_nanos(low + (high - low) * rest as u64 / 4))
        };
        Some(Self { macs, median: quantile(2)?, p25: quantile(1), p75: quantile(3) })
    }

    /// Interquartile range over the median: the noise of one pass; `None` where quartiles are not known.
    #[must_use]
    pub fn spread(&self) -> Option<f64> {
        Some((self.p75?.millis() - self.p25?.millis()) / self.median.millis())
    }

    /// Slower by more than noise: three quarters of its passes took longer than three quarters of the other's.
    fn clearly_slower_than(&self, other: &Self) -> bool {
        self.p25.unwrap_or(self.median) > other.p75.unwrap_or(other.median)
    }
}

impl Profile {
    /// The median of every stitch of a catalog.
    ///
    /// # Errors
    /// [`ProfileMisfit`] unless the profile has the catalog's stitches with the catalog's MACs, and no other.
    pub fn latencies(&self, catalog: &Catalog) -> Result<BTreeMap<StitchId, Latency>, ProfileMisfit> {
        for (&stitch, measured) in &self.stitches {
            match catalog.get(stitch).map(|stitch| stitch.macs) {
                None => return Err(ProfileMisfit::Unknown(stitch)),
                Some(macs) if macs == measured.macs => {}
                Some(catalog) => return Err(ProfileMisfit::Macs { stitch, profile: measured.macs, catalog }),
            }
        }
        let median =
            |stitch| self.stitches.get(&stitch).map(|m| (stitch, m.median)).ok_or(ProfileMisfit::Missing(stitch));
        catalog.stitches().map(|stitch| median(stitch.id)).collect()
    }

    /// How well MACs order the stitches by time: Kendall's tau-b, 1 for the same order; `None` where all are alike.
    #[must_use]
    pub fn macs_tau(&self) -> Option<f64> {
        let pairs = self.stitches.values().map(|measured| (measured.macs as f64, measured.median.millis()));
        kendall_tau(&pairs.collect::<Vec<_>>())
    }

    /// The stitches that are slower, by more than noise, than one of more MACs: each with the fastest such.
    #[must_use]
    pub fn slower_than_larger(&self) -> BTreeMap<StitchId, StitchId> {
        let faster = |measured: &Measurement| {
            let larger = self
                .stitches
                .iter()
                .filter(|(_, other)| other.macs > measured.macs && measured.clearly_slower_than(other));
            larger.min_by_key(|(id, other)| (other.median, **id)).map(|(id, _)| *id)
        };
        self.stitches.iter().filter_map(|(&stitch, measured)| Some((stitch, faster(measured)?))).collect()
    }

    /// The middle one of the stitches' spreads ([`Measurement::spread`]); `None` where quartiles are not known.
    #[must_use]
    pub fn spread(&self) -> Option<f64> {
        let mut spreads: Vec<f64> = self.stitches.values().filter_map(Measurement::spread).collect();
        spreads.sort_by(f64::total_cmp);
        spreads.get(spreads.len() / 2).copied()
    }
}

/// The order of one round over all stitches: seeded and another in every round, so that a machine that gets slower while
/// it is measured slows all stitches alike.
#[must_use]
pub fn order(catalog: &Catalog, seed: u64, round: u32) -> Vec<StitchId> {
    let mut stitches: Vec<StitchId> = catalog.stitches().map(|stitch| stitch.id).collect();
    stitches.shuffle(&mut streams::rng(seed, Stream::Profile, round.into()));
    stitches
}

#[cfg(test)]
#[path = "profile_test.rs"]
mod tests;
