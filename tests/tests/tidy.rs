//! Rules of the house that a program can check: floors, names, and what every file has.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace")
}

/// All files that belong to the tree, by their paths from its root: what git has, and what is new.
fn files() -> Vec<PathBuf> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git runs");
    assert!(output.status.success(), "{output:?}");
    let listed = String::from_utf8(output.stdout).expect("paths are text");
    listed.lines().map(PathBuf::from).filter(|path| root().join(path).is_file()).collect()
}

fn with_extension(extension: &str) -> Vec<(PathBuf, String)> {
    files()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|known| known == extension))
        .map(|path| {
            let text = std::fs::read_to_string(root().join(&path)).expect("a text file");
            (path, text)
        })
        .collect()
}

#[track_caller]
fn assert_none(what: &str, found: impl IntoIterator<Item = String>) {
    let found: Vec<String> = found.into_iter().collect();
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

/// What a package names under a heading such as `[dependencies]`.
fn dependencies(package: &str, heading: &str) -> BTreeSet<String> {
    let manifest = root().join(package).join("Cargo.toml");
    let text = std::fs::read_to_string(manifest).expect("a package has a manifest");
    let mut names = BTreeSet::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with('[') {
            inside = line == format!("[{heading}]");
            // The long form, [dependencies.serde].
            let long =
                line.strip_prefix(&format!("[{heading}.")).and_then(|rest| rest.strip_suffix(']'));
            names.extend(long.map(str::to_owned));
        } else if inside && !line.starts_with('#') {
            let name = line.split(['.', '=', ' ']).next().filter(|name| !name.is_empty());
            names.extend(name.map(str::to_owned));
        }
    }
    names
}

fn packages() -> Vec<String> {
    with_extension("toml")
        .into_iter()
        .filter(|(path, text)| path.ends_with("Cargo.toml") && text.contains("[package]"))
        .filter_map(|(path, _)| Some(path.parent()?.to_str()?.to_owned()))
        .collect()
}

