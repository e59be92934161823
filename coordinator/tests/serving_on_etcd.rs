//! The tests of `serving.rs` with the record on a real etcd, one for each test.

#![cfg(feature = "etcd")]

#[path = "serving.rs"]
mod serving;

fn place() -> serving::support::Place {
    serving::support::Place::on_etcd()
}
