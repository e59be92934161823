//! Language models through the whole system: real processes, the same bits for any membership, models that answer, and mistakes
//! that are named.

use std::{fs, path::Path};

use esta_tests::{Outcome, PATIENCE, Process, Run, TextLab};
use serde_json::{Value, json};

const STEPS: u64 = 24;

fn run(lab: &TextLab, name: &str, workers: u32, keys: (&str, &str)) -> anyhow::Result<Outcome> {
    let job = lab.write_job(name, STEPS, keys)?;
    Run::of_job(lab.path(), name, &job, workers, PATIENCE)?.finish()
}

/// A worker that is to refuse its job: its exit code and its last words.
fn refused(lab: &TextLab, name: &str, job: &Path, code: i32) -> anyhow::Result<String> {
    Run::of_job(lab.path(), name, job, 1, PATIENCE)?.take_worker(0).fails_with(code)
}

fn read_json(path: &Path) -> anyhow::Result<Value> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

#[test]
fn rd_4_texts_end_with_the_same_bits_on_any_number_of_workers_and_with_checkpoints() -> anyhow::Result<()> {
    let lab = TextLab::new()?;
    let one = run(&lab, "one", 1, ("", ""))?;
    assert!(one == run(&lab, "three", 3, ("", ""))?, "three workers ended with other bits");
    let kept_little = run(&lab, "checkpointed", 2, (", gradient_checkpointing: true", ""))?;
    assert!(one == kept_little, "blocks that ran twice ended with other bits");
    let ungrouped = run(&lab, "ungrouped", 1, ("", ", group_by_length: false"))?;
    assert!(one != ungrouped, "lengths group the steps");
    Ok(())
}

#[test]
fn mb_2_a_killed_worker_changes_no_bit_of_a_language_run() -> anyhow::Result<()> {
    let lab = TextLab::new()?;
    let calm = run(&lab, "calm", 2, ("", ""))?;
    let job = lab.write_job("rough", STEPS, ("", ""))?;
    let mut rough = Run::of_job(lab.path(), "rough", &job, 2, PATIENCE)?;
    rough.wait_for_step(3)?;
    rough.kill_worker(0);
    rough.add_worker()?;
    assert!(calm == rough.finish_without_latecomers()?, "the disturbed run ended with other bits");
    Ok(())
}

