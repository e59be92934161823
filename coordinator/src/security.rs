//! Who may connect, and who may call what (HANDS): certificates, tokens, roles.
//!
//! A certificate says who may connect, a token who it is. `policy` decides and `jwt` verifies without a file or a clock;
//! everything read from files is read again when they change.

mod files;
mod guard;
mod jwt;
mod policy;
mod tls;
mod tokens;

pub use self::{
    files::{FileError, Watched},
    guard::{Authorities, Guard, ServiceAccounts},
    policy::{Call, Caller, Denied, Identity, NamePattern, Role},
    tls::{ServerTls, TlsFiles},
    tokens::Tokens,
};
