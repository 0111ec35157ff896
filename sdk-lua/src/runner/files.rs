//! What `import` and the reload need of the file system. Paths are bytes, as on the command line, and keep
//! the form in which the user would write them; only who is the same file is decided by the real path.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mlua::{IntoLuaMulti, Lua, LuaString, Table, Value};

/// Adds the natives of this room.
pub(super) fn add(lua: &Lua, natives: &Table) -> mlua::Result<()> {
    // (name, directory of who imports, directory of the script): to the real path and the path, or nil and
    // where it was looked for.
    let find = |lua: &Lua, (name, near, entry): (LuaString, LuaString, LuaString)| match find(
        path(&name.as_bytes()),
        &[path(&near.as_bytes()), path(&entry.as_bytes())],
    ) {
        Ok((real, path)) => (text(lua, &real)?, text(lua, &path)?).into_lua_multi(lua),
        Err(tried) => (Value::Nil, tried).into_lua_multi(lua),
    };
    natives.raw_set("find", lua.create_function(find)?)?;
    // (path) to the directory it lies in.
    let dir = |lua: &Lua, file: LuaString| {
        text(lua, path(&file.as_bytes()).parent().unwrap_or(Path::new("")))
    };
    natives.raw_set("dir", lua.create_function(dir)?)?;
    // (path) to the text and its stamp, or nil and why not.
    let read = |lua: &Lua, file: LuaString| match read(path(&file.as_bytes())) {
        Ok((text, stamp)) => (lua.create_string(text)?, stamp).into_lua_multi(lua),
        Err(error) => (Value::Nil, error.to_string()).into_lua_multi(lua),
    };
    natives.raw_set("read", lua.create_function(read)?)?;
    // (path) to its stamp; nil if there is no such file.
    let stamped = |_: &Lua, file: LuaString| {
        Ok(fs::metadata(path(&file.as_bytes())).ok().map(|metadata| stamp(&metadata)))
    };
    natives.raw_set("stamp", lua.create_function(stamped)?)
}

/// The real path of a file, and the path under which it was found.
pub(super) fn find(name: &Path, dirs: &[&Path]) -> Result<(PathBuf, PathBuf), String> {
    let mut tried: Vec<PathBuf> = Vec::new();
    for dir in dirs {
        let path = dir.join(name);
        if tried.contains(&path) {
            continue;
        }
        match fs::canonicalize(&path) {
            Ok(real) if real.is_file() => return Ok((real, path)),
            _ => tried.push(path),
        }
    }
    let tried: Vec<String> = tried.iter().map(|path| path.display().to_string()).collect();
    Err(format!("there is no {}", tried.join(" and no ")))
}

/// The whole text of one version of a file, and that version's stamp. Who replaces a file by a rename is
/// never read by halves; of who writes over it, only what is at rest is taken.
pub(super) fn read(path: &Path) -> io::Result<(Vec<u8>, String)> {
    let mut file = File::open(path)?;
    let before = stamp(&file.metadata()?);
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let after = file.metadata()?;
    if stamp(&after) != before || after.len() != text.len() as u64 {
        return Err(io::Error::other("it is being written"));
    }
    // A line for the shell, `#!/usr/bin/env lua-node`, becomes a comment of the same line.
    if text.starts_with(b"#") {
        text.splice(..0, *b"--");
    }
    Ok((text, before))
}

/// What tells one version of a file from another.
fn stamp(metadata: &Metadata) -> String {
    let (seconds, nanos) = (metadata.mtime(), metadata.mtime_nsec());
    format!("{seconds}.{nanos:09} {} {}:{}", metadata.len(), metadata.dev(), metadata.ino())
}

/// The directory of a file.
fn path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

fn text(lua: &Lua, path: &Path) -> mlua::Result<LuaString> {
    lua.create_string(path.as_os_str().as_bytes())
}
