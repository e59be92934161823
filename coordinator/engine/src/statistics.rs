//! Channel statistics by their names (LAW): what images are scaled with in training, evaluation and deployment alike.

use crate::spec::Normalize;

/// What is applied as (v - mean) / std to intensities 0..1.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelStatistics {
    /// Per channel.
    pub mean: Vec<f32>,
    /// Per channel.
    pub std: Vec<f32>,
}

impl Normalize {
    /// The statistics for images of so many channels. Those of ImageNet are three and those of a job as many as it gives;
    /// whoever reads images compares.
    #[must_use]
    pub fn statistics(&self, channels: usize) -> ChannelStatistics {
        let (mean, std) = match self {
            Self::Half => (vec![0.5; channels], vec![0.5; channels]),
            Self::Imagenet => (vec![0.485, 0.456, 0.406], vec![0.229, 0.224, 0.225]),
            Self::Values { mean, std } => (mean.clone(), std.clone()),
        };
        ChannelStatistics { mean, std }
    }
}
