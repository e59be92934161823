//! Somebody who is no member: what arrives from there is any bytes, or what workers said, spoilt on the way. It is read
//! by the very code that reads what workers say, and must change nothing.

use esta_engine::{
    run::{Event, Hello},
    wire::{FromWorker, from_worker},
};
use esta_proto::{
    Digest, Fence, SessionId,
    v1::{WorkerMessage, worker_message::Body},
};
use esta_worker_engine::{Reply, wire::to_coordinator};
use prost::Message;

use super::Reports;
use crate::{invariants::Violation, mutate::Mutator};

/// The number of its session: no worker has it.
const SESSION: SessionId = SessionId(u64::MAX);
/// What is remembered to be spoilt later.
const REMEMBERED: usize = 64;

pub(super) struct Hostile {
    mutator: Mutator,
    heard: Vec<Vec<u8>>,
}

impl Hostile {
    pub(super) fn new(seed: u64) -> Self {
        Self { mutator: Mutator::new(seed), heard: Vec::new() }
    }

    /// The next thing it sends.
    fn bytes(&mut self) -> Vec<u8> {
        if self.heard.is_empty() || self.mutator.flips(0.1) {
            return self.mutator.noise(200);
        }
        let whole = self.mutator.one_of(&self.heard).clone();
        if self.mutator.flips(0.1) { whole } else { self.mutator.bytes(&whole) }
    }
}

impl Reports {
    /// Somebody overhears what a worker says, and says something itself.
    pub(super) fn hear_the_hostile(&mut self, fence: Fence, overheard: &Reply) -> Result<(), Violation> {
        if self.load.hostile == 0.0 {
            return Ok(());
        }
        let at = (self.tally.hostile as usize + self.hostile.heard.len()) % REMEMBERED;
        let bytes = to_coordinator(fence, overheard, SESSION).encode_to_vec();
        if self.hostile.heard.len() < REMEMBERED {
            self.hostile.heard.push(bytes);
        } else {
            self.hostile.heard[at] = bytes;
        }
        while self.hostile.mutator.flips(self.load.hostile) {
            self.tally.hostile += 1;
            let bytes = self.hostile.bytes();
            let events = WorkerMessage::decode(bytes.as_slice()).ok().and_then(read);
            self.events.extend(events);
            self.settle()?;
        }
        Ok(())
    }
}

/// What the law hears of a message, where it is one.
fn read(message: WorkerMessage) -> Option<Event> {
    if let Some(Body::Hello(hello)) = &message.body {
        // Whoever fits the job is a member, and who may be one is not the law's to say.
        let layout_digest = Digest([0xbb; 32]);
        return Hello::try_from(hello).ok().map(|hello| Event::Joined(SESSION, Hello { layout_digest, ..hello }));
    }
    match from_worker(SESSION, message).ok()? {
        FromWorker::Event(event) => Some(event),
        FromWorker::Store(..) => None,
        FromWorker::Leaving(_) => Some(Event::Left(SESSION)),
    }
}
