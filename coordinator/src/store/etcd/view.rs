//! Reading (HANDS), as what is kept was at one revision: its leader writes and deletes meanwhile.

use std::ops::Range;

use esta_engine::run::{Recovered, Snapshot, StepRecord};
use esta_proto::{Generation, LeaderEpoch, Step};
use etcd_client::{GetOptions, GetResponse, KeyValue};
use tokio::time::Instant;

use super::{Etcd, FIRST_CONTACT, FORMAT, Keys, Patience, room::BYTES};
use crate::store::{Meta, StoreError, codec, job};

/// About what a page's step takes besides its slots, and each of these.
const STEP_BYTES: usize = 128;
const SLOT_BYTES: usize = 64;

/// What is kept, at a revision; at 0, as it is whenever something is asked.
pub(super) struct View<'a> {
    etcd: &'a Etcd,
    revision: i64,
}

impl Etcd {
    /// Checks that what is kept here is of this program and this job; the run's name, if there is one.
    pub(super) async fn check(&self, spec_json: &str) -> Result<Option<String>, StoreError> {
        let newest = self.newest();
        newest.check_format().await?;
        if let Some(stored) = newest.text(self.keys.spec(), "spec").await? {
            job::check(&stored, spec_json).map_err(|mismatch| match mismatch {
                job::Mismatch::OtherJob(differences) => {
                    let advice = "name another prefix behind --store, or delete those keys";
                    StoreError::OtherJob { place: self.place.clone(), differences, advice }
                }
                job::Mismatch::Damaged(what) => self.damaged(what),
            })?;
        }
        newest.text(self.keys.run_id(), "run_id").await
    }

    /// Reads a record without leading: whose it is, and every step of it.
    ///
    /// # Errors
    /// [`StoreError`] when there is none, or it cannot be read.
    pub async fn read(&self) -> Result<(Meta, Recovered), StoreError> {
        let first = self.get("read", self.keys.format()).await?;
        let revision = first.header().map_or(0, |header| header.revision());
        View { etcd: self, revision }.whole().await
    }

    /// As it is whenever something is asked: enough for one key, and for whoever leads, since nobody else writes.
    pub(super) fn newest(&self) -> View<'_> {
        View { etcd: self, revision: 0 }
    }
}

