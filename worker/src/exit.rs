//! Exit codes of the worker that mean something (HANDS); those the coordinator decides are `esta_engine::run::exit`.

use std::{error::Error, ffi::c_int, io::Write};

use esta_client::TooFewDevices;
use esta_config::ConfigError;
use esta_data::DataError;
use esta_engine::{run::exit as engine_exit, spec::SpecError};
use esta_model::{HubError, WeightsError};
use esta_objects::ObjectsError;
use esta_text::TextError;

use crate::hub::FetchError;
use crate::places::DataPlaceError;
use crate::trainer::{CheckpointError, SetupError, VocabularyError};
use crate::{
    commands::train::crew::NoPort,
    export::{ExportError, NoForm},
    pretrain::PretrainError,
    profile::UnwritableProfile,
    session::SessionError,
};

/// Something failed that no other code names.
pub const FAILED: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 2;
/// The job file is wrong, or the worker does not fit the job.
pub const MISFIT: u8 = 3;
/// No coordinator could be reached within the budget.
pub const UNREACHABLE: u8 = 6;
/// Images or labels, texts or a tokenizer are missing or damaged.
pub const DATA: u8 = 7;
/// Weights are missing, damaged or of another shape.
pub const WEIGHTS: u8 = 8;
/// Results could not be written.
pub const OUTPUT: u8 = 9;
/// A certificate or token is unusable, or refused. (10 and 12 are the coordinator's: the trainer hung, peers are out of reach.)
pub const DENIED: u8 = 11;
/// Object storage did not do what it may do some other time.
pub const STORAGE: u8 = 13;

/// Ends the process, and leaves out what libraries do at their end: libtorch does not survive its own while a thread that was left
/// behind still computes or loads.
pub fn at_once(code: u8) -> ! {
    unsafe extern "C" {
        safe fn _exit(status: c_int) -> !;
    }
    std::io::stdout().flush().ok();
    _exit(code.into())
}

/// The code of an error that reached `main`: that of the first cause that has one.
#[must_use]
pub fn of(error: &anyhow::Error) -> u8 {
    of_chain(error.as_ref()).unwrap_or(FAILED)
}

