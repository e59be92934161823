//! Roles, names and what they allow (HANDS, but pure): no file, clock or socket.

use std::{fmt, str::FromStr};

use esta_proto::Digest;
use thiserror::Error;

/// What can be asked of a coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Introduce a worker.
    Join,
    /// Open a worker's session.
    Session,
    /// Ask how the run goes.
    Status,
    /// Ask what would be deployed.
    Palette,
    /// Take the deployable models away.
    Pull,
    /// Ask which calls there are (gRPC reflection).
    Describe,
}

impl Call {
    /// The call of a gRPC path, where there is one.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        Some(match path.strip_prefix('/')?.split_once('/')? {
            ("esta.v1.Coordinator", "Join") => Self::Join,
            ("esta.v1.Coordinator", "Session") => Self::Session,
            ("esta.v1.Coordinator", "Status") => Self::Status,
            ("esta.v1.Coordinator", "Palette") => Self::Palette,
            ("esta.v1.Coordinator", "Pull") => Self::Pull,
            (service, _) if service.starts_with("grpc.reflection.") => Self::Describe,
            _ => return None,
        })
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Join => "join",
            Self::Session => "open a session",
            Self::Status => "ask for the status",
            Self::Palette => "ask for the palette",
            Self::Pull => "pull the palette",
            Self::Describe => "ask for the list of calls",
        })
    }
}

/// What somebody is to the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Trains.
    Worker,
    /// Looks on.
    Viewer,
    /// Does everything.
    Admin,
}

impl Role {
    /// Whether this role may call that.
    #[must_use]
    pub fn may(self, call: Call) -> bool {
        match call {
            Call::Join | Call::Session => self != Self::Viewer,
            Call::Status | Call::Palette | Call::Pull => self != Self::Worker,
            Call::Describe => true,
        }
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "worker" => Ok(Self::Worker),
            "viewer" => Ok(Self::Viewer),
            "admin" => Ok(Self::Admin),
            _ => Err(format!("{text:?} is no role: worker, viewer or admin")),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Worker => "worker",
            Self::Viewer => "viewer",
            Self::Admin => "admin",
        })
    }
}

/// What workers may be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamePattern {
    /// This, and nothing else.
    Exactly(String),
    /// Whatever begins so; written with `*` at its end.
    Begins(String),
    /// As this pod, whatever is in its name; or, where each pod has several workers, as one of so many: `<pod>/<number>`.
    Pod {
        /// Its name.
        pod: String,
        /// Workers of a pod: a token is good for no more of them than there are.
        workers: u32,
    },
}

impl NamePattern {
    /// Whether a worker may call itself that.
    #[must_use]
    pub fn fits(&self, name: &str) -> bool {
        match self {
            Self::Exactly(own) => name == own,
            Self::Begins(start) => name.starts_with(start.as_str()),
            Self::Pod { pod, workers: 1 } => name == pod,
            Self::Pod { pod, workers } => {
                let number = name.strip_prefix(pod.as_str()).and_then(|rest| rest.strip_prefix('/'));
                number.is_some_and(|number| (0..*workers).any(|own| own.to_string() == number))
            }
        }
    }
}

impl FromStr for NamePattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let start = text.strip_suffix('*');
        match start {
            _ if start.unwrap_or(text).contains('*') => Err(format!("{text:?} has a * that is not at its end")),
            _ if text.is_empty() => Err("a name is empty".to_owned()),
            Some(start) => Ok(Self::Begins(start.to_owned())),
            None => Ok(Self::Exactly(text.to_owned())),
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(name) => f.write_str(name),
            Self::Begins(start) => write!(f, "{start}*"),
            Self::Pod { pod, workers: 1 } => f.write_str(pod),
            Self::Pod { pod, workers } => write!(f, "{pod}/0 to {pod}/{}", workers.saturating_sub(1)),
        }
    }
}

/// Whom a token makes of its bearer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Who it is, for people.
    pub subject: String,
    /// What its worker may be called; none where the token names no worker.
    pub name: Option<NamePattern>,
    /// What it may do.
    pub role: Role,
}

/// Who calls: what the connection and the call have shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// Digest of the certificate shown on the connection.
    pub certificate: Option<Digest>,
    /// Whom the token names; none where no tokens are asked for.
    pub identity: Option<Identity>,
}

impl Caller {
    /// Whether it may call that.
    ///
    /// # Errors
    /// [`Denied::Role`].
    pub fn may(&self, call: Call) -> Result<(), Denied> {
        match &self.identity {
            Some(Identity { subject, role, .. }) if !role.may(call) => {
                Err(Denied::Role { subject: subject.clone(), role: *role, call })
            }
            _ => Ok(()),
        }
    }

