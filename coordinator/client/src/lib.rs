//! How any program reaches a coordinator (HANDS): its address, TLS, a token; and what a refusal means.
//!
//! Files are read again at each attempt: certificates and projected tokens are replaced while programs run. A token never
//! travels in plain text beyond this machine unless somebody asks for it in so many words.

mod connector;
mod credentials;
mod dial;
mod refusal;

pub use self::{
    credentials::{Bearer, Credentials, ENVIRONMENT},
    dial::{Client, DialError},
    refusal::{Refusal, weigh},
};
