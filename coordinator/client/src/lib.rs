//! How any program reaches a coordinator (HANDS): its address, TLS, a token; what a refusal means. And what programs share that
//! start others: which device each worker gets, and how whoever was started hears that it is to end.
//!
//! Files are read again at each attempt: certificates and projected tokens are replaced while programs run. A token never
//! travels in plain text beyond this machine unless somebody asks for it in so many words.

mod connector;
mod credentials;
mod devices;
mod dial;
mod leash;
mod refusal;

pub use self::{
    credentials::{Bearer, Credentials, ENVIRONMENT},
    devices::{DeviceKind, Devices, TooFewDevices},
    dial::{Client, DialError},
    leash::Leash,
    refusal::{Refusal, weigh},
};
