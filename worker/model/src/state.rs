//! The trained state on disk (TENSOR): parameters by name, and the optimizer's moments and touches beside them.

use std::path::Path;

use tch::Tensor;

use crate::params::{ParamStore, ParamTensor};
use crate::weights::{Weights, WeightsError, save_tensors};

/// Prefixes of the moments, and the name of the touches, in an optimizer's file: torch's own words for Adam's state.
const FIRST_MOMENT: &str = "exp_avg.";
const SECOND_MOMENT: &str = "exp_avg_sq.";
const TOUCHES: &str = "touches";

impl ParamStore {
    /// Writes every parameter by name, atomically.
    ///
    /// # Errors
    /// [`WeightsError::Write`] or [`WeightsError::Format`].
    pub fn save_params(&self, path: &Path) -> Result<(), WeightsError> {
        save_tensors(self.named(&self.values, "").iter().map(|(name, tensor)| (name.as_str(), tensor)), path)
    }

    /// Writes moments by name behind `exp_avg.` and `exp_avg_sq.`, and `touches` `[groups]` as i64, atomically.
    ///
    /// # Errors
    /// [`WeightsError::Write`] or [`WeightsError::Format`].
    pub fn save_optimizer(&self, path: &Path) -> Result<(), WeightsError> {
        let touches: Vec<i64> = self.touches.iter().map(|touches| touches.cast_signed()).collect();
        let mut tensors = self.named(&self.first_moment, FIRST_MOMENT);
        tensors.extend(self.named(&self.second_moment, SECOND_MOMENT));
        tensors.push((TOUCHES.to_owned(), Tensor::from_slice(&touches)));
        save_tensors(tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)), path)
    }

    /// Takes over the parameters of a file written by [`Self::save_params`]; nothing moves unless all are there.
    ///
    /// # Errors
    /// [`WeightsError`] naming what cannot be read, is missing or misshapen.
    pub fn load_params(&mut self, path: &Path) -> Result<(), WeightsError> {
        let weights = Weights::read(path)?;
        self.check(&weights, "")?;
        self.fill(&self.values, &weights, "");
        Ok(())
    }

    /// Takes over the moments and touches of a file written by [`Self::save_optimizer`]; nothing moves unless all are
    /// there.
    ///
    /// # Errors
    /// [`WeightsError`] naming what cannot be read, is missing or misshapen.
    pub fn load_optimizer(&mut self, path: &Path) -> Result<(), WeightsError> {
        let weights = Weights::read(path)?;
        self.check(&weights, FIRST_MOMENT)?;
        self.check(&weights, SECOND_MOMENT)?;
        let touches = weights.expect(TOUCHES, &[self.touches.len() as i64])?;
        let kind = touches.kind();
        let miscounted = |_| WeightsError::Counts { path: path.to_owned(), name: TOUCHES.to_owned(), kind };
        let touches = Vec::<i64>::try_from(touches).map_err(miscounted)?;
        self.fill(&self.first_moment, &weights, FIRST_MOMENT);
        self.fill(&self.second_moment, &weights, SECOND_MOMENT);
        self.touches = touches.into_iter().map(i64::cast_unsigned).collect();
        Ok(())
    }

    /// The pieces of a flat buffer by parameter name.
    fn named(&self, flat: &Tensor, prefix: &str) -> Vec<(String, Tensor)> {
        let params = self.groups().iter().flat_map(|group| &group.params);
        let piece = |param: &ParamTensor| flat.narrow(0, param.range.start, param.numel()).view_as(&param.tensor);
        params.map(|param| (format!("{prefix}{}", param.name), piece(param))).collect()
    }

    fn check(&self, weights: &Weights, prefix: &str) -> Result<(), WeightsError> {
        let mut params = self.groups().iter().flat_map(|group| &group.params);
        params.try_for_each(|param| weights.expect(&format!("{prefix}{}", param.name), &param.tensor.size()).map(drop))
    }

    fn fill(&self, flat: &Tensor, weights: &Weights, prefix: &str) {
        for (name, mut piece) in self.named(flat, prefix) {
            piece.copy_(weights.get(&name).expect("it was checked before"));
        }
    }
}
