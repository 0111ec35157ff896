//! Where Prometheus finds the processes of the cluster: a file of targets, as its `file_sd_configs` read it.
//! `crew` tells it who is there. Who was killed stays in it, and is down; who returns has another port.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::json;

/// The file, and what stands in it.
#[derive(Debug)]
pub struct Targets {
    /// None if nobody asked for it.
    file: Option<PathBuf>,
    /// Addresses by job and name.
    addresses: BTreeMap<(&'static str, String), String>,
}

impl Targets {
    /// An empty one.
    pub fn new(file: Option<&Path>) -> Self {
        Self { file: file.map(Path::to_owned), addresses: BTreeMap::new() }
    }

    /// Adds a process, or says that it is elsewhere now.
    pub fn add(&mut self, job: &'static str, name: &str, address: &str) -> anyhow::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        self.addresses.insert((job, name.to_owned()), address.to_owned());
        let groups = self.addresses.iter().map(|((job, name), address)| {
            let labels = json!({"job": format!("switchboard-{job}"), "instance": name});
            json!({"targets": [address], "labels": labels})
        });
        let text = serde_json::to_string_pretty(&groups.collect::<Vec<_>>())?;
        // Prometheus reads it whenever it changes, so it is never half of one.
        let fresh = file.with_extension("new");
        std::fs::write(&fresh, text)
            .and_then(|()| std::fs::rename(&fresh, file))
            .with_context(|| format!("can't write the targets to {}", file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_returns_is_there_once_and_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("targets.json");
        let mut targets = Targets::new(Some(&file));
        for (job, name, address) in
            [("router", "red", "a:1"), ("node", "m.1", "a:2"), ("node", "m.1", "a:3")]
        {
            targets.add(job, name, address).unwrap();
        }
        let written = std::fs::read_to_string(file).unwrap();
        let written: serde_json::Value = serde_json::from_str(&written).unwrap();
        let group = |job, name, address| json!({"targets": [address], "labels": {"job": job, "instance": name}});
        let wanted = json!([
            group("switchboard-node", "m.1", "a:3"),
            group("switchboard-router", "red", "a:1")
        ]);
        assert_eq!(written, wanted);
    }

    #[test]
    fn a_file_that_can_t_be_written_is_named() {
        let mut targets = Targets::new(Some(Path::new("/nowhere/targets.json")));
        let error = targets.add("router", "red", "a:1").unwrap_err();
        assert!(error.to_string().contains("/nowhere/targets.json"), "{error}");
    }
}
