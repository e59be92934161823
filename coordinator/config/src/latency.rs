//! Measured latencies of a job's stitches (HANDS): a job names the file of `esta-worker profile`, the law gets its numbers.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use esta_engine::{
    catalog::Catalog,
    latency::Latency,
    profile::Profile,
    spec::{BudgetSpec, JobSpec},
};
use esta_proto::StitchId;

use super::{
    ConfigError,
    node::{Malformed, Node},
    typed,
};

const KEY: &str = "budgets.latency.profile";

/// Reads the file that `esta-worker profile` wrote and answers the median of every stitch of a catalog.
///
/// # Errors
/// [`ConfigError`] naming the file, and its line and key where it cannot be read; or the stitch that does not fit.
pub fn latencies(profile: &Path, catalog: &Catalog) -> Result<BTreeMap<StitchId, Latency>, ConfigError> {
    let read = read(profile)?;
    read.latencies(catalog).map_err(|flaw| ConfigError::Profile { path: profile.to_owned(), flaw })
}

fn read(path: &Path) -> Result<Profile, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let origin: Arc<str> = path.display().to_string().into();
    // JSON is YAML, and this reader knows lines and keys.
    let node = Node::parse(&text, &origin).map_err(|Malformed { place, flaw }| ConfigError::Yaml { place, flaw })?;
    typed::read(&node)
}

/// Puts the medians of the profile that a job names in its place: the job that is recorded and served holds the numbers
/// themselves.
pub(super) fn inline(spec: &mut JobSpec, top: &Node) -> Result<(), ConfigError> {
    let BudgetSpec::Latency(budgets) = &spec.budgets else { return Ok(()) };
    let Some(profile) = &budgets.profile else { return Ok(()) };
    let flawed = |flaw: String| ConfigError::Key { place: top.nearest(KEY).clone(), key: KEY.into(), flaw };
    if !budgets.milliseconds.is_empty() {
        return Err(flawed("the job holds milliseconds already; take those back with null".into()));
    }
    let catalog = catalog(spec, top)?;
    let measured = latencies(profile.as_ref(), &catalog).map_err(|error| flawed(with_cause(&error)))?;
    if let BudgetSpec::Latency(budgets) = &mut spec.budgets {
        (budgets.profile, budgets.milliseconds) = (None, measured);
    }
    Ok(())
}

/// The stitches that the profile has to fit; which bins they fall into does not matter yet.
fn catalog(spec: &JobSpec, top: &Node) -> Result<Catalog, ConfigError> {
    let (space, task) = (&spec.family.space, spec.task());
    let build = |anchors| Catalog::new(anchors, space, task, &BudgetSpec::default(), spec.mode);
    spec.architectures().and_then(build).map_err(|flaw| ConfigError::of(flaw, top))
}

