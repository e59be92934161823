//! A transaction in its turn (HANDS). It may be sent any number of times, and arrive when nobody waits for it any more: it is
//! written once, in its place, or never.
//!
//! Every one puts the key `seq`, so etcd's version of that key counts them; each is compared with the count before it, and
//! with the leader's key (MB-1). A key that is not there has version 0: records that were made without it go on from there.

use etcd_client::{Compare, CompareOp, KeyValue, Txn, TxnOp, TxnOpResponse, TxnResponse};
use thiserror::Error;

use super::Keys;

/// Whose transaction it is, and which.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    /// When the key of the leader that writes was put.
    pub leader: i64,
    /// Counted from the record's first, which is 1.
    pub number: i64,
}

/// What became of one that was sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is written, by this attempt or an earlier one.
    Written,
    /// Another process leads, or none does.
    Deposed,
    /// It is not, though this process leads.
    OutOfTurn(OutOfTurn),
}

/// Somebody who does not lead writes the record.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("its key seq is at version {found} and not at {expected}, so something else than its leader writes there")]
pub(super) struct OutOfTurn {
    found: i64,
    expected: i64,
}

impl Turn {
    /// The transaction that does this when its turn has come, and else tells who leads and whose turn it is.
    pub fn txn(self, keys: &Keys, mut operations: Vec<TxnOp>) -> Txn {
        operations.push(TxnOp::put(keys.seq(), "", None));
        Txn::new()
            .when([
                Compare::create_revision(keys.leader(), CompareOp::Equal, self.leader),
                Compare::version(keys.seq(), CompareOp::Equal, self.number - 1),
            ])
            .and_then(operations)
            .or_else([TxnOp::get(keys.leader(), None), TxnOp::get(keys.seq(), None)])
    }

    /// What an answer to it means.
    pub fn fate(self, answer: &TxnResponse) -> Fate {
        if answer.succeeded() {
            return Fate::Written;
        }
        let mut found = answer.op_responses().into_iter().map(|response| match response {
            TxnOpResponse::Get(found) => found.kvs().first().cloned(),
            _ => None,
        });
        let mut next = |what: fn(&KeyValue) -> i64| found.next().flatten().as_ref().map_or(0, what);
        let leader = next(KeyValue::create_revision);
        self.refused(leader, next(KeyValue::version))
    }

    /// What it means that it was not its turn, where that leader's key and this many transactions were found.
    fn refused(self, leader: i64, found: i64) -> Fate {
        if leader != self.leader {
            Fate::Deposed
        } else if found == self.number {
            Fate::Written
        } else {
            Fate::OutOfTurn(OutOfTurn { found, expected: self.number - 1 })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_tells_what_is_written_from_what_is_not() {
        let turn = Turn { leader: 7, number: 5 };
        assert_eq!(turn.refused(7, 5), Fate::Written, "an earlier attempt was, and its answer is lost");
        assert_eq!((turn.refused(8, 5), turn.refused(0, 4)), (Fate::Deposed, Fate::Deposed));
        for found in [0, 3, 6] {
            assert_eq!(turn.refused(7, found), Fate::OutOfTurn(OutOfTurn { found, expected: 4 }));
        }
    }
}
