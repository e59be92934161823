//! Exit codes of the worker that mean something (HANDS); those the coordinator decides are `esta_engine::run::exit`.

/// Something failed that no other code names.
pub const FAILED: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 2;
/// The worker or its files do not fit the job.
pub const MISFIT: u8 = 3;
/// No coordinator could be reached within the budget.
pub const UNREACHABLE: u8 = 6;
/// Images or labels are missing or damaged.
pub const DATA: u8 = 7;
/// Weights are missing, damaged or of another shape.
pub const WEIGHTS: u8 = 8;
/// Results could not be written.
pub const OUTPUT: u8 = 9;

/// The code of an error that reached `main`.
#[must_use]
pub fn of(error: &anyhow::Error) -> u8 {
    use crate::{export::ExportError, session::SessionError, trainer::SetupError};
    let setup = |error: &SetupError| match error {
        SetupError::Spec(_) => MISFIT,
        SetupError::Data(_) => DATA,
        SetupError::Weights { .. } => WEIGHTS,
        SetupError::Device(_) | SetupError::Thread(_) => FAILED,
    };
    if let Some(error) = error.downcast_ref::<SessionError>() {
        return match error {
            SessionError::Unreachable { .. } => UNREACHABLE,
            SessionError::Refused(_) | SessionError::OtherJob => MISFIT,
            SessionError::Setup(error) => setup(error),
            SessionError::TrainerGone => FAILED,
        };
    }
    if let Some(ExportError::Io { .. } | ExportError::Occupied { .. }) = error.downcast_ref::<ExportError>() {
        return OUTPUT;
    }
    error.downcast_ref::<SetupError>().map_or(FAILED, setup)
}