#[test]
fn protocol_stands_on_the_ground_and_runs_nothing() {
    let names = dependencies("protocol", "dependencies");
    assert!(names.contains("bytes"), "the manifest was read: {names:?}");
    assert_none(
        "protocol depends on",
        names.into_iter().filter(|name| name.starts_with("switchboard") || name == "tokio"),
    );
    // tokio-util's codec takes the traits of tokio, but no runtime, no sockets and no clock.
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--package", "switchboard-protocol"])
        .args(["--edges", "normal,features", "--invert", "tokio"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let tree = String::from_utf8_lossy(&output.stdout).into_owned();
    let features = ["rt", "rt-multi-thread", "net", "time", "fs", "process", "signal", "full"];
    assert_none(
        "protocol turns on",
        features
            .into_iter()
            .map(|name| format!("tokio feature \"{name}\""))
            .filter(|name| tree.contains(name)),
    );
}

#[test]
fn router_and_sdk_are_neighbours_that_do_not_name_each_other() {
    for heading in ["dependencies", "build-dependencies"] {
        assert!(!dependencies("router", heading).contains("switchboard"), "{heading}");
        assert!(!dependencies("sdk-rust", heading).contains("switchboard-router"), "{heading}");
    }
}

/// The packages that a lock file names, with their versions.
fn locked(path: &str) -> BTreeSet<(String, String)> {
    let text = std::fs::read_to_string(root().join(path)).expect("a lock file");
    let values = |key: &'static str| {
        let lines = text.lines().filter_map(move |line| line.strip_prefix(key));
        lines.map(|value| value.trim_end_matches('"').to_owned())
    };
    values("name = \"").zip(values("version = \"")).collect()
}

#[test]
fn the_lua_module_is_locked_to_the_versions_of_the_workspace() {
    let workspace = locked("Cargo.lock");
    assert!(workspace.iter().any(|(name, _)| name == "mlua"), "the lock file was read");
    let names: BTreeSet<&str> = workspace.iter().map(|(name, _)| name.as_str()).collect();
    let module = locked("sdk-lua/module/Cargo.lock");
    assert!(module.iter().any(|(name, _)| name == "switchboard-lua-module"), "{module:?}");
    let other = module
        .iter()
        .filter(|package| names.contains(&*package.0))
        .filter(|package| !workspace.contains(package));
    assert_none("of another version", other.map(|(name, version)| format!("{name} {version}")));
}

#[test]
fn nothing_depends_on_the_tests_or_the_tool() {
    let headings = ["dependencies", "dev-dependencies", "build-dependencies"];
    for top in ["switchboard-tests", "switchboard-routerctl"] {
        let named = packages().into_iter().flat_map(|package| {
            headings
                .into_iter()
                .filter(|heading| dependencies(&package, heading).contains(top))
                .map(|heading| format!("{package}: {heading}"))
                .collect::<Vec<_>>()
        });
        assert_none(&format!("{top} is named in"), named);
    }
}

#[test]
fn the_tool_knows_the_wire_and_the_sdk_but_not_the_router() {
    let names = dependencies("routerctl", "dependencies");
    assert!(names.contains("switchboard-protocol"), "the manifest was read: {names:?}");
    let below = ["switchboard", "switchboard-protocol"];
    let others = names.into_iter().filter(|name| name.starts_with("switchboard"));
    assert_none("routerctl depends on", others.filter(|name| !below.contains(&&**name)));
}

#[test]
fn no_file_is_named_after_nothing() {
    let banned = ["utils", "util", "helpers", "helper", "common", "misc"];
    let found = files().into_iter().filter(|path| {
        path.components().any(|part| {
            let stem = Path::new(part.as_os_str()).file_stem();
            stem.is_some_and(|stem| banned.iter().any(|name| stem == *name))
        })
    });
    assert_none("say what is in them", found.map(|path| path.display().to_string()));
}

#[test]
fn every_file_says_what_lives_in_it() {
    let found = with_extension("rs").into_iter().filter(|(_, text)| !text.starts_with("//! "));
    assert_none("no //! line at the top", found.map(|(path, _)| path.display().to_string()));
}

#[test]
fn every_crate_but_one_forbids_unsafe_code() {
    let is_root = |path: &Path| {
        let in_src = path.parent().is_some_and(|dir| dir.ends_with("src"));
        (in_src && (path.ends_with("lib.rs") || path.ends_with("main.rs")))
            || path.parent().is_some_and(|dir| dir.ends_with("src/bin"))
            || (path.starts_with("tests/src/bin") && path.ends_with("main.rs"))
    };
    let found = with_extension("rs")
        .into_iter()
        // It is there for one call to the C library.
        .filter(|(path, _)| is_root(path) && !path.starts_with("heap"))
        .filter(|(_, text)| !text.lines().any(|line| line == "#![forbid(unsafe_code)]"));
    assert_none("no #![forbid(unsafe_code)]", found.map(|(path, _)| path.display().to_string()));
    let heap = std::fs::read_to_string(root().join("heap/src/lib.rs")).expect("a source file");
    assert_eq!(heap.matches("unsafe {").count(), 1, "one call, with its proof");
}

#[test]
fn tests_wait_for_conditions_and_never_sleep() {
    let words = [concat!("thread::", "sleep"), concat!("time::", "sleep")];
    let found = with_extension("rs").into_iter().filter(|(path, text)| {
        // Programs that make load pace themselves.
        let is_test = path.starts_with("tests") && !path.starts_with("tests/src/bin");
        is_test && words.iter().any(|word| text.contains(word))
    });
    assert_none("these sleep", found.map(|(path, _)| path.display().to_string()));
}

#[test]
fn files_are_of_a_size_that_can_be_read_in_one_sitting() {
    // One concept each, so far; a file that is cut comes off this list.
    let allowed: BTreeSet<&str> = [
        "protocol/src/control.rs",
        "router/src/config.rs",
        "router/src/mailbox/mod.rs",
        "router/src/registry.rs",
        "router/src/table/sequence.rs",
        "sdk-rust/src/watch.rs",
    ]
    .into();
    let long: Vec<String> = with_extension("rs")
        .into_iter()
        .filter(|(path, _)| {
            !path.components().any(|part| part.as_os_str() == "tests")
                || path.starts_with("tests/src")
        })
        .filter(|(_, text)| {
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            code.lines().count() > LONGEST
        })
        .map(|(path, _)| path.display().to_string())
        .filter(|path| !allowed.contains(path.as_str()))
        .collect();
    assert_none("over 400 lines without tests", long);
}

#[test]
fn nothing_is_left_for_later_in_a_comment() {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let found = ["rs", "md", "toml", "yaml", "yml"].into_iter().flat_map(with_extension).flat_map(
        |(path, text)| {
            let lines: Vec<String> = text
                .lines()
                .enumerate()
                .filter(|(_, line)| words.iter().any(|word| line.contains(word)))
                .map(|(n, line)| format!("{}:{}: {}", path.display(), n + 1, line.trim()))
                .collect();
            lines
        },
    );
    assert_none("do it, or say why not", found);
}

#[test]
fn relative_links_lead_somewhere() {
    let mut broken = Vec::new();
    for (path, text) in with_extension("md") {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let dir = path.parent().unwrap_or(Path::new(""));
            if !root().join(dir).join(target).exists() {
                broken.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert_none("broken links", broken);
}

const LONGEST: usize = 400;
