//! The keys of a run (HANDS). Numbers are written with twenty digits, so that their order is that of the keys.

use esta_proto::Step;

/// Names of keys under a prefix.
#[derive(Debug, Clone)]
pub struct Keys(String);

impl Keys {
    /// The keys that begin with this.
    pub fn under(prefix: &str) -> Self {
        Self(prefix.trim_matches('/').to_owned())
    }

    fn named(&self, name: &str) -> String {
        format!("{}/{name}", self.0)
    }

    /// Where the leader serves; it stands as long as the leader's lease.
    pub fn leader(&self) -> String {
        self.named("leader")
    }

    /// Where the leader's page is, if it has one; it stands as long as the leader's lease.
    pub fn page(&self) -> String {
        self.named("page")
    }

    /// The last term of office.
    pub fn epoch(&self) -> String {
        self.named("epoch")
    }

    /// The format of all that is kept here.
    pub fn format(&self) -> String {
        self.named("format")
    }

    /// Put by every transaction of a leader: its version is how many there were.
    pub fn seq(&self) -> String {
        self.named("seq")
    }

    /// The run's name, made once.
    pub fn run_id(&self) -> String {
        self.named("run_id")
    }

    /// The resolved specification.
    pub fn spec(&self) -> String {
        self.named("spec")
    }

    /// Samples of the training set.
    pub fn samples(&self) -> String {
        self.named("samples")
    }

    /// Stands once the results are written.
    pub fn complete(&self) -> String {
        self.named("complete")
    }

    /// The first step that starting again may need.
    pub fn trim(&self) -> String {
        self.named("trim")
    }

    /// The last generation: its number, and its workers by rank.
    pub fn generation(&self) -> String {
        self.named("generation")
    }

    /// Which snapshot counts, and in how many parts it is.
    pub fn snapshot(&self) -> String {
        self.named("snapshot")
    }

    /// A part of a snapshot.
    pub fn part(&self, committed: Step, part: usize) -> String {
        format!("{}{part:04}", self.parts(committed))
    }

    /// What the parts of a snapshot begin with.
    pub fn parts(&self, committed: Step) -> String {
        self.named(&format!("snapshots/{:020}/", committed.0))
    }

    /// What the parts of all snapshots begin with.
    pub fn all_parts(&self) -> String {
        self.named("snapshots/")
    }

    /// A committed step.
    pub fn step(&self, step: Step) -> String {
        self.named(&format!("steps/{:020}", step.0))
    }

    /// Beyond the last committed step there can be.
    pub fn beyond_steps(&self) -> String {
        // The character after a slash.
        self.named("steps0")
    }

    /// A complete checkpoint.
    pub fn checkpoint(&self, step: Step) -> String {
        self.named(&format!("checkpoints/{:020}", step.0))
    }

    /// What all checkpoints begin with.
    pub fn checkpoints(&self) -> String {
        self.named("checkpoints/")
    }

    /// The number at the end of a key.
    pub fn number(key: &[u8]) -> Option<u64> {
        let text = std::str::from_utf8(key).ok()?;
        text.rsplit('/').next()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_keys_is_that_of_steps() {
        let keys = Keys::under("/esta/run/");
        let steps = [0, 9, 10, 1_000_000_000_000].map(|step| keys.step(Step(step)));
        assert!(steps.is_sorted() && *steps.last().expect("four") < keys.beyond_steps(), "{steps:?}");
        assert_eq!(steps[1], "esta/run/steps/00000000000000000009");
        assert_eq!(Keys::number(steps[3].as_bytes()), Some(1_000_000_000_000));
        assert_eq!(Keys::number(b"esta/run/steps/x"), None);
    }
}
