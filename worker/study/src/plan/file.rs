//! A study's file laid over the one it names as `base` (HANDS).

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::{StudyError, flaw};

type Keys = Map<String, Value>;

/// The top-level keys of a study's file over those of its base, arms by name; job files as seen from the working folder.
pub(super) fn keys(path: &Path) -> Result<Keys, StudyError> {
    over(path, &mut Vec::new())
}

/// `chain` holds the files that led here, so that one that extends itself is refused however long the way round is.
fn over(path: &Path, chain: &mut Vec<PathBuf>) -> Result<Keys, StudyError> {
    let read = |source| StudyError::Read { path: path.into(), source };
    let place = fs::canonicalize(path).map_err(read)?;
    if chain.contains(&place) {
        return Err(flaw("base", format!("{} extends itself", path.display())));
    }
    chain.push(place);
    let text = fs::read_to_string(path).map_err(read)?;
    let mut own: Keys =
        serde_saphyr::from_str(&text).map_err(|flaw| StudyError::Yaml { path: path.into(), flaw: flaw.to_string() })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    for target in own.get_mut("targets").and_then(Value::as_array_mut).into_iter().flatten() {
        beside(folder, target.get_mut("config"));
    }
    beside(folder, own.get_mut("angles").and_then(|angles| angles.get_mut("source")));
    let base = match own.remove("base") {
        None => return Ok(own),
        Some(Value::String(base)) => folder.join(base),
        Some(other) => return Err(flaw("base", format!("{other} is no file's name"))),
    };
    let mut all = over(&base, chain)?;
    if let (Some(Value::Array(arms)), Some(Value::Array(under))) = (own.get_mut("arms"), all.get("arms")) {
        *arms = arms_over(under, std::mem::take(arms));
    }
    all.extend(own);
    Ok(all)
}

/// Arms of a base, each replaced by the one of its name if there is one; new ones at the end. An arm that the file
/// itself says twice stays there twice, for validation to refuse.
fn arms_over(base: &[Value], own: Vec<Value>) -> Vec<Value> {
    let mut arms = base.to_vec();
    let mut replaced = Vec::new();
    for arm in own {
        let place = base.iter().position(|other| other.get("name") == arm.get("name"));
        match place.filter(|place| !replaced.contains(place)) {
            Some(place) => {
                arms[place] = arm;
                replaced.push(place);
            }
            None => arms.push(arm),
        }
    }
    arms
}

/// A file that is named as seen from the study's folder.
fn beside(folder: &Path, file: Option<&mut Value>) {
    if let Some(Value::String(file)) = file {
        *file = folder.join(&*file).display().to_string();
    }
}

#[cfg(test)]
mod tests {
    use super::super::Study;

    const HEAD: &str = "name: s\ntitle: S\nwords: w\nseeds: [0]\ntargets: [{name: t, config: job.yaml}]\n";

    /// Reads the first of some files that lie in one folder.
    fn read(files: &[(&str, &str)]) -> Result<Study, String> {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("writes");
        }
        let study = Study::read(&folder.path().join(files[0].0)).map_err(|error| error.to_string())?;
        assert_eq!(study.targets[0].config, folder.path().join("job.yaml"));
        Ok(study)
    }

    #[test]
    fn a_study_over_a_base_replaces_arms_by_name() {
        let base = format!("{HEAD}arms: [{{name: a, set: [x=1]}}, {{name: b, set: [x=2]}}]\n");
        let own = "base: base.yaml\narms: [{name: b, set: [x=3]}, {name: c}]\n";
        let study = read(&[("own.yaml", own), ("base.yaml", &base)]).expect("it is a study");
        let arms: Vec<_> = study.arms.iter().map(|arm| (arm.name.as_str(), arm.set.join(","))).collect();
        assert_eq!(arms, [("a", "x=1".into()), ("b", "x=3".into()), ("c", String::new())]);
    }

    #[test]
    fn an_arm_that_is_said_twice_is_refused_over_a_base_too() {
        let base = format!("{HEAD}arms: [{{name: a}}]\n");
        let own = "base: base.yaml\narms: [{name: a, set: [x=1]}, {name: a, set: [x=2]}]\n";
        let said = read(&[("own.yaml", own), ("base.yaml", &base)]).expect_err("twice");
        assert_eq!(said, "the study's arms: \"a\" is there twice");
    }

    #[test]
    fn a_circle_of_bases_ends_in_a_sentence() {
        let said = read(&[("a.yaml", "base: b.yaml\n"), ("b.yaml", "base: ./a.yaml\n")]).expect_err("a circle");
        assert!(said.starts_with("the study's base: ") && said.ends_with("a.yaml extends itself"), "{said}");
    }
}
