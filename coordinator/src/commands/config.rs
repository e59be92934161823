//! `config` (HANDS): checks, resolves and describes configurations.

use clap::Subcommand;
use esta_config::{JobArgs, to_yaml};
use esta_engine::spec::JobSpec;

use super::{law, say};
use crate::failure::Failure;

/// What can be done with a configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check a job without running it.
    Validate(JobArgs),
    /// Print a job as it would run: bases merged, overrides applied, defaults filled in.
    Print(JobArgs),
    /// Print the JSON Schema of job files, for editors.
    Schema,
}

pub(super) fn config(command: &ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Validate(job) => {
            let law = law(job)?;
            let (stitches, budgets) = (law.catalog.stitches().count(), law.catalog.bins().len());
            say(&format!("{} is valid: {stitches} stitches in {budgets} budgets", job.config.display()))
        }
        ConfigCommand::Print(job) => say(&to_yaml(&law(job)?.spec)?),
        ConfigCommand::Schema => say(&format!("{:#}", schema())),
    }
}

/// The schema of [`JobSpec`] as files say it: of `base:` too, which is gone before a job is one, and without defaults of
/// what a recipe decides.
fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(JobSpec).to_value();
    let base = serde_json::json!({
        "description": "Another YAML file, beside this one, that this one extends: mappings merge, null takes a key back.",
        "type": "string",
    });
    schema["properties"]["base"] = base;
    schema["properties"]["recipe"]["default"] = "best".into();
    // What a file leaves out its base may say.
    if let Some(object) = schema.as_object_mut() {
        object.remove("required");
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_names_every_section_and_refuses_others() {
        let schema = schema();
        for section in
            ["base", "recipe", "name", "family", "pst", "budgets", "sampling", "train", "data", "palette", "eval"]
        {
            assert!(schema["properties"][section].is_object(), "{section}");
        }
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["properties"]["recipe"]["default"], "best");
        assert!(schema["$defs"]["Recipe"].to_string().contains("paper"), "{}", schema["$defs"]["Recipe"]);
        let described = &schema["$defs"]["SamplingSpec"]["properties"]["anchor_floor"]["description"];
        assert!(described.as_str().is_some_and(|text| text.contains("anchors")), "{described}");
    }
}
