//! `--check`: parses a script and the files that it imports by a literal name, without running anything.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use mlua::Lua;

use super::files;

/// What a check found, in lines.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) fine: Vec<String>,
    pub(super) wrong: Vec<String>,
}

/// Checks a script, and what it imports as far as that can be found.
pub(super) fn check(script: &Path) -> Report {
    let lua = Lua::new();
    let mut report = Report::default();
    let mut seen = BTreeSet::new();
    let mut next = vec![script.to_owned()];
    let entry = script.parent().unwrap_or(Path::new("")).to_owned();
    while let Some(path) = next.pop() {
        // As it was found just now, it can be read, or is said not to be.
        let real = std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
        if !seen.insert(real) {
            continue;
        }
        match parse(&lua, &path) {
            Ok(imported) => {
                report.fine.push(format!("{}: ok", path.display()));
                let near = path.parent().unwrap_or(Path::new("")).to_owned();
                let found = |name: &PathBuf| files::find(name, &[&near, &entry]).ok();
                next.extend(imported.iter().rev().filter_map(found).map(|(_, path)| path));
            }
            Err(why) => report.wrong.push(why),
        }
    }
    report
}

/// The files that a file imports; or what is wrong with it, and where.
fn parse(lua: &Lua, path: &Path) -> Result<Vec<PathBuf>, String> {
    let shown = path.display();
    let (text, _) = files::read(path).map_err(|why| format!("{shown}: {why}"))?;
    let chunk = lua.load(&text[..]).set_name(format!("@{shown}"));
    match chunk.set_mode(mlua::chunk::ChunkMode::Text).into_function() {
        Ok(_) => Ok(imports(&text)),
        Err(mlua::Error::SyntaxError { message, .. }) => Err(message),
        Err(other) => Err(format!("{shown}: {other}")),
    }
}

/// The literal names after the word `import`, in a text that parses.
fn imports(text: &[u8]) -> Vec<PathBuf> {
    let mut names = Vec::new();
    let mut after_import = false;
    let mut rest = text;
    while let Some(&first) = rest.first() {
        let length = match first {
            b'-' if rest.starts_with(b"--") => {
                let long = long_bracket(&rest[2..]).map(|(_, _, end)| 2 + end);
                long.unwrap_or_else(|| rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()))
            }
            b'"' | b'\'' => {
                let end = quoted(rest);
                if after_import {
                    names.extend(name(&rest[1..end - 1]));
                }
                after_import = false;
                end
            }
            b'[' => match long_bracket(rest) {
                Some((from, to, end)) => {
                    if after_import {
                        names.extend(name(&rest[from..to]));
                    }
                    after_import = false;
                    end
                }
                None => 1,
            },
            b if b.is_ascii_alphabetic() || b == b'_' => {
                let is_part = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
                let end = rest.iter().position(|b| !is_part(b)).unwrap_or(rest.len());
                after_import = &rest[..end] == b"import";
                end
            }
            b => {
                // `import "a.lua"` and `import("a.lua")`.
                after_import = after_import && (b.is_ascii_whitespace() || b == b'(');
                1
            }
        };
        rest = &rest[length.min(rest.len())..];
    }
    names
}

/// Of `[==[text]==]`: where its text begins and ends, and its length.
fn long_bracket(text: &[u8]) -> Option<(usize, usize, usize)> {
    let level = text.strip_prefix(b"[")?.iter().take_while(|b| **b == b'=').count();
    if text.get(1 + level) != Some(&b'[') {
        return None;
    }
    let closing = [&b"]"[..], &vec![b'='; level], b"]"].concat();
    let from = level + 2;
    let length = text[from..].windows(closing.len()).position(|window| window == closing)?;
    Some((from, from + length, from + length + closing.len()))
}

/// The length of a string in quotes, at the front of a text.
fn quoted(text: &[u8]) -> usize {
    let mut at = 1;
    while at < text.len() && text[at] != text[0] {
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

/// A name without escapes, as those of files are.
fn name(bytes: &[u8]) -> Option<PathBuf> {
    let name = std::str::from_utf8(bytes).ok()?;
    (!name.contains('\\')).then(|| PathBuf::from(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        imports(text.as_bytes()).iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn literal_names_after_import_are_found() {
        let text = "local a = import \"a.lua\"\nimport('b.lua').go() import ( [[c.lua]] ) x=import[=[d.lua]=]";
        assert_eq!(names(text), ["a.lua", "b.lua", "c.lua", "d.lua"]);
    }

    #[test]
    fn what_is_no_import_is_not_found() {
        let text = "-- import 'a.lua'\n--[[ import 'b.lua' ]] s = \"import 'c.lua'\" t = 'it\\'s import' \
                    imported 'd.lua' import(name) import .. 'e.lua' --[==[ ]] import 'f.lua' ]==]";
        assert_eq!(names(text), [""; 0]);
        assert_eq!(names("import"), [""; 0]);
        assert_eq!(names("-- no newline at the end: import 'x.lua'"), [""; 0]);
    }
}