#[test]
fn rd_4_blocks_that_a_node_shares_change_no_bit_and_neither_does_a_rank_that_dies() -> anyhow::Result<()> {
    let lab = TextLab::new()?;
    let teaching = ", gradient_accumulation_steps: 2, distill: {weight: 0.3, temperature: 2.0}";
    let whole = run(&lab, "whole", 1, (teaching, ""))?;
    let shared = |name: &str| lab.write_job_with(name, STEPS, (teaching, ""), "model: {shard: node}\n");
    // Five ranks on four slots: one of them has nothing to do but to bring the others their blocks.
    for workers in [1, 2, 5] {
        let name = format!("shared-{workers}");
        let outcome = Run::of_job(lab.path(), &name, &shared(&name)?, workers, PATIENCE)?.finish()?;
        assert!(whole == outcome, "{workers} ranks that share their blocks ended with other bits");
    }
    let eval = |name: &str| read_json(&lab.path().join(name).join("eval.json"));
    let losses = |eval: Value| {
        eval["results"].as_array().expect("results").iter().map(|r| r["loss"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(losses(eval("whole")?), losses(eval("shared-2")?), "held-out losses are those of whole networks");
    for export in eval("whole")?["exports"].as_array().expect("exports") {
        let file = format!("{}/model.safetensors", export["path"].as_str().expect("a path"));
        let exported = |name: &str| fs::read(lab.path().join(name).join(&file));
        assert!(exported("whole")? == exported("shared-2")?, "{file} differs from that of whole networks");
    }

    let mut rough = Run::of_job(lab.path(), "rough", &shared("rough")?, 3, PATIENCE)?;
    rough.wait_for_step(3)?;
    rough.kill_worker(1);
    rough.wait_for_step(8)?;
    rough.add_worker()?;
    assert!(whole == rough.finish_without_latecomers()?, "the disturbed run ended with other bits");
    Ok(())
}

#[test]
fn ranks_share_blocks_with_those_of_their_own_node_alone() -> anyhow::Result<()> {
    let lab = TextLab::new()?;
    let whole = run(&lab, "whole", 1, ("", ""))?;
    let job = lab.write_job_with("nodes", STEPS, ("", ""), "model: {shard: node}\n")?;
    let mut nodes = Run::serve_job(lab.path(), "nodes", &job, 3)?;
    for node in ["left", "right", "left"] {
        nodes.add_worker_with(&["--node", node])?;
    }
    nodes.wait_for_step(1)?;
    let logs: Vec<String> = (0..3).map(|worker| nodes.worker_at(worker).log()).collect();
    let mut kept: Vec<[Option<u64>; 3]> = logs.iter().map(|log| kept_blocks(log)).collect();
    kept.sort_unstable();
    assert_eq!(kept, [[1, 5, 5], [2, 2, 5], [2, 3, 5]].map(|numbers| numbers.map(Some)), "{logs:#?}");
    assert!(whole == nodes.finish()?, "two nodes ended with other bits");
    Ok(())
}

/// Ranks of a worker's node, blocks that it keeps, and blocks there are, as its log says.
fn kept_blocks(log: &str) -> [Option<u64>; 3] {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let fields = lines.into_iter().find(|line| line["message"] == "blocks kept for the node");
    ["ranks", "blocks", "of"].map(|key| fields.as_ref()?[key].as_u64())
}

#[test]
fn a_run_leaves_losses_trivial_answers_early_exits_and_models_that_answer() -> anyhow::Result<()> {
    let lab = TextLab::new()?;
    run(&lab, "whole", 2, ("", ""))?;
    let eval = read_json(&lab.path().join("whole/eval.json"))?;
    let results = eval["results"].as_array().expect("results");
    assert_eq!((results.len(), eval["images"].as_u64()), (2 + 1, Some(12)));
    for result in results {
        let loss = result["loss"].as_f64().expect("a loss");
        assert!(loss > 0.0 && loss < 7.0, "{result}");
        assert!(result["tokens_per_second"].as_f64().is_some_and(|rate| rate > 0.0), "{result}");
    }
    let speech = &eval["speech"];
    assert_eq!(speech["answers"].as_array().map(Vec::len), Some(3));
    assert_eq!(speech["exits"].as_array().map(Vec::len), Some(2), "three blocks end early after one and after two");
    assert!(speech["majority"].as_f64().is_some_and(|share| (0.0..=1.0).contains(&share)));
    assert!(fs::read_to_string(lab.path().join("whole/report.html"))?.contains("One question, every size"));

    let exports = eval["exports"].as_array().expect("exports");
    assert!(!exports.is_empty());
    for export in exports {
        let model = lab.path().join("whole").join(export["path"].as_str().expect("a path"));
        for file in ["config.json", "model.safetensors", "tokenizer.json", "generation_config.json", "esta.json"] {
            assert!(model.join(file).is_file(), "{} lacks {file}", model.display());
        }
        let model = model.to_string_lossy().into_owned();
        let ask = |name: &str, more: &[&str]| -> anyhow::Result<String> {
            let args = ["generate", "--model", &model, "--prompt", "What does open return?", "--max-new-tokens", "12"];
            Ok(lab.worker(name, &[&args[..], more].concat())?.out())
        };
        assert_eq!(ask("greedy", &[])?, ask("again", &[])?, "greedy text is one text");
        let drawn = ["--temperature", "2.0", "--seed", "4"];
        assert_eq!(ask("drawn", &drawn)?, ask("drawn-again", &drawn)?, "a seed is a text");
    }
    Ok(())
}

#[test]
fn a_line_that_is_no_json_is_named_or_counted_as_the_job_says() -> anyhow::Result<()> {
    let lab = TextLab::new()?;
    let path = lab.path().join("train.jsonl");
    let spoilt = fs::read_to_string(&path)?.replacen("\"output\": \"1\"}", "\"output\": ", 1);
    fs::write(&path, spoilt)?;
    let line = refused(&lab, "strict", &lab.write_job("strict", STEPS, ("", ""))?, 7)?;
    assert!(line.contains("train.jsonl, line 2"), "{line}");
    let job = lab.write_job("lenient", STEPS, ("", ", flawed: skip"))?;
    let args = ["run", "--config", &job.to_string_lossy(), "--workers", "2"];
    let mut lenient = Process::start(lab.path(), "lenient-run", "esta-coordinator", &args)?;
    let status = lenient.wait_for(PATIENCE)?;
    let log = lenient.log();
    assert!(status.success(), "{log}");
    assert_eq!(log.matches("memory: ").count(), 1, "one worker says for all what each needs: {log}");
    let left_out = log.matches("left out: 1 malformed (first: ").count();
    assert_eq!((left_out, log.matches("train.jsonl, line 2").count()), (2, 2), "both sets are that file: {log}");
    let eval = read_json(&lab.path().join("lenient/eval.json"))?;
    for set in ["train_texts", "held_out_texts"] {
        assert_eq!((&eval[set]["read"], &eval[set]["left_out"]), (&json!(48), &json!({"malformed": 1})), "{eval}");
    }
    assert!(fs::read_to_string(lab.path().join("lenient/report.html"))?.contains("<td>1 malformed</td>"));
    Ok(())
}

#[test]
fn held_out_texts_that_are_not_there_are_named_before_the_first_step() -> anyhow::Result<()> {
    let lab = TextLab::new()?;
    let job = lab.write_job("blind", STEPS, ("", ""))?;
    let text = fs::read_to_string(&job)?.replace("train.jsonl, split", "nowhere.jsonl, split");
    fs::write(&job, text)?;
    let line = refused(&lab, "blind", &job, 7)?;
    assert!(line.contains("the held-out samples do not load") && line.contains("nowhere.jsonl"), "{line}");
    Ok(())
}

#[test]
fn an_end_mark_of_the_chat_template_alone_ends_what_an_exported_model_says() -> anyhow::Result<()> {
    let lab = TextLab::new()?;
    let template = "{% for message in messages %}{{ message.role + ': ' + message.content + '<|im_end|>\n' }}{% endfor %}\
                    {% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}";
    let mut mark = 0;
    for anchor in ["anchors/a", "anchors/b"] {
        let [tokenizer, config] =
            ["tokenizer.json", "tokenizer_config.json"].map(|name| lab.path().join(anchor).join(name));
        let mut said = read_json(&tokenizer)?;
        mark = said["model"]["vocab"].as_object().expect("tokens").len();
        let mut token = said["added_tokens"][0].clone();
        (token["id"], token["content"]) = (json!(mark), json!("<|im_end|>"));
        said["added_tokens"].as_array_mut().expect("a list").push(token);
        fs::write(&tokenizer, said.to_string())?;
        let mut said = read_json(&config)?;
        said["chat_template"] = json!(template);
        fs::write(&config, said.to_string())?;
    }
    run(&lab, "marked", 1, ("", ""))?;
    let eval = read_json(&lab.path().join("marked/eval.json"))?;
    for export in eval["exports"].as_array().expect("exports") {
        let model = lab.path().join("marked").join(export["path"].as_str().expect("a path"));
        let generation = read_json(&model.join("generation_config.json"))?;
        assert_eq!(generation["eos_token_id"], json!([0, mark]), "{generation}");
    }
    Ok(())
}

#[test]
fn what_does_not_fit_together_or_does_not_fit_in_memory_is_refused_before_anything_is_trained() -> anyhow::Result<()> {
    let lab = TextLab::new()?;
    let vast = lab.write_job("vast", STEPS, (", gradient_accumulation_steps: 1", ""))?;
    let text = fs::read_to_string(&vast)?.replace("batch_size: 8, learning", "batch_size: 16777216, learning");
    fs::write(&vast, text)?;
    let line = refused(&lab, "vast", &vast, 3)?;
    assert!(line.contains("the job does not fit") && line.contains("activations"), "{line}");

    let shaped = lab.write_job("shaped", STEPS, ("", ""))?;
    let text = fs::read_to_string(lab.path().join("source.yaml"))?;
    let config = text.lines().find(|line| line.contains("name: b,")).expect("an anchor").trim().to_owned();
    let other = config.replace("head_dim: 8", "rms_norm_eps: 1.0e-3, head_dim: 8");
    let plain = format!("- {{name: b, weights: {}}}", lab.file("anchors/b"));
    let text = fs::read_to_string(&shaped)?;
    assert!(text.contains(&plain));
    fs::write(&shaped, text.replace(&plain, &other))?;
    let line = refused(&lab, "shaped", &shaped, 8)?;
    assert!(line.contains("rms_norm_eps is 0.000001 there and 0.001 here"), "{line}");

    let tokenizer = lab.path().join("anchors/b/tokenizer.json");
    let mut other = read_json(&tokenizer)?;
    other["model"]["merges"].as_array_mut().expect("merges").pop();
    fs::write(&tokenizer, other.to_string())?;
    let line = refused(&lab, "tongues", &lab.write_job("tongues", STEPS, ("", ""))?, 3)?;
    assert!(line.contains("anchor \"b\" has another tokenizer than the job"), "{line}");

    fs::remove_file(&tokenizer)?;
    fs::remove_file(lab.path().join("anchors/b/model.safetensors"))?;
    let line = refused(&lab, "gone", &lab.write_job("gone", STEPS, ("", ""))?, 8)?;
    assert!(line.contains("anchor \"b\" does not load") && line.contains("model.safetensors"), "{line}");
    Ok(())
}

#[test]
fn a_model_that_is_not_there_is_named() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let args = ["generate", "--model", "./nobody", "--prompt", "x"];
    let line = Process::start(dir.path(), "generate", "esta-worker", &args)?.fails_with(8)?;
    assert!(line.contains("there is no folder ./nobody"), "{line}");
    Ok(())
}
