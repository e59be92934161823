//! What leaves on one session (HANDS): a bounded queue that is either drained to its end or cut short with a reason.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use esta_proto::v1::CoordinatorMessage;
use futures::{Stream, StreamExt, future::FutureExt};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;

/// Messages that may wait for a worker. A healthy worker has a handful; one that lets this many pile up is stuck.
const CAPACITY: usize = 1024;

/// The leader's end of a session. Dropping it ends the stream after what was sent.
#[derive(Debug)]
pub struct Outbox {
    queue: mpsc::Sender<CoordinatorMessage>,
    cut: oneshot::Sender<Status>,
}

/// Why a message could not be queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undelivered {
    /// The worker does not read.
    Full,
    /// The stream is gone.
    Gone,
}

/// The worker's end: the response stream of its session.
#[derive(Debug)]
pub struct Outgoing {
    queue: ReceiverStream<CoordinatorMessage>,
    cut: Option<oneshot::Receiver<Status>>,
    over: bool,
    _ended: DropGuard,
}

/// Both ends of a new queue, and a token that is cancelled when the worker's end is gone.
#[must_use]
pub fn channel() -> (Outbox, Outgoing, CancellationToken) {
    let (queue, messages) = mpsc::channel(CAPACITY);
    let (cut, reason) = oneshot::channel();
    let ended = CancellationToken::new();
    let outgoing = Outgoing {
        queue: ReceiverStream::new(messages),
        cut: Some(reason),
        over: false,
        _ended: ended.clone().drop_guard(),
    };
    (Outbox { queue, cut }, outgoing, ended)
}

impl Outbox {
    /// Queues a message without waiting.
    ///
    /// # Errors
    /// [`Undelivered`] when the worker is too slow or gone.
    pub fn send(&self, message: CoordinatorMessage) -> Result<(), Undelivered> {
        self.queue.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Undelivered::Full,
            mpsc::error::TrySendError::Closed(_) => Undelivered::Gone,
        })
    }

    /// Ends the session at once, ahead of what is queued.
    pub fn cut(self, reason: Status) {
        self.cut.send(reason).ok();
    }
}

impl Stream for Outgoing {
    type Item = Result<CoordinatorMessage, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        if let Some(cut) = &mut self.cut {
            match cut.poll_unpin(context) {
                Poll::Ready(Ok(reason)) => {
                    self.over = true;
                    return Poll::Ready(Some(Err(reason)));
                }
                Poll::Ready(Err(_)) => self.cut = None,
                Poll::Pending => {}
            }
        }
        self.queue.poll_next_unpin(context).map(|message| message.map(Ok))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dropped_outbox_ends_the_stream_after_what_was_sent() {
        let (outbox, outgoing, _) = channel();
        outbox.send(CoordinatorMessage::default()).expect("there is room");
        drop(outbox);
        let all: Vec<_> = outgoing.collect().await;
        assert!(matches!(all.as_slice(), [Ok(_)]));
    }

    #[tokio::test]
    async fn a_worker_that_does_not_read_is_cut_off_with_a_reason() {
        let (outbox, outgoing, _) = channel();
        let fill = std::iter::repeat_with(|| outbox.send(CoordinatorMessage::default()));
        let (sent, last) = fill.enumerate().find(|(_, sent)| sent.is_err()).expect("the queue is bounded");
        assert_eq!((sent, last), (CAPACITY, Err(Undelivered::Full)));
        outbox.cut(Status::resource_exhausted("too slow"));
        let all: Vec<_> = outgoing.collect().await;
        assert!(matches!(all.as_slice(), [Err(status)] if status.message() == "too slow"));
    }

    #[test]
    fn a_stream_that_is_gone_is_noticed_on_both_sides() {
        let (outbox, outgoing, ended) = channel();
        drop(outgoing);
        assert!(ended.is_cancelled());
        assert_eq!(outbox.send(CoordinatorMessage::default()), Err(Undelivered::Gone));
    }
}
