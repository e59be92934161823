//! Writing (HANDS): fenced transactions of a bounded size, in order, each of them once.

use std::collections::BTreeSet;

use etcd_client::{Client, TxnOp};

use super::{
    Etcd, Patience,
    room::BYTES,
    turn::{Fate, Turn},
};
use crate::store::{StoreError, Tenure};

/// Operations of one transaction: etcd takes 128 by default.
const OPERATIONS: usize = 100;

/// Writes a record under one term of office.
pub(super) struct Pen {
    etcd: Etcd,
    tenure: Tenure,
    /// When this leader's key was put.
    leader: i64,
    /// Transactions that the record has.
    written: i64,
}

/// Something to be written.
pub(super) struct Operation {
    operation: TxnOp,
    /// Its key, which a transaction may name once; a range stands alone.
    key: Option<Vec<u8>>,
    bytes: usize,
}

impl Operation {
    /// Puts a value.
    pub fn put(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        let (key, value) = (key.into(), value.into());
        let bytes = key.len() + value.len();
        Self { operation: TxnOp::put(key.clone(), value, None), key: Some(key), bytes }
    }

    /// Does something to a range of keys.
    pub fn over_range(operation: TxnOp) -> Self {
        Self { operation, key: None, bytes: 0 }
    }
}

impl Pen {
    /// For the leader whose key was put at that revision. Whatever an earlier one sent is refused from then on, so what the
    /// record has stands still until this one writes.
    pub async fn of(etcd: Etcd, leader: i64, tenure: Tenure) -> Result<Self, StoreError> {
        let seq = etcd.get("read", etcd.keys.seq()).await?;
        let written = seq.kvs().first().map_or(0, |seq| seq.version());
        Ok(Self { etcd, tenure, leader, written })
    }

    /// Writes operations in order, as few transactions as there can be.
    pub async fn write(&mut self, operations: Vec<Operation>) -> Result<(), StoreError> {
        let (mut batch, mut keys, mut bytes) = (Vec::new(), BTreeSet::new(), 0);
        for next in operations {
            let alone = next.key.as_ref().is_none_or(|key| keys.contains(key)) || keys.contains::<[u8]>(&[]);
            if !batch.is_empty() && (alone || batch.len() == OPERATIONS || bytes + next.bytes > BYTES) {
                self.transact(std::mem::take(&mut batch)).await?;
                (keys, bytes) = (BTreeSet::new(), 0);
            }
            batch.push(next.operation);
            keys.insert(next.key.unwrap_or_default());
            bytes += next.bytes;
        }
        if batch.is_empty() { Ok(()) } else { self.transact(batch).await }
    }

