//! The router: the same program that the binary `router` is, run in a process of this binary so that
//! nothing else has to be built.

use std::process::ExitCode;

use switchboard_router::cli::{self, Options};

use super::Part;

/// Runs the router until it is told to leave.
pub fn run(part: &Part) -> ExitCode {
    cli::run(Options {
        listen: Vec::new(),
        admin: None,
        config: Some(part.dir.join(CONFIG_FILE)),
        name: part.name.clone(),
        shards: None,
        log: None,
        check: false,
    })
}

/// The name of the configuration file among the files of the cluster.
pub const CONFIG_FILE: &str = "router.yaml";
/// What stands in it.
pub const CONFIG: &str = include_str!("../../router.yaml");

#[cfg(test)]
mod tests {
    use super::*;
    use switchboard_router::Config;

    #[test]
    fn the_configuration_is_one_that_a_router_takes() {
        let config = Config::parse(CONFIG).unwrap();
        config.validate().unwrap();
        assert_eq!(config.classes.len(), 4);
    }
}
