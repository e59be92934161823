//! Keys that nothing reads in the job they stand in (LAW). A job file that gives one is refused: whoever wrote it expects
//! something of it. A job that a program makes of another may keep them.

use super::{Column, DatasetSpec, JobSpec, Layout, Mode, Normalize, Resize, SpaceKind, SpaceSpec, SpecError};

const FOR_IMAGES: &str = "is for images; texts have no use for it";

impl JobSpec {
    /// Refuses what is given and not read. A value that is the default's counts as not given: resolved jobs say all of them.
    ///
    /// # Errors
    /// [`SpecError`] with the first such key.
    pub fn refuse_unread(&self) -> Result<(), SpecError> {
        let unread = self.unread_of_modes().or_else(|| self.family.space.unread()).or_else(|| self.unread_of_data());
        unread.map_or(Ok(()), Err)
    }

    /// Why nothing reads a key of sampling or scoring in this job; none where something may. By simple rules: others stay unsaid.
    /// Unlike what is refused such a key may be given, as other settings of the same study read it.
    #[must_use]
    pub fn why_unread(&self, key: &str) -> Option<String> {
        let strategy = self.effective_sampling().strategy;
        let read = [strategy.reads(), Some(self.palette.rule.reads())];
        let is_read = match key {
            "sampling.strategy" => self.mode == Mode::Pst,
            "sampling.epsilon" | "sampling.warm_visits" | "sampling.lookahead" => strategy.reads().is_some(),
            "sampling.momentum" => read.into_iter().flatten().any(Column::is_averaged),
            _ if key.starts_with("score.") => read.contains(&Some(Column::Importance)),
            _ => true,
        };
        let why = || {
            let mode =
                if self.mode == Mode::Pst { String::new() } else { format!(" in mode {:?}", self.mode).to_lowercase() };
            let strategy = format!("{strategy:?}").to_lowercase();
            format!("where stitches are drawn by {strategy}{mode} and deployed by {}", self.palette.rule.name())
        };
        (!is_read).then(why)
    }

    fn unread_of_modes(&self) -> Option<SpecError> {
        let weight = self.train.distill.weight;
        match self.mode {
            Mode::Pst if self.train.full => Some(SpecError::new(
                "train.full",
                "true is for mode: anchor, and mode: pst trains adapters alone; mode: snnet trains every weight",
            )),
            Mode::Anchor if weight > 0.0 => Some(SpecError::new(
                "train.distill.weight",
                format!("{weight} is not read in mode: anchor, where every anchor is alone; leave it out or give 0"),
            )),
            _ => None,
        }
    }

    fn unread_of_data(&self) -> Option<SpecError> {
        let data = &self.data;
        let sets =
            [("train", Some(&data.train)), ("eval", data.eval.as_ref()), ("validation", data.validation.as_ref())];
        let mut sets = sets.into_iter().filter_map(|(name, set)| Some((name, set?)));
        let in_sets = || sets.find_map(|(name, set)| set.unread(&format!("data.{name}")));
        let of_images = [
            ("data.resize", data.resize != Resize::default()),
            ("data.normalize", data.normalize != Normalize::default()),
        ];
        let beside_text = of_images.into_iter().find(|(_, given)| *given && data.text.is_some());
        beside_text.map(|(key, _)| SpecError::new(key, FOR_IMAGES)).or_else(in_sets)
    }
}

impl SpaceSpec {
    fn unread(&self) -> Option<SpecError> {
        let default = Self::default();
        let given = [
            ("window", self.window.to_string(), self.window != default.window),
            ("stride", self.stride.to_string(), self.stride != default.stride),
            ("nearest", self.nearest.to_string(), self.nearest != default.nearest),
        ];
        let slides = matches!(self.kind, SpaceKind::Snnet | SpaceKind::Esta);
        let (key, value, _) = given.into_iter().find(|(_, _, given)| *given && !slides)?;
        let flaw = format!("{value} is read where family.space.kind is snnet or esta alone: leave it out");
        Some(SpecError::new(format!("family.space.{key}"), flaw))
    }
}