    /// One transaction. It is sent until it is answered, for as long as this process leads.
    async fn transact(&mut self, operations: Vec<TxnOp>) -> Result<(), StoreError> {
        let turn = Turn { leader: self.leader, number: self.written + 1 };
        let txn = turn.txn(&self.etcd.keys, operations);
        let write = |client: Client| {
            let txn = txn.clone();
            async move { client.kv_client().txn(txn).await }
        };
        let deposed = || StoreError::Deposed { place: self.etcd.place.clone() };
        // A process that was stopped meanwhile finds out before it sends anything.
        if !self.tenure.holds() {
            return Err(deposed());
        }
        let answer = tokio::select! {
            () = self.tenure.over() => return Err(deposed()),
            answer = self.etcd.ask("write to", Patience::Endless, write) => answer?,
        };
        match turn.fate(&answer) {
            Fate::Written => self.written = turn.number,
            Fate::Deposed => return Err(deposed()),
            Fate::OutOfTurn(why) => return Err(self.etcd.failed("write to", why)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use esta_engine::spec::TimeoutSpec;
    use esta_tests::EtcdServer;

    use super::*;
    use crate::store::{StoreTls, Whereabouts};

    /// An etcd and who leads there, for longer than any test takes.
    async fn led() -> (tempfile::TempDir, EtcdServer, Etcd, Pen) {
        let folder = tempfile::tempdir().expect("a folder");
        let server = EtcdServer::start(folder.path()).expect("etcd starts");
        let timeouts = TimeoutSpec { fence: 500.0, lease: 600.0, ..TimeoutSpec::default() };
        let connected = Etcd::connect(&[server.endpoint()], "run", &StoreTls::default(), &timeouts).await;
        let etcd = connected.expect("it answers");
        let pen = lead(&etcd).await;
        (folder, server, etcd, pen)
    }

    async fn lead(etcd: &Etcd) -> Pen {
        let own = Whereabouts { address: "http://127.0.0.1:1".into(), page: None };
        let won = etcd.stand(&own).await.expect("it answers").expect("nobody else stands");
        Pen::of(etcd.clone(), won.revision, Tenure::unlimited()).await.expect("it answers")
    }

    fn trim(etcd: &Etcd, step: u64) -> Vec<Operation> {
        vec![Operation::put(etcd.keys.trim(), step.to_string())]
    }

    async fn trimmed(etcd: &Etcd) -> (String, i64) {
        let found = etcd.get("read", etcd.keys.trim()).await.expect("it answers");
        let found = found.kvs().first().expect("it was put");
        (found.value_str().expect("a number").to_owned(), found.version())
    }

    /// What the next transaction is, as somebody holds it who was to carry it to etcd.
    fn on_the_way(pen: &Pen, step: u64) -> (Turn, etcd_client::Txn) {
        let turn = Turn { leader: pen.leader, number: pen.written + 1 };
        let operations = trim(&pen.etcd, step).into_iter().map(|next| next.operation).collect();
        (turn, turn.txn(&pen.etcd.keys, operations))
    }

    #[tokio::test]
    async fn an_attempt_that_lands_after_later_writes_changes_nothing() {
        let (_folder, _server, etcd, mut pen) = led().await;
        pen.write(trim(&etcd, 1)).await.expect("it leads");
        let (late, txn) = on_the_way(&pen, 2);
        for step in [2, 3] {
            pen.write(trim(&etcd, step)).await.expect("it leads");
        }
        let answer = etcd.client.kv_client().txn(txn).await.expect("it answers");
        assert!(matches!(late.fate(&answer), Fate::OutOfTurn(_)));
        assert_eq!(trimmed(&etcd).await, ("3".to_owned(), 3));
    }

    #[tokio::test]
    async fn what_was_written_before_its_answer_was_lost_is_written_once() {
        let (_folder, _server, etcd, mut pen) = led().await;
        pen.write(trim(&etcd, 1)).await.expect("it leads");
        let (_, txn) = on_the_way(&pen, 2);
        etcd.client.kv_client().txn(txn).await.expect("it lands, and nobody hears of it");
        pen.write(trim(&etcd, 2)).await.expect("it is written");
        assert_eq!(trimmed(&etcd).await, ("2".to_owned(), 2));
        pen.write(trim(&etcd, 3)).await.expect("the next one is in its turn");
    }

    #[tokio::test]
    async fn somebody_else_who_writes_is_noticed_and_a_later_leader_is_obeyed() {
        let (_folder, _server, etcd, mut pen) = led().await;
        pen.write(trim(&etcd, 1)).await.expect("it leads");
        for _ in 0..2 {
            etcd.client.kv_client().put(etcd.keys.seq(), "", None).await.expect("it writes");
        }
        let error = pen.write(trim(&etcd, 2)).await.expect_err("not its turn");
        let cause = std::error::Error::source(&error).expect("it says why").to_string();
        assert!(cause.starts_with("its key seq is at version 3 and not at 1,"), "{cause}");

        etcd.client.kv_client().delete(etcd.keys.leader(), None).await.expect("it writes");
        let mut next = lead(&etcd).await;
        next.write(trim(&etcd, 3)).await.expect("it goes on from what it found");
        let error = pen.write(trim(&etcd, 2)).await.expect_err("it leads no more");
        assert!(matches!(error, StoreError::Deposed { .. }), "{error}");
        assert_eq!(trimmed(&etcd).await.0, "3");
    }

    #[tokio::test]
    async fn a_record_without_the_count_is_gone_on_with() {
        let (_folder, _server, etcd, mut pen) = led().await;
        pen.write(trim(&etcd, 1)).await.expect("it leads");
        etcd.client.kv_client().delete(etcd.keys.seq(), None).await.expect("it writes");
        etcd.client.kv_client().delete(etcd.keys.leader(), None).await.expect("it writes");
        let mut next = lead(&etcd).await;
        next.write(trim(&etcd, 2)).await.expect("the count begins anew");
        assert_eq!((trimmed(&etcd).await.0.as_str(), next.written), ("2", 1));
    }
}
