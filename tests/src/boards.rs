//! The boards of `dashboards/`, as Grafana reads them: their queries, with the variables filled in that are chosen at
//! the top of a board.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::prometheus::Prometheus;

/// A board.
#[derive(Debug)]
pub struct Board {
    /// Its file's name.
    pub name: String,
    /// What stands in it.
    pub json: Value,
}

/// A question that a panel asks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Query {
    /// Board and panel.
    pub of: String,
    /// As it stands in the board, with variables.
    pub expression: String,
    /// How a series is called: `{{label}}` and text.
    pub legend: String,
}

/// The directory of boards, rules, and what belongs to them.
#[must_use]
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboards")
}

/// Reads all boards.
///
/// # Panics
/// If one of them can't be read.
#[must_use]
pub fn all() -> Vec<Board> {
    let entries = std::fs::read_dir(directory()).expect("the directory is there").flatten();
    let files = entries.map(|entry| entry.path());
    let boards = files.filter(|path| path.extension().is_some_and(|known| known == "json"));
    let mut boards: Vec<Board> = boards.map(|path| Board::read(&path)).collect();
    boards.sort_by(|one, other| one.name.cmp(&other.name));
    assert!(!boards.is_empty(), "there are boards in {}", directory().display());
    boards
}

impl Board {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("a board is text");
        let json = serde_json::from_str(&text);
        let json = json.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name in ASCII");
        Self { name: name.to_owned(), json }
    }

    /// Its panels, rows included.
    pub fn panels(&self) -> impl Iterator<Item = &Value> {
        self.json["panels"].as_array().into_iter().flatten()
    }

    /// What its panels ask.
    #[must_use]
    pub fn queries(&self) -> Vec<Query> {
        let of_panel = |panel: &Value| {
            let of = format!("{}: {}", self.name, text(&panel["title"]));
            let targets = panel["targets"].as_array().cloned().unwrap_or_default();
            targets.into_iter().map(move |target| Query {
                of: of.clone(),
                expression: text(&target["expr"]),
                legend: text(&target["legendFormat"]),
            })
        };
        self.panels().flat_map(of_panel).collect()
    }

    /// What its variables are when all is chosen, in the order in which they stand at its top: each may ask for what
    /// the ones before it say.
    ///
    /// # Panics
    /// If a variable is of a kind that is not known here.
    #[must_use]
    #[track_caller]
    pub fn choose_all(&self, prometheus: &Prometheus) -> BTreeMap<String, String> {
        let mut chosen = BTreeMap::new();
        // Four scrapes, and all that there is.
        chosen.insert("__rate_interval".to_owned(), "2s".to_owned());
        chosen.insert("__range".to_owned(), "1m".to_owned());
        for variable in self.json["templating"]["list"].as_array().into_iter().flatten() {
            let name = text(&variable["name"]);
            if variable["type"] == "datasource" {
                assert_eq!(variable["query"], "prometheus", "{variable}");
                continue;
            }
            let query = fill(&text(&variable["query"]["query"]), &chosen);
            let inside =
                query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            let (selector, label) = inside
                .and_then(|inside| inside.rsplit_once(", "))
                .unwrap_or_else(|| panic!("{query} is not known here"));
            let values = prometheus.label_values(selector, label);
            let all = match variable["allValue"].as_str() {
                Some(all) if !values.is_empty() => all.to_owned(),
                _ => format!("({})", values.join("|")),
            };
            chosen.insert(name, all);
        }
        chosen
    }
}

impl Query {
    /// The expression that is sent when this is chosen.
    #[must_use]
    #[track_caller]
    pub fn fill(&self, chosen: &BTreeMap<String, String>) -> String {
        fill(&self.expression, chosen)
    }

    /// The labels that its series are called by.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.legend.split("{{").skip(1).filter_map(|rest| rest.split("}}").next())
    }
}

/// # Panics
/// If a variable is left.
#[track_caller]
fn fill(text: &str, chosen: &BTreeMap<String, String>) -> String {
    let mut filled = text.to_owned();
    for (name, value) in chosen {
        filled = filled.replace(&format!("${name}"), value);
    }
    assert!(!filled.contains('$'), "{filled} has a variable that the board has not");
    filled
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
