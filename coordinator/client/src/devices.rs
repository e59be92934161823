//! Where the workers of a machine compute (HANDS): libtorch sees one CUDA device in a process, its first.

use std::{env, fmt};

use thiserror::Error;

const VARIABLE: &str = "CUDA_VISIBLE_DEVICES";

/// Where a worker's tensors live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DeviceKind {
    /// The processor; groups reduce over Gloo.
    Cpu,
    /// The first visible NVIDIA GPU; groups reduce over NCCL.
    Cuda,
}

impl DeviceKind {
    /// The CUDA device of each worker that this process starts, as [`Devices::VARIABLE`] takes it; none on the processor.
    ///
    /// # Errors
    /// [`TooFewDevices::Named`].
    pub fn for_each(self, workers: u32) -> Result<Option<Vec<String>>, TooFewDevices> {
        match self {
            Self::Cpu => Ok(None),
            Self::Cuda => Devices::of_environment().for_each(workers).map(Some),
        }
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        })
    }
}

/// The devices that workers which this process starts may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Devices {
    /// Whatever the machine has, by number.
    All,
    /// Those that `CUDA_VISIBLE_DEVICES` names, by its own words.
    Named(Vec<String>),
}

/// There are fewer devices than workers are wanted.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TooFewDevices {
    /// Fewer are visible.
    #[error(
        "{workers} workers with --device cuda need as many devices, one each, and CUDA_VISIBLE_DEVICES names {} ({})",
        named.len(),
        named.join(",")
    )]
    Named {
        /// Workers that are wanted.
        workers: u32,
        /// What is visible.
        named: Vec<String>,
    },
    /// Fewer are there.
    #[error("{workers} workers with --device cuda need as many devices, one each, and CUDA shows {present} here")]
    Present {
        /// Workers that are wanted.
        workers: u32,
        /// What CUDA counts.
        present: u32,
    },
}

impl Devices {
    /// The variable that shows a process its devices.
    pub const VARIABLE: &str = VARIABLE;

    fn of_environment() -> Self {
        Self::visible(env::var(VARIABLE).ok().as_deref())
    }

    /// CUDA reads the list up to the first entry that names no device.
    fn visible(list: Option<&str>) -> Self {
        let named = |list: &str| {
            let entries = list.split(',').map(str::trim);
            entries.take_while(|entry| !entry.is_empty() && *entry != "-1").map(str::to_owned).collect()
        };
        list.map_or(Self::All, |list| Self::Named(named(list)))
    }

    fn for_each(self, workers: u32) -> Result<Vec<String>, TooFewDevices> {
        match self {
            Self::All => Ok((0..workers).map(|worker| worker.to_string()).collect()),
            Self::Named(named) if named.len() < workers as usize => Err(TooFewDevices::Named { workers, named }),
            Self::Named(mut named) => {
                named.truncate(workers as usize);
                Ok(named)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(list: Option<&str>, workers: u32) -> Result<Vec<String>, String> {
        Devices::visible(list).for_each(workers).map_err(|error| error.to_string())
    }

    #[test]
    fn every_worker_has_a_device_of_its_own_among_those_that_are_visible() {
        assert_eq!(given(None, 3), Ok(["0", "1", "2"].map(str::to_owned).to_vec()));
        assert_eq!(given(Some("5, GPU-7c,3"), 2), Ok(["5", "GPU-7c"].map(str::to_owned).to_vec()));
        assert_eq!(given(Some("2,-1,3"), 1), Ok(vec!["2".to_owned()]));
    }

    #[test]
    fn devices_that_were_not_given_are_not_taken() {
        let refused = |list, workers| given(Some(list), workers).unwrap_err();
        assert_eq!(
            refused("2,3", 4),
            "4 workers with --device cuda need as many devices, one each, and CUDA_VISIBLE_DEVICES names 2 (2,3)"
        );
        assert!(refused("", 1).contains("names 0"), "an empty list hides every device");
        assert!(refused("2,-1,3", 2).contains("names 1 (2)"));
    }
}
