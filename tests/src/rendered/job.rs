//! The controller of an Indexed Job: pods by index, tries, and what an exit code means.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};

use super::{
    pod::Pod,
    workload::{Action, JobRules},
};

/// A Job and its pods.
pub(super) struct Job {
    rules: JobRules,
    /// As many places are worked at, and have to be done.
    size: u32,
    places: BTreeMap<u32, Place>,
    /// Pods of places that were taken away, until they have ended.
    leaving: Vec<Pod>,
    /// Pods that have ended.
    pub ended: Vec<Ended>,
    /// Why it failed.
    pub failed: Option<String>,
}

#[derive(Default)]
struct Place {
    pod: Option<Pod>,
    failures: u32,
    done: bool,
    /// Why nobody is to take it any more.
    given_up: Option<String>,
}

/// A pod that has ended, and what the Job made of it.
pub struct Ended {
    /// Its place.
    pub index: u32,
    /// How.
    pub code: i32,
    /// Nothing where it was done, or where its place had been taken away.
    pub action: Option<Action>,
    pub(super) pod: Pod,
}

impl Job {
    pub fn new(rules: JobRules, size: u32) -> Self {
        let (places, leaving, ended) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { rules, size, places, leaving, ended, failed: None }
    }

    /// Judges who has ended, and answers the places that lack a pod.
    pub fn tick(&mut self) -> anyhow::Result<Vec<u32>> {
        for (&index, place) in &mut self.places {
            let Some(pod) = &mut place.pod else { continue };
            pod.tick()?;
            let Some(code) = pod.code() else { continue };
            let action = (code != 0).then(|| self.rules.judge(code));
            match action {
                None => place.done = true,
                Some(Action::Ignore) => {}
                Some(Action::Count) => place.failures += 1,
                Some(Action::FailIndex) => place.failures = self.rules.backoff_limit_per_index + 1,
                Some(Action::FailJob) => {
                    self.failed = Some(format!("{} ended with {code}, which is final:\n{}", pod.name(), pod.log()));
                }
            }
            if place.failures > self.rules.backoff_limit_per_index {
                place.given_up = Some(format!("the place {index} is given up:\n{}", pod.log()));
            }
            self.ended.extend(place.pod.take().map(|pod| Ended { index, code, action, pod }));
        }
        for pod in &mut self.leaving {
            pod.tick()?;
        }
        for pod in self.leaving.extract_if(.., |pod| pod.code().is_some()) {
            let (index, code) = (pod.index(), pod.code().unwrap_or_default());
            self.ended.push(Ended { index, code, action: None, pod });
        }
        // The others go on without a place that is given up; the Job fails when they are done.
        let over = self.places.values().all(|place| place.done || place.given_up.is_some());
        if over && self.places.len() == self.size as usize {
            let given_up = self.places.values().find_map(|place| place.given_up.clone());
            self.failed = self.failed.take().or(given_up);
        }
        let waits = |place: &Place| place.pod.is_none() && !place.done && place.given_up.is_none();
        let lacks = |index: &u32| self.places.get(index).is_none_or(waits);
        Ok(if self.failed.is_some() { Vec::new() } else { (0..self.size).filter(lacks).collect() })
    }

    /// Gives a place its pod.
    pub fn fill(&mut self, index: u32, pod: Pod) {
        self.places.entry(index).or_default().pod = Some(pod);
    }

    /// Another size: the pods of the highest indices leave, new ones are made at the next tick.
    pub fn scale(&mut self, size: u32) {
        self.size = size;
        let mut taken: Vec<Pod> = self.places.split_off(&size).into_values().filter_map(|place| place.pod).collect();
        taken.iter_mut().for_each(Pod::leave);
        self.leaving.extend(taken);
    }

    /// # Errors
    /// When it has failed.
    pub fn fails(&self) -> anyhow::Result<()> {
        ensure!(self.failed.is_none(), "the Job failed: {}", self.failed.as_deref().unwrap_or_default());
        Ok(())
    }

    /// Whether every place is done.
    pub fn is_complete(&self) -> bool {
        let done = self.places.values().filter(|place| place.done).count();
        self.failed.is_none() && done == self.size as usize && self.leaving.is_empty()
    }

    /// The pod at a place.
    pub fn pod(&mut self, index: u32) -> anyhow::Result<&mut Pod> {
        let place = self.places.get_mut(&index).with_context(|| format!("there is no place {index}"))?;
        place.pod.as_mut().with_context(|| format!("nobody is at the place {index}"))
    }

    /// Pods that run.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.places.values().filter_map(|place| place.pod.as_ref()).chain(&self.leaving)
    }

    /// Every pod there is or was.
    pub fn all(&self) -> impl Iterator<Item = &Pod> {
        self.pods().chain(self.ended.iter().map(|ended| &ended.pod))
    }
}
