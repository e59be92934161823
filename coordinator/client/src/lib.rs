//! How any program reaches a coordinator (HANDS): its address, TLS, a token; what a refusal means; and which device each of the
//! workers gets that a program starts.
//!
//! Files are read again at each attempt: certificates and projected tokens are replaced while programs run. A token never
//! travels in plain text beyond this machine unless somebody asks for it in so many words.

mod connector;
mod credentials;
mod devices;
mod dial;
mod refusal;

pub use self::{
    credentials::{Bearer, Credentials, ENVIRONMENT},
    devices::{Devices, TooFewDevices},
    dial::{Client, DialError},
    refusal::{Refusal, weigh},
};
