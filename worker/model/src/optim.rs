//! AdamW per group (TENSOR): only what the step touched moves, momentum and weight decay included (OP-1), and a group's
//! bias correction counts its own touches.

use esta_proto::GroupId;
use tch::{Kind, Tensor};
use thiserror::Error;

use crate::fixed::Reduced;
use crate::params::{ParamStore, Run};

/// AdamW with decoupled weight decay on matrices only (Loshchilov and Hutter 2019).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// First moment's decay.
    pub beta1: f64,
    /// Second moment's decay.
    pub beta2: f64,
    /// Denominator's floor.
    pub epsilon: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Clip the norm over all touched parameters to this; 0 does not clip.
    pub max_grad_norm: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 1e-4, max_grad_norm: 0.0 }
    }
}

/// What an update was.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    /// Norm of the reduced gradient over the touched parameters, before clipping.
    pub grad_norm: f64,
    /// What the gradient was multiplied by; 1 where it was not clipped.
    pub clip: f64,
}

/// A step that must not be applied.
#[derive(Debug, Error)]
#[error("a slot of the step is not finite or out of range: the step is to be skipped")]
pub struct InvalidStep;

/// Parameters that take the same update: same touches, same decay.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    run: Run,
    touches: u64,
    decays: bool,
}

impl AdamW {
    /// Updates the touched groups at learning rate `lr`.
    ///
    /// # Errors
    /// [`InvalidStep`] when a slot is unusable; nothing has moved then.
    pub fn step(&self, store: &mut ParamStore, reduced: &Reduced, lr: f64) -> Result<Update, InvalidStep> {
        if !reduced.is_valid() {
            return Err(InvalidStep);
        }
        let grad_norm = reduced.gradient().norm_scalaropt_dtype(2, Kind::Double).double_value(&[]);
        let clip = self.clip(grad_norm);
        for id in reduced.groups() {
            store.touches[id.index()] += 1;
        }
        for stretch in stretches(store, reduced.groups()) {
            let grads = reduced.gradient().narrow(0, stretch.run.flat, stretch.run.len);
            tch::no_grad(|| self.update(store, stretch, &scaled(&grads, clip), lr));
        }
        Ok(Update { grad_norm, clip })
    }

    fn clip(&self, norm: f64) -> f64 {
        match self.max_grad_norm > 0.0 && norm > self.max_grad_norm {
            true => self.max_grad_norm / norm,
            false => 1.0,
        }
    }

    fn update(&self, store: &ParamStore, stretch: Stretch, grads: &Tensor, lr: f64) {
        let part = |tensor: &Tensor| tensor.narrow(0, stretch.run.store, stretch.run.len);
        let (mut values, mut m, mut v) = (part(&store.values), part(&store.first_moment), part(&store.second_moment));
        let touches = i32::try_from(stretch.touches).unwrap_or(i32::MAX);
        let correction1 = 1.0 - self.beta1.powi(touches);
        let correction2 = 1.0 - self.beta2.powi(touches);
        if stretch.decays {
            values *= 1.0 - lr * self.weight_decay;
        }
        let _m = m.lerp_(grads, 1.0 - self.beta1);
        v *= self.beta2;
        let root = grads * (1.0 - self.beta2).sqrt();
        let _v = v.addcmul_(&root, &root);
        let mut denominator = v.sqrt();
        denominator *= 1.0 / correction2.sqrt();
        denominator += self.epsilon;
        let _values = values.addcdiv_(&(m * (-lr / correction1)), &denominator);
    }
}

fn scaled(grads: &Tensor, clip: f64) -> Tensor {
    match clip < 1.0 {
        true => grads * clip,
        false => grads.shallow_clone(),
    }
}

/// The touched parameters in layout order, in as few stretches as their touches and decay allow.
fn stretches(store: &ParamStore, groups: impl Iterator<Item = GroupId>) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    let mut flat = 0;
    for id in groups {
        let touches = store.touches[id.index()];
        for param in &store.group(id).params {
            let run = Run { store: param.range.start, flat, len: param.numel() };
            let decays = param.decays();
            flat += run.len;
            let last = stretches.last_mut().filter(|last| (last.touches, last.decays) == (touches, decays));
            if !last.is_some_and(|last| last.run.extend(run)) {
                stretches.push(Stretch { run, touches, decays });
            }
        }
    }
    stretches
}
