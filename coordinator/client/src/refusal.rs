//! What a coordinator's status means to whoever called (HANDS).

use esta_proto::EXPIRED;
use tonic::{Code, Status};

/// What a refusal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Trying again can help: nobody leads at the moment, the connection broke.
    Passing,
    /// The token has expired: a newer one may lie in its file soon.
    Expired,
    /// The token is missing, unknown or not good for this.
    Denied,
    /// It will be answered the same next time.
    Final,
}

/// What a call's status means.
#[must_use]
pub fn weigh(status: &Status) -> Refusal {
    match status.code() {
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::Unknown => Refusal::Passing,
        Code::Unauthenticated if status.metadata().contains_key(EXPIRED) => Refusal::Expired,
        Code::Unauthenticated | Code::PermissionDenied => Refusal::Denied,
        _ => Refusal::Final,
    }
}

impl Refusal {
    /// Whether trying again can help.
    #[must_use]
    pub fn is_passing(self) -> bool {
        matches!(self, Self::Passing | Self::Expired)
    }

    /// Whether it is about who called.
    #[must_use]
    pub fn is_about_trust(self) -> bool {
        matches!(self, Self::Expired | Self::Denied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expired_token_is_worth_another_try_and_a_wrong_one_is_not() {
        let mut expired = Status::unauthenticated("expired");
        expired.metadata_mut().insert(EXPIRED, "true".parse().expect("text"));
        let weights = [Status::unauthenticated("unknown"), Status::permission_denied("viewer"), expired];
        assert_eq!(weights.map(|status| weigh(&status)), [Refusal::Denied, Refusal::Denied, Refusal::Expired]);
        assert_eq!(weigh(&Status::unavailable("standing by")), Refusal::Passing);
        assert_eq!(weigh(&Status::failed_precondition("another protocol")), Refusal::Final);
    }
}