impl DatasetSpec {
    fn unread(&self, key: &str) -> Option<SpecError> {
        let flawed = |name: &str, flaw: &str| Some(SpecError::new(format!("{key}.{name}"), flaw));
        if self.labels.is_some() && !matches!(self.layout, Layout::Idx | Layout::ImageList | Layout::Parquet) {
            return flawed("labels", "is read where layout is idx, image_list or parquet alone: leave it out");
        }
        let of_images = [
            ("classes", self.classes.is_some()),
            ("downsample", self.downsample.is_some()),
            ("rotate", self.rotate != 0),
            ("invert", self.invert),
        ];
        let (name, _) = of_images.into_iter().find(|(_, given)| *given && self.layout.is_text())?;
        flawed(name, FOR_IMAGES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change<T> = fn(&mut T);

    /// The key of a job of images or of texts that is changed.
    fn key(texts: bool, change: impl FnOnce(&mut JobSpec)) -> Option<String> {
        let (images, alpaca) =
            (r#"{"layout": "idx", "path": "x", "labels": "y"}"#, r#"{"layout": "alpaca", "path": "x"}"#);
        let train = if texts { alpaca } else { images };
        let text = if texts { r#""text": {}, "# } else { "" };
        let job = format!(
            r#"{{"name": "unread", "family": {{"anchors": []}}, "train": {{"max_steps": 1}}, "data": {{{text}"train": {train}}}}}"#
        );
        let mut spec: JobSpec = serde_json::from_str(&job).expect("a job");
        change(&mut spec);
        spec.refuse_unread().err().map(|flaw| flaw.key)
    }

    fn of_images(change: impl FnOnce(&mut JobSpec)) -> Option<String> {
        key(false, change)
    }

    fn of_texts(change: impl FnOnce(&mut JobSpec)) -> Option<String> {
        key(true, change)
    }

    #[test]
    fn what_its_mode_or_its_space_does_not_read_is_refused() {
        assert_eq!(of_images(|_| {}), None);
        assert_eq!(of_images(|job| job.train.full = true).as_deref(), Some("train.full"));
        let distils = |mode| {
            of_images(move |job| {
                job.mode = mode;
                job.train.distill.weight = 0.5;
            })
        };
        assert_eq!(distils(Mode::Anchor).as_deref(), Some("train.distill.weight"));
        assert_eq!([distils(Mode::Pst), distils(Mode::Snnet)], [None, None]);
        let space = |kind, change: Change<SpaceSpec>| {
            of_images(move |job| {
                job.family.space.kind = kind;
                change(&mut job.family.space);
            })
        };
        let changes: [(&str, Change<SpaceSpec>); 3] = [
            ("window", |space| space.window = 3),
            ("stride", |space| space.stride = 2),
            ("nearest", |space| space.nearest = false),
        ];
        for (name, change) in changes {
            for kind in [SpaceKind::Twoway, SpaceKind::Proportional, SpaceKind::Unpaired] {
                assert_eq!(space(kind, change), Some(format!("family.space.{name}")), "{kind:?}");
            }
            assert_eq!([space(SpaceKind::Esta, change), space(SpaceKind::Snnet, change)], [None, None], "{name}");
        }
    }

    #[test]
    fn what_its_layout_does_not_read_is_refused() {
        let labelled = |layout| {
            of_images(move |job| {
                job.data.eval = Some(DatasetSpec { layout, ..job.data.train.clone() });
            })
        };
        for layout in [Layout::ImageFolder, Layout::DigitsCsv] {
            assert_eq!(labelled(layout).as_deref(), Some("data.eval.labels"));
        }
        assert_eq!([labelled(Layout::Idx), labelled(Layout::ImageList), labelled(Layout::Parquet)], [None, None, None]);
        let changes: [(&str, Change<JobSpec>); 7] = [
            ("data.train.labels", |job| job.data.train.labels = Some("y".into())),
            ("data.train.classes", |job| job.data.train.classes = Some(vec![1])),
            ("data.train.downsample", |job| job.data.train.downsample = Some(7)),
            ("data.train.rotate", |job| job.data.train.rotate = 90),
            ("data.train.invert", |job| job.data.train.invert = true),
            ("data.resize", |job| job.data.resize = Resize::CenterCrop),
            ("data.normalize", |job| job.data.normalize = Normalize::Imagenet),
        ];
        assert_eq!(of_texts(|_| {}), None);
        for (name, change) in changes {
            assert_eq!(of_texts(change).as_deref(), Some(name));
            assert_eq!(of_images(change), None, "{name}");
        }
    }
}