/// The code of the first cause that has one, the error itself included.
#[must_use]
pub fn of_chain(error: &(dyn Error + 'static)) -> Option<u8> {
    let chain = || std::iter::successors(Some(error), |&cause| cause.source());
    // Whatever is missing because of it need not be missing next time.
    let passing = chain().find_map(|cause| cause.downcast_ref::<ObjectsError>()).is_some_and(ObjectsError::may_pass);
    if passing { Some(STORAGE) } else { chain().find_map(of_cause) }
}

fn of_cause(cause: &(dyn Error + 'static)) -> Option<u8> {
    if cause.is::<ConfigError>() || cause.is::<SpecError>() {
        return Some(MISFIT);
    }
    if cause.is::<DataError>() || cause.is::<TextError>() || cause.is::<DataPlaceError>() {
        return Some(DATA);
    }
    if matches!(cause.downcast_ref(), Some(CheckpointError::Kept(_))) {
        return Some(OUTPUT);
    }
    if cause.is::<NoForm>() || cause.is::<TooFewDevices>() || cause.is::<NoPort>() {
        return Some(USAGE);
    }
    // Nothing but `--anchor` names one that the job may not have.
    if matches!(cause.downcast_ref(), Some(PretrainError::Name(_))) {
        return Some(USAGE);
    }
    if cause.is::<HubError>() || cause.is::<FetchError>() {
        return Some(WEIGHTS);
    }
    if is_misfit(cause) || matches!(cause.downcast_ref(), Some(PretrainError::Place(_))) {
        return Some(MISFIT);
    }
    let session = cause.downcast_ref().and_then(of_session);
    let weights = || cause.downcast_ref().map(of_weights);
    session.or_else(weights).or_else(|| is_output(cause).then_some(OUTPUT))
}

/// A job that this machine has no room for, or whose anchors do not speak one language.
fn is_misfit(cause: &(dyn Error + 'static)) -> bool {
    use VocabularyError::{Mismatch, Rows};
    let setup = cause.downcast_ref();
    matches!(setup, Some(SetupError::Room(_) | SetupError::Vocabulary(Mismatch { .. } | Rows { .. })))
}

/// None where the cause below says more.
fn of_session(error: &SessionError) -> Option<u8> {
    match error {
        SessionError::Unreachable { source, .. } | SessionError::Refused(source) if source.is_about_trust() => {
            Some(DENIED)
        }
        SessionError::Unreachable { .. } => Some(UNREACHABLE),
        SessionError::Refused(source) if source.says_failed() => u8::try_from(engine_exit::DIVERGED).ok(),
        SessionError::Refused(_) | SessionError::OtherJob | SessionError::OtherRun { .. } => Some(MISFIT),
        SessionError::Setup(_) | SessionError::Deaf(_) | SessionError::TrainerGone => None,
    }
}

fn is_output(cause: &(dyn Error + 'static)) -> bool {
    let export = cause.downcast_ref::<ExportError>();
    export.is_some_and(|error| matches!(error, ExportError::Io { .. } | ExportError::Occupied { .. }))
        || matches!(cause.downcast_ref(), Some(PretrainError::Folder { .. }))
        || cause.is::<UnwritableProfile>()
}

fn of_weights(error: &WeightsError) -> u8 {
    match error {
        WeightsError::Write { .. } | WeightsError::Unwritable { .. } => OUTPUT,
        _ => WEIGHTS,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;
    use esta_objects::Cause;

    use super::*;

    fn missing_anchor() -> SetupError {
        let nowhere = std::path::Path::new("/nowhere/a.safetensors");
        let source = esta_model::Weights::read(nowhere).expect_err("there is no such file");
        SetupError::Weights { name: "a".into(), path: "a.safetensors".into(), source }
    }

    #[test]
    fn a_cause_has_its_code_however_deep_it_lies() {
        assert_eq!(of(&missing_anchor().into()), WEIGHTS);
        assert_eq!(of(&SessionError::Setup(missing_anchor()).into()), WEIGHTS);
        let pretraining = Err::<(), _>(PretrainError::Setup(missing_anchor())).context("pre-training anchor \"a\"");
        assert_eq!(of(&pretraining.expect_err("an error")), WEIGHTS);
    }

    #[test]
    fn a_wrong_job_file_is_no_failure_without_a_name() {
        let error = esta_config::load("/nowhere/job.yaml".as_ref(), &[]).expect_err("there is no such file");
        assert_eq!(of(&error.into()), MISFIT);
    }

    #[test]
    fn what_cannot_be_written_is_told_from_what_cannot_be_read() {
        let (path, source) = ("/full/model.safetensors".into(), std::io::ErrorKind::StorageFull.into());
        assert_eq!(of(&PretrainError::Write(WeightsError::Write { path, source }).into()), OUTPUT);
    }

    #[test]
    fn what_a_model_or_a_job_does_not_have_is_a_wrong_command_line() {
        let adapter = ExportError::Form { stitch: esta_proto::StitchId(3), source: NoForm::StitchedAdapter };
        assert_eq!(of(&adapter.into()), USAGE);
        assert_eq!(of(&NoForm::Gguf.into()), USAGE);
        assert_eq!(of(&PretrainError::Name("zz".into()).into()), USAGE);
    }

    #[test]
    fn a_storage_that_is_away_is_told_from_one_that_has_nothing_there() {
        let place = || "s3://data/x".parse().expect("a place");
        let missing = |source| DataPlaceError {
            key: "data.train.path".into(),
            source: ObjectsError::Storage { step: "read", place: place(), source },
        };
        let coded = |cause| of(&anyhow::Error::from(missing(cause)).context("loading the data"));
        assert_eq!(coded(Cause::Other("it does not answer".into())), STORAGE);
        assert_eq!([coded(Cause::Nothing), coded(Cause::Denied("403".into()))], [DATA; 2]);
    }

    #[test]
    fn what_nobody_expected_is_a_failure() {
        assert_eq!(of(&anyhow::anyhow!("something")), FAILED);
    }
}