    /// Whether its worker may be called that.
    ///
    /// # Errors
    /// [`Denied::Name`].
    pub fn may_be_called(&self, name: &str) -> Result<(), Denied> {
        let Some(Identity { subject, name: allowed, .. }) = &self.identity else { return Ok(()) };
        match allowed {
            Some(allowed) if allowed.fits(name) => Ok(()),
            Some(allowed) => Err(Denied::Name {
                subject: subject.clone(),
                name: name.to_owned(),
                allowed: format!("it may be called {allowed}"),
            }),
            None => Err(Denied::Name {
                subject: subject.clone(),
                name: name.to_owned(),
                allowed: "the token is bound to no pod".to_owned(),
            }),
        }
    }
}

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Denied {
    /// Nothing says who calls.
    #[error("this coordinator asks for a token, and none was sent; give --token-file")]
    NoToken,
    /// A token that nobody here has given out.
    #[error("the token is not one that this coordinator knows")]
    Unknown,
    /// A token of a cluster that does not hold.
    #[error("the token is refused: {0}")]
    Invalid(String),
    /// A token that held once.
    #[error("the token has expired {seconds} s ago")]
    Expired {
        /// How long ago.
        seconds: u64,
    },
    /// A good token of somebody without a role.
    #[error("{subject} has no role here; --token-role gives it one")]
    Nobody {
        /// Who it is.
        subject: String,
    },
    /// The role does not allow it.
    #[error("{subject} is a {role} here and may not {call}")]
    Role {
        /// Who it is.
        subject: String,
        /// What it is.
        role: Role,
        /// What it wanted.
        call: Call,
    },
    /// Another's name.
    #[error("{subject} may not be the worker {name:?}: {allowed}")]
    Name {
        /// Who it is.
        subject: String,
        /// What its worker calls itself.
        name: String,
        /// What it may be called.
        allowed: String,
    },
    /// Another's session number.
    #[error("session {session} was given to another caller or under another name")]
    Stolen {
        /// The number.
        session: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLS: [Call; 5] = [Call::Join, Call::Session, Call::Status, Call::Palette, Call::Describe];

    fn caller(name: Option<&str>, role: Role) -> Caller {
        let name = name.map(|name| name.parse().expect("a name"));
        Caller { certificate: None, identity: Some(Identity { subject: "s".into(), name, role }) }
    }

    #[test]
    fn a_worker_trains_a_viewer_looks_on_and_an_admin_does_both() {
        let allowed = |role| CALLS.map(|call| caller(None, role).may(call).is_ok());
        assert_eq!(allowed(Role::Worker), [true, true, false, false, true]);
        assert_eq!(allowed(Role::Viewer), [false, false, true, true, true]);
        assert_eq!(allowed(Role::Admin), [true; 5]);
        assert_eq!(CALLS.map(|call| Caller::default().may(call).is_ok()), [true; 5], "where no tokens are asked for");
        let denied = caller(None, Role::Viewer).may(Call::Join).expect_err("it looks on").to_string();
        assert_eq!(denied, "s is a viewer here and may not join");
    }

    #[test]
    fn a_worker_is_called_what_its_token_says() {
        let may = |pattern, name| caller(pattern, Role::Worker).may_be_called(name);
        assert_eq!(may(Some("w-1"), "w-1"), Ok(()));
        assert_eq!(may(Some("w-*"), "w-17"), Ok(()));
        assert_eq!(may(Some("*"), "anything"), Ok(()));
        let denied = |pattern, name| may(pattern, name).expect_err("another's name").to_string();
        assert_eq!(denied(Some("w-1"), "w-10"), "s may not be the worker \"w-10\": it may be called w-1");
        assert_eq!(denied(Some("w-*"), "v-1"), "s may not be the worker \"v-1\": it may be called w-*");
        assert_eq!(denied(None, "w"), "s may not be the worker \"w\": the token is bound to no pod");
        assert_eq!(Caller::default().may_be_called("w"), Ok(()));
    }

    #[test]
    fn a_pattern_has_its_star_at_its_end_and_a_pod_has_workers() {
        for flawed in ["", "a*b", "**"] {
            assert!(flawed.parse::<NamePattern>().is_err(), "{flawed:?}");
        }
        let pod = |workers| NamePattern::Pod { pod: "w".to_owned(), workers };
        assert!(pod(1).fits("w") && !pod(1).fits("w/0"));
        assert!(["w/0", "w/7"].iter().all(|name| pod(8).fits(name)));
        assert!(
            ["w", "w/8", "w/07", "w/+7", "w-1", "w/", "w/x", "w/1/2", "v/0", ""].iter().all(|name| !pod(8).fits(name))
        );
        assert_eq!([pod(1), pod(8)].map(|pod| pod.to_string()), ["w", "w/0 to w/7"]);
    }

    #[test]
    fn every_call_of_the_service_has_its_right() {
        let paths = ["Join", "Session", "Status", "Palette"].map(|method| format!("/esta.v1.Coordinator/{method}"));
        assert_eq!(paths.each_ref().map(|path| Call::of_path(path)), [0, 1, 2, 3].map(|at| Some(CALLS[at])));
        let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
        assert_eq!(Call::of_path(reflection), Some(Call::Describe));
        for unknown in ["", "/", "/esta.v1.Coordinator/Shutdown", "/other/Join", "esta.v1.Coordinator/Join"] {
            assert_eq!(Call::of_path(unknown), None, "{unknown:?}");
        }
    }
}