fn with_cause(error: &ConfigError) -> String {
    let cause = std::error::Error::source(error);
    cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

#[cfg(test)]
mod tests {
    use esta_engine::law::Law;
    use serde_json::{Value, json};
    use tempfile::TempDir;

    use super::*;
    use crate::{load, load_unmeasured, to_yaml};

    const JOB: &str = "
name: tiny
family:
  anchors:
    - {name: a, weights: a, arch: {image_size: 8, patch_size: 4, embed_dim: 8, depth: 2, num_heads: 2}}
    - {name: b, weights: b, arch: {image_size: 8, patch_size: 4, embed_dim: 16, depth: 2, num_heads: 2}}
train: {max_steps: 10}
data: {num_classes: 2, train: {layout: idx, path: images, labels: labels}}
budgets:
  latency: {gap: 0.5ms, profile: PROFILE}
recipe: paper
";

    /// A folder with a job that names `latency.json` in it, and a profile in which stitch i takes i + 1 ms, changed.
    struct Folder(TempDir);

    impl Folder {
        fn new(change: impl FnOnce(&mut Value)) -> Self {
            let folder = Self(tempfile::tempdir().expect("a temporary folder"));
            let profile = folder.path("latency.json");
            folder.write("job.yaml", &JOB.replace("PROFILE", &profile));
            let catalog = load_unmeasured(folder.path("job.yaml").as_ref(), &[]).expect("it needs no profile").catalog;
            let row = |id: u32, macs: u64| json!({"macs": macs, "median_ms": f64::from(id) + 1.0});
            let rows = catalog.stitches().map(|stitch| (stitch.id.to_string(), row(stitch.id.0, stitch.macs)));
            let mut file = json!({"device": "cpu", "batch": 1, "stitches": rows.collect::<serde_json::Map<_, _>>()});
            change(&mut file);
            folder.write("latency.json", &format!("{file:#}"));
            folder
        }

        fn path(&self, name: &str) -> String {
            self.0.path().join(name).display().to_string()
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.path(name), text).expect("writes");
        }

        fn load(&self, overrides: &[&str]) -> Result<Law, ConfigError> {
            let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
            load(self.path("job.yaml").as_ref(), &overrides)
        }

        /// The error's text with its cause, without the folder's name.
        fn flaw(&self, overrides: &[&str]) -> String {
            let error = self.load(overrides).expect_err("it is flawed");
            with_cause(&error).replace(&self.path(""), "")
        }
    }

    fn milliseconds(spec: &JobSpec) -> Vec<f64> {
        let BudgetSpec::Latency(budgets) = &spec.budgets else { panic!("{:?}", spec.budgets) };
        assert_eq!(budgets.profile, None, "the numbers took its place");
        budgets.milliseconds.values().map(|latency| latency.millis()).collect()
    }

    #[test]
    fn a_profile_becomes_its_medians_and_bins_open_by_them() {
        let law = Folder::new(|_| {}).load(&[]).expect("it is whole");
        let stitches = law.catalog.stitches().count();
        assert_eq!(milliseconds(&law.spec), (1..=stitches).map(|id| id as f64).collect::<Vec<_>>());
        assert_eq!(law.catalog.bins().len(), stitches, "they are a whole millisecond apart");
        let edges = Folder::new(|_| {}).load(&["budgets.latency={gap: null, edges: [2ms, 0.1s]}"]).expect("whole");
        assert_eq!(edges.catalog.bins()[0], [StitchId(0), StitchId(1)]);
    }

    #[test]
    fn a_resolved_job_is_read_as_the_same_job_without_its_profile() {
        let folder = Folder::new(|_| {});
        let law = folder.load(&[]).expect("it is whole");
        fs::remove_file(folder.path("latency.json")).expect("it was there");
        folder.write("job.yaml", &to_yaml(&law.spec).expect("it can be written"));
        let again = folder.load(&[]).expect("it needs no profile");
        assert_eq!((&again.spec, &again.catalog), (&law.spec, &law.catalog));
    }

    #[test]
    fn a_profile_that_is_not_there_is_named_with_the_key_and_its_place() {
        let folder = Folder::new(|_| {});
        let file = folder.path("nowhere.json");
        folder.write("job.yaml", &JOB.replace("PROFILE", &file));
        let flaw = folder.flaw(&[]);
        assert!(
            flaw.starts_with("job.yaml:10:34: budgets.latency.profile: cannot read nowhere.json: No such"),
            "{flaw}"
        );
        let set = format!("budgets.latency.profile={file}");
        let flaw = folder.flaw(&[&set]);
        assert!(flaw.contains("--set budgets.latency.profile=nowhere.json: budgets.latency.profile: cannot"), "{flaw}");
    }

    #[test]
    fn a_profile_of_another_catalog_is_refused_by_stitch_and_macs() {
        let lacking = Folder::new(|file| drop(file["stitches"].as_object_mut().expect("a mapping").remove("1")));
        let place = "job.yaml:10:34: budgets.latency.profile: latency.json: ";
        assert_eq!(lacking.flaw(&[]), format!("{place}it lacks stitch 1"));
        let other = Folder::new(|file| file["stitches"]["0"]["macs"] = json!(7));
        let flaw = other.flaw(&[]);
        assert!(
            flaw.starts_with(&format!("{place}it is of another catalog: stitch 0 costs 7 MACs there and ")),
            "{flaw}"
        );
        let more = Folder::new(|file| file["stitches"]["99"] = json!({"macs": 1, "median_ms": 1}));
        assert_eq!(more.flaw(&[]), format!("{place}it is of another catalog: there is no stitch 99 here"));
    }

    #[test]
    fn a_damaged_profile_is_named_by_its_line_and_key() {
        let place = "job.yaml:10:34: budgets.latency.profile: latency.json:";
        let flaw = Folder::new(|file| file["stitches"]["1"]["median_ms"] = json!("soon")).flaw(&[]);
        assert!(flaw.starts_with(place), "{flaw}");
        assert!(flaw.contains(r#"stitches.1.median_ms: "soon", expected a latency: 12ms"#), "{flaw}");
        let flaw = Folder::new(|file| *file = json!({"images": 3})).flaw(&[]);
        assert!(flaw.starts_with(place) && flaw.ends_with(r#"the key "stitches" is missing"#), "{flaw}");
        let flaw = Folder::new(|file| file["stitches"]["first"] = json!({"macs": 1, "median_ms": 1})).flaw(&[]);
        assert!(flaw.contains(r#""first", expected the number of a stitch"#), "{flaw}");
        let broken = Folder::new(|_| {});
        broken.write("latency.json", "{\"stitches\": [");
        assert!(broken.flaw(&[]).starts_with(place), "{}", broken.flaw(&[]));
    }

    #[test]
    fn budgets_that_are_no_latencies_are_refused_where_they_stand() {
        let folder = Folder::new(|_| {});
        let flaw = folder.flaw(&["budgets.latency.gap=2m"]);
        assert!(flaw.contains(r#"budgets.latency.gap: "2m", expected a latency: 12ms, 0.8s"#), "{flaw}");
        let flaw = folder.flaw(&["budgets.latency={gap: 1ms, edges: [1ms]}"]);
        assert!(flaw.ends_with("budgets.latency: give either gap or edges, not both"), "{flaw}");
        let flaw = folder.flaw(&["budgets.latency.edges=[1ms, 2ms]"]);
        assert!(flaw.ends_with("stitch 2 takes 3.000 ms, above the last edge; the slowest takes 4.000 ms"), "{flaw}");
        let flaw = folder.flaw(&["budgets.latency.milliseconds={0: 1ms}"]);
        assert!(flaw.ends_with("the job holds milliseconds already; take those back with null"), "{flaw}");
        let flaw = folder.flaw(&["budgets.latency.profil=x"]);
        assert!(flaw.ends_with(r#"budgets.latency: unknown key "profil"; did you mean "profile"?"#), "{flaw}");
    }

    #[test]
    fn whoever_is_about_to_measure_needs_no_profile() {
        let folder = Folder::new(|_| {});
        fs::remove_file(folder.path("latency.json")).expect("it was there");
        let law = load_unmeasured(folder.path("job.yaml").as_ref(), &[]).expect("budgets are left out");
        assert_eq!(law.spec.budgets, BudgetSpec::default());
        assert!(load_unmeasured(folder.path("job.yaml").as_ref(), &["pst.lora_r=0".into()]).is_err());
    }
}