impl View<'_> {
    async fn check_format(&self) -> Result<(), StoreError> {
        let Some(found) = self.single(self.etcd.keys.format(), "format").await? else { return Ok(()) };
        if found <= u64::from(FORMAT) {
            return Ok(());
        }
        let found = u32::try_from(found).unwrap_or(u32::MAX);
        Err(StoreError::Newer { place: self.etcd.place.clone(), found, known: FORMAT })
    }

    async fn whole(&self) -> Result<(Meta, Recovered), StoreError> {
        self.check_format().await?;
        let keys = &self.etcd.keys;
        let (Some(run_id), Some(spec_json)) =
            (self.text(keys.run_id(), "run_id").await?, self.text(keys.spec(), "spec").await?)
        else {
            return Err(StoreError::Absent { place: self.etcd.place.clone() });
        };
        let epoch = LeaderEpoch(self.single(keys.epoch(), "epoch").await?.unwrap_or(0));
        let steps = self.steps(Step(0)..Step(u64::MAX)).await?;
        Ok((Meta { run_id, spec_json, epoch }, Recovered { steps, ..self.recovered().await? }))
    }

    /// What it takes to go on: the last snapshot, and the steps since the oldest that anybody may need.
    pub async fn recovered(&self) -> Result<Recovered, StoreError> {
        let snapshot = self.last_snapshot().await?;
        let trim = Step(self.single(self.etcd.keys.trim(), "trim").await?.unwrap_or(0));
        let first = snapshot.as_ref().map_or(Step(0), |snapshot| snapshot.committed.min(trim));
        let (generation, members) = match self.get(self.etcd.keys.generation()).await?.kvs().first() {
            Some(text) => serde_json::from_slice::<(u64, Vec<String>)>(text.value())
                .map(|(generation, names)| (Generation(generation), names))
                .map_err(|error| self.etcd.damaged(format!("generation: {error}")))?,
            None => Default::default(),
        };
        let checkpoints = self.page_through(self.etcd.keys.checkpoints(), None, 1000).await?;
        let checkpoint = |key: &KeyValue| Keys::number(key.key()).map(Step);
        let checkpoints = checkpoints.iter().map(checkpoint).collect::<Option<_>>();
        Ok(Recovered {
            snapshot,
            steps: self.steps(first..Step(u64::MAX)).await?,
            generation,
            members,
            samples: self.single(self.etcd.keys.samples(), "samples").await?,
            complete: self.text(self.etcd.keys.complete(), "complete").await?.is_some(),
            checkpoints: checkpoints.ok_or_else(|| self.etcd.damaged("a checkpoint has no number"))?,
        })
    }

    async fn last_snapshot(&self) -> Result<Option<Snapshot>, StoreError> {
        let Some(text) = self.text(self.etcd.keys.snapshot(), "snapshot").await? else { return Ok(None) };
        let place = text.split_once(' ').and_then(|(step, parts)| Some((step.parse().ok()?, parts.parse().ok()?)));
        let (committed, count): (u64, usize) = place.ok_or_else(|| self.etcd.damaged("snapshot names no step"))?;
        let parts = self.page_through(self.etcd.keys.parts(Step(committed)), None, 2).await?;
        if parts.len() != count {
            return Err(self.etcd.damaged(format!("snapshot {committed} has {} of {count} parts", parts.len())));
        }
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.value()).copied().collect();
        codec::decode_snapshot(&bytes).map(Some).map_err(|what| self.etcd.damaged(what))
    }

    pub async fn steps(&self, range: Range<Step>) -> Result<Vec<StepRecord>, StoreError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let keys = &self.etcd.keys;
        let end = if range.end == Step(u64::MAX) { keys.beyond_steps() } else { keys.step(range.end) };
        let entries = self.page_through(keys.step(range.start), Some(end), 1).await?;
        let step = |entry: &KeyValue| {
            let step = Keys::number(entry.key()).ok_or_else(|| self.etcd.damaged("a step has no number"))?;
            codec::decode(Step(step), entry.value()).map_err(|what| self.etcd.damaged(what))
        };
        entries.iter().map(step).collect()
    }

    /// Every entry of a range (or that begins with `from`), in pages of at most so many at first: the sizes of those that
    /// came decide how many come next.
    async fn page_through(&self, from: String, end: Option<String>, most: i64) -> Result<Vec<KeyValue>, StoreError> {
        let mut found: Vec<KeyValue> = Vec::new();
        let mut limit = most;
        let mut next = from.clone().into_bytes();
        let end = end.map_or_else(|| beyond(from.as_bytes()), String::into_bytes);
        loop {
            let options = self.options().with_range(end.clone()).with_limit(limit);
            let patience = Patience::Until(Instant::now() + FIRST_CONTACT);
            let mut page = self.etcd.get_with("read", next.clone(), Some(options), patience).await?;
            let more = page.more();
            let page = page.take_kvs();
            let bytes: usize = page.iter().map(|entry| entry.key().len() + entry.value().len()).sum();
            let each = bytes / page.len().max(1) + STEP_BYTES + SLOT_BYTES;
            limit = i64::try_from(BYTES / each).unwrap_or(1).clamp(1, 4096);
            if let Some(last) = page.last() {
                next = [last.key(), b"\0"].concat();
            }
            found.extend(page);
            if !more {
                return Ok(found);
            }
        }
    }

    async fn text(&self, key: String, what: &str) -> Result<Option<String>, StoreError> {
        let answer = self.get(key).await?;
        let text = answer.kvs().first().map(|entry| String::from_utf8(entry.value().to_vec()));
        text.transpose().map_err(|_| self.etcd.damaged(format!("{what} is no text")))
    }

    async fn single(&self, key: String, what: &str) -> Result<Option<u64>, StoreError> {
        let answer = self.get(key).await?;
        answer.kvs().first().map(|entry| self.etcd.number(entry.value(), what)).transpose()
    }

    async fn get(&self, key: String) -> Result<GetResponse, StoreError> {
        self.etcd.get_with("read", key, Some(self.options()), Patience::Endless).await
    }

    fn options(&self) -> GetOptions {
        GetOptions::new().with_revision(self.revision)
    }
}

/// The first key that does not begin with this.
fn beyond(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}
