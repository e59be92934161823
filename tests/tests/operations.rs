//! The operations guide, carried out: every command of its `sh` blocks runs, in order, in one shell, with small stand-ins for what a
//! test has not (`ssh`, Slurm, a cluster).

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, ensure};
use esta_tests::{Lab, Process, binary};

const GUIDE: &str = include_str!("../../docs/operations.md");

/// All of the guide, on two busy processors.
const PATIENCE: Duration = Duration::from_secs(240);

/// What stands between ```` ```sh ```` and its end, block after block.
fn blocks(guide: &str) -> Vec<&str> {
    guide.split("```sh\n").skip(1).filter_map(|rest| rest.split_once("\n```").map(|(block, _)| block)).collect()
}

/// Stand-ins, each as short as what the guide asks of the real one.
const STAND_INS: [(&str, &str); 7] = [
    // The host is this machine.
    ("ssh", "shift\nexec \"$@\""),
    // Slurm knows nodes by name.
    ("scontrol", "echo localhost"),
    // The allocation: two nodes with a task each.
    ("sbatch", "export SLURM_JOB_NODELIST=n[0-1] SLURM_NTASKS=2\nexec bash \"$1\""),
    (
        "srun",
        "for rank in 0 1; do\n  SLURM_PROCID=$rank SLURMD_NODENAME=127.0.0.1 \"$@\" &\n  tasks[$rank]=$!\ndone\n\
         for task in \"${tasks[@]}\"; do wait \"$task\"; done",
    ),
    // Debian's etcd may be older than this program.
    ("etcdutl", "exec etcdctl \"$@\""),
    ("kubectl", "echo \"kubectl $*\" >>calls"),
    // Whatever it would install is rendered, by the real one; values are remembered where they are to be used again.
    (
        "helm",
        "echo \"helm $*\" >>calls\ncase $1 in test|rollback) exit 0;; esac\nverb=$1; shift\nargs=()\n\
         while [ $# -gt 0 ]; do\n  case $1 in\n    --reuse-values) args+=(--values \"$(cat values)\");;\n    \
         --values) echo \"$2\" >values; args+=(\"$1\" \"$2\"); shift;;\n    *) args+=(\"$1\");;\n  esac\n  shift\ndone\n\
         exec \"$HELM\" template \"${args[@]}\" --kube-version 1.34.0 >\"$verb.yaml\"",
    ),
];

fn write_stand_ins(folder: &Path) -> anyhow::Result<PathBuf> {
    let programs = folder.join("programs");
    fs::create_dir_all(&programs)?;
    for (name, script) in STAND_INS {
        let path = programs.join(name);
        fs::write(&path, format!("#!/usr/bin/env bash\nset -euo pipefail\n{script}\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(programs)
}

/// The helm that the chart's tests use.
fn helm(repository: &Path) -> anyhow::Result<PathBuf> {
    let found = repository.join(".cache/chart/bin/helm");
    ensure!(found.exists(), "there is no {}: run scripts/chart-test.sh once", found.display());
    Ok(found)
}

#[test]
fn every_command_of_the_operations_guide_works() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    lab.write_job("job", "sampling: {slots: 4}\n", 60)?;
    fs::write(lab.path().join("hosts"), "127.0.0.1\n127.0.0.1\n")?;
    let free = || Ok::<_, std::io::Error>(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string());
    let own = binary("esta-coordinator");
    let programs = own.parent().context("a program lies in a folder")?;
    let path = format!(
        "{}:{}:{}",
        write_stand_ins(lab.path())?.display(),
        programs.display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let blocks = blocks(GUIDE);
    assert!(blocks.len() >= 10, "{} blocks were found", blocks.len());
    // What the guide leaves running ends with it.
    let script = format!("set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{}\n", blocks.join("\n"));
    let file = lab.path().join("guide.sh");
    fs::write(&file, script)?;
    let mut shell = Command::new("bash");
    shell.arg("-x").arg(&file).current_dir(lab.path());
    shell.env("PATH", path).env("HEAD", "127.0.0.1").env("PORT", free()?).env("PAGE", free()?).env("RUN_PORT", free()?);
    shell.env("RUN_ADDRESS", "127.0.0.1");
    shell.env("ETCD", format!("127.0.0.1:{}", free()?)).env("ETCD_PEERS", format!("127.0.0.1:{}", free()?));
    shell.env("PORTS", format!("{} {}", free()?, free()?));
    shell.env("CHART", repository.join("charts/esta")).env("HELM", helm(&repository)?);
    let mut shell = Process::spawn(lab.path(), "guide", &mut shell)?;
    let status = shell.wait_for(PATIENCE)?;
    let said = || {
        let coordinator = fs::read_to_string(lab.path().join("coordinator.log")).unwrap_or_default();
        format!("{}\n{}\ncoordinator: {coordinator}", shell.log(), shell.out())
    };
    ensure!(status.success(), "the guide ended with {status}:\n{}", said());
    assert!(shell.out().contains("complete"), "{}", said());
    let calls = fs::read_to_string(lab.path().join("calls"))?;
    assert!(
        calls.contains("helm upgrade trial")
            && calls.contains("helm rollback trial 1")
            && calls.contains("kubectl --namespace esta get pods"),
        "{calls}"
    );
    Ok(())
}

#[test]
fn every_metric_has_its_line() {
    let metrics = include_str!("../chart/metrics.txt");
    assert!(metrics.lines().count() > 30);
    for metric in metrics.lines() {
        assert!(
            GUIDE.contains(&format!("`{metric}`")) || GUIDE.contains(&format!("`{metric}{{")),
            "the guide does not tell of {metric}"
        );
    }
}

#[test]
fn every_alert_has_its_chapter() {
    let rules = include_str!("../../charts/esta/templates/_rules.tpl");
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 10, "{alerts:?}");
    for alert in alerts {
        assert!(GUIDE.contains(&format!("\n### {alert}\n")), "{alert} has no chapter in docs/operations.md");
    }
}
