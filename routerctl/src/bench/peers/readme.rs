//! The short table in a README: what lies between two marks is replaced, and nothing else.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::account::Account;
use super::page::{Language, table};
use crate::failure::Failure;

/// A file with a place for the table.
#[derive(Debug)]
pub struct Readme {
    path: PathBuf,
    before: String,
    after: String,
    language: Language,
}

impl Readme {
    /// Looks for the place.
    ///
    /// # Errors
    /// If it can't be read or has none.
    pub fn open(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::Usage(format!("--readme: {}: {error}", path.display())))?;
        let (before, after, language) = split(&text).ok_or_else(|| {
            Failure::Usage(format!(
                "--readme: {} has no place for the table: a line {} and, behind it, a line {END}",
                path.display(),
                BEGINS[0].0,
            ))
        })?;
        let (before, after) = (before.to_owned(), after.to_owned());
        Ok(Self { path: path.to_owned(), before, after, language })
    }

    /// Writes the table there.
    pub fn put(self, account: &Account, report: Option<&Path>) -> Result<()> {
        let what = || format!("can't write {}", self.path.display());
        std::fs::write(&self.path, self.with(account, report)).with_context(what)
    }

    fn with(&self, account: &Account, report: Option<&Path>) -> String {
        let table = table(account, self.language);
        let from = caption(account, report, self.language);
        format!("{}\n{from}\n\n{table}\n{}", self.before, self.after)
    }
}

/// What stands before the table and behind it, marks included, and its language.
fn split(text: &str) -> Option<(&str, &str, Language)> {
    BEGINS.into_iter().find_map(|(mark, language)| {
        let begin = text.find(mark)? + mark.len() + 1;
        let end = begin + text.get(begin..)?.find(END)?;
        Some((&text[..begin], &text[end..], language))
    })
}

fn caption(account: &Account, report: Option<&Path>, language: Language) -> String {
    let (date, rounds) = (&account.date, account.rounds);
    let cores = account.machine.cores;
    let cpu = &account.machine.cpu;
    match language {
        Language::English => {
            let more = report.map(|path| format!("; [the report]({})", path.display()));
            format!(
                "{date}, {cores} cores of {cpu}, median of {rounds} rounds, × is the ratio to switchboard{}:",
                more.unwrap_or_default()
            )
        }
        Language::Chinese => {
            let more = report.map(|path| format!(";[完整报告]({})", path.display()));
            format!(
                "{date},{cpu} {cores} 核,{rounds} 轮的中位数,× 是与 switchboard 的比值{}:",
                more.unwrap_or_default()
            )
        }
    }
}

const BEGINS: [(&str, Language); 2] =
    [("<!-- peers en -->", Language::English), ("<!-- peers zh -->", Language::Chinese)];
const END: &str = "<!-- /peers -->";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::peers::page::tests::account;

    fn readme(text: &str) -> Readme {
        let (before, after, language) = split(text).unwrap();
        let (before, after) = (before.to_owned(), after.to_owned());
        Readme { path: PathBuf::new(), before, after, language }
    }

    #[test]
    fn only_what_lies_between_the_marks_is_replaced() {
        let account = account();
        let report = Some(Path::new("docs/peers.md"));
        let first =
            readme("# A\n<!-- peers en -->\nold\n<!-- /peers -->\nB\n").with(&account, report);
        let begins = "# A\n<!-- peers en -->\n\n2026-11-21, 2 cores of an EPYC, median of 3 rounds, × is the ratio to \
                      switchboard; [the report](docs/peers.md):\n\n| | switchboard | redis-server | relay |\n";
        assert!(first.starts_with(begins), "{first}");
        assert!(first.ends_with(" |\n\n<!-- /peers -->\nB\n"), "{first}");
        assert!(!first.contains("old"), "{first}");
        // What was put there is replaced likewise.
        assert_eq!(readme(&first).with(&account, report), first);
    }

    #[test]
    fn the_mark_says_which_language() {
        let text = readme("<!-- peers zh -->\n<!-- /peers -->\n").with(&account(), None);
        let begins = "<!-- peers zh -->\n\n2026-11-21,an EPYC 2 核,3 轮的中位数,× 是与 switchboard 的比值:\n\n";
        assert!(text.starts_with(begins), "{text}");
    }

    #[test]
    fn a_text_without_both_marks_has_no_place() {
        for text in
            ["", "<!-- peers en -->\n", "<!-- /peers -->\n<!-- peers en -->", "<!-- peers en -->"]
        {
            assert!(split(text).is_none(), "{text:?}");
        }
    }
}
